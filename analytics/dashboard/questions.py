"""The dashboard's queries.

Invariants:
1. Constants only. Values are bound as parameters, never put into the text.
2. Tables that may have duplicate rows are read with FINAL, as the views do. Tables are read only
   where views have no figures for an arbitrary period.
3. No query changes a setting of ClickHouse: under ``readonly = 1``, as on the analysts' listener,
   none may be changed.
4. Every query is bounded by its period, by a campaign, or by LIMIT.
5. Times are given as seconds since 1970: clickhouse-connect would write a ``datetime`` in the
   server's time zone, and ClickHouse read it as UTC. ``steps`` are the begins of a chart's steps.
"""

from schemas.glossary import COUNTER_NAMES

SUMS = ",\n        ".join(f"sum(m.{name}) AS {name}" for name in COUNTER_NAMES)
_SUMS_OF_SUMS = ",\n    ".join(f"sum(b.{name}) AS {name}" for name in COUNTER_NAMES)
MINUTES = """\
    FROM campaign_minutes AS m FINAL
    WHERE m.minute >= toDateTime({since:UInt32}, 'UTC')
        AND m.minute < toDateTime({until:UInt32}, 'UTC')"""

FIRST_MINUTE = """\
SELECT toUnixTimestamp(min(minute)) AS first FROM campaign_minutes
WHERE minute >= toDateTime({since:UInt32}, 'UTC') AND minute < toDateTime({until:UInt32}, 'UTC')
    AND events > 0"""

LIFE = """\
SELECT
    toUnixTimestamp(min(m.minute)) AS first,
    toUnixTimestamp(max(m.minute)) AS last,
    quantilesExactWeighted(0.05, 0.9, 0.99)(toUnixTimestamp(m.minute), toUInt64(m.events)) AS shares
FROM campaign_minutes AS m FINAL
WHERE m.minute >= toDateTime({since:UInt32}, 'UTC')
    AND m.minute < toDateTime({until:UInt32}, 'UTC')
    AND m.campaign_id = {campaign:String}
    AND m.events > 0"""
"""When a campaign's events happened: the minutes by which 5, 90 and 99 % of them had."""

TREND = f"""\
SELECT
    roundDown(toUnixTimestamp(m.minute), {{steps:Array(UInt32)}}) AS bucket,
        {SUMS}
{MINUTES}
GROUP BY bucket
ORDER BY bucket"""

OVERVIEW = f"""\
SELECT
    b.campaign_id AS campaign_id,
    b.current AS current,
    toUnixTimestamp(max(b.last)) AS last_s,
    arraySort(groupArray((b.bucket, b.delivered, b.opened, b.clicked))) AS course,
    {_SUMS_OF_SUMS}
FROM
(
    SELECT
        m.campaign_id AS campaign_id,
        m.minute >= toDateTime({{start:UInt32}}, 'UTC') AS current,
        roundDown(toUnixTimestamp(m.minute), {{steps:Array(UInt32)}}) AS bucket,
        maxIf(m.minute, m.events > 0) AS last,
        {SUMS}
{MINUTES}
    GROUP BY campaign_id, current, bucket
) AS b
GROUP BY campaign_id, current"""

TIMELINE = f"""\
SELECT
    roundDown(toUnixTimestamp(m.minute), {{steps:Array(UInt32)}}) AS bucket,
    m.minute >= toDateTime({{start:UInt32}}, 'UTC') AS current,
        {SUMS}
{MINUTES} AND m.campaign_id = {{campaign:String}}
GROUP BY bucket, current
ORDER BY bucket"""

MAILBOXES = f"""\
SELECT m.mailbox_provider AS mailbox_provider,
        {SUMS}
{MINUTES} AND m.campaign_id = {{campaign:String}}
GROUP BY mailbox_provider
HAVING events != 0
ORDER BY delivered DESC
LIMIT 100"""

NAMES = """\
SELECT campaign_id, name, owner FROM campaigns FINAL
ORDER BY updated_at DESC LIMIT 5000"""

SENT_SO_FAR = """\
SELECT expected_recipients, sent
FROM campaign_summary
WHERE campaign_id = {campaign:String} AND expected_recipients IS NOT NULL"""
"""Since the campaign's first event, whatever the period; no row where nobody said how many."""

_IN_PERIOD = """\
WHERE i.opened_at < toDateTime({until:UInt32}, 'UTC')
    AND (i.state != 'closed' OR i.changed_at >= toDateTime({since:UInt32}, 'UTC'))"""
"""Incidents that were open at some time of the period."""

INCIDENTS = f"""\
SELECT
    toString(i.incident_id) AS id,
    i.campaign_id AS campaign_id,
    i.rate AS rate,
    i.state AS state,
    i.level AS level,
    i.worst_level AS worst_level,
    i.mailbox_provider AS mailbox_provider,
    i.line AS line,
    i.window AS window,
    i.numerator AS numerator,
    i.denominator AS denominator,
    i.opened_numerator AS opened_numerator,
    i.opened_denominator AS opened_denominator,
    i.`places.mailbox_provider` AS places,
    i.cause AS cause,
    i.cause_name AS cause_name,
    i.advice AS advice,
    toUnixTimestamp64Milli(i.opened_at) AS opened_ms,
    if(i.state = 'closed', toUnixTimestamp64Milli(i.changed_at), 0) AS closed_ms
FROM incidents AS i
{_IN_PERIOD}
ORDER BY opened_ms DESC, id
LIMIT 2000"""

SOURCE_INCIDENTS = f"""\
SELECT
    toString(i.incident_id) AS id,
    i.source AS source,
    i.event_type AS event_type,
    i.level AS level,
    i.advice AS advice,
    i.usual_gap_s AS usual_gap_s,
    i.explained_s AS explained_s,
    i.cause AS cause,
    i.refused AS refused,
    i.refusal AS refusal,
    ifNull(toUnixTimestamp64Milli(i.accepted_until), 0) AS accepted_ms,
    ifNull(toUnixTimestamp64Milli(i.refused_since), 0) AS refused_ms,
    toUnixTimestamp64Milli(i.silent_since) AS since_ms,
    toUnixTimestamp64Milli(i.opened_at) AS opened_ms,
    if(i.state = 'closed', toUnixTimestamp64Milli(i.changed_at), 0) AS closed_ms
FROM source_incidents AS i
{_IN_PERIOD}
ORDER BY opened_ms DESC, id
LIMIT 200"""

SILENT_NOW = """\
SELECT source, event_type, toUnixTimestamp64Milli(silent_since) AS since_ms, cause, refusal,
    ifNull(toUnixTimestamp64Milli(refused_since), 0) AS refused_ms
FROM source_incidents
WHERE state != 'closed'
ORDER BY cause != 'refused', event_type != '', source, event_type
LIMIT 50"""

NEWEST = """\
SELECT
    toUnixTimestamp64Milli(max(newest)) AS newest_ms,
    ifNull(toUnixTimestamp64Milli(min(caught_up_to)), 0) AS caught_up_ms,
    (
        SELECT count() FROM events
        WHERE received_at > now64(3) - INTERVAL 1 MINUTE AND is_deleted = 0
    ) AS last_minute
FROM freshness WHERE part = 'events' """

_EVENTS = """\
FROM events AS e FINAL
WHERE e.campaign_id = {campaign:String}
    AND e.event_time >= toDateTime({start:UInt32}, 'UTC')
    AND e.event_time < toDateTime({until:UInt32}, 'UTC')"""

_CLICKED_PARAMETERS = _EVENTS.replace(
    "FINAL\n", "FINAL\nARRAY JOIN splitByChar('&', queryString(e.click_url_group)) AS pair\n"
)

BOUNCES = f"""\
SELECT
    e.bounce_class AS bounce_class,
    e.bounce_reason AS bounce_reason,
    e.smtp_code AS smtp_code,
    e.enhanced_status AS enhanced_status,
    uniqExact(e.message_key) AS messages,
    toUnixTimestamp64Milli(max(e.event_time)) AS last_ms,
    argMax(e.diagnostic, e.event_time) AS diagnostic
{_EVENTS} AND e.event_type IN ('bounced', 'rejected', 'failed') AND e.bounce_class != 'none'
GROUP BY bounce_class, bounce_reason, smtp_code, enhanced_status
ORDER BY messages DESC, bounce_class, bounce_reason, smtp_code, enhanced_status
LIMIT 200"""

# as in the view ``links``, for a period
LINKS = f"""\
SELECT
    if(
        empty(p.names),
        c.link,
        concat(
            cutQueryStringAndFragment(c.link),
            if(
                empty(arrayFilter(
                    pair -> pair != '' AND NOT has(p.names, splitByChar('=', pair)[1]),
                    splitByChar('&', queryString(c.link))
                ) AS kept),
                '', '?'
            ),
            arrayStringConcat(kept, '&'),
            if(empty(fragment(c.link)), '', '#'),
            fragment(c.link)
        )
    ) AS click_url_group,
    c.unsubscribe_link AS unsubscribe_link,
    uniqExactIf(c.message_key, c.actor = 'human') AS messages,
    countIf(c.actor = 'human') AS clicks,
    uniqExactIf(c.message_key, c.actor IN ('machine', 'scanner')) AS machine_messages,
    countIf(c.actor IN ('machine', 'scanner')) AS machine_clicks,
    countIf(c.actor = 'unknown') AS unknown_clicks,
    uniqExact(c.url) AS click_urls
FROM
(
    SELECT
        e.click_url_group AS link,
        cutQueryString(e.click_url_group) AS page,
        e.click_url AS url,
        e.unsubscribe_link AS unsubscribe_link,
        e.message_key AS message_key,
        e.actor AS actor
    {_EVENTS} AND e.event_type = 'clicked'
) AS c
LEFT JOIN
(
    SELECT page, groupArray(name) AS names
    FROM
    (
        SELECT
            cutQueryString(e.click_url_group) AS page,
            splitByChar('=', pair)[1] AS name
        {_CLICKED_PARAMETERS} AND e.event_type = 'clicked' AND e.click_url_group LIKE '%?%'
        GROUP BY page, name
        HAVING uniq(e.message_key) >= 20 AND uniq(pair) >= 0.8 * uniq(e.message_key)
    )
    GROUP BY page
) AS p ON c.page = p.page
GROUP BY click_url_group, unsubscribe_link
ORDER BY messages DESC, machine_messages DESC, click_url_group
LIMIT 200"""

MACHINES = f"""\
SELECT
    e.event_type AS event_type,
    e.actor AS actor,
    e.actor_reason AS actor_reason,
    e.actor_certainty AS actor_certainty,
    count() AS events,
    uniqExact(e.message_key) AS messages
{_EVENTS} AND e.event_type IN ('opened', 'clicked')
GROUP BY event_type, actor, actor_reason, actor_certainty
ORDER BY event_type DESC, events DESC, actor, actor_reason, actor_certainty
LIMIT 100"""

CLICKERS = f"""\
SELECT uniqExact(e.message_key) AS clickers
{_EVENTS} AND e.event_type = 'clicked' AND e.actor = 'human' AND NOT e.unsubscribe_link"""
"""Messages in which a human clicked any link: what the share of a link is of."""

RULES = f"""\
SELECT
    e.rules_version AS rules_version,
    toUnixTimestamp64Milli(min(e.received_at)) AS since_ms,
    toUInt32(intDiv(max(e.revision), 4096)) AS epoch
{_EVENTS} AND e.event_type IN ('opened', 'clicked', 'bounced')
GROUP BY rules_version
ORDER BY since_ms, rules_version
LIMIT 20"""
"""Which rules judged the events that came from when on; epochs: how often they were judged anew."""

RECENT = f"""\
SELECT
    toUnixTimestamp64Milli(e.event_time) AS at_ms,
    e.event_type AS event_type,
    e.recipient AS recipient,
    e.mailbox_provider AS mailbox_provider,
    e.provider AS provider,
    multiIf(
        e.event_type IN ('bounced', 'rejected', 'failed'),
        concat(e.bounce_class, ' ', e.bounce_reason),
        e.event_type IN ('opened', 'clicked'), e.actor, ''
    ) AS detail
{_EVENTS}
ORDER BY e.event_time DESC, e.event_id
LIMIT 20"""

DEAD_LETTERS = """\
SELECT
    d.stage AS stage,
    d.reason AS reason,
    d.source AS source,
    uniqExactArray(d.letter_ids) AS letters,
    sum(d.letters) AS occurrences,
    toUnixTimestamp64Milli(max(d.last_at)) AS last_ms,
    argMax(d.sample, d.last_at) AS sample
FROM dead_letter_counts AS d
WHERE d.minute >= toDateTime({start:UInt32}, 'UTC')
    AND d.minute < toDateTime({until:UInt32}, 'UTC')
GROUP BY stage, reason, source
ORDER BY letters DESC, stage, reason, source
LIMIT 200"""

RECONCILIATION = """\
SELECT
    r.source AS source,
    sum(r.accepted) AS accepted,
    sum(r.stored) AS stored,
    sum(r.repeated) AS repeated,
    sum(r.dead_letters) AS dead_letters,
    sum(r.missing) AS missing,
    sumIf(r.missing, r.minute < now() - INTERVAL 5 MINUTE) AS missing_settled,
    sumIf(r.unexplained, r.minute < now() - INTERVAL 5 MINUTE) AS unexplained_settled
FROM reconciliation AS r
GROUP BY source
ORDER BY source"""

THROUGHPUT_SINCE = """\
SELECT ifNull(min(toUnixTimestamp(r.minute)), 0) AS first_s
FROM reconciliation AS r
WHERE r.minute >= toDateTime({since:UInt32}, 'UTC') AND r.minute < toDateTime({until:UInt32}, 'UTC')
    AND r.accepted + r.stored > 0"""

THROUGHPUT = """\
SELECT
    roundDown(toUnixTimestamp(r.minute), {steps:Array(UInt32)}) AS bucket,
    sum(r.accepted) AS accepted,
    sum(r.stored) AS stored
FROM reconciliation AS r
WHERE r.minute >= toDateTime({since:UInt32}, 'UTC') AND r.minute < toDateTime({until:UInt32}, 'UTC')
GROUP BY bucket
ORDER BY bucket"""

RECONCILED = """\
SELECT toUnixTimestamp64Milli(ifNull(reconciled_at, toDateTime64(0, 3, 'UTC'))) AS reconciled_ms
FROM pipeline_state"""

BEHIND = """\
SELECT max(seconds_behind) AS behind_s FROM freshness WHERE part = 'events'"""
"""Seconds by which the database is behind what arrived; NULL until the sink has told it."""

FRESHNESS = """\
SELECT
    part,
    source,
    toUnixTimestamp64Milli(newest) AS newest_ms,
    ifNull(toUnixTimestamp64Milli(caught_up_to), 0) AS caught_up_ms,
    seconds_silent
FROM freshness
ORDER BY part DESC, source"""
