-- The newest rolling rates of each campaign and window. The row with the latest as_of holds; the
-- same record written again is the same row.
-- shard: cityHash64(campaign_id)
CREATE TABLE IF NOT EXISTS campaign_rates
(
    campaign_id          LowCardinality(String) COMMENT 'Campaign; an empty text collects what no campaign is known for.',
    window               LowCardinality(String) COMMENT '5m, 1h, 24h or total.',
    as_of                DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'End of the windows, UTC.',
    complete_through     DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'The input has been read through this event-arrival time, on every partition seen.',
    revision             Int64 CODEC(Delta, ZSTD(1)) COMMENT 'Grows with every record of the campaign.',
    starts_at            DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'Start of the window, UTC; of total, the campaign\'s first minute.',
    ends_at              DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'End of the window, UTC, exclusive.',
    settled              Bool COMMENT 'True when every minute of the window is older than the allowed lateness.',
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
    cohort_unsubscribed  Int64 CODEC(T64, ZSTD(1)) COMMENT 'Of the messages delivered here, unsubscribed.',
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
    window               LowCardinality(String) COMMENT '5m, 1h, 24h or total.',
    published_minute     DateTime('UTC') CODEC(Delta, ZSTD(1)) COMMENT 'Minute of as_of, UTC; its last record is kept.',
    as_of                DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'End of the windows, UTC.',
    complete_through     DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'The input has been read through this event-arrival time, on every partition seen.',
    revision             Int64 CODEC(Delta, ZSTD(1)) COMMENT 'Grows with every record of the campaign.',
    starts_at            DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'Start of the window, UTC; of total, the campaign\'s first minute.',
    ends_at              DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'End of the window, UTC, exclusive.',
    settled              Bool COMMENT 'True when every minute of the window is older than the allowed lateness.',
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
    cohort_unsubscribed  Int64 CODEC(T64, ZSTD(1)) COMMENT 'Of the messages delivered here, unsubscribed.',
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
