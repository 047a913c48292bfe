-- Absolute counts of one campaign, mailbox provider and minute, contributed by one partition of
-- one incarnation of the raw topic. A row is replaced by the one with the highest offset (invariant 4 of
-- the design), so a replay writes the same row again. A figure is a sum over FINAL rows; a single
-- row may be negative when a later log corrects what an earlier one counted.
-- shard: cityHash64(campaign_id)
CREATE TABLE IF NOT EXISTS campaign_minutes
(
    campaign_id          LowCardinality(String) COMMENT 'Campaign; an empty text collects what no campaign is known for.',
    mailbox_provider     LowCardinality(String) COMMENT 'Who hosts the recipients\' mailboxes.',
    minute               DateTime('UTC') COMMENT 'Start of the minute, UTC.' CODEC(Delta, ZSTD(1)),
    log_id               LowCardinality(String) COMMENT 'Incarnation of the raw topic.',
    partition            UInt32 COMMENT 'Partition of the raw topic.' CODEC(T64, ZSTD(1)),
    offset               Int64 COMMENT 'Offset up to and including which the counts hold: the version of the row.' CODEC(Delta, ZSTD(1)),
    events               Int64 COMMENT 'Events kept, of every type; duplicates are dropped before.' CODEC(T64, ZSTD(1)),
    unidentified         Int64 COMMENT 'Events that can\'t be told per message: without a message id, or the recipient is not certain; in no count of messages.' CODEC(T64, ZSTD(1)),
    delivered            Int64 COMMENT 'Messages that a provider said the receiving server took.' CODEC(T64, ZSTD(1)),
    bounced_hard         Int64 COMMENT 'Messages never delivered that bounced for good: the address does not work.' CODEC(T64, ZSTD(1)),
    bounced_soft         Int64 COMMENT 'Messages never delivered that bounced for a passing reason.' CODEC(T64, ZSTD(1)),
    bounced_block        Int64 COMMENT 'Messages never delivered that were refused for reputation, policy or content.' CODEC(T64, ZSTD(1)),
    bounced_undetermined Int64 COMMENT 'Messages never delivered that bounced without a usable reason.' CODEC(T64, ZSTD(1)),
    bounced_late         Int64 COMMENT 'Messages that bounced at or after their delivery, whatever the reason.' CODEC(T64, ZSTD(1)),
    suppressed           Int64 COMMENT 'Messages not attempted: the address is on a suppression list.' CODEC(T64, ZSTD(1)),
    deferred             Int64 COMMENT 'Deferral events: the provider goes on trying.' CODEC(T64, ZSTD(1)),
    rejected             Int64 COMMENT 'Messages that the provider itself rejected or failed to render.' CODEC(T64, ZSTD(1)),
    opened               Int64 COMMENT 'Messages with a first human open.' CODEC(T64, ZSTD(1)),
    opened_any           Int64 COMMENT 'Messages with a first open by anyone, machines included.' CODEC(T64, ZSTD(1)),
    clicked              Int64 COMMENT 'Messages with a first human click, unsubscribe links excluded.' CODEC(T64, ZSTD(1)),
    clicked_any          Int64 COMMENT 'Messages with a first click by anyone, unsubscribe links excluded.' CODEC(T64, ZSTD(1)),
    opens                Int64 COMMENT 'Open events by humans, repeats included.' CODEC(T64, ZSTD(1)),
    clicks               Int64 COMMENT 'Click events by humans, repeats included, unsubscribe excluded.' CODEC(T64, ZSTD(1)),
    machine_opens        Int64 COMMENT 'Open events by machines, repeats included.' CODEC(T64, ZSTD(1)),
    machine_clicks       Int64 COMMENT 'Click events by machines, scanners above all, repeats included, unsubscribe excluded.' CODEC(T64, ZSTD(1)),
    unsubscribe_clicks   Int64 COMMENT 'Click events on unsubscribe links, whoever made them: no verdict counts against a person.' CODEC(T64, ZSTD(1)),
    complained           Int64 COMMENT 'Messages reported as spam by their recipient.' CODEC(T64, ZSTD(1)),
    unsubscribed         Int64 COMMENT 'Messages whose recipient unsubscribed.' CODEC(T64, ZSTD(1)),
    cohort_bounced_late  Int64 COMMENT 'Of the messages delivered here, bounced at or after their delivery.' CODEC(T64, ZSTD(1)),
    cohort_opened        Int64 COMMENT 'Of the messages delivered here, opened by a human.' CODEC(T64, ZSTD(1)),
    cohort_opened_any    Int64 COMMENT 'Of the messages delivered here, opened by anyone.' CODEC(T64, ZSTD(1)),
    cohort_clicked       Int64 COMMENT 'Of the messages delivered here, clicked by a human.' CODEC(T64, ZSTD(1)),
    cohort_clicked_any   Int64 COMMENT 'Of the messages delivered here, clicked by anyone.' CODEC(T64, ZSTD(1)),
    cohort_opened_clicked Int64 COMMENT 'Of the messages delivered here, both opened and clicked by a human.' CODEC(T64, ZSTD(1)),
    cohort_complained    Int64 COMMENT 'Of the messages delivered here, reported as spam.' CODEC(T64, ZSTD(1)),
    cohort_unsubscribed  Int64 COMMENT 'Of the messages delivered here, unsubscribed.' CODEC(T64, ZSTD(1)),
    attempt_sent         Int64 COMMENT 'Of the messages first attempted here, delivered or bounced in-band.' CODEC(T64, ZSTD(1)),
    attempt_bounced_hard Int64 COMMENT 'Of the messages first attempted here, never delivered and bounced for good.' CODEC(T64, ZSTD(1)),
    attempt_bounced_soft Int64 COMMENT 'Of the messages first attempted here, never delivered and bounced for a passing reason.' CODEC(T64, ZSTD(1)),
    attempt_bounced_block Int64 COMMENT 'Of the messages first attempted here, never delivered and refused for reputation, policy or content.' CODEC(T64, ZSTD(1)),
    attempt_bounced_undetermined Int64 COMMENT 'Of the messages first attempted here, never delivered and bounced without a usable reason.' CODEC(T64, ZSTD(1)),
    events_stale         Int64 COMMENT 'Events told more than 30 days after they happened, counted in the minute in which they came.' CODEC(T64, ZSTD(1)),
    delivered_stale      Int64 COMMENT 'Messages whose delivery is such a stale event.' CODEC(T64, ZSTD(1)),
    cohort_bounced_late_stale Int64 COMMENT 'Of the messages in delivered_stale here, bounced at or after their delivery.' CODEC(T64, ZSTD(1)),
    cohort_complained_stale Int64 COMMENT 'Of the messages in delivered_stale here, reported as spam.' CODEC(T64, ZSTD(1)),
    cohort_unsubscribed_stale Int64 COMMENT 'Of the messages in delivered_stale here, unsubscribed.' CODEC(T64, ZSTD(1)),
    unknown_opens        Int64 COMMENT 'Open events of which nobody can know who made them, Apple\'s prefetch above all, repeats included.' CODEC(T64, ZSTD(1)),
    unknown_clicks       Int64 COMMENT 'Click events of which the evidence leaves open who made them, repeats included, unsubscribe excluded.' CODEC(T64, ZSTD(1)),
    opened_or_unknown    Int64 COMMENT 'Messages with a first open that is a human\'s or unknown.' CODEC(T64, ZSTD(1)),
    opened_at_most       Int64 COMMENT 'Messages with a first open that may be a human\'s: it is, it is unknown, or it is only probably a machine\'s.' CODEC(T64, ZSTD(1)),
    clicked_or_unknown   Int64 COMMENT 'Messages with a first click that is a human\'s or unknown, unsubscribe links excluded.' CODEC(T64, ZSTD(1)),
    clicked_at_most      Int64 COMMENT 'Messages with a first click that may be a human\'s: it is, it is unknown, or it is only probably a machine\'s; unsubscribe links excluded.' CODEC(T64, ZSTD(1)),
    cohort_opened_or_unknown Int64 COMMENT 'Of the messages delivered here, opened by a human or by an unknown actor.' CODEC(T64, ZSTD(1)),
    cohort_opened_at_most Int64 COMMENT 'Of the messages delivered here, opened by an actor that may be human: not surely a machine.' CODEC(T64, ZSTD(1)),
    cohort_clicked_or_unknown Int64 COMMENT 'Of the messages delivered here, clicked by a human or by an unknown actor.' CODEC(T64, ZSTD(1)),
    cohort_clicked_at_most Int64 COMMENT 'Of the messages delivered here, clicked by an actor that may be human: not surely a machine.' CODEC(T64, ZSTD(1))
)
ENGINE = ReplacingMergeTree(offset)
PARTITION BY toYYYYMM(minute)
ORDER BY (campaign_id, minute, mailbox_provider, log_id, partition)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Counts per campaign, mailbox provider and minute. Read with FINAL, or use the views.';
