"""The queries from which fleets of scanners are learned, and what accepting them would change.

Invariants:
1. Constants only. Values are bound as parameters, never put into the text.
2. Every query is bounded by a period and a number of rows.
3. What an address did is told by what came from it and when, not by verdicts that rest on time or
   on networks: accepting a fleet does not make it look surer.
4. They run on a cluster too, where ``events`` is distributed: hence GLOBAL.
"""

from analytics.verdicts.questions import COUNT_COLUMNS

ROWS_MAX = 200_000
"""Addresses and user agents that are looked at: those of the networks that scan most. If there are
more, the last of these networks may be cut off in the middle."""
READERS_MAX = 5_000_000
"""Addresses and user agents of people; without some of them people would be taken for a fleet."""
EVENTS_MAX = 5_000_000
"""Events that are judged again to say what would change."""
SOON_S = 300
"""Clicks of 97 % of scanners come earlier after the delivery, and 5 to 10 % of people's (measured:
craft-campaign issue 546; fits to MailerMailer 2012 and others)."""

_PERIOD = """\
e.event_time >= toDateTime({since:UInt32}, 'UTC')
        AND e.event_time < toDateTime({until:UInt32}, 'UTC')"""
_ADDRESS = "toIPv6OrDefault(trimBoth(e.ip))"
_START = (
    "tupleElement(IPv6CIDRToRange(ip6,"
    " if(startsWith(IPv6NumToString(ip6), '::ffff:'), 120, 48)), 1)"
)
"""Where the /24 (of IPv4) or /48 of ``ip6`` begins."""
_NO_ADDRESS = "toIPv6OrDefault('')"
_BY_PROXY = "('gmail_proxy', 'yahoo_proxy', 'hey_proxy')"
"""Reasons of opens that only a person's look brings, at whatever time."""
_SURE = "('links_at_once', 'hidden_link', 'provider_flag')"
"""Reasons of sure verdicts on a click that rest on what was done."""
_NAMED = "('scanner_ua', 'program_ua', 'preview_ua', 'prefetch_ua', 'bare_ua')"
"""Reasons of verdicts that the user agent gives wherever it is: they say nothing of an address."""

_PACE = f"""\
SELECT
    campaign_id,
    (countIf(first_s < {SOON_S}) + 1) / (count() + 1) AS pace
FROM
(
    SELECT e.campaign_id AS campaign_id, e.message_key AS message_key,
        min(e.seconds_since_delivery) AS first_s
    FROM events AS e FINAL
    WHERE e.event_type = 'opened' AND e.actor_reason IN {_BY_PROXY}
        AND isNotNull(e.seconds_since_delivery)
        AND {_PERIOD}
    GROUP BY campaign_id, message_key
)
GROUP BY campaign_id"""
"""By campaign: the share of people who look within minutes, from above: 1 where none is known. In
a campaign of one-time codes it is near 1, so that quick clicks there say nothing."""

_MESSAGES = f"""\
SELECT
    e.campaign_id AS campaign_id,
    {_ADDRESS} AS ip6,
    e.user_agent AS agent,
    any(cityHash64(if(e.recipient_identity = '', toString(e.message_key), e.recipient_identity)))
        AS recipient,
    toUInt32(toDate(min(e.event_time))) AS day,
    max(e.actor = 'machine' AND e.actor_reason IN {_SURE}) AS is_sure,
    max(e.actor_reason IN {_NAMED}) AS is_named,
    uniqExact(e.click_url_group) > 1
        AND max(e.event_time) <= min(e.event_time) + INTERVAL 1 SECOND AS is_pair,
    uniqExact(toStartOfHour(e.event_time)) > 1
        AND max(toUnixTimestamp(e.event_time) % 3600) < 60 AS is_hourly,
    min(e.seconds_since_delivery) AS first_s
FROM events AS e FINAL
WHERE e.event_type = 'clicked' AND {_ADDRESS} != {_NO_ADDRESS}
        AND {_PERIOD}
GROUP BY campaign_id, e.message_key, ip6, agent"""

_IS_SOON = f"(m.is_pair OR m.is_hourly OR ifNull(m.first_s >= -60 AND m.first_s < {SOON_S}, false))"
"""Like a scanner, by the time: soon after the delivery, at once, or at the top of hours."""
_OPEN = "NOT (m.is_sure OR m.is_named)"

HABIT_COLUMNS = (
    "address", "agent", "recipients", "days", "sure", "soon", "later", "other", "surprise",
)  # fmt: skip
HABITS = f"""\
SELECT {", ".join(HABIT_COLUMNS)}
FROM
(
    SELECT
        IPv6NumToString(ip6) AS address, agent, recipients, days, sure, soon, later, other,
        surprise, start, sum(sure + soon) OVER (PARTITION BY start) AS scans
    FROM
    (
        SELECT
            m.ip6 AS ip6,
            {_START} AS start,
            m.agent AS agent,
            groupUniqArray(64)(m.recipient) AS recipients,
            groupUniqArray(64)(m.day) AS days,
            countIf(m.is_sure) AS sure,
            countIf({_OPEN} AND {_IS_SOON}) AS soon,
            countIf({_OPEN} AND NOT {_IS_SOON} AND ifNull(m.first_s >= {SOON_S}, false)) AS later,
            count() - sure - soon - later AS other,
            sumIf(-log10(if(p.pace > 0, p.pace, 1)), {_OPEN} AND {_IS_SOON}) AS surprise
        FROM
        (
            {_MESSAGES}
        ) AS m
        LEFT JOIN
        (
            {_PACE}
        ) AS p ON m.campaign_id = p.campaign_id
        GROUP BY m.ip6, m.agent
    )
)
WHERE scans >= {{least:UInt32}}
ORDER BY scans DESC, start, address, agent
LIMIT {ROWS_MAX}"""

"""What came from each address by each user agent, of the networks that scanned ``least`` messages
or more. Numbers as in ``streams.classify.fleets``; addresses in IPv6's form."""

READER_COLUMNS = ("address", "agent", "opened")
READERS = f"""\
SELECT IPv6NumToString(ip6) AS address, agent, opened
FROM
(
    SELECT {_ADDRESS} AS ip6, e.user_agent AS agent, uniqExact(e.message_key) AS opened
    FROM events AS e FINAL
    WHERE e.event_type = 'opened' AND e.actor = 'human' AND e.actor_reason = ''
        AND e.seconds_since_delivery >= {SOON_S}
        AND {_PERIOD}
    GROUP BY ip6, agent
)
WHERE {_START} IN
(
    SELECT {_START}
    FROM
    (
        SELECT {_ADDRESS} AS ip6, e.message_key AS message_key
        FROM events AS e FINAL
        WHERE e.event_type = 'clicked' AND {_ADDRESS} != {_NO_ADDRESS}
        AND {_PERIOD}
    )
    GROUP BY {_START}
    HAVING uniqExact(message_key) >= {{least:UInt32}}
)
ORDER BY address, agent
LIMIT {READERS_MAX}"""
"""Messages whose images were loaded without a proxy, minutes after the delivery: by people. Of the
networks from which ``least`` messages or more were clicked."""

TOUCHED_COLUMNS = (
    "campaign_id", "message_key", "event_type", "at_ms", "seconds_since_delivery", "actor",
    "actor_reason", "actor_certainty", "machine_kind", "user_agent", "ip", "click_url",
    "unsubscribe_link", "recipient", "mailbox_provider", "source", "link",
)  # fmt: skip
TOUCHED = f"""\
SELECT
    e.campaign_id AS campaign_id, toString(e.message_key) AS message_key,
    e.event_type AS event_type, toUnixTimestamp64Milli(e.event_time) AS at_ms,
    e.seconds_since_delivery AS seconds_since_delivery, e.actor AS actor,
    e.actor_reason AS actor_reason, e.actor_certainty AS actor_certainty,
    e.machine_kind AS machine_kind, e.user_agent AS user_agent, e.ip AS ip,
    e.click_url AS click_url, e.unsubscribe_link AS unsubscribe_link, e.recipient AS recipient,
    e.mailbox_provider AS mailbox_provider, e.source AS source, e.click_url_group AS link
FROM events AS e FINAL
WHERE e.event_type IN ('delivered', 'opened', 'clicked')
    AND (e.campaign_id, e.message_key) GLOBAL IN
    (
        SELECT campaign_id, message_key
        FROM
        (
            SELECT e.campaign_id AS campaign_id, e.message_key AS message_key, {_ADDRESS} AS ip6
            FROM events AS e FINAL
            WHERE e.event_type = 'clicked' AND {_PERIOD}
        )
        WHERE IPv6NumToString({_START}) IN {{networks:Array(String)}}
    )
ORDER BY e.campaign_id, e.message_key, at_ms, e.event_id
LIMIT {EVENTS_MAX}"""
"""Deliveries, opens and clicks of the messages that were clicked from these networks (where each
begins, in IPv6's form) in the period."""

COUNTS_COLUMNS = ("campaign_id", *COUNT_COLUMNS)
COUNTS = f"SELECT {', '.join(COUNTS_COLUMNS)} FROM campaign_summary"
"""What each way of counting gives, of every campaign."""
