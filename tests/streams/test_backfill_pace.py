"""When the next request to a provider's API may be made, and which range may be asked for."""

import random
from email.utils import formatdate
from pathlib import Path

import pytest

from schemas.errors import BadInput, ConfigError
from schemas.history_api import Answer
from streams.books.notes import Notes
from streams.books.pace import BUSY_TRIES_MAX, KEY_TRIES_MAX, TRIES_MAX, WAIT_S_MAX, Means, judge
from streams.books.pull import Progress
from streams.books.window import MARGIN_S, Range, range_of

NOW, DAY_S = 1_795_521_600.0, 86_400


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": formatdate(NOW + 9, usegmt=True)}, 9),
        ({"retry-after": formatdate(NOW - 9, usegmt=True)}, 0.75),
        ({"retry-after": "0"}, 0.75),
        ({"x-ratelimit-reset": str(int(NOW) + 11)}, 11),
        ({"ratelimit-reset": "13"}, 13),
        ({"ratelimit-reset": str(int(NOW + 17) * 1000)}, 17),
        ({"retry-after": "soon", "ratelimit-reset": "5"}, 5),
    ],
)
@pytest.mark.parametrize("status", [420, 429, 403])
def test_a_wait_that_the_api_asks_for_is_kept(
    status: int, headers: dict[str, str], wait_s: float
) -> None:
    """In seconds or as a time; SendGrid gives a reset instead. 403 with Retry-After is a rate.
    None at all is no leave to ask a hundred times at once: waits double, from about a second."""
    if status == 403 and "retry-after" not in headers:
        return
    verdict = judge(Answer(status, headers), 0, NOW, 0.5)
    assert (verdict.means, verdict.wait_s) == (Means.AGAIN, wait_s)


def test_the_last_request_of_a_rate_waits_for_its_reset() -> None:
    """A good answer that says so; no 429 is needed."""
    spent = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW) + 4)}
    assert judge(Answer(200, spent), 0, NOW, 0.5).wait_s == 4
    assert judge(Answer(200, {**spent, "x-ratelimit-remaining": "1"}), 0, NOW, 0.5).wait_s == 0


@pytest.mark.parametrize(
    ("answer", "tries", "end"),
    [
        (Answer(401), KEY_TRIES_MAX, Means.REFUSED),
        (Answer(403), KEY_TRIES_MAX, Means.REFUSED),
        (Answer(429), BUSY_TRIES_MAX, Means.STOP),
        (Answer(503), TRIES_MAX, Means.STOP),
        (None, TRIES_MAX, Means.STOP),
        (Answer(404), 1, Means.REFUSED),
        (Answer(302, {"location": "https://elsewhere.example"}), 1, Means.REFUSED),
    ],
)
def test_tries_are_bounded(answer: Answer | None, tries: int, end: Means) -> None:
    """Before the last one the same request is made again, after waits that grow within a bound."""
    waits = []
    for number in range(tries - 1):
        verdict = judge(answer, number, NOW, 1.0)
        assert verdict.means is Means.AGAIN
        waits.append(verdict.wait_s)
    assert waits == sorted(waits)
    assert sum(waits) < 4 * 3600
    assert judge(answer, tries - 1, NOW, 1.0).means is end


def test_a_wait_of_hours_ends_the_command() -> None:
    """Nobody wants a terminal that is silent for so long; the command goes on later."""
    verdict = judge(Answer(429, {"retry-after": str(WAIT_S_MAX + 1)}), 0, NOW, 0.5)
    assert verdict.means is Means.STOP
    assert "901 s" in verdict.why


@pytest.mark.parametrize("seed", range(200))
def test_headers_from_outside_never_raise(seed: int) -> None:
    """Whatever they hold, waits are finite and not negative."""
    dice = random.Random(seed)
    texts = ("", "-1", "nan", "inf", "1e9", "²", "9" * 400, "1.2.3", "Mon, 99 Foo", "\x00", "0")
    names = ("retry-after", "x-ratelimit-reset", "ratelimit-reset", "x-ratelimit-remaining")
    headers = {name: dice.choice(texts) for name in names if dice.random() < 0.7}
    verdict = judge(Answer(dice.choice((200, 429, 503, 401)), headers), 0, NOW, dice.random())
    assert 0 <= verdict.wait_s <= WAIT_S_MAX


def asked(
    begin_s: float, until_s: float, *, ttl_s: int = 30 * DAY_S, keeps_s: int | None = None
) -> Range:
    return range_of(begin_s, until_s, NOW, ttl_s=ttl_s, keeps_s=keeps_s, settled_s=1800)


@pytest.mark.parametrize("ttl_s", [7200, 5 * DAY_S, 30 * DAY_S, 90 * DAY_S])
def test_the_oldest_range_is_what_state_remembers(ttl_s: int) -> None:
    """The lesser of 30 days and the messages' TTL, less an hour; the reason is named."""
    oldest = NOW - min(ttl_s, 30 * DAY_S) + MARGIN_S
    assert asked(oldest, NOW - 1800, ttl_s=ttl_s).begin_s == oldest
    reason = "MAILPULSE_MESSAGE_TTL_HOURS" if ttl_s < 30 * DAY_S else "counted by their arrival"
    with pytest.raises(BadInput, match=reason):
        asked(oldest - 1, NOW - 1800, ttl_s=ttl_s)


def test_other_ranges_are_refused_with_the_reason() -> None:
    """What the API does not keep, what may still change, none at all; an end that moves is told."""
    with pytest.raises(BadInput, match="keeps events for 10 days"):
        asked(NOW - 11 * DAY_S, NOW, keeps_s=10 * DAY_S)
    with pytest.raises(BadInput, match="younger than 30 minutes"):
        asked(NOW - 600, NOW)
    with pytest.raises(BadInput, match="not before"):
        asked(NOW - 600, NOW - 600)
    found = asked(NOW - DAY_S, NOW)
    assert found.until_s == NOW - 1800
    assert "30 minutes" in found.notes[0]


def progress(source: str = "news") -> Progress:
    return Progress(source, (("--from", "3d"),), 1, 2, {"at": 1})


def test_notes_are_of_one_process_and_whole(tmp_path: Path) -> None:
    """Two backfills of a source exclude each other; a damaged file is named with the way out."""
    notes = Notes(tmp_path / "data", "news")
    with notes.owned():
        assert notes.read() is None
        notes.write(progress())
        assert notes.read() == progress()
        with pytest.raises(BadInput, match="running"), Notes(tmp_path / "data", "news").owned():
            pass
        with Notes(tmp_path / "data", "shop").owned():
            pass
        [file] = (tmp_path / "data" / "backfill").glob("news.json")
        file.write_bytes(b"\xff")
        with pytest.raises(BadInput, match="--anew"):
            notes.read()
        notes.remove()
        assert notes.read() is None


def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    """With the setting's name; and progress that can't be written is an error of its own."""
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigError, match="MAILPULSE_DATA_DIR"),
        Notes(tmp_path / "file", "x").owned(),
    ):
        pass
    with pytest.raises(BadInput, match="not_writable"):
        Notes(tmp_path / "nowhere", "x").write(progress())
