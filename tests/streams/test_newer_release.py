"""After a roll-back: state, records and folds of a newer release. What can be rebuilt is rebuilt
with exact figures; what can't ends the worker for good, with a message that says what to do."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas import topics
from schemas.codec import PREFIX_BYTES, framing_prefix
from schemas.errors import NewerRelease
from streams.campaigns.state import META_KEY as CAMPAIGNS_META
from streams.enrich.shard import META_KEY
from streams.worker.store import StateDirectory
from tests.streams.engine_rig import PARTITIONS, Broker, EngineMaker
from tests.streams.mailing import Mail, assert_exact
from tests.streams.test_damage import damaged, set_aside, worked

FAMILIES = {
    "message": ("enrich", lambda key: key[:1] == b"m"),
    "recipient": ("enrich", lambda key: key[:1] == b"r"),
    "meta of enrich": ("enrich", lambda key: key == META_KEY),
    "meta of campaigns": ("campaigns", lambda key: key == CAMPAIGNS_META),
}
"""What is stored with its form in the first byte: the stage, and which keys."""


def of_newer_form(folder: Path, stage: str, wanted: Callable[[bytes], bool]) -> int:
    """Rewrites values as a newer release would: another form, and a layout that nobody here knows.

    Returns:
        How many stores hold some.
    """
    changed = 0
    with StateDirectory(folder / "rig") as directory:
        for number in range(PARTITIONS):
            store = directory.store(f"{stage}-{number}")
            found: list[tuple[bytes, Any]] = [
                (key, bytes([value[0] + 10]) + value[:0:-1])
                for key, value in store.scan(b"\x01", b"\xff")
                if wanted(key)
            ]
            if found:
                store.write(found)
                changed += 1
    return changed


@pytest.mark.parametrize("family", FAMILIES)
async def test_state_of_a_newer_form_is_rebuilt_with_exact_figures(
    engine_of: EngineMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str], family: str
) -> None:
    """Found on opening or in the middle of the work; no restart meets it again. It is not told as
    damage, which would send people to look at a disk."""
    stage, wanted = FAMILIES[family]
    mail = Mail(Broker(), random.Random(5))
    rig = await worked(engine_of, tmp_path, mail)
    await rig.stop()
    stores = of_newer_form(tmp_path, stage, wanted)
    assert stores
    capsys.readouterr()
    again = await engine_of(mail.broker, tmp_path)
    mail.send()
    await assert_exact(again, mail)
    assert damaged(again) == 0
    assert len(set_aside(tmp_path)) == stores
    said = capsys.readouterr().out
    assert said.count("state was written by another version of mailpulse") == stores
    assert "is damaged" not in said
    await again.stop()
    last = await engine_of(mail.broker, tmp_path)
    mail.send()
    await assert_exact(last, mail)
    assert len(set_aside(tmp_path)) == stores


async def test_a_rebuild_without_a_newer_releases_records_is_refused(
    engine_of: EngineMaker, tmp_path: Path
) -> None:
    """It would count their events again. A worker that has its state needs no rebuild, and goes
    on."""
    mail = Mail(Broker(), random.Random(5))
    rig = await worked(engine_of, tmp_path / "1", mail)
    await rig.stop()
    written = mail.broker.log(topics.ENRICHED, 0).records
    record = written[3]
    written[3] = replace(record, value=framing_prefix(77) + record.value[PREFIX_BYTES:])
    lost = await engine_of(mail.broker, tmp_path / "2")
    await lost.app.failed.wait()
    refused = lost.worker.refused
    assert isinstance(refused, NewerRelease)
    for said in (f"{topics.ENRICHED}/0 offset {record.offset}", "77", "use that release"):
        assert said in str(refused)
    await lost.stop()
    again = await engine_of(mail.broker, tmp_path / "1")
    mail.send()
    await again.work_off()
    assert again.app.failure is None


async def test_a_newer_fold_ends_the_worker_for_good(
    engine_of: EngineMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its figures and ours would mix."""
    mail = Mail(Broker(), random.Random(5))
    rig = await worked(engine_of, tmp_path, mail)
    await rig.stop()
    monkeypatch.setattr("streams.enrich.epochs.FOLD_VERSION", 1)
    again = await engine_of(mail.broker, tmp_path)
    await again.app.failed.wait()
    assert again.worker.refused is not None
    assert "use the newer release" in str(again.worker.refused)
