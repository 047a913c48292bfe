"""Stores a recipient's address plain, as a keyed hash, or not at all.

Invariants:
1. Pure.
2. When addresses are not kept plain, they are removed from every text of an event that repeats
   them, and from dead letters, before anything is encoded.
3. The domain is always kept: rates per mailbox provider need it, and it identifies nobody.
4. The hash is keyed (HMAC-SHA256): without the key nobody can test addresses against it.
"""

import hmac
import re
from typing import Literal

from schemas.event import Event

Mode = Literal["plain", "hashed", "dropped"]

HASH_PREFIX = "h:"
DROPPED = "(dropped)"

_ADDRESS = re.compile(
    rb"[A-Za-z0-9.!#$&'*+/=?^_`{|}~-]{1,64}(@|%40|\\u0040)(?=[A-Za-z0-9-]{1,63}\.[A-Za-z])"
)
_ADDRESS_IN_TEXT = re.compile(
    r"[A-Za-z0-9.!#$&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+"
)
_TEXTS = ("diagnostic", "click_url", "rfc_message_id", "campaign_id", "message_id", "batch_id")


class Privacy:
    """Applies one mode to events and to bytes.

    Args:
        mode: the ``recipients`` setting.
        key: of the HMAC, for ``hashed``.
    """

    def __init__(self, mode: Mode, key: bytes = b"") -> None:
        self.mode = mode
        self._key = key

    def hash(self, address: str) -> str:
        """The keyed hash of an address, whatever its case."""
        digest = hmac.digest(self._key, address.lower().encode("utf-8", "replace"), "sha256")
        return HASH_PREFIX + digest.hex()

    def apply(self, event: Event) -> None:
        """Changes ``event`` in place; one that is hashed already stays as it is."""
        address = event["recipient"]
        if self.mode == "plain" or not address or address.startswith(HASH_PREFIX):
            return
        stand_in = self.hash(address) if self.mode == "hashed" else None
        event["recipient"] = stand_in
        domain = event["recipient_domain"]
        if not domain:
            event["recipient_domain"] = address.rpartition("@")[2].lower() if "@" in address else ""
        self._clear(event, address, stand_in or DROPPED)

    def _clear(self, event: Event, address: str, stand_in: str) -> None:
        forms = {address, address.replace("@", "%40")}
        pattern = re.compile("|".join(re.escape(form) for form in sorted(forms)), re.IGNORECASE)
        texts: dict[str, object] = event  # type: ignore[assignment]
        for name in _TEXTS:
            value = texts[name]
            if isinstance(value, str):
                texts[name] = pattern.sub(stand_in, value)
        if event["diagnostic"]:  # may name other addresses, such as the target of a forwarding
            event["diagnostic"] = _ADDRESS_IN_TEXT.sub(self._stand_in, event["diagnostic"])
        event["tags"] = [pattern.sub(stand_in, tag) for tag in event["tags"]]
        event["metadata"] = {
            pattern.sub(stand_in, key): pattern.sub(stand_in, value)
            for key, value in event["metadata"].items()
        }

    def _stand_in(self, match: re.Match[str]) -> str:
        return self.hash(match.group()) if self.mode == "hashed" else DROPPED

    def clear_bytes(self, content: bytes) -> bytes:
        """``content`` with the part before the @ of everything that looks like an address replaced.

        The replacement keeps JSON and form bodies readable, so a dead letter can still be
        processed again.
        """
        if self.mode == "plain":
            return content
        return _ADDRESS.sub(self._stand_in_bytes, content)

    def _stand_in_bytes(self, match: re.Match[bytes]) -> bytes:
        local, at = match.group(0), match.group(1)
        if self.mode == "dropped":
            return b"dropped" + at
        digest = hmac.digest(self._key, local.lower(), "sha256")
        return b"h" + digest.hex()[:32].encode() + at
