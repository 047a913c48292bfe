-- Addresses that must not be mailed. The last record of an address on the compacted topic holds,
-- and a tombstone there lifts it; so the version is the record's place on that topic: its
-- timestamp in milliseconds, and the offset where two fall into the same millisecond.
-- shard: cityHash64(recipient)
CREATE TABLE IF NOT EXISTS suppressions
(
    recipient         String COMMENT 'Identity of the address, equal for every spelling of one mailbox, or its keyed hash, as the privacy setting says.',
    reason            LowCardinality(String) COMMENT 'hard_bounce, complaint, unsubscribe, manual or soft_bounces; of several that hold the first of complaint, hard_bounce, unsubscribe, manual, soft_bounces.',
    since             DateTime64(3, 'UTC') COMMENT 'Time of the event that caused it, UTC; of soft_bounces the newest of these.',
    until             Nullable(DateTime64(3, 'UTC')) COMMENT 'When it ends by itself, UTC; null: never.',
    evidence_event_id String COMMENT 'Event that caused it; empty if its raw record is gone.',
    provider          LowCardinality(String) COMMENT 'Provider that reported it.',
    source            LowCardinality(String) COMMENT 'Source that reported it.',
    campaign_id       LowCardinality(String) COMMENT 'Campaign of the message; empty when unknown.',
    mailbox_provider  LowCardinality(String) COMMENT 'Who hosts the mailbox.',
    diagnostic        String COMMENT 'What the receiving server said.' CODEC(ZSTD(3)),
    log_id            LowCardinality(String) COMMENT 'Incarnation of the raw topic.',
    partition         UInt32 COMMENT 'Partition of the raw topic.',
    offset            Int64 COMMENT 'Offset of the raw record that this follows from.',
    version           UInt64 COMMENT 'Timestamp of the record in milliseconds * 2^20 + its offset modulo 2^20; the highest one holds.',
    is_deleted        UInt8 COMMENT '1 when it was lifted; FINAL hides it.'
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY recipient
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Addresses that must not be mailed. Read with FINAL.';

-- The same for lists and groups of a source: none of them says anything of the address as a whole.
-- shard: cityHash64(recipient)
CREATE TABLE IF NOT EXISTS scoped_suppressions
(
    recipient         String COMMENT 'Identity of the address, equal for every spelling of one mailbox, or its keyed hash, as the privacy setting says.',
    scope             LowCardinality(String) COMMENT 'List or group of the source that it is limited to, as in group:1234.',
    reason            LowCardinality(String) COMMENT 'hard_bounce, complaint, unsubscribe, manual or soft_bounces; of several that hold the first of complaint, hard_bounce, unsubscribe, manual, soft_bounces.',
    since             DateTime64(3, 'UTC') COMMENT 'Time of the event that caused it, UTC; of soft_bounces the newest of these.',
    until             Nullable(DateTime64(3, 'UTC')) COMMENT 'When it ends by itself, UTC; null: never.',
    evidence_event_id String COMMENT 'Event that caused it; empty if its raw record is gone.',
    provider          LowCardinality(String) COMMENT 'Provider that reported it.',
    source            LowCardinality(String) COMMENT 'Source that reported it.',
    campaign_id       LowCardinality(String) COMMENT 'Campaign of the message; empty when unknown.',
    mailbox_provider  LowCardinality(String) COMMENT 'Who hosts the mailbox.',
    diagnostic        String COMMENT 'What the receiving server said.' CODEC(ZSTD(3)),
    log_id            LowCardinality(String) COMMENT 'Incarnation of the raw topic.',
    partition         UInt32 COMMENT 'Partition of the raw topic.',
    offset            Int64 COMMENT 'Offset of the raw record that this follows from.',
    version           UInt64 COMMENT 'Timestamp of the record in milliseconds * 2^20 + its offset modulo 2^20; the highest one holds.',
    is_deleted        UInt8 COMMENT '1 when it was lifted; FINAL hides it.'
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY (recipient, source, scope)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Lists and groups through which an address must not be mailed, such as by a group unsubscribe. Read with FINAL.';
