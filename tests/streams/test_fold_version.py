"""A release that folds otherwise goes on with nothing that another one folded."""

import pytest

from schemas.errors import BadInput, ConfigError
from schemas.versions import FOLD_VERSION
from streams.classify.actor_rules import DEFAULT_RULES
from streams.enrich import shard as shards
from streams.enrich.epochs import Epoch, History, check_fold
from streams.enrich.shard import Shard
from streams.reprocess.plan import check_version, is_begun
from tests.streams.engine_rig import Broker
from tests.streams.folding import CODEC, LOG, Disk
from tests.streams.test_stretches import raw, restored, write_outputs

NOW = FOLD_VERSION


def epoch(fold: int) -> Epoch:
    """An epoch that was begun for a version of the fold."""
    return Epoch(1, LOG, 1, 0, 2, "rules", (), fold)


@pytest.mark.parametrize(
    ("found", "newest", "says"),
    [
        (NOW, None, None),
        (NOW, epoch(NOW), None),
        (NOW - 1, epoch(NOW), None),  # it is folded again from where the epoch begins
        (NOW - 1, None, "reprocess --again"),
        (NOW - 1, epoch(NOW - 1), "reprocess --again"),
        (NOW + 1, None, "newer release"),
        (NOW, epoch(NOW + 1), "newer release"),
    ],
)
def test_what_another_fold_made_is_refused(
    found: int, newest: Epoch | None, says: str | None
) -> None:
    """Unless an epoch was begun for this one; the message says what to do."""
    if says is None:
        check_fold(found, newest)
        return
    with pytest.raises(ConfigError, match=says):
        check_fold(found, newest)


def test_state_and_epochs_name_their_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    """As stored, and as told on the topic of rules."""
    disk = Disk()
    shard = Shard(0, disk.get_many)
    shard.begin_log(LOG)
    monkeypatch.setattr(shards, "FOLD_VERSION", 7)
    disk.write(shard.writes())
    again = Shard(0, disk.get_many)
    again.load_meta()
    assert (again.fold, again.log_id, again.applied) == (7, LOG, -1)
    record = CODEC.decode(CODEC.encode("rules", epoch(9).record()), "rules")
    assert History([record]).epochs == [epoch(9)]


async def test_restore_refuses_records_of_another_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until an epoch is begun."""
    records, broker = raw(5), Broker()
    owner = Shard(0, Disk().get_many)
    owner.begin_log(LOG)
    write_outputs(broker, owner, records)
    assert (await restored(broker, Disk(), committed=5)).applied == 4
    monkeypatch.setattr("streams.enrich.epochs.FOLD_VERSION", NOW + 1)
    with pytest.raises(ConfigError, match="reprocess --again"):
        await restored(broker, Disk(), committed=5)


def test_same_rules_begin_an_epoch_only_if_asked_for() -> None:
    """And an epoch for the fold before is not the one that is asked for."""
    version = DEFAULT_RULES.version
    with pytest.raises(BadInput, match="--again"):
        check_version(DEFAULT_RULES, version)
    check_version(DEFAULT_RULES, version, again=True)
    with pytest.raises(BadInput, match="not_newer"):
        check_version(DEFAULT_RULES, version + 1, again=True)
    assert is_begun(epoch(NOW), "rules", lambda _: 0)
    assert not is_begun(epoch(NOW - 1), "rules", lambda _: 0)
