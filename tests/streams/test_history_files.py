"""An import's files and their order: every body with its place, whatever is broken beside it."""

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import BadInput
from schemas.glossary import COUNTER_INDEX
from schemas.history_log import cut_minute, history_log_id
from streams.campaigns.state import CampaignState
from streams.campaigns.windows import Partial, PartialKey, Windows
from streams.enrich.vectors import WIDTH
from streams.history import files
from streams.history.files import files_of, items
from streams.history.notes import Notes, Progress
from streams.history.sorting import Runs, Sorted, Stamped, write
from tests.streams.folding import Disk


def read(*paths: Path) -> list[tuple[str, bytes, str, bool]]:
    """All items; the bytes that were told are those of the files."""
    told: list[int] = []
    found = [tuple(one) for one in items(files_of(paths), told.append)]
    return found  # type: ignore[return-value]


def test_bodies_of_all_forms_are_found_with_their_places(tmp_path: Path) -> None:
    """Lines, tables, archives, compressed or not; hidden files and captures' documents not."""
    (tmp_path / "a.jsonl").write_bytes(b'{"n": 1}\n\n{"n": 2}')
    (tmp_path / "b.csv").write_bytes(b'\xef\xbb\xbfn;t\n1;"x\ny"\n\n2;\n3\n')
    (tmp_path / "c.json.gz").write_bytes(gzip.compress(b"[3]"))
    (tmp_path / ".hidden").write_bytes(b"no")
    (tmp_path / "0001.request.json").write_bytes(b"no")
    with tarfile.open(tmp_path / "d.tar.gz", "w:gz") as archive:
        for name, content in (("x.form", b"a=b"), ("y.ndjson", b"{}\n[]"), (".z", b"no")):
            member = tarfile.TarInfo(f"day/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    found = [(place.removeprefix(f"{tmp_path}/"), content, problem, row)
             for place, content, problem, row in read(tmp_path)]  # fmt: skip
    assert found == [
        ("a.jsonl:1", b'{"n": 1}', "", False),
        ("a.jsonl:3", b'{"n": 2}', "", False),
        ("b.csv:2", json.dumps({"n": "1", "t": "x\ny"}, separators=(",", ":")).encode(), "", True),
        ("b.csv:5", b'{"n":"2"}', "", True),
        ("b.csv:6", b'{"n":"3"}', "1 cells where the first line has 2 columns", True),
        ("c.json.gz", b"[3]", "", False),
        ("d.tar.gz:day/x.form", b"a=b", "", False),
        ("d.tar.gz:day/y.ndjson:1", b"{}", "", False),
        ("d.tar.gz:day/y.ndjson:2", b"[]", "", False),
    ]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.tar", "a.tar.gz"])
def test_a_file_that_breaks_off_is_told_and_the_next_is_read(tmp_path: Path, name: str) -> None:
    """What was read of it before stays."""
    stream = io.BytesIO()
    if ".tar" in name:
        with tarfile.open(fileobj=stream, mode="w:gz" if name.endswith("gz") else "w") as archive:
            for number in range(40):
                member = tarfile.TarInfo(f"{number}.json")
                member.size = 600
                archive.addfile(member, io.BytesIO(b"%600d" % number))
    else:
        stream.write(gzip.compress(b'{"some": "body"}\n' * 9_000, 0))
    whole = stream.getvalue()
    (tmp_path / name).write_bytes(whole[: len(whole) * 2 // 3])
    (tmp_path / "b.json").write_bytes(b"{}")
    found = read(tmp_path)
    assert found[-1][1] == b"{}"
    [broken] = [place for place, _, problem, _ in found if problem]
    assert broken.startswith(str(tmp_path / name))
    assert len(found) > 5


def test_a_body_that_is_too_long_is_told_and_the_next_line_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory stays bounded."""
    monkeypatch.setattr(files, "BODY_BYTES_MAX", 10)
    (tmp_path / "a.jsonl").write_bytes(b"x" * 25 + b"\n" + b"y" * 10 + b"\nz\n")
    found = read(tmp_path)
    assert [(one[0][-2:], bool(one[2])) for one in found] == [
        (":1", True),
        (":2", True),
        (":3", False),
    ]


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    """Before anything is read."""
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(BadInput):
            files_of([path])


records = st.builds(
    Stamped, st.integers(0, 2), st.integers(0, 50), st.binary(max_size=30),
    st.binary(max_size=9), st.integers(0, (1 << 64) - 1),
)  # fmt: skip


@given(st.lists(records, max_size=60), st.integers(1, 2_000), st.data())
def test_the_order_depends_on_the_set_alone(
    some: list[Stamped], run_bytes: int, data: st.DataObject
) -> None:
    """However many runs it takes, and any slice can be read again."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = Runs(folder, run_bytes)
        for record in data.draw(st.permutations(some)):
            runs.add(record)
        merged = [*runs.merged()]
        assert merged == sorted(some)
        assert not [*folder.iterdir()]
        with (folder / "sorted").open("wb") as file:
            for record in merged:
                write(file, record)
        found = Sorted(folder / "sorted")
        begin, end = data.draw(st.integers(0, 70)), data.draw(st.integers(0, 70))
        assert found.slice(begin, end) == merged[begin:end]
        assert len(found) == len(merged)
        found.close()


def test_progress_is_read_as_it_was_written(tmp_path: Path) -> None:
    """And one process at a time has it."""
    notes = Notes(tmp_path)
    progress = Progress(("news", "a"), "history-1-00000007", 5, 6, (1, 2), (3, 4), {"new": 3})
    with notes.owned():
        assert notes.read() is None
        notes.write(progress.after(1, written=7, minutes=2))
        assert notes.read() == progress.after(1, written=7, minutes=2)
        with pytest.raises(BadInput), notes.owned():
            pass
        (tmp_path / "import" / "progress.json").write_text("{")
        with pytest.raises(BadInput):
            notes.read()
        notes.clear()
        assert notes.read() is None


@given(st.integers(0, 1 << 52), st.integers(0, (1 << 32) - 1))
def test_a_logs_name_says_its_cut(cut_us: int, number: int) -> None:
    """To the next whole minute: all events are before it."""
    cut = cut_minute(history_log_id(cut_us, number))
    assert cut is not None
    assert 0 <= cut * 60_000_000 - cut_us < 60_000_000
    assert cut_minute("91364e76614445108f1faab060154999") is None
    assert cut_minute("history-") is None


def test_minutes_of_before_the_cut_are_summed_up_and_not_judged() -> None:
    """Nor are live counts of them; those of other campaigns are, also after a restart."""
    bad = [0] * WIDTH
    bad[COUNTER_INDEX["attempt_bounced_hard"]] = 9
    log_id = history_log_id(100 * 60_000_000, 1)
    disk = Disk()

    def judged(state: CampaignState, campaign: str) -> int:
        sums = state.judged_of(campaign).buckets[0]
        return sum(sum(values) for by in sums.values() for values in by.values())

    state = CampaignState(disk.get_many, disk.scan)
    windows = Windows(state, 120, state.judge_also)
    some = [
        Partial(PartialKey(campaign, "gmail", minute, log, 0), 1, tuple(bad))
        for campaign, minute, log in (
            ("old", 90, log_id), ("old", 91, "live"), ("old", 100, "live"), ("new", 90, "live")
        )
    ]  # fmt: skip
    for part in some:
        state.note_histories([part])
        windows.apply([part])
    assert (judged(state, "old"), judged(state, "new")) == (9, 9)
    assert windows.of_campaign("old")["gmail"].total == [3 * one for one in bad]
    disk.write(state.writes())
    again = CampaignState(disk.get_many, disk.scan)
    again.restore()
    windows = Windows(again, 120, again.judge_also)
    windows.apply([Partial(PartialKey("old", "gmail", 95, "live", 0), 2, tuple(bad))])
    assert judged(again, "old") == 9
