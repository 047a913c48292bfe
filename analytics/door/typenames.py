"""Names of types, where a statement gives them: in parameters, and as text to functions.

A type's text may name aggregate functions (``AggregateFunction(…)``, whose states are read as they
come) and, as the type of a parameter, may turn a value into a name (``Identifier``).
"""

from itertools import pairwise

from analytics.door import lists
from analytics.door.denied import ACCESS_DENIED, Denied, unlisted
from analytics.door.lexer import Token, Unreadable, tokens


def check_parameter(text: str) -> None:
    """A parameter, ``{name:Type}``.

    Raises:
        Denied: a type that is not on the list, ``Identifier`` above all.
    """
    kind = text[1:-1].partition(":")[2]
    for token in _tokens(kind):
        if token.name and token.name.lower() not in lists.TYPES:
            raise unlisted(f"Parameter {text[:80]}: type", token.name, "types")


def check_type(text: str) -> None:
    """The text of a type, in which elements of tuples have names of any kind.

    Raises:
        Denied: a type with arguments that is not on the list.
    """
    found = _tokens(text)
    for token, following in pairwise(found):
        if following.text == "(" and token.name and token.name.lower() not in lists.TYPES:
            raise unlisted("Type", token.name, "types")


def _tokens(text: str) -> list[Token]:
    try:
        return tokens(text)
    except Unreadable as error:
        raise Denied(ACCESS_DENIED, f"Type {text[:80]!r} can't be judged ({error})") from error
