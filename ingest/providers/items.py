"""Common steps from a verified body to events, for every provider's ``parse``.

Invariants:
1. One bad item becomes one reject; its neighbours go through.
2. ``make_event`` accepts any native values, cleans them by ``fields``, and never raises.
3. An unexpected exception rejects the item as ``unforeseen``, not the request; property tests check
   that this does not happen.
"""

import hashlib
import json
import struct
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

import orjson

from ingest.providers import addresses, fields
from ingest.providers.base import Parsed, Reject
from schemas.errors import BadInput
from schemas.event import Event, event_id, new_event
from schemas.settings import Source

NATIVE_TYPE_CHARS_MAX = 128
IP_CHARS_MAX = 64
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Item = dict[str, Any]
Build = Callable[[Item], Event | list[Event]]


def read_json(body: bytes) -> Any:
    """A JSON value from a body, with or without a byte order mark before it (RFC 8259 §8.1).

    Where strict JSON (orjson) fails, a lenient parser is tried, since one lone surrogate in one
    link must not cost the other events of its batch: ``NaN``, lone surrogates and broken UTF-8 are
    accepted here and cleaned field by field.

    Raises:
        BadInput: ``empty_body``, or ``not_json``.
    """
    body = body.removeprefix(_BYTE_ORDER_MARK)
    if not body:
        raise BadInput("empty_body")
    try:
        return orjson.loads(body)
    except ValueError as strict:
        try:
            return json.loads(body.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            raise BadInput("not_json", str(strict).rpartition(": ")[2]) from None


def read_form(body: bytes) -> dict[str, list[str]]:
    """Fields of an ``application/x-www-form-urlencoded`` body, in their order, repeats kept.

    Raises:
        BadInput: ``not_a_form``: more than 1,000 fields.
    """
    result: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(
            body.removeprefix(_BYTE_ORDER_MARK).decode("utf-8", "replace"),
            keep_blank_values=True,
            max_num_fields=1000,
        )
    except ValueError as error:
        raise BadInput("not_a_form", str(error)) from None
    for key, value in pairs:
        result.setdefault(key, []).append(value)
    return result


def content_of(item: object) -> bytes:
    """An item as JSON bytes, for the dead letters."""
    return fields.json_text(item).encode("utf-8", "replace")


_SIZE = struct.Struct(">I").pack


def _sized(part: str) -> bytes:
    """A part as hashed by ``event_id``."""
    encoded = part.encode("utf-8", "surrogatepass")
    return _SIZE(len(encoded)) + encoded


@lru_cache(maxsize=1024)
def native_ids(provider: str, account: str) -> Callable[[Iterable[str]], list[str]]:
    """``event_id(provider, account, part)`` of each part, with the first two hashed once."""
    begin = hashlib.sha256(_sized(provider) + _sized(account)).copy

    def identities(parts: Iterable[str]) -> list[str]:
        ids = []
        for part in parts:
            digest = begin()
            digest.update(_sized(part))
            ids.append(digest.hexdigest()[:32])
        return ids

    return identities


def parse_items(
    items: Iterable[object], build: Build, done: Collection[int] = frozenset()
) -> Parsed:
    """Builds events item by item, in order; ``batch_index`` is the item's position.

    Args:
        build: one item -> its event, or its events, one per recipient. It raises ``BadInput``
            for an item that cannot be made one.
        done: positions to skip, of items that were parsed in another way.
    """
    parsed = Parsed()
    events, rejects = parsed.events, parsed.rejects
    for position, item in enumerate(items):
        if position in done:
            continue
        try:
            if not isinstance(item, dict):
                raise BadInput("not_an_object", f"item is a {type(item).__name__}")
            built = build(item)
        except BadInput as error:
            rejects.append(Reject(error.reason, error.detail, content_of(item)))
            continue
        except Exception as error:  # invariant 3
            rejects.append(Reject("unforeseen", type(error).__name__, content_of(item)))
            continue
        if isinstance(built, list):
            for event in built:
                event["batch_index"] = position
            events.extend(built)
        else:
            built["batch_index"] = position
            events.append(built)
    return parsed


def make_event(
    source: Source,
    received_at: int,
    *,
    event_type: str,
    native_type: object,
    id_parts: tuple[object, ...],
    native_id: bool,
    time: object,
    message_id: object = None,
    rfc_message_id: object = None,
    sent_time: object = None,
    recipient: object = None,
    tags: object = None,
    metadata: object = None,
    campaign_name: object = None,
    campaign_number: object = None,
    own_keys: Collection[str] = (),
    headers: Mapping[str, str] | None = None,
    batch_id: object = None,
) -> Event:
    """An event from native values, cleaned; ``set_reply`` and ``set_client`` add the rest.

    Args:
        received_at: microseconds since 1970.
        id_parts: native values that the event id is made of, after provider and account.
        native_id: whether they contain the provider's own event id.
        time: the provider's time, in any unit or shape.
        sent_time: when the message was sent, if all its events say so; identifies a message
            without an id, see ``fields.made_message_id``.
        recipient: an address; of several, none is the recipient.
        campaign_name: the sender's name of the campaign, in the provider's field for it.
        campaign_number: the provider's own id of the campaign.
        own_keys: keys of the metadata whose values are ids of the provider's own.
        headers: headers of the message, for ``header.NAME``; names in lower case.
    """
    event = new_event(
        event_id=event_id(source.sender, source.account, *map(fields.id_part, id_parts)),
        event_type=event_type,
        occurred_at=received_at,
        received_at=received_at,
        provider=source.sender,
        native_type=fields.text(native_type, NATIVE_TYPE_CHARS_MAX) or "",
    )
    event["source"] = source.name
    event["dedupe_quality"] = "native" if native_id else "composite"
    event["occurred_at"], event["time_suspect"] = fields.occurred(time, received_at)
    event["rfc_message_id"] = fields.identifier(rfc_message_id)
    event["message_id"] = fields.identifier(message_id) or event["rfc_message_id"]
    addresses.set_recipient(event, recipient)
    event["tags"] = fields.tag_list(tags)
    event["metadata"] = fields.metadata_map(metadata)
    event["campaign_id"], event["campaign_source"] = fields.campaign(
        source, event["tags"], event["metadata"],
        named=campaign_name, numbered=campaign_number, own_keys=own_keys, headers=headers,
    )  # fmt: skip
    if event["message_id"] is None and event["recipient"]:
        named = fields.identifier(campaign_name) or fields.own_campaign(source, campaign_number)
        event["message_id"] = fields.made_message_id(named, sent_time)
    event["batch_id"] = fields.text(batch_id, NATIVE_TYPE_CHARS_MAX)
    return event


def add_category(event: Event, category: object) -> None:
    """Adds the provider's own word for what went wrong to the native name: ``Error.NoMailbox``.

    It is no diagnostic, which is what a receiving server said in its own words: read as one,
    the category «Unknown» would be an unknown mailbox.
    """
    word = fields.text(category, NATIVE_TYPE_CHARS_MAX)
    if word:
        event["native_type"] = f"{event['native_type']}.{word}"[:NATIVE_TYPE_CHARS_MAX]


def words_of(event: Event, said: object, categories: Collection[str] = ()) -> str | None:
    """The diagnostic of a field that holds a server's words or the provider's category.

    Args:
        said: the field; a category is added to the native name instead (``add_category``).
        categories: the provider's categories of more than one word, in lower case.
    """
    words = fields.text(said)
    if words and (fields.is_label(words) or words.lower() in categories):
        add_category(event, words)
        return None
    return words


def codes_of(
    said: str | None, smtp_code: object = None, enhanced_status: object = None
) -> tuple[int | None, str | None]:
    """Reply code and enhanced status of a server's reply.

    Args:
        said: its text, clean; searched for the codes that are not given.
    """
    said_code, said_status = fields.reply_codes(said)
    code = None if smtp_code is None else fields.smtp_code(smtp_code)
    # Mostly it is not given, or equals the one in the text, which is valid.
    same = enhanced_status is None or enhanced_status == said_status
    status = said_status if same else fields.enhanced_status(enhanced_status)
    if status is None or status.endswith(".0.0"):  # SendGrid gives 5.0.0 where it knows better
        status = said_status or status
    return said_code if code is None else code, status


def set_reply(
    event: Event,
    *,
    diagnostic: object = None,
    smtp_code: object = None,
    enhanced_status: object = None,
    bounce_class: str = "none",
    bounce_reason: str = "none",
) -> None:
    """Sets the reply of the receiving server, or of the provider in its place.

    Args:
        diagnostic: its text; for the two codes see ``codes_of``.
        bounce_class: by the provider's own flag only; codes are evaluated later, by the streams.
        bounce_reason: the same.
    """
    said = event["diagnostic"] = fields.text(diagnostic)
    event["smtp_code"], event["enhanced_status"] = codes_of(said, smtp_code, enhanced_status)
    event["bounce_class"], event["bounce_reason"] = bounce_class, bounce_reason


def set_client(
    event: Event,
    *,
    user_agent: object = None,
    ip: object = None,
    click_url: object = None,
    unsubscribe_link: bool | None = None,
    machine_kind: str = "none",
    provider_first: bool | None = None,
    geo_country: object = None,
) -> None:
    """Sets who opened or clicked what.

    Args:
        unsubscribe_link: whether the link unsubscribes, by the provider's own flag or a header of
            the message (``fields.is_listed``) only.
        machine_kind: by the provider's own flag only.
    """
    event["user_agent"] = fields.text(user_agent)
    event["ip"] = fields.text(ip, IP_CHARS_MAX)
    event["click_url"] = fields.text(click_url)
    event["unsubscribe_link"] = unsubscribe_link
    event["machine_kind"] = machine_kind
    event["provider_first"] = provider_first
    event["geo_country"] = fields.country(geo_country)
