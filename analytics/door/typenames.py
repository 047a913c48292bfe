"""Names of types, where a statement gives them: in parameters, and as text to functions.

A type's text may name aggregate functions (``AggregateFunction(…)``, whose states are read as they
come), a file (``DateTime('file:…')`` opens it as a time zone) and, as the type of a parameter, may
turn a value into a name (``Identifier``).
"""

import re
from itertools import pairwise

from analytics.door import lists
from analytics.door.denied import ACCESS_DENIED, Denied, unlisted
from analytics.door.lexer import Kind, Token, Unreadable, tokens, unquoted

_FREE = ("enum", "enum8", "enum16", "json")
"""Types whose texts are something else than time zones."""


_ZONE_ARGUMENT = re.compile(r"'[A-Za-z][A-Za-z0-9_+\-]*(?:/[A-Za-z0-9_+\-]+)*'")
_TIME = re.compile("datetime|timestamp")


def check_parameter(text: str) -> None:
    """A parameter, ``{name:Type}``.

    Raises:
        Denied: a type that is not on the list, ``Identifier`` above all.
    """
    kind = text[1:-1].partition(":")[2]
    found = _tokens(kind)
    _check_zones(found)
    for token in found:
        if token.name and token.name.lower() not in lists.TYPES:
            raise unlisted(f"Parameter {text[:80]}: type", token.name, "types")


def check_type(text: str) -> None:
    """The text of a type, in which elements of tuples have names of any kind.

    Raises:
        Denied: a type with arguments that is not on the list.
    """
    found = _tokens(text)
    _check_zones(found)
    for token, following in pairwise(found):
        if following.text == "(" and token.name and token.name.lower() not in lists.TYPES:
            raise unlisted("Type", token.name, "types")


def check_subcolumn(text: str) -> None:
    """The name of a column or of a part of one.

    A part of a ``Dynamic`` has the name of its type (``d.`DateTime('file:…')` ``), one of a
    ``JSON`` has it at its end, and both are read as types. What looks like an ordinary name in
    brackets, such as ``countIf(type = 'open')``, is none.

    Raises:
        Denied: a name that could be of a type with a zone that is none, or of states.
    """
    lower = text.lower()
    if "(" not in lower:
        return
    plain = _ZONE_ARGUMENT.sub("", text)
    odd = "\\" in plain or (_TIME.search(lower) and ("'" in plain or "$" in plain))
    if odd or "aggregatefunction" in lower:
        raise Denied(ACCESS_DENIED, f"{text[:80]!r} can't be a name here: it reads as a type's")


def _check_zones(found: list[Token]) -> None:
    """What ``DateTime`` and ``DateTime64`` have as text is the name of a time zone."""
    open_types: list[str] = []
    for at, token in enumerate(found):
        if token.text == "(":
            open_types.append(found[at - 1].name.lower() if at else "")
        elif token.text == ")" and open_types:
            open_types.pop()
        elif token.kind == Kind.STRING and open_types and open_types[-1] not in _FREE:
            if not lists.is_zone(unquoted(token.text)):
                raise Denied(ACCESS_DENIED, f"Type: {token.text[:80]} is no time zone")


def _tokens(text: str) -> list[Token]:
    try:
        return tokens(text)
    except Unreadable as error:
        raise Denied(ACCESS_DENIED, f"Type {text[:80]!r} can't be judged ({error})") from error
