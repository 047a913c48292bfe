-- What could not be processed: where it came from and why. The bytes stay in Kafka, on
-- email.events.dlq.v1; `mailpulse dlq show` prints them, `mailpulse dlq resend` sends them again.
-- shard: cityHash64(dead_letter_id)
CREATE TABLE IF NOT EXISTS dead_letters
(
    dead_letter_id UUID COMMENT 'Identity: equal when the same thing is dead-lettered again.',
    stage          LowCardinality(String) COMMENT 'Who gave up: ingest, enrich, campaigns or sink.',
    reason         LowCardinality(String) COMMENT 'Stable code of the reason, such as not_json.',
    detail         String COMMENT 'What exactly went wrong, for a person.' CODEC(ZSTD(3)),
    occurred_at    DateTime64(3, 'UTC') COMMENT 'When it was received (ingest) or the record\'s own time (streams, sink), UTC.' CODEC(Delta, ZSTD(1)),
    source         LowCardinality(String) COMMENT 'Source in mailpulse.toml; empty when unknown.',
    provider       LowCardinality(String) COMMENT 'Provider; empty when unknown.',
    topic          LowCardinality(String) COMMENT 'Topic of the record; empty when it came by HTTP.',
    log_id         LowCardinality(String) COMMENT 'Incarnation of that topic; empty when unknown.',
    partition      Int32 COMMENT 'Partition of the record; -1 when it came by HTTP.',
    offset         Int64 COMMENT 'Offset of the record; -1 when it came by HTTP.',
    event_id       UUID COMMENT 'Identity of the event that the record holds; all zero when none can be read.' CODEC(NONE),
    content_bytes  UInt32 COMMENT 'Size of what was dead-lettered, in bytes.'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (stage, reason, occurred_at, dead_letter_id)
TTL toDateTime(occurred_at) + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'What could not be processed, without its bytes. Read with FINAL.';
