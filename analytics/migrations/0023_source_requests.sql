-- How ingress answered requests, per source: what tells a source that is silent from one whose
-- requests are all refused. A record that comes twice is the same rows, so nothing counts twice.
-- shard: cityHash64(source)
CREATE TABLE IF NOT EXISTS source_requests
(
    source   LowCardinality(String) COMMENT 'Source in mailpulse.toml; an empty text: requests to paths that name no source.',
    began_at DateTime64(6, 'UTC') COMMENT 'When the interval that was counted began, by the clock of ingress, UTC.' CODEC(Delta, ZSTD(1)),
    ingress  UUID COMMENT 'The ingress process that counted; another one after each start.',
    sequence Int64 COMMENT 'Number of the interval in this process, from 1.',
    result   LowCardinality(String) COMMENT 'accepted: its events are kept; unreadable: kept as dead letters alone; empty: accepted, without events; probe: a set-up call; disconnected: the client went away; or the code of the refusal, such as unauthorized.',
    reason   LowCardinality(String) COMMENT 'Of unauthorized what was wrong with the proof, such as bad_signature or stale_timestamp; otherwise an empty text.',
    ended_at DateTime64(6, 'UTC') COMMENT 'When the interval ended, UTC.' CODEC(Delta, ZSTD(1)),
    requests Int64 COMMENT 'How many.',
    first_at DateTime64(6, 'UTC') COMMENT 'When the first of them was answered, UTC.' CODEC(Delta, ZSTD(1)),
    last_at  DateTime64(6, 'UTC') COMMENT 'When the last of them was answered, UTC.' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (source, began_at, ingress, sequence, result, reason)
TTL toDateTime(began_at) + INTERVAL 14 DAY
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Requests to each source by result, as each ingress process counted them, about a row a minute and result, for 14 days. Read with FINAL.';

CREATE OR REPLACE VIEW source_refusals
(
    source         LowCardinality(String) COMMENT 'Source in mailpulse.toml; an empty text: requests to paths that name no source.',
    result         LowCardinality(String) COMMENT 'unreadable: kept as dead letters alone; or the code of the refusal, such as unauthorized.',
    reason         LowCardinality(String) COMMENT 'Of unauthorized what was wrong with the proof, such as bad_signature or stale_timestamp; otherwise an empty text.',
    requests       Int64 COMMENT 'How many since the last request with events, at least: what came in one interval with that and may have come before it counts as one.',
    since          DateTime64(6, 'UTC') COMMENT 'When the first of them was answered, UTC.',
    until          DateTime64(6, 'UTC') COMMENT 'When the last of them was answered, UTC.',
    slots          UInt64 COMMENT 'In how many five minutes such requests were seen since, at least.',
    before         Int64 COMMENT 'How many of this kind came on the day before the last request with events.',
    accepted_until Nullable(DateTime64(6, 'UTC')) COMMENT 'When the last request with events was accepted, UTC; NULL: in 14 days none was.'
)
COMMENT 'Requests that brought no events since the last one of their source with events, by kind; anyone can post.'
AS SELECT
    source,
    result,
    reason,
    toInt64(sumIf(r.requests, r.first_at > accepted) + countIf(r.first_at <= accepted AND r.last_at > accepted)) AS requests,
    minIf(if(r.first_at > accepted, r.first_at, r.last_at), r.last_at > accepted) AS since,
    maxIf(r.last_at, r.last_at > accepted) AS until,
    uniqExactArrayIf(
        [toStartOfFiveMinutes(if(r.first_at > accepted, r.first_at, r.last_at)), toStartOfFiveMinutes(r.last_at)],
        r.last_at > accepted
    ) AS slots,
    toInt64(sumIf(r.requests, r.last_at <= accepted)) AS before,
    if(accepted > toDateTime64(0, 6, 'UTC'), accepted, NULL) AS accepted_until
FROM
(
    SELECT
        c.source AS source,
        c.result AS result,
        c.reason AS reason,
        c.requests AS requests,
        c.first_at AS first_at,
        c.last_at AS last_at,
        maxIf(c.last_at, c.result = 'accepted') OVER (PARTITION BY c.source) AS accepted
    FROM source_requests AS c FINAL
    WHERE c.began_at > now() - INTERVAL 14 DAY
) AS r
WHERE result NOT IN ('accepted', 'empty', 'probe', 'disconnected')
    AND r.last_at > accepted - INTERVAL 1 DAY
GROUP BY source, result, reason, accepted
HAVING requests > 0;

-- What requests say of a source that is silent.
ALTER TABLE source_incident_changes
    ADD COLUMN IF NOT EXISTS cause LowCardinality(String) COMMENT 'What requests to the source say of it: silent (none came), refused (all were), unreadable (all became dead letters), repeats (accepted, but with nothing new); empty: not known, or of one event type.',
    ADD COLUMN IF NOT EXISTS accepted_until Nullable(DateTime64(6, 'UTC')) COMMENT 'When ingress accepted the last request with events, UTC; NULL: not known.',
    ADD COLUMN IF NOT EXISTS refused_since Nullable(DateTime64(6, 'UTC')) COMMENT 'When it refused the first one after that, UTC; NULL: it refused none.',
    ADD COLUMN IF NOT EXISTS refused_until Nullable(DateTime64(6, 'UTC')) COMMENT 'When it refused the newest one that is known of, UTC.',
    ADD COLUMN IF NOT EXISTS refused Int64 COMMENT 'How many it refused from then on, at least.',
    ADD COLUMN IF NOT EXISTS refusal LowCardinality(String) COMMENT 'How most of them were refused: result and reason, such as unauthorized/bad_signature.';

CREATE OR REPLACE VIEW source_incidents
(
    source       LowCardinality(String) COMMENT 'Source in mailpulse.toml.',
    event_type   LowCardinality(String) COMMENT 'Event type that does not come; an empty text: nothing comes from the source.',
    opened_at    DateTime64(6, 'UTC') COMMENT 'When it was opened, UTC.',
    incident_id  UUID COMMENT 'Identity of the incident, 32 hexadecimal digits: the same from opened to closed.',
    sequence     Int32 COMMENT 'Number of the change, from 1: act once per incident and sequence.',
    state        LowCardinality(String) COMMENT 'The latest change: opened, changed (its requests come, but are refused) or closed.',
    level        LowCardinality(String) COMMENT 'critical: nothing comes from the source; warning: one event type does not come.',
    silent_since DateTime64(6, 'UTC') COMMENT 'When the last event before the silence came in, UTC; if none ever came, when the first request was refused.',
    usual_gap_s  Int64 COMMENT 'How long the longest gap of a usual week takes from then on, seconds; 0: no rhythm is known.',
    explained_s  Int64 COMMENT 'How long a silence from then on the rhythm would have explained, seconds; 0: no rhythm is known.',
    resumed_at   Nullable(DateTime64(6, 'UTC')) COMMENT 'Of a closed incident, when the newest event came in, UTC; NULL: nothing came, but no rhythm is known any more.',
    changed_at   DateTime64(6, 'UTC') COMMENT 'When the latest change was told, UTC.',
    as_of        DateTime64(6, 'UTC') COMMENT 'Through which time what came was known, UTC.',
    advice       String COMMENT 'What to look at, in words for people.',
    cause          LowCardinality(String) COMMENT 'What requests to the source say of it: silent (none came), refused (all were), unreadable (all became dead letters), repeats (accepted, but with nothing new); empty: not known, or of one event type.',
    accepted_until Nullable(DateTime64(6, 'UTC')) COMMENT 'When ingress accepted the last request with events, UTC; NULL: not known.',
    refused_since  Nullable(DateTime64(6, 'UTC')) COMMENT 'When it refused the first one after that, UTC; NULL: it refused none.',
    refused_until  Nullable(DateTime64(6, 'UTC')) COMMENT 'When it refused the newest one that is known of, UTC.',
    refused        Int64 COMMENT 'How many it refused from then on, at least.',
    refusal        LowCardinality(String) COMMENT 'How most of them were refused: result and reason, such as unauthorized/bad_signature.'
)
COMMENT 'Silences of sources that their rhythm does not explain, and sources whose requests are all refused, as they are now: one row each.'
AS SELECT
    c.source AS source,
    c.event_type AS event_type,
    argMax(c.opened_at, c.sequence) AS opened_at,
    c.incident_id AS incident_id,
    max(c.sequence) AS sequence,
    argMax(c.state, c.sequence) AS state,
    argMax(c.level, c.sequence) AS level,
    argMax(c.silent_since, c.sequence) AS silent_since,
    argMax(c.usual_gap_s, c.sequence) AS usual_gap_s,
    argMax(c.explained_s, c.sequence) AS explained_s,
    argMax(tuple(c.resumed_at), c.sequence).1 AS resumed_at,
    argMax(c.changed_at, c.sequence) AS changed_at,
    argMax(c.as_of, c.sequence) AS as_of,
    argMax(c.advice, if(c.state = 'closed', 0, c.sequence)) AS advice,
    argMax(c.cause, c.sequence) AS cause,
    argMax(tuple(c.accepted_until), c.sequence).1 AS accepted_until,
    argMax(tuple(c.refused_since), c.sequence).1 AS refused_since,
    argMax(tuple(c.refused_until), c.sequence).1 AS refused_until,
    argMax(c.refused, c.sequence) AS refused,
    argMax(c.refusal, c.sequence) AS refusal
FROM source_incident_changes AS c FINAL
GROUP BY source, event_type, incident_id;
