"""The queries.

Invariants:
1. Constants only. Values are bound as parameters, never put into the text.
2. Every query is bounded by one campaign, and of events by a period and a number of rows.
3. Examples are the same each time as long as no events come: those whose ids hash lowest.
"""

EXAMPLES_MAX = 10
"""Of each verdict."""
GROUPS_MAX = 200

_EVENTS = """\
FROM events AS e FINAL
WHERE e.campaign_id = {campaign:String} AND e.event_type IN ('opened', 'clicked')
    AND e.event_time >= toDateTime({since:UInt32}, 'UTC')
    AND e.event_time < toDateTime({until:UInt32}, 'UTC')"""
_VERDICT = "event_type, actor, actor_reason, actor_certainty"

GROUP_COLUMNS = ("event_type", "actor", "actor_reason", "actor_certainty", "events", "messages")
GROUPS = f"""\
SELECT
    e.event_type AS event_type, e.actor AS actor, e.actor_reason AS actor_reason,
    e.actor_certainty AS actor_certainty,
    count() AS events, uniqExact(e.message_key) AS messages
{_EVENTS}
GROUP BY {_VERDICT}
ORDER BY event_type DESC, events DESC, actor, actor_reason, actor_certainty
LIMIT {GROUPS_MAX}"""
"""Opens, then clicks; by verdict, the most frequent first."""

EXAMPLE_COLUMNS = (
    "event_type", "actor", "actor_reason", "actor_certainty", "at_ms", "seconds_since_delivery",
    "recipient", "mailbox_provider", "source", "machine_kind", "user_agent", "ip", "link",
)  # fmt: skip
_EXAMPLES = """\
SELECT
    e.event_type AS event_type, e.actor AS actor, e.actor_reason AS actor_reason,
    e.actor_certainty AS actor_certainty, toUnixTimestamp64Milli(e.event_time) AS at_ms,
    e.seconds_since_delivery AS seconds_since_delivery, e.recipient AS recipient,
    e.mailbox_provider AS mailbox_provider, e.source AS source, e.machine_kind AS machine_kind,
    e.user_agent AS user_agent, e.ip AS ip, e.click_url_group AS link
FROM events AS e FINAL
WHERE e.campaign_id = {campaign:String} AND (e.message_key, e.event_time, e.event_id) IN
(
    SELECT message_key, event_time, event_id
    FROM
    (
        SELECT
            e.message_key AS message_key, e.event_time AS event_time, e.event_id AS event_id,
            e.event_type AS event_type, e.actor AS actor, e.actor_reason AS actor_reason,
            e.actor_certainty AS actor_certainty
        %s
    )
    ORDER BY cityHash64(event_id), event_id
    LIMIT {examples:UInt32} BY event_type, actor, actor_reason, actor_certainty
)
ORDER BY event_type DESC, actor, actor_reason, actor_certainty, at_ms, cityHash64(e.event_id)
LIMIT 2000"""
EXAMPLES = _EXAMPLES % _EVENTS
"""Of every verdict."""
EXAMPLES_OF_ONE = _EXAMPLES % (
    f"{_EVENTS} AND e.event_type = {{event_type:String}} AND e.actor = {{actor:String}}"
    " AND e.actor_reason = {reason:String} AND e.actor_certainty = {certainty:String}"
)
"""Of one."""

COUNT_COLUMNS = (
    "delivered",
    "cohort_opened", "cohort_opened_or_unknown", "cohort_opened_at_most", "cohort_opened_any",
    "cohort_clicked", "cohort_clicked_or_unknown", "cohort_clicked_at_most", "cohort_clicked_any",
)  # fmt: skip
COUNTS = f"""\
SELECT {", ".join(COUNT_COLUMNS)}
FROM campaign_summary WHERE campaign_id = {{campaign:String}}"""
"""What each way of counting gives; since the campaign's first event, whatever the period."""

SURE_COLUMNS = ("opened", "clicked")
SURE = """\
SELECT
    uniqExactIf(e.message_key, e.event_type = 'opened') AS opened,
    uniqExactIf(e.message_key, e.event_type = 'clicked' AND NOT e.unsubscribe_link) AS clicked
FROM events AS e FINAL
WHERE e.campaign_id = {campaign:String} AND e.event_type IN ('opened', 'clicked')
    AND e.actor = 'human' AND e.actor_certainty IN ('certain', 'high')
    AND e.message_key IN
    (
        SELECT d.message_key FROM events AS d FINAL
        WHERE d.campaign_id = {campaign:String} AND d.event_type = 'delivered'
    )"""
"""Delivered messages that a human opened or clicked with high certainty."""
