-- A raw record that neither the streams nor the sink can read has a dead letter of both: the sink's
-- says that it came in, the streams' what became of it. An event whose enriched record ClickHouse
-- refuses is a dead letter too.
CREATE OR REPLACE VIEW reconciliation
(
    minute       DateTime('UTC') COMMENT 'Minute in which ingress first took the events in, UTC.',
    source       LowCardinality(String) COMMENT 'Source in mailpulse.toml; empty for what could not be read.',
    accepted     UInt64 COMMENT 'Events on the raw topic, each once however often it was sent.',
    stored       UInt64 COMMENT 'Of these, events in the table events.',
    dead_letters UInt64 COMMENT 'Of these, dead letters of the streams or of the sink.',
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
    SELECT
        toStartOfMinute(occurred_at) AS minute,
        source,
        toUInt8(stage = 'sink' AND topic = 'email.events.raw.v1') AS a,
        0 AS s,
        toUInt8(NOT a) AS d
    FROM dead_letters FINAL
    WHERE occurred_at > now() - INTERVAL 3 DAY
      AND (topic = 'email.events.raw.v1' AND stage != 'ingest'
           OR topic = 'email.events.enriched.v1' AND stage = 'sink')
)
GROUP BY minute, source;
