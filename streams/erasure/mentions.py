"""Whether content that nobody could read, such as a dead letter's, mentions a person.

Invariants:
1. Pure. Addresses are found in every coding of ``schemas.address_search``, and compared by
   identity: ``ada@x`` is not mentioned by ``nada@x``, and is by ``ADA%40x``.
2. Keyed hashes stand as they are.
3. Records in Avro have lengths between their texts, which read like letters; there ``may_mention``
   finds more, not less.
"""

from collections.abc import Collection, Container

from schemas.address_search import find
from schemas.identity import address_identity
from schemas.recipient_hash import keyed_hashes_in


def mentions(content: bytes, names: Container[str]) -> bool:
    """Whether one of the names, identities and keyed hashes, is in the content."""
    text = content.decode("utf-8", "replace")
    if any(found in names for found in keyed_hashes_in(text)):
        return True
    return any(
        form in names for found in find(text) for form in _forms(address_identity(found.address))
    )


def may_mention(content: bytes, names: Collection[str]) -> bool:
    """The same of content that may be binary; also true of an address that ends like theirs."""
    plain = content.lower()
    return mentions(content, names) or any(
        name.encode("utf-8", "replace") in plain for name in names
    )


def _forms(identity: str) -> list[str]:
    """An address as it was found, and without what may stand in front of it in a link."""
    return [identity, *(identity[at + 1 :] for at, sign in enumerate(identity) if sign in "=:/")]
