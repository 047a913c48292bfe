"""Converts any value that a provider sends to the value of an event's field.

Invariants:
1. Pure and total: every function takes any JSON value and returns; none raises.
2. ``time_suspect`` means that the time of arrival replaces the provider's time, nothing else.
3. Texts fit the schema: no lone surrogates, no NUL, cut to the limits of ``schemas.event``.
4. The same input gives the same output on every retry: ids are made of these values.

Sources: RFC 3463 (enhanced status codes), RFC 5321 §4.2 (reply codes), ISO 8601, RFC 5322 §3.3
(dates).
"""

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

import orjson

from schemas.event import ID_CHARS_MAX, METADATA_ENTRIES_MAX, TAGS_MAX, TEXT_CHARS_MAX
from schemas.settings import Source

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
YEAR_2000_US = 946_684_800 * SECOND_US
AHEAD_MAX_US = DAY_US
"""A provider's time further ahead of arrival than this is not used."""
TIME_CHARS_MAX = 64
"""Longest text that is read as a time."""
BEHIND_MAX_US = 30 * DAY_US
"""A provider's time further behind arrival than this is not used."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NO_COUNTRIES = frozenset(("EU", "AP", "XX", "ZZ"))
_LEAP = re.compile(r"([0-9]{2}:[0-9]{2}):60(?![0-9])", re.ASCII)
_NUMBER = re.compile(r"\s*[0-9]{1,19}(?:\.[0-9]{1,12})?\s*", re.ASCII)
_UNSAFE = re.compile("[\x00\ud800-\udfff]")
_ENHANCED = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?!\.?\d)", re.ASCII)
_LABEL = re.compile(r"[A-Za-z][\w-]*", re.ASCII)
_REPLY_HEAD = re.compile(r"([245]\d\d)[ \-]([245]\.\d{1,3}\.\d{1,3})(?!\.?\d)", re.ASCII)
_REPLY = re.compile(
    r"(?:^\s*|smtp;\s*|said:\s*|\b(?:code|status|error)[:=]?\s+)([245]\d\d)(?=[\s\-#]|$)"
    r"|(?<![\d.])([245]\d\d)[ \-]#?(?=[245]\.\d{1,3}\.\d)",
    re.ASCII | re.IGNORECASE,
)


# --- JSON shapes ---------------------------------------------------------------------------------


def as_dict(value: object) -> dict[str, Any]:
    """``value`` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """``value`` if it is a list, an empty one for ``None``, else a list of ``value`` alone."""
    if isinstance(value, list):
        return value
    return [] if value is None else [value]


def json_text(value: object) -> str:
    """A JSON value as text, keys sorted; empty if it is nested too deep."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:  # lone surrogates, integers beyond 64 bits, more than 254 levels
        try:
            return json.dumps(value, sort_keys=True)
        except (TypeError, ValueError, RecursionError):
            return ""


# --- texts ---------------------------------------------------------------------------------------


def text(value: object, limit: int = TEXT_CHARS_MAX) -> str | None:
    """Clean text of at most ``limit`` characters; ``None`` for nothing or an empty text.

    Other values become JSON. Lone surrogates and NUL become U+FFFD.
    """
    if type(value) is str:
        if value.isascii() and len(value) <= limit and "\0" not in value:
            return value or None
    elif value is None:
        return None
    else:
        value = json_text(value)
    if len(value) > limit:
        value = value[:limit]
    if not value.isascii() or "\0" in value:
        value = _UNSAFE.sub("\ufffd", value)
    return value or None


def identifier(value: object) -> str | None:
    """A message or campaign id: trimmed, without angle brackets, at most ``ID_CHARS_MAX``."""
    if type(value) is not str or not value.isascii() or "\0" in value:
        value = text(value)
        if value is None:
            return None
    cleaned = value.strip()
    if cleaned.startswith("<") and cleaned.endswith(">"):
        cleaned = cleaned[1:-1].strip()
    return cleaned[:ID_CHARS_MAX] or None


def made_message_id(campaign: str | None, sent: object) -> str | None:
    """The id of a message that its provider gives none: its campaign and the time it was sent.

    Together with the address, which the unit of every unique count contains, that is one message.

    Args:
        campaign: in the provider's field for it; a tag names many messages.
        sent: when the message was sent, the same in all its events; in any unit or shape.

    Returns:
        Such as ``brevo:42/1795514400`` (seconds since 1970); ``None`` if nothing is given.
    """
    moment = microseconds(sent)
    if moment is None:
        return campaign
    return f"{(campaign or '')[: ID_CHARS_MAX - 24]}/{moment // SECOND_US}"


def id_part(value: object) -> str:
    """One part of an event id: text unchanged, ``None`` as ``""``, anything else as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json_text(value)


def country(value: object) -> str | None:
    """An ISO 3166-1 alpha-2 code in upper case, else ``None`` (names are not looked up).

    Look-up tables also say EU (Mailjet's documentation) and AP, which are no countries, and XX or
    ZZ for an unknown one.
    """
    if isinstance(value, str) and len(value) == 2 and value.isascii() and value.isalpha():
        code = value.upper()
        return None if code in _NO_COUNTRIES else code
    return None


# --- times ---------------------------------------------------------------------------------------


def microseconds(value: object) -> int | None:
    """A time in any unit or format as microseconds since 1970; ``None`` if it is not a time.

    Numbers (also as text) are seconds, milliseconds, microseconds or nanoseconds by their size:
    between 1973 and 5138 the four ranges do not overlap. Texts are ISO 8601, with a space or ``T``
    and any number of digits in the fraction (cut to six), or a date of RFC 5322, such as ``Tue, 24
    Nov 2026 12:00:00 +0100``; both are UTC unless they have an offset. A leap second (``:60``) is
    the beginning of the next second, as in POSIX time.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value):
            return _moment(value[:TIME_CHARS_MAX].strip())
        value = float(value) if "." in value else int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
    elif not isinstance(value, int):
        return None
    if value < -1e11:  # before the year -1199
        return None
    if value < 1e11:
        return round(value * SECOND_US)
    if value < 1e14:
        return round(value * 1000)
    return round(value) if value < 1e17 else int(value // 1000)


def _moment(value: str) -> int | None:
    """A time given as text."""
    leap = 0
    if ":60" in value:
        value, leap = _LEAP.subn(r"\1:59", value, count=1)
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = read(value)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            return (moment - _EPOCH) // _MICROSECOND + leap * SECOND_US
        except (ValueError, OverflowError, IndexError, TypeError):  # parsedate raises all of them
            continue
    return None


def iso(seconds: float) -> str:
    """A time in seconds since 1970 as ISO 8601 in UTC with milliseconds, for samples."""
    moment = _EPOCH + timedelta(seconds=seconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(at: int) -> datetime:
    """A time in microseconds since 1970, in UTC."""
    return _EPOCH + timedelta(microseconds=at)


def utc_date(at: int | None) -> str:
    """The UTC date of a time in microseconds as ``YYYY-MM-DD``; empty if it is out of range."""
    if at is None:
        return ""
    try:
        return (_EPOCH + timedelta(microseconds=at)).date().isoformat()
    except OverflowError:
        return ""


class LatestArrival(int):
    """An arrival of which only the latest possible time is known, as that of a captured body.

    Attributes:
        behind_max_us: times are believed up to so far behind it; so one parse does for any age.
    """

    behind_max_us = BEHIND_MAX_US


def latest_arrival(at_us: int, behind_max_us: int) -> LatestArrival:
    """An arrival of which times are believed up to ``behind_max_us`` microseconds before."""
    made = LatestArrival(at_us)
    made.behind_max_us = behind_max_us
    return made


def _earliest(received_at: int) -> int:
    if isinstance(received_at, LatestArrival):
        return received_at - received_at.behind_max_us
    return received_at - BEHIND_MAX_US


def occurred(value: object, received_at: int) -> tuple[int, bool]:
    """``(occurred_at, time_suspect)`` of a provider's time.

    A time that is missing, before 2000, more than a day after ``received_at`` or more than 30 days
    before it (see ``LatestArrival``) is replaced by ``received_at``.
    """
    at = microseconds(value)
    if (
        at is None
        or at < YEAR_2000_US
        or at > received_at + AHEAD_MAX_US
        or at < _earliest(received_at)
    ):
        return received_at, True
    return at, False


def believable_seconds(received_at: int) -> tuple[int, int]:
    """The first and the last whole second that ``occurred`` accepts, for a tight loop."""
    first = max(YEAR_2000_US, _earliest(received_at))
    return -(-first // SECOND_US), (received_at + AHEAD_MAX_US) // SECOND_US


# --- replies of the receiving server --------------------------------------------------------------


def smtp_code(value: object) -> int | None:
    """A reply code from a number or a text of three digits; ``None`` if it is not one."""
    if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 200 <= value <= 599:
        return value
    return None


def enhanced_status(value: object) -> str | None:
    """The first enhanced status code in a text, such as ``5.1.1``."""
    if not isinstance(value, str):
        return None
    found = _ENHANCED.search(value, 0, TEXT_CHARS_MAX)
    return found.group(1) if found else None


def reply_code(value: object) -> int | None:
    """The SMTP reply code at the start of a text, or marked as one in it, such as ``550``."""
    if not isinstance(value, str):
        return None
    head = value[:3]
    if head.isdigit() and head.isascii() and head[0] in "245" and value[3:4] in ("", " ", "-"):
        return int(head)
    found = _REPLY.search(value, 0, TEXT_CHARS_MAX)
    return int(found.group(1) or found.group(2)) if found else None


def reply_codes(value: str | None) -> tuple[int | None, str | None]:
    """``(reply_code(value), enhanced_status(value))``; fast if the text starts with both."""
    if value is None:
        return None, None
    found = _REPLY_HEAD.match(value)
    if found is not None:
        return int(found[1]), found[2]
    return reply_code(value), enhanced_status(value)


def is_label(value: str) -> bool:
    """Whether a text is a single word, such as ``unknown`` or ``reached_daily_quota``.

    Providers have lists of such words; a receiving server says more than that, or a code.
    """
    return _LABEL.fullmatch(value) is not None


# --- tags, metadata, campaign --------------------------------------------------------------------


def tag_list(value: object) -> list[str]:
    """Tags from a text or a list; at most ``TAGS_MAX``, empty ones left out."""
    if value is None:
        return []
    if isinstance(value, str):
        value = (value,)
    elif not isinstance(value, list):
        value = (value,)
    return [tag for one in value[:TAGS_MAX] if (tag := text(one, ID_CHARS_MAX))]


def metadata_map(value: object) -> dict[str, str]:
    """Metadata from an object: at most ``METADATA_ENTRIES_MAX``, ``null`` left out, rest as text.

    An object given as JSON text is parsed; anything else gives no metadata.
    """
    if isinstance(value, str) and value[:1] == "{":
        try:
            value = orjson.loads(value)
        except ValueError:
            return {}
    if not isinstance(value, dict) or not value:
        return {}
    result: dict[str, str] = {}
    for key, one in value.items():
        if one is None:
            continue
        if len(result) == METADATA_ENTRIES_MAX:
            break
        result[text(key, ID_CHARS_MAX) or ""] = text(one) or ""
    return result


def named_values(value: object) -> dict[str, Any]:
    """``[{"name": …, "value": …}]`` as an object; an object stays as it is."""
    if isinstance(value, dict):
        return value
    pairs = (one for one in as_list(value) if isinstance(one, dict))
    return {one["name"]: one.get("value") for one in pairs if isinstance(one.get("name"), str)}


def header_map(value: object) -> dict[str, str]:
    """Headers of a message from a list of names and values or an object; names in lower case.

    Of a repeated header, the first counts.
    """
    result: dict[str, str] = {}
    if isinstance(value, dict):
        pairs = list(value.items())
    else:
        named = (one for one in as_list(value) if isinstance(one, dict))
        pairs = [(one.get("name"), one.get("value")) for one in named]
    for name, one in pairs:
        if isinstance(name, str) and isinstance(one, str):
            result.setdefault(name.lower(), one)
    return result


@lru_cache(maxsize=256)
def precedence(entries: Sequence[str]) -> tuple[tuple[str, str, int], ...]:
    """Each entry of ``Source.campaign_from`` as ``(kind, key, position)``."""
    plan = []
    for entry in entries:
        kind, _, key = entry.partition(".")
        position = int(key) if kind == "tag" and key.isdigit() else 0
        plan.append((kind, key.lower() if kind == "header" else key, position))
    return tuple(plan)


def own_campaign(source: Source, value: object) -> str | None:
    """A campaign id that the provider made, with the provider before it: ``brevo:4242``.

    Providers number from 1 alike, so the id alone would join campaigns of different providers. Most
    count per account: a source that names its ``account`` has that in the id too
    (``brevo:shop:4242``), so that two accounts of a provider stay apart.
    """
    name = identifier(value)
    if name is None:
        return None
    account = f"{source.account}:" if source.account else ""
    return f"{source.sender}:{account}{name}"[:ID_CHARS_MAX]


def campaign(
    source: Source,
    tags: Sequence[str],
    metadata: Mapping[str, str],
    *,
    named: object = None,
    numbered: object = None,
    own_keys: Collection[str] = (),
    headers: Mapping[str, str] | None = None,
) -> tuple[str | None, str]:
    """``(campaign_id, campaign_source)``: the first entry of ``Source.campaign_from`` with a value.

    Names that the sender gives are used as they are: one name is one campaign, whichever provider
    sends it. What the provider numbers has the provider before it (``own_campaign``).

    Args:
        source: its ``campaign_from`` has entries ``metadata.KEY``; ``tag`` or ``tag.N`` (from 0);
            ``provider``; ``header.NAME``.
        named: the sender's name in the provider's own field for it; ``provider`` takes it first.
        numbered: the provider's own id.
        own_keys: keys of the metadata whose values are the provider's own ids.
        headers: headers of the message, names in lower case.
    """
    for kind, key, position in precedence(source.campaign_from):
        where = kind
        if kind == "metadata":
            found: object = metadata.get(key)
            if key in own_keys:
                found, where = own_campaign(source, found), "provider"
        elif kind == "tag":
            found = tags[position] if position < len(tags) else None
        elif kind == "provider":
            found, where = identifier(named), "sender"
            if found is None:
                found, where = own_campaign(source, numbered), "provider"
        else:
            found = headers.get(key) if headers else None
        if found is not None:
            name = identifier(found)
            if name is not None:
                return name, where
    return None, "none"


_LISTED = re.compile(r"<([^<>]*)>")


def is_listed(url: object, header: object) -> bool | None:
    """Whether a link stands in a ``List-Unsubscribe`` header (RFC 2369 §2, §3.2).

    Returns:
        ``True`` or, since other links of the message may unsubscribe too, ``None``.
    """
    if not isinstance(url, str) or not isinstance(header, str) or not url:
        return None
    wanted = _comparable(url)
    listed = ("".join(one.split()) for one in _LISTED.findall(header))
    return True if any(_comparable(one) == wanted for one in listed) else None


def _comparable(url: str) -> str:
    """Scheme and host in lower case, no fragment: spelling that a redirect may have changed."""
    start, slashes, rest = url.strip().partition("#")[0].partition("://")
    host, slash, path = rest.partition("/")
    return f"{start.lower()}{slashes}{host.lower()}{slash}{path}"
