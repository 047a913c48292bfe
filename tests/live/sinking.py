"""Shared by the live tests of the sink: topics to write, a sink process to kill, a recount.

The sink runs as its own process (``python -m tests.live.sinking``), the product's ``serve`` with
steps at which it can be killed, next to a warehouse: ``MAILPULSE_TEST_DIE_AT`` names a step and a
number, and the process kills itself with SIGKILL when it reaches that step for that time.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from schemas.settings import load_settings
from tests.analytics.scenario import Sent
from tests.live.process import free_port
from tests.live.warehouse_process import WarehouseProcess

STEPS = ("before_insert", "after_insert", "before_commit", "after_commit")
STARTED_S_MAX = 90.0


async def produce(bootstrap: str, records: Sequence[Sent]) -> None:
    """Writes records to their topics, in order."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    try:
        sent = [
            await producer.send(each.topic, each.value, each.key, partition=each.partition)
            for each in records
        ]
        for each in sent:
            await each
    finally:
        await producer.stop()


class SinkProcess:
    """A sink in a process of its own.

    Args:
        bootstrap: of Kafka.
        folder: data directory; ``ch`` inside it holds the engine's data.
        dsn: default: of a warehouse of its own in ``folder``, which dies and stops with it.
        die_at: ``(step, number)``: kill itself there.
        options: more settings, by their environment names without the prefix.
    """

    def __init__(
        self,
        bootstrap: str,
        folder: Path,
        *,
        dsn: str = "",
        die_at: tuple[str, int] | None = None,
        **options: str,
    ) -> None:
        self.warehouse = None if dsn else WarehouseProcess(folder)
        self._health = free_port()
        told = {"CLICKHOUSE_DSN": dsn, "CLICKHOUSE_COMPRESS": "false"}
        if self.warehouse is not None:
            told = self.warehouse.begin().at.sink_settings()
        environment = {
            **os.environ,
            "MAILPULSE_KAFKA_BOOTSTRAP": bootstrap,
            "MAILPULSE_CLICKHOUSE_MANAGE_ACCESS": "false",
            **{f"MAILPULSE_{name}": value for name, value in told.items()},
            "MAILPULSE_DATA_DIR": str(folder),
            "MAILPULSE_METRICS_PORT": str(self._health),
            "MAILPULSE_SESSION_TIMEOUT_MS": "6000",
            "MAILPULSE_REBALANCE_TIMEOUT_MS": "10000",
            "MAILPULSE_SINK_BACKOFF_MS_MAX": "1000",
            "MAILPULSE_SINK_RECONCILE": "false",
            "MAILPULSE_TEST_DIE_AT": "{}:{}".format(*die_at) if die_at else "",
            **{f"MAILPULSE_{name.upper()}": value for name, value in options.items()},
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.live.sinking"], env=environment, start_new_session=True
        )

    def ask(self, sql: str, *, all_rights: bool = False) -> list[list[Any]]:
        """Rows of a query to its own warehouse, an analyst's or one with all rights.

        Raises:
            OSError: no answer, or the query fails.
        """
        assert self.warehouse is not None, "whoever gave the DSN can ask"
        return self.warehouse.ask(sql, all_rights=all_rights)

    def wait_for(
        self,
        sql: str,
        expected: object,
        timeout_s: float = STARTED_S_MAX,
        *,
        all_rights: bool = False,
    ) -> None:
        """Queries until the answer is ``expected`` and the sink is up: rows outlive it.

        Raises:
            AssertionError: not in time, or the process ended.
        """
        deadline = time.monotonic() + timeout_s
        found: object = None
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"the sink ended; last answer {found}"
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self._health}/livez", timeout=5).close()
                found = self.ask(sql, all_rights=all_rights)
            except OSError:
                found = "no answer"
            if found == expected:
                return
            time.sleep(0.1)
        raise AssertionError(f"{sql}: {found} instead of {expected}")

    def wait_dead(self, timeout_s: float = STARTED_S_MAX) -> int:
        """Waits for the process to end; returns its exit code."""
        code = self.process.wait(timeout_s)
        if self.warehouse is not None:  # as when the machine dies: what it held, it has to have
            self.warehouse.kill()
        return code

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.terminate()
        code = self.process.wait(60)
        if self.warehouse is not None:
            assert self.warehouse.stop() == 0, self.warehouse.log_tail()
        return code

    def kill(self) -> None:
        """SIGKILL, at any moment."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        if self.warehouse is not None:
            self.warehouse.kill()

    def __enter__(self) -> "SinkProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def _die_here(step: str, number: int) -> None:
    """Makes this process kill itself when it reaches ``step`` for the ``number``-th time."""
    from analytics.sink.loading import Loader
    from analytics.sink.sink import Sink

    left = {"count": number}

    def reached(where: str) -> None:
        if where != step:
            return
        left["count"] -= 1
        if left["count"] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    load, commit = Loader.load, Sink._commit

    def loading(self: Loader, records: Any) -> Any:
        reached("before_insert")
        rejects = load(self, records)
        reached("after_insert")
        return rejects

    async def committing(self: Sink, offsets: Any) -> None:
        reached("before_commit")
        await commit(self, offsets)
        reached("after_commit")

    Loader.load = loading  # type: ignore[method-assign]
    Sink._commit = committing  # type: ignore[method-assign]


async def _main() -> None:
    from analytics.sink.sink import serve

    given = dict(os.environ)
    place = given.pop("MAILPULSE_TEST_DIE_AT", "")
    if place:
        step, _, number = place.partition(":")
        _die_here(step, int(number))
    settings = load_settings(given, lambda path: path.read_text())
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await serve(settings, stop=stop)


if __name__ == "__main__":
    asyncio.run(_main())
