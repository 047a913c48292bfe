-- Absolute counts of one campaign, mailbox provider and minute, contributed by one partition of
-- one incarnation of the raw topic. A row is replaced by the one with the highest offset (law 4 of
-- the design), so a replay writes the same row again. A figure is a sum over FINAL rows; a single
-- row may be negative when a later log corrects what an earlier one counted.
-- shard: cityHash64(campaign_id)
CREATE TABLE IF NOT EXISTS campaign_minutes
(
    campaign_id          LowCardinality(String) COMMENT 'Campaign; an empty text collects what no campaign is known for.',
    mailbox_provider     LowCardinality(String) COMMENT 'Who hosts the recipients\' mailboxes.',
    minute               DateTime('UTC') CODEC(Delta, ZSTD(1)) COMMENT 'Start of the minute, UTC.',
    log_id               LowCardinality(String) COMMENT 'Incarnation of the raw topic.',
    partition            UInt32 CODEC(T64, ZSTD(1)) COMMENT 'Partition of the raw topic.',
    offset               Int64 CODEC(Delta, ZSTD(1)) COMMENT 'Offset up to and including which the counts hold: the version of the row.',
    events               Int64 CODEC(T64, ZSTD(1)) COMMENT 'Events kept, of every type; duplicates are dropped before.',
    delivered            Int64 CODEC(T64, ZSTD(1)) COMMENT 'Messages that a provider said the receiving server took.',
    bounced_hard         Int64 CODEC(T64, ZSTD(1)) COMMENT 'Messages that bounced for good: the address does not work.',
    bounced_soft         Int64 CODEC(T64, ZSTD(1)) COMMENT 'Messages that bounced for a passing reason.',
    bounced_block        Int64 CODEC(T64, ZSTD(1)) COMMENT 'Messages refused for reputation, policy or content.',
    bounced_undetermined Int64 CODEC(T64, ZSTD(1)) COMMENT 'Messages that bounced without a usable reason.',
    bounced_late         Int64 CODEC(T64, ZSTD(1)) COMMENT 'Messages of any of the four classes that bounced after they were reported delivered.',
    suppressed           Int64 CODEC(T64, ZSTD(1)) COMMENT 'Messages not attempted: the address is on a suppression list.',
    deferred             Int64 CODEC(T64, ZSTD(1)) COMMENT 'Deferral events: the provider goes on trying.',
    rejected             Int64 CODEC(T64, ZSTD(1)) COMMENT 'Messages that the provider itself rejected or failed to render.',
    opened               Int64 CODEC(T64, ZSTD(1)) COMMENT 'Messages with a first human open.',
    opened_any           Int64 CODEC(T64, ZSTD(1)) COMMENT 'Messages with a first open by anyone, machines included.',
    clicked              Int64 CODEC(T64, ZSTD(1)) COMMENT 'Messages with a first human click, unsubscribe links excluded.',
    clicked_any          Int64 CODEC(T64, ZSTD(1)) COMMENT 'Messages with a first click by anyone, unsubscribe links excluded.',
    opens                Int64 CODEC(T64, ZSTD(1)) COMMENT 'Open events by humans, repeats included.',
    clicks               Int64 CODEC(T64, ZSTD(1)) COMMENT 'Click events by humans, repeats included, unsubscribe excluded.',
    machine_opens        Int64 CODEC(T64, ZSTD(1)) COMMENT 'Open events by machines, repeats included.',
    machine_clicks       Int64 CODEC(T64, ZSTD(1)) COMMENT 'Click events by scanners, repeats included.',
    unsubscribe_clicks   Int64 CODEC(T64, ZSTD(1)) COMMENT 'Human click events on unsubscribe links.',
    complained           Int64 CODEC(T64, ZSTD(1)) COMMENT 'Messages reported as spam by their recipient.',
    unsubscribed         Int64 CODEC(T64, ZSTD(1)) COMMENT 'Messages whose recipient unsubscribed.',
    cohort_bounced_late  Int64 CODEC(T64, ZSTD(1)) COMMENT 'Of the messages delivered here, bounced later.',
    cohort_opened        Int64 CODEC(T64, ZSTD(1)) COMMENT 'Of the messages delivered here, opened by a human.',
    cohort_opened_any    Int64 CODEC(T64, ZSTD(1)) COMMENT 'Of the messages delivered here, opened by anyone.',
    cohort_clicked       Int64 CODEC(T64, ZSTD(1)) COMMENT 'Of the messages delivered here, clicked by a human.',
    cohort_clicked_any   Int64 CODEC(T64, ZSTD(1)) COMMENT 'Of the messages delivered here, clicked by anyone.',
    cohort_complained    Int64 CODEC(T64, ZSTD(1)) COMMENT 'Of the messages delivered here, reported as spam.',
    cohort_unsubscribed  Int64 CODEC(T64, ZSTD(1)) COMMENT 'Of the messages delivered here, unsubscribed.'
)
ENGINE = ReplacingMergeTree(offset)
PARTITION BY toYYYYMM(minute)
ORDER BY (campaign_id, minute, mailbox_provider, log_id, partition)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Counts per campaign, mailbox provider and minute. Read with FINAL, or use the views.';
