"""The keyed hash that stands for an address where recipients are stored as hashes.

Invariants: pure; equal for every spelling of one mailbox; without the key nobody can test addresses
against it.
"""

import hmac

from schemas.identity import address_identity

HASH_PREFIX = "h:"


def keyed_hash(address: str, key: bytes) -> str:
    """HMAC-SHA256 of the address's identity: ``h:`` and 64 hexadecimal digits."""
    identity = address_identity(address).encode("utf-8", "replace")
    return HASH_PREFIX + hmac.digest(key, identity, "sha256").hex()
