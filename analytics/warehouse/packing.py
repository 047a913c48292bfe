"""How a client wants its result encoded: protocol version, frames, content encoding.

Invariants:
1. Pure: a request's wishes in, steps out; a step takes the result and returns it encoded.
2. A step in Python calls ``go_on`` every fraction of a second of its work, and ends by what that
   raises. A step in C does not, but takes no longer than making the result did.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from analytics.door.encodings import best, encoded
from analytics.door.frames import FramesTooLarge, compressed
from analytics.door.native import Content, Unwalkable, at_revision
from analytics.warehouse.errors import QueryError, Unsupported

REVISION_DIGITS_MAX = 9
"""Of a protocol version; a longer one is none."""

GoOn = Callable[[], None]
Step = Callable[[Content, GoOn], Content]


@dataclass(frozen=True, slots=True)
class Packing:
    """How a result is packed.

    Attributes:
        steps: one after another.
        encoding: the content encoding at the end; empty for none.
    """

    steps: tuple[Step, ...] = ()
    encoding: str = ""


def asked_packing(parameters: Mapping[str, str], accepted: str, wanted: str) -> Packing:
    """What a request asks for.

    Args:
        parameters: of the request.
        accepted: its header ``Accept-Encoding``.
        wanted: the format of the result.
    """
    steps: list[Step] = []
    if wanted.lower() == "native":
        asked = parameters.get("client_protocol_version", "")
        is_one = asked.isdecimal() and len(asked) <= REVISION_DIGITS_MAX
        steps.append(partial(_at_revision, int(asked) if is_one else 0))
    if parameters.get("compress") == "1":
        steps.append(_framed)
    encoding = best(accepted) if parameters.get("enable_http_compression") == "1" else ""
    if encoding:
        steps.append(partial(_encoded, encoding))
    return Packing(tuple(steps), encoding)


def _at_revision(revision: int, content: Content, go_on: GoOn) -> Content:
    """Raises ``Unsupported`` for a column of a type that has no transcription."""
    try:
        return at_revision(content, revision, go_on)
    except Unwalkable as error:
        raise Unsupported(
            f"Native with client_protocol_version={revision} is not supported here for {error}:"
            " cast the column, or use another format"
        ) from error


def _framed(content: Content, go_on: GoOn) -> Content:
    """Raises ``QueryError`` for more than frames may hold."""
    try:
        return compressed(content, go_on)
    except FramesTooLarge as error:
        raise QueryError(
            396,
            "TOO_MANY_ROWS_OR_BYTES",
            f"compress=1 packs at most {error} bytes here: leave it out, or ask with"
            " enable_http_compression=1 and Accept-Encoding instead",
        ) from error


def _encoded(encoding: str, content: Content, _go_on: GoOn) -> Content:
    return encoded(content, encoding)
