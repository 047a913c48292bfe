-- The newest event of each source: a maximum, so rows that come twice change nothing.
-- shard: cityHash64(source)
CREATE TABLE IF NOT EXISTS source_newest
(
    source LowCardinality(String) COMMENT 'Source in mailpulse.toml.',
    newest SimpleAggregateFunction(max, DateTime64(3, 'UTC')) COMMENT 'When ingress took in its newest stored event, UTC.'
)
ENGINE = AggregatingMergeTree
ORDER BY source
COMMENT 'Newest stored event of each source. Take the maximum by source.';

CREATE MATERIALIZED VIEW IF NOT EXISTS source_newest_from_events TO source_newest
(
    source LowCardinality(String) COMMENT 'Source in mailpulse.toml.',
    newest SimpleAggregateFunction(max, DateTime64(3, 'UTC')) COMMENT 'When ingress took in its newest event of an insert, UTC.'
)
AS SELECT source, max(received_at) AS newest FROM events GROUP BY source;

-- Told by the sink every few seconds, whether or not events come (analytics.sink.progress).
-- shard: cityHash64(topic)
CREATE TABLE IF NOT EXISTS sink_progress
(
    topic     LowCardinality(String) COMMENT 'email.events.enriched.v1 for events, email.campaign.minutes.v1 for rates.',
    partition UInt32 COMMENT 'Partition of the raw topic; of the minutes topic for rates.',
    through   DateTime64(3, 'UTC') COMMENT 'What came before this time is stored, or counted in the rates, UTC.',
    told_at   DateTime64(3, 'UTC') COMMENT 'When the sink told it, UTC: the version of the row.'
)
ENGINE = ReplacingMergeTree(told_at)
ORDER BY (topic, partition)
COMMENT 'How far the pipeline has come, per partition. Read with FINAL.';

-- Lag and silence apart. Each row costs the same whatever the tables hold.
CREATE OR REPLACE VIEW freshness
(
    part           String COMMENT 'events of a source, or campaign_rates.',
    source         LowCardinality(String) COMMENT 'Source in mailpulse.toml; empty for campaign_rates.',
    newest         DateTime64(3, 'UTC') COMMENT 'When ingress took in the newest stored event; for rates, the newest event in them.',
    caught_up_to   Nullable(DateTime64(3, 'UTC')) COMMENT 'All that ingress took in before this time is stored, or counted in the rates; NULL until the sink has told it.',
    seconds_behind Nullable(Float64) COMMENT 'Lag: seconds between caught_up_to and now. A few while the pipeline keeps up, also when nothing is sent.',
    seconds_silent Nullable(Float64) COMMENT 'Silence: seconds between newest and caught_up_to, in which nothing came.'
)
COMMENT 'How far the data is complete, per source: lag and silence apart.'
AS SELECT
    n.part AS part,
    n.source AS source,
    n.newest AS newest,
    p.through AS caught_up_to,
    dateDiff('millisecond', p.through, now64(3)) / 1000 AS seconds_behind,
    greatest(0, dateDiff('millisecond', n.newest, p.through)) / 1000 AS seconds_silent
FROM
(
    SELECT 'events' AS part, 'email.events.enriched.v1' AS topic, s.source AS source, max(s.newest) AS newest
    FROM source_newest AS s
    GROUP BY s.source
    UNION ALL
    SELECT
        'campaign_rates' AS part,
        'email.campaign.minutes.v1' AS topic,
        '' AS source,
        toDateTime64(max(r.complete_through), 3, 'UTC') AS newest
    FROM campaign_rates AS r
    HAVING count() > 0
) AS n
LEFT JOIN
(
    SELECT topic, toNullable(min(through)) AS through FROM sink_progress FINAL GROUP BY topic
) AS p ON n.topic = p.topic;
