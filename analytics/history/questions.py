"""What is asked for, and the queries.

Invariants:
1. Pure. Values are bound as parameters, never put into the text.
2. Every query is bounded by its days and by a number of rows.
3. An address is never in a query when recipients are hashed or dropped: its hash is, or nothing,
   since ClickHouse and what is before it write queries to their logs. A message id may look the
   same. So there a text with an @ is looked for as one only in angle brackets, as headers have it.
"""

import re
from dataclasses import dataclass
from typing import Literal

from schemas.address_search import find, is_address
from schemas.errors import BadInput
from schemas.identity import address_identity
from schemas.recipient_hash import is_keyed_hash, keyed_hash

Mode = Literal["plain", "hashed", "dropped"]
Kind = Literal["address", "message"]

ASKED_CHARS_MAX = 1_000
DAYS_DEFAULT, DAYS_MAX = 30, 3_650
ROWS_DEFAULT, ROWS_MAX = 500, 10_000
"""Events that are shown: the newest."""
SUPPRESSIONS_SHOWN_MAX = 20
"""Suppressions of one recipient that are shown."""


_MESSAGE_ID = re.compile(r"(?:message-id:)?\s*<\s*([^<>]*?)\s*>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Way:
    """One way of looking for what was asked.

    Attributes:
        kind: by the recipient or by the message.
        value: what is compared: an identity, its hash or a message id.
    """

    kind: Kind
    value: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for.

    Attributes:
        ways: tried one after the other, until one finds something.
        logged: keyed hash of what was asked for, for the log of look-ups.
        mode: how recipients are stored.
        is_address: whether it looks like an address.
    """

    ways: tuple[Way, ...]
    logged: str
    mode: Mode
    is_address: bool


def asked(text: str, mode: Mode, key: bytes) -> Asked:
    """The ways to look for an address, its hash or a message id.

    An address may be in any spelling or coding, also with a name beside it; a message id in angle
    brackets, as in a ``Message-ID`` header (RFC 5322, 3.6.4).

    Raises:
        BadInput: nothing, or too much, was asked for.
    """
    given = text.encode("utf-8", "replace").decode().strip()
    if not given or len(given) > ASKED_CHARS_MAX or "\0" in given:
        detail = f"an address or a message id of 1 to {ASKED_CHARS_MAX} characters"
        raise BadInput("nothing_to_look_for", detail)
    header = _MESSAGE_ID.fullmatch(given)
    message = header[1] if header else given
    if is_keyed_hash(given):
        return Asked((Way("address", given),), given, mode, is_address=True)
    address, looks_like_one = _address_in(given, message)
    ways = [Way("message", message)] if header or not looks_like_one or mode == "plain" else []
    if looks_like_one and mode != "dropped":
        value = address_identity(address) if mode == "plain" else keyed_hash(address, key)
        ways.insert(0, Way("address", value))
    elif mode == "plain":
        ways.append(Way("address", address_identity(message)))
    return Asked(tuple(ways), keyed_hash(address, key), mode, looks_like_one)


def _address_in(given: str, message: str) -> tuple[str, bool]:
    """The address that is meant, and whether it looks like one.

    What is an address as it stands is not searched for another: who asks for ``r&d@…`` would be
    told of ``d@…``, who is somebody else.
    """
    named = given[given.rfind("<") + 1 : -1] if given.endswith(">") else given
    identity = address_identity(named)
    if is_address(identity):
        return identity, True
    found = find(given)
    return found[0].address if len(found) == 1 else message, bool(found) or "@" in message


_COLUMNS = """\
    toUnixTimestamp64Milli(event_time) AS at_ms,
    toString(message_key) AS message_key, toString(event_id) AS event_id,
    event_type, campaign_id, provider, source, message_id, recipient, mailbox_provider,
    bounce_class, bounce_reason, smtp_code, enhanced_status, diagnostic,
    actor, actor_reason, actor_certainty, unsubscribe_link, click_url, native_type, time_suspect,
    suppression_scope"""

EVENT_COLUMNS = (
    "at_ms", "message_key", "event_id", "event_type", "campaign_id", "provider", "source",
    "message_id", "recipient", "mailbox_provider", "bounce_class", "bounce_reason", "smtp_code",
    "enhanced_status", "diagnostic", "actor", "actor_reason", "actor_certainty",
    "unsubscribe_link", "click_url", "native_type", "time_suspect", "suppression_scope",
)  # fmt: skip
SUPPRESSION_COLUMNS = ("scope", "reason", "source", "since_ms", "until_ms")
KEPT_COLUMNS = ("hashed", "plain")
# Without FINAL, so that the index of identities is used: an event's revisions all have the same
# recipient and message id. The newest of each is taken, as FINAL would.
_EVENTS = """\
SELECT {names}
FROM
(
    SELECT
{columns},
        is_deleted
    FROM events
    WHERE {condition}
        AND event_time >= toDateTime({{since:UInt32}}, 'UTC')
        AND event_time < toDateTime({{until:UInt32}}, 'UTC')
    ORDER BY version DESC
    LIMIT 1 BY campaign_id, message_key, event_time, event_id
)
WHERE is_deleted = 0
ORDER BY at_ms DESC, event_id
LIMIT {{rows:UInt32}}"""

_NAMES = ", ".join(EVENT_COLUMNS)
# Of a message, some events may have the provider's id alone and others the sender's Message-ID
# alone: whichever of them was asked for, all are told.
_CONDITIONS: dict[Kind, str] = {
    "address": "recipient_identity = {value:String}",
    "message": """message_key IN
        (
            SELECT message_key FROM events
            WHERE (message_id = {value:String} OR rfc_message_id = {value:String})
                AND event_time >= toDateTime({since:UInt32}, 'UTC')
                AND event_time < toDateTime({until:UInt32}, 'UTC')
        )""",
}
EVENTS: dict[Kind, str] = {
    kind: _EVENTS.format(names=_NAMES, columns=_COLUMNS, condition=condition)
    for kind, condition in _CONDITIONS.items()
}
"""Newest first."""

KEPT = """\
SELECT countIf(startsWith(recipient_identity, 'h:')) AS hashed,
    countIf(recipient_identity != '' AND NOT startsWith(recipient_identity, 'h:')) AS plain
FROM
(
    SELECT recipient_identity FROM events
    WHERE event_time >= toDateTime({since:UInt32}, 'UTC')
        AND event_time < toDateTime({until:UInt32}, 'UTC')
    LIMIT 10000
)"""
"""How recipients are stored, of some events: the settings of who asks may be others."""

_SUPPRESSIONS_OF = """\
SELECT {scope} AS scope, reason, source, toUnixTimestamp64Milli(since) AS since_ms,
    if(isNull(until), 0, toUnixTimestamp64Milli(assumeNotNull(until))) AS until_ms
FROM {table} FINAL
WHERE recipient = {{value:String}} AND (until IS NULL OR until > now64(3))"""
SUPPRESSIONS = f"""\
SELECT scope, reason, source, since_ms, until_ms
FROM
(
{_SUPPRESSIONS_OF.format(scope="''", table="suppressions")}
UNION ALL
{_SUPPRESSIONS_OF.format(scope="scope", table="scoped_suppressions")}
)
ORDER BY scope != '', source, scope
LIMIT {{rows:UInt32}}"""
"""That of all mail first, then those of a source's lists and groups."""

COLUMNS = {
    **dict.fromkeys(EVENTS.values(), EVENT_COLUMNS), KEPT: KEPT_COLUMNS,
    SUPPRESSIONS: SUPPRESSION_COLUMNS,
}  # fmt: skip
"""Query -> its columns, in order."""
