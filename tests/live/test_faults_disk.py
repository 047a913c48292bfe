"""Full disks: of the spool, of a worker, of ClickHouse. Nothing is lost or counted twice.

A small file system (tmpfs) represents the disk: filled by a file, freed again. Mounting needs root.
"""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from streams.simulation.accounts import open_accounts
from tests.live.faults import BALLAST, Trial
from tests.live.fixtures import KafkaCluster, or_skip
from tests.live.maven import Missing
from tests.live.roles import Pipeline

pytestmark = pytest.mark.timeout(480)

FULL_S = 8.0


class Disk:
    """A separate file system at ``folder``."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "mailpulse-test"]
        done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Missing(f"needs to mount a file system: {done.stderr.strip()}")

    @contextmanager
    def full(self) -> Iterator[None]:
        """Filled to the last byte inside the block."""
        ballast = self.folder / BALLAST
        with ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 4096):
                with suppress(OSError):  # no space left: what is wanted
                    while True:
                        file.write(b"x" * size)
        try:
            yield
        finally:
            ballast.unlink()

    def unmount(self) -> None:
        """Takes it away; what holds it open does not matter any more."""
        subprocess.run(["umount", "--lazy", str(self.folder)], check=False)


MakeDisk = Callable[[Path, int], Disk]


@pytest.fixture
def make_disk() -> Iterator[MakeDisk]:
    """Creates small file systems and removes them."""
    made: list[Disk] = []

    def make(folder: Path, megabytes: int) -> Disk:
        made.append(or_skip(lambda: Disk(folder, megabytes)))
        return made[-1]

    yield make
    for disk in made:
        disk.unmount()


def test_full_disks_of_every_role(
    kafka_cluster: KafkaCluster, make_disk: MakeDisk, tmp_path: Path
) -> None:
    """State and ClickHouse full under load, the spool while Kafka is down: all figures agree."""
    (broker,) = kafka_cluster()
    accounts = open_accounts()
    disks = {
        "state": make_disk(tmp_path / "state" / "worker-1", 64),
        "clickhouse": make_disk(tmp_path / "clickhouse", 512),
        "spool": make_disk(tmp_path / "spool", 2),
    }
    settings = {
        "SPOOL_DIR": str(tmp_path / "spool"),
        "SPOOL_BYTES_MAX": "100000000",  # the disk is smaller than what was promised
        "ACK_TIMEOUT_MS": "1000",
    }
    with Pipeline(
        broker.bootstrap, tmp_path, accounts.toml, accounts.environ, settings=settings
    ) as pipeline:
        trial = Trial(pipeline, accounts, tmp_path)
        spooled: list[float] = []

        def fault(trial: Trial) -> None:
            time.sleep(3)
            for name in ("state", "clickhouse"):
                with disks[name].full():
                    time.sleep(FULL_S)
                time.sleep(3)
            broker.stop()
            time.sleep(4)
            spooled.append(shutil.disk_usage(disks["spool"].folder).used)
            with disks["spool"].full():
                time.sleep(4)
            broker.start()

        outcome = trial.run(48, fault)
        trial.check(outcome)
        set_aside = list((tmp_path / "state").rglob("*.damaged-*"))
        assert set_aside == [], "a full disk was taken for a damaged one"
        assert spooled[0] > 10_000, "nothing was spooled while Kafka was away"
