"""Keyed hashes for what would tell an address: the address itself, and ids of its events.

Invariants: pure; equal for every spelling of one mailbox; without the key nobody can test addresses
against them.
"""

import hmac
import re

from schemas.event import EVENT_ID_CHARS
from schemas.identity import address_identity

HASH_PREFIX = "h:"
_HASH = re.compile(f"{HASH_PREFIX}[0-9a-f]{{64}}")


def keyed_hash(address: str, key: bytes) -> str:
    """HMAC-SHA256 of the address's identity: ``h:`` and 64 hexadecimal digits."""
    identity = address_identity(address).encode("utf-8", "replace")
    return HASH_PREFIX + hmac.digest(key, identity, "sha256").hex()


def is_keyed_hash(text: str) -> bool:
    """Whether a text is what ``keyed_hash`` makes."""
    return _HASH.fullmatch(text) is not None


def keyed_hashes_in(text: str) -> list[str]:
    """All that a text has of what ``keyed_hash`` makes."""
    return _HASH.findall(text)


def key_of_ids(key: bytes) -> bytes:
    """The key of event ids, made of that of addresses: no hash of one is a hash of the other."""
    return hmac.digest(key, b"mailpulse event ids", "sha256")


def keyed_event_id(event_id: str, key: bytes) -> str:
    """What stands for an event id: 32 hexadecimal digits of HMAC-SHA256.

    Args:
        key: of ``key_of_ids``.
    """
    digest = hmac.digest(key, event_id.encode("utf-8", "surrogatepass"), "sha256")
    return digest.hex()[:EVENT_ID_CHARS]


def mode_mark(mode: str, key: bytes) -> str:
    """What is equal for two processes that store recipients alike: the mode, and that they have one
    key, of which it tells nothing else."""
    same = hmac.digest(key, b"mailpulse mode mark", "sha256").hex()[:16]
    return mode if mode == "plain" else f"{mode} {same}"
