"""The data directory of an embedded pipeline: its lock, its address file.

Invariants:
1. One process owns a data directory; the lock is released when the process ends, however it ends.
2. Other commands find a running pipeline through ``data_dir/embedded.json``; the file of a process
   that ended is ignored. ``operator.dsn`` beside it, the address of its database with all rights,
   is readable for its user alone.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from schemas.addresses import encoded
from schemas.errors import ConfigError
from schemas.recipient_hash import mode_mark
from schemas.settings import PREFIX, Settings

STATE_FILE, LOCK_FILE, OPERATOR_FILE = "embedded.json", "lock", "operator.dsn"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Addresses of a running embedded pipeline, as in ``data_dir/embedded.json``.

    Attributes:
        recipients: how its ingress stores recipients, see ``mode_mark``; empty: not known.
        log_id: of the raw topic, if it is another than the topic's own (after a restore).
    """

    pid: int
    kafka_bootstrap: str
    partitions: int
    ingest_url: str
    clickhouse_dsn: str
    worker_url: str
    dashboard_url: str = ""
    recipients: str = ""
    log_id: str = ""


def recipients_mark(settings: Settings) -> str:
    """How a process of these settings stores recipients, see ``mode_mark``."""
    return mode_mark(settings.recipients, settings.recipient_hash_key.get_secret_value().encode())


@contextlib.contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Owns ``data_dir`` for as long as the block runs.

    Raises:
        ConfigError: another process owns it, or it can't be created.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        handle: IO[str] = (data_dir / LOCK_FILE).open("a+", encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{PREFIX}DATA_DIR: {data_dir}: {error.strerror}"]) from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.seek(0)
            owner = handle.read().strip() or "unknown"
            raise ConfigError(
                [
                    f"{PREFIX}DATA_DIR: {data_dir} is in use by process {owner};"
                    " stop it or choose another with --data-dir"
                ]
            ) from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def running(data_dir: Path) -> Endpoints | None:
    """The running embedded pipeline that owns ``data_dir``, if any."""
    try:
        found = Endpoints(**json.loads((data_dir / STATE_FILE).read_text(encoding="utf-8")))
        os.kill(found.pid, 0)
    except (OSError, ValueError, TypeError):
        return None
    return found


def write_secret(path: Path, text: str) -> None:
    """Writes a file that only this user can read."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{text}\n")


def with_token(dsn: str, token: str) -> str:
    """The address of the analysts' listener with ``token`` as its password; unchanged without."""
    if not token:
        return dsn
    scheme, _, rest = dsn.partition("://")
    return f"{scheme}://default:{encoded(token)}@{rest}"
