"""Converts any value that a provider sends to the value of an event's field.

Invariants:
1. Pure and total: every function takes any JSON value and returns; none raises.
2. ``time_suspect`` means that the time of arrival replaces the provider's time, nothing else.
3. Texts fit the schema: no lone surrogates, no NUL, cut to the limits of ``schemas.event``.
4. The same input gives the same output on every retry: ids are made of these values.

Sources: RFC 3463 (enhanced status codes), RFC 5321 §4.2 (reply codes), ISO 8601.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import orjson

from schemas.event import ID_CHARS_MAX, METADATA_ENTRIES_MAX, TAGS_MAX, TEXT_CHARS_MAX

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
YEAR_2000_US = 946_684_800 * SECOND_US
AHEAD_MAX_US = DAY_US
"""A provider's time further ahead of arrival than this is not used."""
BEHIND_MAX_US = 30 * DAY_US
"""A provider's time further behind arrival than this is not used."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NUMBER = re.compile(r"\s*[0-9]{1,19}(?:\.[0-9]{1,12})?\s*", re.ASCII)
_UNSAFE = re.compile("[\x00\ud800-\udfff]")
_ENHANCED = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?!\.?\d)", re.ASCII)
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


def id_part(value: object) -> str:
    """One part of an event id: text unchanged, ``None`` as ``""``, anything else as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json_text(value)


def country(value: object) -> str | None:
    """An ISO 3166-1 alpha-2 code in upper case, else ``None`` (names are not looked up)."""
    if isinstance(value, str) and len(value) == 2 and value.isascii() and value.isalpha():
        return value.upper()
    return None


# --- addresses -----------------------------------------------------------------------------------


def address(value: object) -> tuple[str | None, str]:
    """``(address, domain)`` of ``a@B.example`` or ``Name <a@B.example>``.

    The domain is in lower case in both; the local part is unchanged (RFC 5321 §2.4). Without an
    ``@`` the text is kept and the domain is empty.
    """
    if not isinstance(value, str):
        return None, ""
    plain = value.strip()
    if plain.endswith(">"):
        plain = plain[plain.rfind("<") + 1 : -1].strip()
    if not plain.isascii() or len(plain) > ID_CHARS_MAX or "\0" in plain:
        plain = text(plain, ID_CHARS_MAX) or ""
    local, at, domain = plain.rpartition("@")
    if not at:
        return plain or None, ""
    lower = domain.lower()
    return plain if lower == domain else f"{local}@{lower}"[:ID_CHARS_MAX], lower


# --- times ---------------------------------------------------------------------------------------


def microseconds(value: object) -> int | None:
    """A time in any unit or format as microseconds since 1970; ``None`` if it is not a time.

    Numbers (also as text) are seconds, milliseconds, microseconds or nanoseconds by their size:
    between 1973 and 5138 the four ranges do not overlap. Texts are ISO 8601, with a space or ``T``,
    any number of digits in the fraction (cut to six), and UTC unless they have an offset.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value):
            return _iso(value.strip())
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


def _iso(value: str) -> int | None:
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        return None


def iso(seconds: float) -> str:
    """A time in seconds since 1970 as ISO 8601 in UTC with milliseconds, for samples."""
    moment = _EPOCH + timedelta(seconds=seconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def utc_date(at: int | None) -> str:
    """The UTC date of a time in microseconds as ``YYYY-MM-DD``; empty if it is out of range."""
    if at is None:
        return ""
    try:
        return (_EPOCH + timedelta(microseconds=at)).date().isoformat()
    except OverflowError:
        return ""


def occurred(value: object, received_at: int) -> tuple[int, bool]:
    """``(occurred_at, time_suspect)`` of a provider's time.

    A time that is missing, before 2000, more than a day after ``received_at`` or more than 30 days
    before it is replaced by ``received_at``.
    """
    at = microseconds(value)
    if (
        at is None
        or at < YEAR_2000_US
        or at > received_at + AHEAD_MAX_US
        or at < received_at - BEHIND_MAX_US
    ):
        return received_at, True
    return at, False


def believable_seconds(received_at: int) -> tuple[int, int]:
    """The first and the last whole second that ``occurred`` accepts, for a tight loop."""
    first = max(YEAR_2000_US, received_at - BEHIND_MAX_US)
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


def campaign(
    entries: tuple[str, ...],
    tags: Sequence[str],
    metadata: Mapping[str, str],
    provider_campaign: object = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[str | None, str]:
    """``(campaign_id, campaign_source)``: the first entry of ``Source.campaign_from`` with a value.

    Args:
        entries: ``metadata.KEY``; ``tag`` or ``tag.N`` (from 0); ``provider``; ``header.NAME``.
        provider_campaign: the provider's own campaign id.
        headers: headers of the message, names in lower case.
    """
    for kind, key, position in precedence(entries):
        if kind == "metadata":
            found: object = metadata.get(key)
        elif kind == "tag":
            found = tags[position] if position < len(tags) else None
        elif kind == "provider":
            found = provider_campaign
        else:
            found = headers.get(key) if headers else None
        if found is not None:
            name = identifier(found)
            if name is not None:
                return name, kind
    return None, "none"
