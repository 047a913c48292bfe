-- A letter that is set aside again, because a provider repeats it or a replay reads it, is the same
-- letter: its id says so. Sums of letters count each time, uniqExactArray(letter_ids) counts once.
CREATE OR REPLACE VIEW dead_letter_counts
(
    minute     DateTime('UTC') COMMENT 'Minute in which it was received (ingest) or of the record\'s own time (streams, sink), UTC.',
    stage      LowCardinality(String) COMMENT 'Who gave up: ingest, enrich, campaigns or sink.',
    reason     LowCardinality(String) COMMENT 'Stable code of the reason, such as not_json.',
    source     LowCardinality(String) COMMENT 'Source in mailpulse.toml; empty when unknown.',
    topic      LowCardinality(String) COMMENT 'Topic of the record; empty when it came by HTTP.',
    letters    UInt64 COMMENT 'Dead letters; one that is set aside at several times counts each time.',
    letter_ids Array(UUID) COMMENT 'Their ids, each once: uniqExactArray(letter_ids) counts letters once, as mailpulse dlq ls does.',
    last_at    DateTime64(3, 'UTC') COMMENT 'Last of them, UTC.',
    sample     String COMMENT 'What exactly went wrong with the last one, for a person.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
COMMENT 'What could not be processed in the last 90 days, counted by minute, stage, reason, source and topic. The letters themselves: mailpulse dlq ls.'
AS SELECT
    toStartOfMinute(toDateTime(d.occurred_at, 'UTC')) AS minute,
    d.stage AS stage,
    d.reason AS reason,
    d.source AS source,
    d.topic AS topic,
    count() AS letters,
    groupUniqArray(d.dead_letter_id) AS letter_ids,
    max(d.occurred_at) AS last_at,
    argMax(d.detail, d.occurred_at) AS sample
FROM dead_letters AS d FINAL
GROUP BY minute, stage, reason, source, topic;
