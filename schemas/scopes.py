"""Keys of suppressions that concern one list or group of a source, not the whole address.

Source of the kinds: ``suppression_scope`` of the raw record, such as ``group:1234``.
"""

_SEPARATOR = "\x1f"


def scoped_key(identity: str, source: str, scope: str) -> str:
    """The key of a scope of an address: its identity, source and scope with U+001F between."""
    return _SEPARATOR.join((identity, source, scope))


def parts_of(key: str) -> tuple[str, str, str]:
    """Identity, source and scope of a ``scoped_key``; what is missing is empty."""
    identity, _, rest = key.partition(_SEPARATOR)
    source, _, scope = rest.partition(_SEPARATOR)
    return identity, source, scope
