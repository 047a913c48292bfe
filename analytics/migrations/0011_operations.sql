-- What ingress accepted: one row per event id on the raw topic, kept three days, so that
-- reconciliation counts from the other end of the pipeline. The earliest copy holds.
-- shard: cityHash64(event_id)
CREATE TABLE IF NOT EXISTS accepted
(
    source      LowCardinality(String) COMMENT 'Source in mailpulse.toml whose hook was called.',
    event_id    UUID COMMENT 'Identity of the event.' CODEC(NONE),
    received_at DateTime64(3, 'UTC') COMMENT 'When ingress took it in, UTC.' CODEC(Delta, ZSTD(1)),
    earliness   UInt64 COMMENT 'Grows the earlier it was received: the version of the row.' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(earliness)
PARTITION BY toDate(received_at)
ORDER BY (source, event_id)
TTL toDateTime(received_at) + INTERVAL 3 DAY
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Events on the raw topic in the last three days, by identity alone. Read with FINAL.';

-- Accepted by ingress = stored + dead letters, per minute and source. The last minutes show what
-- is on its way as missing.
CREATE OR REPLACE VIEW reconciliation
(
    minute       DateTime('UTC') COMMENT 'Minute in which ingress first took the events in, UTC.',
    source       LowCardinality(String) COMMENT 'Source in mailpulse.toml.',
    accepted     UInt64 COMMENT 'Events on the raw topic, each once however often it was sent.',
    stored       UInt64 COMMENT 'Of these, events in the table events.',
    dead_letters UInt64 COMMENT 'Dead letters of the streams and the sink from that minute.',
    missing      Int64 COMMENT 'accepted - stored - dead_letters; 0 once everything has arrived.'
)
COMMENT 'Accepted by ingress = stored + dead letters, per minute and source, last three days.'
AS SELECT
    minute,
    source,
    sum(a) AS accepted,
    sum(s) AS stored,
    sum(d) AS dead_letters,
    toInt64(accepted) - toInt64(stored) - toInt64(dead_letters) AS missing
FROM
(
    SELECT
        toStartOfMinute(min(t.received_at)) AS minute,
        t.source AS source,
        1 AS a,
        toUInt8(max(t.stored)) AS s,
        0 AS d
    FROM
    (
        SELECT source, event_id, received_at, 0 AS stored, 1 AS known FROM accepted
        UNION ALL
        SELECT source, event_id, received_at, 1 AS stored, 0 AS known
        FROM events WHERE is_deleted = 0 AND received_at > now() - INTERVAL 4 DAY
    ) AS t
    GROUP BY t.source, t.event_id
    HAVING max(t.known) = 1
    UNION ALL
    SELECT toStartOfMinute(occurred_at) AS minute, source, 0 AS a, 0 AS s, 1 AS d
    FROM dead_letters FINAL
    WHERE stage != 'ingest' AND topic = 'email.events.raw.v1' AND occurred_at > now() - INTERVAL 3 DAY
)
GROUP BY minute, source;

-- How far behind the present each source and each part of the pipeline is.
CREATE OR REPLACE VIEW freshness
(
    part           String COMMENT 'events of a source, or campaign_rates.',
    source         LowCardinality(String) COMMENT 'Source in mailpulse.toml; empty for campaign_rates.',
    newest         DateTime64(3, 'UTC') COMMENT 'When ingress took in the newest stored event; for rates, the arrival time through which they are complete.',
    seconds_behind Float64 COMMENT 'Seconds between newest and now; grows also when nothing is sent.',
    last_5_minutes UInt64 COMMENT 'Events stored that ingress took in during the last 5 minutes.'
)
COMMENT 'Newest data per source, and how old it is.'
AS SELECT
    'events' AS part,
    source,
    max(received_at) AS newest,
    (toUnixTimestamp64Milli(now64(3)) - toUnixTimestamp64Milli(newest)) / 1000 AS seconds_behind,
    countIf(received_at > now() - INTERVAL 5 MINUTE) AS last_5_minutes
FROM events
WHERE is_deleted = 0
GROUP BY source
UNION ALL
SELECT
    'campaign_rates' AS part,
    '' AS source,
    toDateTime64(max(complete_through), 3, 'UTC') AS newest,
    (toUnixTimestamp64Milli(now64(3)) - toUnixTimestamp64Milli(newest)) / 1000 AS seconds_behind,
    0 AS last_5_minutes
FROM campaign_rates
HAVING count() > 0;
