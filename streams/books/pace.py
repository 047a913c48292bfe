"""What an answer of a provider's API means for the next request: go on, wait, or stop.

Invariants:
1. Pure: time and chance are arguments.
2. A wait that the API asks for is kept, to the second; one over ``WAIT_S_MAX`` ends the command,
   which goes on where it was when it is run again. «Too many requests» that asks for none is not
   answered at once: the waits double.
3. A key that is refused is tried a few times, since a gateway may refuse at random, and no more:
   providers lock keys out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum

from schemas.history_api import Answer

TRIES_MAX = 10
"""Requests in a row that fail before the command ends; waits double, so that is ten minutes."""
BUSY_TRIES_MAX = 100
"""The same for «too many requests»."""
KEY_TRIES_MAX = 5
WAIT_S_MAX = 900.0
BACKOFF_S_MAX = 120.0
_BUSY = (420, 429)
_LATER = (408, 425, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529)
KEY = (401, 403)
"""Answers about the key."""
_RESETS = ("x-ratelimit-reset", "ratelimit-reset")
_REMAINING = ("x-ratelimit-remaining", "ratelimit-remaining")
_EPOCH_S_MIN = 1e9
"""A larger reset is a time since 1970, a smaller one a number of seconds."""
_EPOCH_MS_MIN = 1e12
"""A larger one is in milliseconds."""


class Means(StrEnum):
    """What an answer means."""

    GOOD = "good"
    AGAIN = "again"
    """The same request, later."""
    REFUSED = "refused"
    """This request will never be answered otherwise."""
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do next; ``wait_s`` before the next request, ``why`` for a person."""

    means: Means
    wait_s: float = 0.0
    why: str = ""


def judge(answer: Answer | None, tries: int, now_s: float, chance: float) -> Verdict:
    """What an answer means.

    Args:
        answer: ``None``: there was none, or it was not read in time.
        tries: how often this request failed before.
        now_s: seconds since 1970.
        chance: 0 to 1, spreads the waits.
    """
    backoff = min(BACKOFF_S_MAX, 2.0**tries) * (0.5 + chance / 2)
    if answer is None:
        return _again(backoff, tries, TRIES_MAX, "no answer")
    status = answer.status
    if 200 <= status < 300:
        return _good(answer.headers, now_s)
    why = f"HTTP {status}"
    if status in _BUSY or (status == 403 and "retry-after" in answer.headers):
        asked = _asked_s(answer.headers, now_s)
        return _again(asked or backoff, tries, BUSY_TRIES_MAX, why)
    if status in KEY:
        return _again(backoff, tries, KEY_TRIES_MAX, why, Means.REFUSED)
    if status in _LATER:
        asked = _asked_s(answer.headers, now_s) or 0.0
        return _again(max(backoff, asked), tries, TRIES_MAX, why)
    return Verdict(Means.REFUSED, why=why)


def _again(wait_s: float, tries: int, most: int, why: str, instead: Means = Means.STOP) -> Verdict:
    if tries + 1 >= most:
        return Verdict(instead, why=f"{why}, {tries + 1} times")
    if wait_s > WAIT_S_MAX:
        return Verdict(Means.STOP, why=f"{why}: the API asks to wait for {wait_s:,.0f} s")
    return Verdict(Means.AGAIN, wait_s, why)


def _good(headers: Mapping[str, str], now_s: float) -> Verdict:
    """After the last request that the rate allows, the next one waits for the reset."""
    left = _number(headers, _REMAINING)
    wait = _reset_s(headers, now_s) if left is not None and left < 1 else None
    return Verdict(Means.GOOD, min(WAIT_S_MAX, wait or 0.0))


def _asked_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """How long the API asks to wait, in seconds."""
    text = headers.get("retry-after", "").strip()
    if text.replace(".", "", 1).isdigit() and text.isascii():
        return float(text)
    if text:
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - now_s)
        except (ValueError, TypeError, OverflowError):
            pass
    return _reset_s(headers, now_s)


def _reset_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """How long until the rate is reset, in seconds; the reset is a time or a number of seconds."""
    value = _number(headers, _RESETS)
    if value is None:
        return None
    if value >= _EPOCH_MS_MIN:
        value /= 1000
    return max(0.0, value - now_s if value >= _EPOCH_S_MIN else value)


def _number(headers: Mapping[str, str], names: tuple[str, ...]) -> float | None:
    for name in names:
        text = headers.get(name, "").strip()
        if text.isascii() and text.replace(".", "", 1).isdigit():
            return float(text)
    return None
