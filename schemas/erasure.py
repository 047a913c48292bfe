"""Erasures: whose past events are forgotten, as an order that every reader of old records obeys.

Invariants:
1. Pure. An erasure is one record of the topic ``ERASURES`` (``schemas/avro/erasure.v1.avsc``); the
   newest record of an erasure holds, and one without digests is over.
2. An event is erased if its recipient is, and it happened, or arrived, before the erasure. What
   happens later is new data. The rule needs the event alone, so it gives the same whenever and by
   whomever a record is read again: a late webhook, a repeated one, a replay, a rebuild. Later
   opens and clicks of earlier messages are erased by the workers, who know the messages
   (``streams.enrich.redaction``).
3. A record whose key can't belong to an erased person is never decoded.
"""

import re
from base64 import b64decode
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any
from urllib.parse import unquote, urlsplit

from schemas.event import recipient_identity
from schemas.scopes import parts_of

DIGEST_BYTES = 16
ERASED_KEY = b"erased"
"""Kafka key of an enriched record that no longer says whose it is."""
ERASED_DOMAIN = "erased.invalid"
"""Stands for a domain that may be one person's own; no such domain can exist (RFC 6761, 6.4)."""
ERASED_HEADER = "mailpulse_erased"
"""Header of a tombstone that an erasure left on a topic of suppressions: nothing was lifted."""
BASE64_RUN = re.compile("[A-Za-z0-9]{8,}")
"""What is read as base64: + / - _ stand only for ``> ? ~``, which addresses hardly have, and part
words in links."""
ENCODED_ADDRESS = "[A-Za-z0-9._+-]@[A-Za-z0-9-]+[.][A-Za-z0-9]"
_ENCODED_ADDRESS = re.compile(ENCODED_ADDRESS.encode())
_OTHER_KEYS = (b"m:", b"e:")
"""Keys of events without a certain recipient (``schemas.event.message_key``)."""


def digest(identity: str) -> bytes:
    """What an erasure knows of a person; the key of the address in the workers' state, too."""
    return digest_of(identity.encode("utf-8", "replace"))


def digest_of(key: bytes) -> bytes:
    """The same of a Kafka key that is an identity."""
    return blake2b(key, digest_size=DIGEST_BYTES).digest()


def is_erasing(headers: Any) -> bool:
    """Whether a tombstone was left by an erasure."""
    return any(name == ERASED_HEADER for name, _ in headers)


def link_without_address(link: str) -> str:
    """A link as far as it holds no address: without its parameters, or else its host alone."""
    if not has_address(link):
        return link
    page = link.partition("?")[0].partition("#")[0]
    if not has_address(page):
        return page
    try:
        parts = urlsplit(link)
        host = parts.hostname
    except ValueError:
        return ""
    return f"{parts.scheme}://{host}" if host and not has_address(host) else ""


def has_address(text: str) -> bool:
    """Whether an @ is in it, escaped twice at most, or an address in base64."""
    plain = unquote(unquote(text))
    return "@" in plain or any(map(_is_address_in_base64, BASE64_RUN.findall(plain)))


def _is_address_in_base64(run: str) -> bool:
    return _ENCODED_ADDRESS.search(b64decode(run[: len(run) // 4 * 4])) is not None


def tags_without_address(tags: Iterable[str]) -> list[str]:
    """The tags that hold no address."""
    return [tag for tag in tags if not has_address(tag)]


class Erasures:
    """Every erasure that has to be obeyed. False while there is none."""

    def __init__(self) -> None:
        self._by_id: dict[str, tuple[int, tuple[bytes, ...]]] = {}
        self._at: dict[bytes, int] = {}

    def __bool__(self) -> bool:
        return bool(self._at)

    def put(self, erasure_id: str, record: Mapping[str, Any] | None) -> None:
        """Takes the newest record of an erasure; ``None``, a tombstone, ends it."""
        _, before = self._by_id.pop(erasure_id, (0, ()))
        if record is not None and record["digests"]:
            digests = tuple(bytes.fromhex(one) for one in record["digests"])
            self._by_id[erasure_id] = record["at"], digests
            for one in digests:
                self._at[one] = max(record["at"], self._at.get(one, 0))
        if before:
            self._end(set(before))

    def _end(self, digests: set[bytes]) -> None:
        for one in digests:
            self._at.pop(one, None)
        for at, some in self._by_id.values():
            for one in digests.intersection(some):
                self._at[one] = max(at, self._at.get(one, 0))

    def at(self, key: bytes) -> int:
        """When the person of a Kafka key was erased, microseconds since 1970; 0: never."""
        return self._at.get(digest_of(key), 0)

    def at_of_scope(self, key: bytes | None) -> int:
        """``at`` of a key that may name a list or group of the person too (``schemas.scopes``)."""
        if not self._at:
            return 0
        identity, _, _ = parts_of((key or b"").decode("utf-8", "replace"))
        return self.at(identity.encode("utf-8", "replace"))

    def may_concern(self, key: bytes | None) -> bool:
        """Whether a record with this key can be an erased person's (invariant 3)."""
        return key is None or key.startswith(_OTHER_KEYS) or self.at(key) > 0

    def erased_at(self, event: Mapping[str, Any]) -> int:
        """When the recipient of an event was erased, microseconds since 1970; 0: never."""
        return self._at.get(digest(recipient_identity(event)), 0)

    def covers(self, event: Mapping[str, Any]) -> bool:
        """Whether an event is erased (invariant 2)."""
        at = self.erased_at(event)
        return at > 0 and min(event["occurred_at"], event["received_at"]) < at
