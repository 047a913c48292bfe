-- Reconciliation counts from both ends of the pipeline: what ingress accepted (the raw topic) and
-- what is in the table events. Both ends are kept as one row per minute, source and event id. An
-- event that comes twice, by one source or by two, has a row in accepted for each source and minute
-- it came by, and one in stored: that of the record which the streams kept, the first in its
-- partition. The sink compares the minutes that got rows since it last looked (analytics.sink.books),
-- so a comparison costs as much as those minutes hold, whatever the tables hold.

-- shard: cityHash64(event_id)
CREATE TABLE IF NOT EXISTS accepted
(
    minute      DateTime('UTC') COMMENT 'Minute in which ingress took the record in, UTC.' CODEC(Delta, ZSTD(1)),
    source      LowCardinality(String) COMMENT 'Source in mailpulse.toml whose hook was called.',
    event_id    UUID COMMENT 'Identity of the event.' CODEC(NONE),
    inserted_at DateTime('UTC') DEFAULT now() COMMENT 'When the row was last written, by the server\'s clock, UTC.' CODEC(Delta, ZSTD(1)),
    INDEX inserted_at_range inserted_at TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toDate(minute)
ORDER BY (minute, source, event_id)
TTL minute + INTERVAL 4 DAY
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Records on the raw topic in the last four days, each once per minute and source.';

-- shard: cityHash64(event_id)
CREATE TABLE IF NOT EXISTS stored
(
    minute      DateTime('UTC') COMMENT 'Minute in which ingress took in the record that was kept, UTC.' CODEC(Delta, ZSTD(1)),
    source      LowCardinality(String) COMMENT 'Source of that record.',
    event_id    UUID COMMENT 'Identity of the event.' CODEC(NONE),
    inserted_at DateTime('UTC') DEFAULT now() COMMENT 'When the row was last written, by the server\'s clock, UTC.' CODEC(Delta, ZSTD(1)),
    INDEX inserted_at_range inserted_at TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toDate(minute)
ORDER BY (minute, source, event_id)
TTL minute + INTERVAL 4 DAY
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Rows of events that ingress took in during the last four days, in order of arrival.';

CREATE MATERIALIZED VIEW IF NOT EXISTS stored_from_events TO stored
(
    minute   DateTime('UTC') COMMENT 'Minute in which ingress took in the record that was kept, UTC.',
    source   LowCardinality(String) COMMENT 'Source of that record.',
    event_id UUID COMMENT 'Identity of the event.'
)
AS SELECT toStartOfMinute(received_at) AS minute, source, event_id FROM events;

-- Looked up by identity when a record was accepted but is not stored as it came: is it a repeat?
-- Small granules, because a look-up reads one for each id.
-- shard: cityHash64(event_id)
CREATE TABLE IF NOT EXISTS stored_ids
(
    event_id UUID COMMENT 'Identity of an event in the table events.' CODEC(NONE),
    day      Date COMMENT 'Day on which ingress took it in, UTC.' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(day)
ORDER BY event_id
TTL day + INTERVAL 64 DAY
SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 256
COMMENT 'Event ids in the table events, in order of the id; for 64 days.';

CREATE MATERIALIZED VIEW IF NOT EXISTS stored_ids_from_events TO stored_ids
(
    event_id UUID COMMENT 'Identity of an event in the table events.',
    day      Date COMMENT 'Day on which ingress took it in, UTC.'
)
AS SELECT event_id, toDate(received_at) AS day FROM events;

-- shard: cityHash64(source)
CREATE TABLE IF NOT EXISTS reconciled
(
    minute       DateTime('UTC') COMMENT 'Minute in which ingress took the records in, UTC.' CODEC(Delta, ZSTD(1)),
    source       LowCardinality(String) COMMENT 'Source in mailpulse.toml.',
    accepted     UInt64 COMMENT 'Events on the raw topic, each once in the minute and source.' CODEC(T64, ZSTD(1)),
    stored       UInt64 COMMENT 'Of these, in the table events.' CODEC(T64, ZSTD(1)),
    repeated     UInt64 COMMENT 'Of these, repeats of an event that came by another source or in another minute and is stored.' CODEC(T64, ZSTD(1)),
    dead_letters UInt64 COMMENT 'Of the rest, dead letters of the streams or of the sink.' CODEC(T64, ZSTD(1)),
    missing      UInt64 COMMENT 'The rest.' CODEC(T64, ZSTD(1)),
    unexplained  UInt64 COMMENT 'In the table events, but not on the raw topic.' CODEC(T64, ZSTD(1)),
    checked_at   DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When they were compared, UTC: the version of the row.'
)
ENGINE = ReplacingMergeTree(checked_at)
PARTITION BY toDate(minute)
ORDER BY (minute, source)
TTL minute + INTERVAL 4 DAY
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Result of the last comparison of each minute and source. Read with FINAL, or use the view reconciliation.';

-- shard: toUnixTimestamp(finished_at)
CREATE TABLE IF NOT EXISTS reconciliation_passes
(
    finished_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the pass ended, UTC.',
    through     DateTime('UTC') COMMENT 'Rows written before this time were taken into account, by the server\'s clock, UTC.',
    minutes     UInt32 COMMENT 'Minutes that were compared.',
    missing     UInt64 COMMENT 'Missing over all settled minutes, after the pass.',
    unexplained UInt64 COMMENT 'Unexplained over all settled minutes, after the pass.'
)
ENGINE = MergeTree
ORDER BY finished_at
TTL toDateTime(finished_at) + INTERVAL 4 DAY
COMMENT 'Passes of the reconciliation that succeeded, for four days.';

-- A raw record that the sink can't read has no row in accepted but a dead letter of the sink, which
-- says that it came in. The streams' own says what became of it. They are paired by the record's
-- place in Kafka and its timestamp.
CREATE OR REPLACE VIEW reconciliation
(
    minute       DateTime('UTC') COMMENT 'Minute in which ingress took the events in, UTC.',
    source       LowCardinality(String) COMMENT 'Source in mailpulse.toml; empty for what could not be read.',
    accepted     UInt64 COMMENT 'Events on the raw topic, each once in the minute and source.',
    stored       UInt64 COMMENT 'Of these, in the table events.',
    repeated     UInt64 COMMENT 'Of these, repeats of an event that came by another source or in another minute and is stored.',
    dead_letters UInt64 COMMENT 'Of the rest, dead letters of the streams or of the sink.',
    missing      UInt64 COMMENT 'accepted - stored - repeated - dead_letters; 0 once everything has arrived.',
    unexplained  UInt64 COMMENT 'In the table events, but not on the raw topic; 0 once everything has arrived.',
    checked_at   DateTime64(3, 'UTC') COMMENT 'When the sink compared them, UTC.'
)
COMMENT 'Accepted by ingress = stored + repeated + dead letters, per minute and source, last three days, as the sink last compared them.'
AS SELECT minute, source, accepted, stored, repeated, dead_letters, missing, unexplained, checked_at
FROM reconciled FINAL
WHERE minute > now() - INTERVAL 3 DAY
UNION ALL
SELECT
    minute,
    '' AS source,
    sum(came) AS accepted,
    0 AS stored,
    0 AS repeated,
    sum(came AND told) AS dead_letters,
    sum(came AND NOT told) AS missing,
    0 AS unexplained,
    now64(3) AS checked_at
FROM
(
    SELECT
        toStartOfMinute(occurred_at) AS minute,
        max(stage = 'sink') AS came,
        max(stage = 'enrich') AS told
    FROM dead_letters
    WHERE topic = 'email.events.raw.v1' AND stage IN ('sink', 'enrich')
      AND occurred_at > now() - INTERVAL 3 DAY
    GROUP BY occurred_at, partition, offset
)
GROUP BY minute
HAVING accepted > 0;
