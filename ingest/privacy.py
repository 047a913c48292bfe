"""Stores a recipient's address plain, as a keyed hash, or not at all.

Invariants:
1. Pure.
2. When addresses are not kept plain, every one that ``schemas.address_search`` finds is removed,
   in whatever coding, from every text of an event and from dead letters, before anything is
   encoded. A message id looks like an address itself: only what is in it is removed.
3. The domain is always kept, if it is one: rates per mailbox provider need it, and it identifies
   nobody. So is the address of a client, if it is one.
4. The hash is keyed (HMAC-SHA256): without the key nobody can test addresses against it.
5. So is every event id then: most providers give none, and an id made of address, time and message
   would tell who holds the topic which address it is, by trying. With one key a retry has the same
   id, whichever process takes it.
6. A dead letter that is sent again gives the recipient that it would have given at first: what is
   hashed in it is not hashed again.
"""

import re
from typing import Literal, get_type_hints

from schemas.address_search import (
    Found,
    is_domain,
    is_of,
    replaced,
    replaced_in_field,
    replaced_in_id,
)
from schemas.event import Event
from schemas.recipient_hash import HASH_PREFIX, key_of_ids, keyed_event_id, keyed_hash

Mode = Literal["plain", "hashed", "dropped"]

DROPPED = "(dropped)"
_DROPPED_LOCAL = "dropped"
"""In place of a local part where the rest has to be read again."""

_HASHED = re.compile(r"(h:[0-9a-f]{64})(?:@(.*))?", re.DOTALL)
_IDS = ("message_id", "rfc_message_id")
_OURS = (
    "event_id", "event_type", "provider", "source", "received_by", "campaign_source",
    "machine_kind", "bounce_class", "bounce_reason", "dedupe_quality", "recipient",
    "recipient_identity", "recipient_domain", "ip",
)  # fmt: skip
"""Texts that are made or chosen here; every other may contain what a provider sends."""
_TEXTS = tuple(
    name
    for name, kind in get_type_hints(Event).items()
    if kind in (str, str | None) and name not in _IDS + _OURS
)
_IP = re.compile(r"[0-9A-Fa-f:.]{2,45}")


class Privacy:
    """Applies one mode to events and to bytes.

    Args:
        mode: the ``recipients`` setting.
        key: of the HMAC; the same in all ingress processes of an installation.
    """

    def __init__(self, mode: Mode, key: bytes = b"") -> None:
        self.mode = mode
        self._key = key
        self._key_of_ids = key_of_ids(key)

    def hash(self, address: str) -> str:
        """The keyed hash of an address, equal for all its spellings."""
        return keyed_hash(address, self._key)

    def apply(self, event: Event) -> None:
        """Changes ``event`` in place; a recipient that is hashed already keeps its hash."""
        if self.mode == "plain":
            return
        event["event_id"] = keyed_event_id(event["event_id"], self._key_of_ids)
        address = event["recipient"] or ""
        hashed = _HASHED.fullmatch(address)
        if address:
            stand_in = self.hash(address) if hashed is None else hashed[1]
            kept = stand_in if self.mode == "hashed" else None
            event["recipient"] = event["recipient_identity"] = kept
            if not event["recipient_domain"] and hashed is None and "@" in address:
                event["recipient_domain"] = address.rpartition("@")[2].lower()
        domain = event["recipient_domain"]
        if domain and not is_domain(domain):
            event["recipient_domain"] = ""
        if event["ip"] and _IP.fullmatch(event["ip"]) is None:
            event["ip"] = None
        self._clear(event, address if hashed is None else "")

    def _clear(self, event: Event, known: str) -> None:
        """Removes addresses from the texts of an event whose recipient is ``known``."""

        def stand_in(found: Found) -> str:
            if self.mode == "dropped":
                return DROPPED
            return self.hash(known if is_of(found, known) else found.address)

        def cleared(text: str) -> str:
            return replaced_in_field(text, stand_in, known, last=lambda word: "")

        texts: dict[str, object] = event  # type: ignore[assignment]
        for name in _TEXTS:
            value = texts[name]
            if isinstance(value, str):
                texts[name] = cleared(value)
        for name in _IDS:
            value = texts[name]
            if isinstance(value, str):
                texts[name] = replaced_in_id(value, stand_in, known)
        event["tags"] = [cleared(tag) for tag in event["tags"]]
        event["metadata"] = {
            cleared(key): cleared(value) for key, value in event["metadata"].items()
        }

    def clear_text(self, text: str) -> str:
        """``text`` with the part before the @ of every address replaced.

        The replacement keeps JSON and form bodies readable, so a dead letter can still be
        processed again.
        """
        if self.mode == "plain":
            return text
        return replaced(text, lambda found: self._stand_in_local(text, found))

    def clear_bytes(self, content: bytes) -> bytes:
        """The same of bytes, of which those that are not UTF-8 stay."""
        if self.mode == "plain":
            return content
        text = content.decode("utf-8", "surrogateescape")
        return self.clear_text(text).encode("utf-8", "surrogateescape")

    def _stand_in_local(self, text: str, found: Found) -> str:
        behind = text[found.sign : found.end]
        if self.mode == "dropped":
            return _DROPPED_LOCAL + behind
        before = text[max(0, found.begin - len(HASH_PREFIX)) : found.sign]
        if _HASHED.fullmatch(before):
            return text[found.begin : found.end]
        return self.hash(found.address) + behind
