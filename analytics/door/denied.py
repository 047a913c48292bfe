"""The door's refusals: ClickHouse's error codes and names, with a text that says what to do."""

SYNTAX_ERROR = (62, "SYNTAX_ERROR")
UNKNOWN_FORMAT = (73, "UNKNOWN_FORMAT")
UNKNOWN_DATABASE = (81, "UNKNOWN_DATABASE")
MISREADING = (36, "BAD_ARGUMENTS")
READONLY = (164, "READONLY")
ACCESS_DENIED = (497, "ACCESS_DENIED")

LISTS = "analytics/door/allowed"
"""The directory of the lists, for error texts."""


class Denied(Exception):
    """A query that may not run.

    Attributes:
        code: ClickHouse's number for it.
        name: ClickHouse's name for it.
        text: why, for the analyst.
    """

    def __init__(self, kind: tuple[int, str], text: str) -> None:
        super().__init__(text)
        self.code, self.name = kind
        self.text = text


def unlisted(what: str, name: str, where: str) -> Denied:
    """The refusal of a name that is not on its list, with the list's file."""
    shown = name if len(name) <= 80 else f"{name[:80]}…"
    text = f"{what} {shown} is not allowed at this door; {LISTS}/{where}.txt lists what is"
    return Denied(ACCESS_DENIED, text)
