"""The dashboard's queries.

Invariants:
1. Constants only. Values are bound as parameters, never put into the text.
2. Tables that may have duplicate rows are read with FINAL, as the views do. Tables are read only
   where views have no figures for an arbitrary period.
3. No query changes a setting of ClickHouse: under ``readonly = 1``, as on the analysts' listener,
   none may be changed.
4. Every query is bounded by its period, by a campaign, or by LIMIT.
"""

from schemas.glossary import COUNTER_NAMES

_SUMS = ",\n        ".join(f"sum(m.{name}) AS {name}" for name in COUNTER_NAMES)
_SUMS_OF_SUMS = ",\n    ".join(f"sum(b.{name}) AS {name}" for name in COUNTER_NAMES)
_MINUTES = """\
    FROM campaign_minutes AS m FINAL
    WHERE m.minute >= {since:DateTime('UTC')} AND m.minute < {until:DateTime('UTC')}"""

FIRST_MINUTE = """\
SELECT min(minute) AS first FROM campaign_minutes
WHERE minute >= {since:DateTime('UTC')} AND minute < {until:DateTime('UTC')} AND events > 0"""

OVERVIEW = f"""\
SELECT
    b.campaign_id AS campaign_id,
    b.current AS current,
    max(b.last) AS last_minute,
    arraySort(groupArray((toUnixTimestamp(b.bucket), b.delivered, b.opened, b.clicked))) AS course,
    {_SUMS_OF_SUMS}
FROM
(
    SELECT
        m.campaign_id AS campaign_id,
        m.minute >= {{start:DateTime('UTC')}} AS current,
        toStartOfInterval(m.minute, toIntervalSecond({{step:UInt32}})) AS bucket,
        maxIf(m.minute, m.events > 0) AS last,
        {_SUMS}
{_MINUTES}
    GROUP BY campaign_id, current, bucket
) AS b
GROUP BY campaign_id, current"""

TIMELINE = f"""\
SELECT
    toUnixTimestamp(toStartOfInterval(m.minute, toIntervalSecond({{step:UInt32}}))) AS bucket,
    m.minute >= {{start:DateTime('UTC')}} AS current,
        {_SUMS}
{_MINUTES} AND m.campaign_id = {{campaign:String}}
GROUP BY bucket, current
ORDER BY bucket"""

MAILBOXES = f"""\
SELECT m.mailbox_provider AS mailbox_provider,
        {_SUMS}
{_MINUTES} AND m.campaign_id = {{campaign:String}}
GROUP BY mailbox_provider
HAVING events != 0
ORDER BY delivered DESC
LIMIT 100"""

NAMES = """\
SELECT campaign_id, name, owner, expected_recipients FROM campaigns FINAL
ORDER BY updated_at DESC LIMIT 5000"""

ALERTS = """\
SELECT
    toString(alert_id) AS id,
    any(a.campaign_id) AS campaign_id,
    any(a.mailbox_provider) AS mailbox_provider,
    any(a.rate) AS rate,
    any(a.level) AS level,
    any(a.line) AS line,
    any(a.window) AS window,
    argMin(a.numerator, a.as_of) AS numerator,
    argMin(a.denominator, a.as_of) AS denominator,
    toUnixTimestamp64Milli(any(a.raised_at)) AS raised_ms,
    maxIf(toUnixTimestamp64Milli(a.as_of), a.state = 'cleared') AS cleared_ms
FROM alerts AS a FINAL
WHERE a.raised_at < {until:DateTime('UTC')}
GROUP BY alert_id
HAVING cleared_ms = 0 OR cleared_ms >= toUnixTimestamp({since:DateTime('UTC')}) * 1000
ORDER BY raised_ms DESC
LIMIT 2000"""

NEWEST = """\
SELECT toUnixTimestamp64Milli(max(received_at)) AS newest_ms, count() AS events,
    countIf(received_at > now64(3) - INTERVAL 1 MINUTE) AS last_minute
FROM events WHERE received_at > now64(3) - INTERVAL 1 HOUR AND is_deleted = 0"""

_EVENTS = """\
FROM events AS e FINAL
WHERE e.campaign_id = {campaign:String}
    AND e.event_time >= {start:DateTime('UTC')} AND e.event_time < {until:DateTime('UTC')}"""

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

LINKS = f"""\
SELECT
    e.click_url AS click_url,
    e.unsubscribe_link AS unsubscribe_link,
    uniqExactIf(e.message_key, e.actor = 'human') AS messages,
    countIf(e.actor = 'human') AS clicks,
    uniqExactIf(e.message_key, e.actor != 'human') AS machine_messages,
    countIf(e.actor != 'human') AS machine_clicks
{_EVENTS} AND e.event_type = 'clicked'
GROUP BY click_url, unsubscribe_link
ORDER BY messages DESC, machine_messages DESC, click_url
LIMIT 200"""

MACHINES = f"""\
SELECT
    e.event_type AS event_type,
    e.actor AS actor,
    e.actor_reason AS actor_reason,
    count() AS events,
    uniqExact(e.message_key) AS messages
{_EVENTS} AND e.event_type IN ('opened', 'clicked')
GROUP BY event_type, actor, actor_reason
ORDER BY event_type DESC, events DESC, actor, actor_reason
LIMIT 100"""

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
    count() AS letters,
    toUnixTimestamp64Milli(max(d.occurred_at)) AS last_ms,
    argMax(d.detail, d.occurred_at) AS sample
FROM dead_letters AS d FINAL
WHERE d.occurred_at >= {start:DateTime('UTC')} AND d.occurred_at < {until:DateTime('UTC')}
GROUP BY stage, reason, source
ORDER BY letters DESC, stage, reason, source
LIMIT 200"""

RECONCILIATION = """\
SELECT
    r.source AS source,
    sum(r.accepted) AS accepted,
    sum(r.stored) AS stored,
    sum(r.dead_letters) AS dead_letters,
    sum(r.missing) AS missing,
    sumIf(r.missing, r.minute < now() - INTERVAL 5 MINUTE) AS missing_settled
FROM reconciliation AS r
GROUP BY source
ORDER BY source"""

FRESHNESS = """\
SELECT part, source, toUnixTimestamp64Milli(newest) AS newest_ms, last_5_minutes
FROM freshness
ORDER BY part DESC, source"""
