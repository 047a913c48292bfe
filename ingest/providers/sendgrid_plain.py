"""SendGrid's usual events, read without cleaning: what nine in ten items of a busy day are.

Laws of this file:
1. Pure. ``Reader`` makes exactly the event that ``sendgrid_events.build`` makes, or none: whatever
   it is not certain of is left to that one. A property test compares them.
2. It may only be asked about a body that ``is_plain``: printable ASCII without escapes, so that no
   text needs a look at its characters, and only lengths and types are left to check.
3. What depends on the names of an item's fields, or on its native event, is worked out once.
"""

from collections.abc import Callable
from functools import lru_cache

from ingest.providers import fields, items
from ingest.providers.sendgrid_events import (
    CLIENT_EVENTS,
    EVENTS,
    MACHINES,
    OWN_FIELDS,
    add_reply,
)
from schemas.event import ID_CHARS_MAX, TAGS_MAX, TEXT_CHARS_MAX, Event, new_event
from schemas.settings import Source

_NEEDED = frozenset(("event", "email", "timestamp", "sg_event_id", "sg_message_id"))
_NAMES_MAX = 64
_CAMPAIGNS = frozenset(("mc_stats", "marketing_campaign_id", "singlesend_id"))
"""With one of these, SendGrid has a campaign of its own."""

_identifier = lru_cache(maxsize=4096)(fields.identifier)
"""For campaigns, of which there are few; to be asked about texts only."""


def is_plain(body: bytes) -> bool:
    """Whether no text of a JSON body can hold anything but ASCII without control characters.

    These are written as escapes, or they are no JSON (RFC 8259 §7).
    """
    return body.isascii() and b"\\" not in body


@lru_cache(maxsize=1024)
def _shape(names: tuple[str, ...]) -> tuple[str, ...] | None:
    """The sender's own among an item's field names; ``None``: not a usual item."""
    present = frozenset(names)
    if len(names) > _NAMES_MAX or not present >= _NEEDED or present & _CAMPAIGNS:
        return None
    custom = tuple(name for name in names if name not in OWN_FIELDS)
    return custom if all(0 < len(name) <= ID_CHARS_MAX for name in custom) else None


def _are_tags(category: object) -> bool:
    """Whether it is a list of short texts, and so of tags as they are."""
    if type(category) is not list or len(category) > TAGS_MAX:
        return False
    for tag in category:
        if type(tag) is not str or not 0 < len(tag) <= ID_CHARS_MAX:
            return False
    return True


def _bare(text: object) -> str | None:
    """A message id without its angle brackets; ``None`` when there is more to clean."""
    if type(text) is not str or not 2 < len(text) <= ID_CHARS_MAX:
        return None
    if text[0] == "<" and text[-1] == ">":
        text = text[1:-1]
    return text if text[0] != "<" and text.strip() == text else None


def _add_said(event: Event, item: items.Item) -> bool:
    """What a reader or a server did; false when something is unusual."""
    native = item["event"]
    if native not in CLIENT_EVENTS:
        if "reason" in item or "response" in item or "status" in item or native == "bounce":
            add_reply(event, item, native)
        return True
    get = item.get
    agent, ip, url = get("useragent"), get("ip"), get("url")
    for text in (agent, ip, url):
        if text is not None and (type(text) is not str or not 0 < len(text) <= TEXT_CHARS_MAX):
            return False
    if ip is not None and len(ip) > items.IP_CHARS_MAX:
        return False
    event["user_agent"], event["ip"], event["click_url"] = agent, ip, url
    if get("sg_machine_open") is True:
        event["machine_kind"] = "apple_mpp"
    return True


class Reader:
    """Reads the items of one request; the arguments are those of ``sendgrid_events.build``."""

    __slots__ = ("_blanks", "_first", "_identity", "_last", "_precedence", "_received", "_source")

    def __init__(
        self,
        source: Source,
        received_at: int,
        identity: Callable[[str], str],
        believed: tuple[int, int],
    ) -> None:
        self._source = source
        self._received = received_at
        self._identity = identity
        self._first, self._last = believed
        self._precedence = fields.precedence(source.campaign_from)
        self._blanks: dict[str, Event] = {}

    def _blank(self, native: str) -> Event | None:
        """What is the same for all events of a kind within the request."""
        event_type = EVENTS.get(native)
        if event_type is None:
            return None
        blank = new_event(
            event_id="", event_type=event_type, occurred_at=0, received_at=self._received,
            provider="sendgrid", native_type=native,
        )  # fmt: skip
        blank["source"] = self._source.name
        self._blanks[native] = blank
        return blank

    def read(self, item: items.Item) -> Event | None:
        """The event of an item; ``None``: not certain."""
        custom = _shape(tuple(item))
        if custom is None:
            return None
        native, moment, email = item["event"], item["timestamp"], item["email"]
        own_id, message = item["sg_event_id"], item["sg_message_id"]
        if not (
            type(native) is type(email) is type(own_id) is type(message) is str
            and type(moment) is int
            and self._first <= moment <= self._last
            and own_id
            and 0 < len(email) <= ID_CHARS_MAX
            and 0 < len(message) <= ID_CHARS_MAX
        ):
            return None
        local, at, domain = email.rpartition("@")
        if not at or email[-1] == ">" or email.strip() != email:
            return None
        if message[0] == "<" or message.strip() != message:
            return None
        blank = self._blanks.get(native) or self._blank(native)
        if blank is None:
            return None
        event = blank.copy()
        for machine in MACHINES:
            end = message.find(machine, 1)
            if end > 0:
                message = message[:end]
                break
        lower = domain.lower()
        event["event_id"] = self._identity(own_id)
        event["occurred_at"] = moment * fields.SECOND_US
        event["message_id"] = message
        event["recipient"] = email if lower == domain else f"{local}@{lower}"
        event["recipient_domain"] = lower
        return event if self._add_sent(event, item, custom) and _add_said(event, item) else None

    def _add_sent(self, event: Event, item: items.Item, custom: tuple[str, ...]) -> bool:
        """What the sender gave the message; false when something is unusual."""
        smtp_id = item.get("smtp-id")
        if smtp_id is not None:
            rfc_id = _bare(smtp_id)
            if rfc_id is None:
                return False
            event["rfc_message_id"] = rfc_id
        category = item.get("category")
        if category is not None:
            if not _are_tags(category):
                return False
            event["tags"] = category
        else:
            event["tags"] = []
        metadata: dict[str, str] = {}
        for name in custom:
            value = item[name]
            if type(value) is not str or len(value) > TEXT_CHARS_MAX:
                return False
            metadata[name] = value
        event["metadata"] = metadata
        for kind, key, position in self._precedence:
            if kind == "metadata":
                found: str | None = metadata.get(key)
            elif kind == "tag" and category is not None and position < len(category):
                found = category[position]
            else:  # there is neither a campaign of SendGrid's own nor a header
                continue
            if found is not None and (campaign := _identifier(found)) is not None:
                event["campaign_id"], event["campaign_source"] = campaign, kind
                break
        return True
