"""A person, as mailpulse knows one: the forms in which an address is stored, and their keys.

Invariants:
1. Pure. Whatever spelling of an address is given, the person is the same (invariant 10 of the
   design).
2. Of two modes of privacy both forms are looked for: the mode may have been another one before.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

from schemas.erasure import digest
from schemas.identity import address_identity
from schemas.recipient_hash import is_keyed_hash, keyed_hash
from schemas.scopes import scoped_key


@dataclass(frozen=True, slots=True)
class Person:
    """Whom an erasure or an export is about.

    Attributes:
        names: identity and keyed hash of the address; of a person given by hash, that alone.
    """

    names: tuple[str, ...]

    @property
    def digests(self) -> list[str]:
        """What an erasure knows of them (``schemas.erasure.digest``)."""
        return [digest(name).hex() for name in self.names]

    def state_keys(self, scopes: Iterable[tuple[str, str]]) -> list[str]:
        """Hexadecimal keys of the workers' state.

        Args:
            scopes: source and scope of each list or group that they may have been told for.
        """
        texts = [scoped_key(name, *scope) for name in self.names for scope in sorted(set(scopes))]
        keys = [blake2b(text.encode("utf-8", "replace"), digest_size=16) for text in texts]
        return [*self.digests, *(key.hexdigest() for key in keys)]


def person_of(address: str, key: bytes, *, plain_only: bool = False) -> Person:
    """The person of an address in any spelling, or of a keyed hash.

    Args:
        key: of keyed hashes; empty: none were ever stored.
        plain_only: their keyed hash is left alone.
    """
    if is_keyed_hash(address):
        return Person((address,))
    identity = address_identity(address)
    if plain_only or not key:
        return Person((identity,))
    return Person((identity, keyed_hash(address, key)))
