-- The newest rolling rates of each campaign and window. The row with the latest as_of holds; the
-- same record written again is the same row.
-- shard: cityHash64(campaign_id)
CREATE TABLE IF NOT EXISTS campaign_rates
(
    campaign_id          LowCardinality(String) COMMENT 'Campaign; an empty text collects what no campaign is known for.',
    window               LowCardinality(String) COMMENT '5m, 1h, 24h or total. 5m, 1h and 24h are that many whole minutes that have ended; total is everything so far, the running minute included.',
    as_of                DateTime64(6, 'UTC') COMMENT 'When the windows were computed, by the worker\'s clock, UTC.' CODEC(Delta, ZSTD(1)),
    complete_through     DateTime64(6, 'UTC') COMMENT 'The input has been read through this event-arrival time, on every partition seen.' CODEC(Delta, ZSTD(1)),
    revision             Int64 COMMENT 'Grows with every record of the campaign.' CODEC(Delta, ZSTD(1)),
    starts_at            DateTime64(6, 'UTC') COMMENT 'Start of the window, UTC; of total, the campaign\'s first minute.' CODEC(Delta, ZSTD(1)),
    ends_at              DateTime64(6, 'UTC') COMMENT 'End of the window, UTC, exclusive and never after as_of: the start of the running minute; of total, as_of.' CODEC(Delta, ZSTD(1)),
    settled              Bool COMMENT 'True when every minute of the window is older than the allowed lateness.',
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
    machine_clicks       Int64 COMMENT 'Click events by machines, scanners above all, repeats included.' CODEC(T64, ZSTD(1)),
    unsubscribe_clicks   Int64 COMMENT 'Human click events on unsubscribe links.' CODEC(T64, ZSTD(1)),
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
    rates Nested
    (
        name             LowCardinality(String),
        basis            LowCardinality(String),
        numerator        Int64,
        denominator      Int64,
        value            Nullable(Float64),
        low              Nullable(Float64),
        high             Nullable(Float64)
    ) COMMENT 'Every rate of the glossary, with its numerator, denominator and Wilson bounds at 95 %.'
)
ENGINE = ReplacingMergeTree(as_of)
ORDER BY (campaign_id, window)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Newest rolling rates per campaign and window. Read with FINAL.';

-- The last rates published in each minute of the past, for looking back at what was known when.
-- shard: cityHash64(campaign_id)
CREATE TABLE IF NOT EXISTS campaign_rates_history
(
    campaign_id          LowCardinality(String) COMMENT 'Campaign; an empty text collects what no campaign is known for.',
    window               LowCardinality(String) COMMENT '5m, 1h, 24h or total. 5m, 1h and 24h are that many whole minutes that have ended; total is everything so far, the running minute included.',
    published_minute     DateTime('UTC') COMMENT 'Minute of as_of, UTC; its last record is kept.' CODEC(Delta, ZSTD(1)),
    as_of                DateTime64(6, 'UTC') COMMENT 'When the windows were computed, by the worker\'s clock, UTC.' CODEC(Delta, ZSTD(1)),
    complete_through     DateTime64(6, 'UTC') COMMENT 'The input has been read through this event-arrival time, on every partition seen.' CODEC(Delta, ZSTD(1)),
    revision             Int64 COMMENT 'Grows with every record of the campaign.' CODEC(Delta, ZSTD(1)),
    starts_at            DateTime64(6, 'UTC') COMMENT 'Start of the window, UTC; of total, the campaign\'s first minute.' CODEC(Delta, ZSTD(1)),
    ends_at              DateTime64(6, 'UTC') COMMENT 'End of the window, UTC, exclusive and never after as_of: the start of the running minute; of total, as_of.' CODEC(Delta, ZSTD(1)),
    settled              Bool COMMENT 'True when every minute of the window is older than the allowed lateness.',
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
    machine_clicks       Int64 COMMENT 'Click events by machines, scanners above all, repeats included.' CODEC(T64, ZSTD(1)),
    unsubscribe_clicks   Int64 COMMENT 'Human click events on unsubscribe links.' CODEC(T64, ZSTD(1)),
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
    rates Nested
    (
        name             LowCardinality(String),
        basis            LowCardinality(String),
        numerator        Int64,
        denominator      Int64,
        value            Nullable(Float64),
        low              Nullable(Float64),
        high             Nullable(Float64)
    ) COMMENT 'Every rate of the glossary, with its numerator, denominator and Wilson bounds at 95 %.'
)
ENGINE = ReplacingMergeTree(as_of)
PARTITION BY toYYYYMM(published_minute)
ORDER BY (campaign_id, window, published_minute)
TTL published_minute + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Rolling rates per campaign, window and minute, as they were published. Read with FINAL.';
