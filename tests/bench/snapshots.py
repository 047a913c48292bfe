"""What it costs to make a snapshot of state, and to have lost state back from one.

Needs no broker. A store of random values is filled; what a snapshot costs depends on its bytes and
files, not on what is in them. Figures of 10 GB are extrapolated from the size measured: every byte
is read and hashed once, and nothing grows faster than the bytes.
"""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from rocksdict import Cache

from streams.objects.objects import Folder
from streams.worker.snapshot_manifest import Lineage, Manifest, Standing
from streams.worker.snapshot_store import SnapshotStore
from streams.worker.snapshots import SnapshotFolder, name_at
from streams.worker.store import Store

BYTES, QUICK_BYTES = 256 << 20, 16 << 20
VALUE_BYTES, VALUES_AT_ONCE = 400, 5_000
TEN_GB = 10e9
STANDING = Standing(Lineage("bench", 0, 0), 1, 0)
NAME = "enrich-0"


def filled(path: Path, size: int) -> Store:
    """A store with about so many bytes."""
    store, dice = Store(path, Cache(48 << 20)), random.Random(1)
    for _ in range(size // (VALUE_BYTES * VALUES_AT_ONCE)):
        keys = (b"m" + dice.randbytes(16) for _ in range(VALUES_AT_ONCE))
        store.write((key, os.urandom(VALUE_BYTES)) for key in keys)
    return store


def timed(work: Callable[[], object]) -> float:
    """Seconds of work."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def opening_s(folder: Path) -> float:
    """Seconds to open a store and read one key; closing waits for compactions, and is left out."""
    stores: list[Store] = []

    def opened() -> None:
        stores.append(Store(folder / NAME, Cache(48 << 20)))
        stores[0].get_many([b"m" + bytes(16)])

    spent_s = timed(opened)
    stores[0].close()
    return spent_s


def run(_bootstrap: str, quick: bool) -> dict[str, float]:
    """Seconds, and bytes; ``…_s_per_10gb`` is extrapolated."""
    with TemporaryDirectory() as name:
        here, there, far = Path(name) / "1", Path(name) / "2", Path(name) / "3"
        for each in (here, there, far):
            each.mkdir()
        store, folder = filled(here / NAME, QUICK_BYTES if quick else BYTES), SnapshotFolder(here)
        linked: list[Manifest] = []
        link_s = timed(lambda: linked.append(folder.link(store, name_at(1.0), STANDING)))
        seal_s = timed(lambda: linked.append(folder.seal(linked[0])))
        manifest, remote = linked[1], SnapshotStore(Folder(far), "bench")
        again_s = timed(lambda: folder.seal(folder.link(store, name_at(2.0), STANDING)))
        store.close()
        (here / NAME).rename(here / "lost")
        (here / f"{NAME}.note").unlink()
        install_s = timed(lambda: folder.install(manifest))
        open_s = opening_s(here)
        remote.upload(manifest, folder)
        fetched = SnapshotFolder(there)
        fetch_s = timed(lambda: remote.install(manifest, fetched, lambda: None))
        assert opening_s(there) > 0
    size = float(manifest.bytes)
    return {
        "snapshot_bytes": size, "snapshot_files": float(len(manifest.files)),
        "snapshot_link_s": link_s, "snapshot_seal_s": seal_s, "snapshot_next_s": again_s,
        "snapshot_install_s": install_s, "snapshot_open_s": open_s, "snapshot_fetch_s": fetch_s,
        "snapshot_install_s_per_10gb": (install_s + open_s) / size * TEN_GB,
        "snapshot_fetch_s_per_10gb": (fetch_s + open_s) / size * TEN_GB,
    }  # fmt: skip
