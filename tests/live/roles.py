"""The pipeline as an operator runs it: one process per role, on a broker of the caller's.

Invariants:
1. Roles are real processes (``python -m streams.cli ROLE``) configured by environment alone, with
   nothing of the caller's own ``MAILPULSE_`` environment.
2. A role keeps its ports, its state and its log over restarts; the log's tail is in every failure.
3. Nothing outlives the test run (``tests/live/process.py``).

For fault tests: ``pipeline["worker-1"].kill()``, ``.pause()``, ``.start()`` …; more than one
``ingest`` or ``worker`` by the counts given. Without a ``CLICKHOUSE_DSN`` among the settings there
is a ``warehouse-1``.
"""

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from confluent_kafka.admin import AdminClient

from schemas import topics
from schemas.errors import MailpulseError
from schemas.settings import PREFIX, Settings, load_settings
from streams.kafka import admin
from tests.live.addresses import Addresses
from tests.live.process import Process, ProcessFailed, free_port

READY_S = 90.0
CAUGHT_UP_S = 120.0


def clean_environ() -> dict[str, str]:
    """This process's environment without settings of mailpulse."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}


class Role(Process):
    """One role's process.

    Args:
        name: kind and number, such as ``worker-2``.
        folder: where its log goes.
        environ: settings without prefix, on top of a clean environment.
        port: where ``/readyz`` answers.
        clock_s: how far its clock is from the right time.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        environ: Mapping[str, str],
        port: int,
        secrets: Mapping[str, str],
        clock_s: int = 0,
    ) -> None:
        self.kind = name.rsplit("-", 1)[0]
        self.url = f"http://127.0.0.1:{port}"
        settings = {PREFIX + key: value for key, value in environ.items()}
        super().__init__(
            name,
            self._command(clock_s),
            folder / f"{name}.log",
            env={**clean_environ(), **secrets, **settings, "PYTHONUNBUFFERED": "1"},
            cwd=folder,
            death_signal="TERM",
        )

    def _command(self, clock_s: int) -> list[str]:
        return [sys.executable, *_program(clock_s), self.kind]

    def set_clock(self, clock_s: int) -> None:
        """Sets its clock ahead by ``clock_s`` seconds, from the next start on."""
        self.become(self._command(clock_s))

    def ready(self) -> bool:
        """Whether the role says that it is ready."""
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def wait_ready(self, timeout_s: float = READY_S) -> None:
        """Waits for ``/readyz``.

        Raises:
            ProcessFailed: it ended, or is not ready in time.
        """
        self.wait_until(self.ready, "ready", timeout_s)

    def metrics(self) -> str:
        """What ``/metrics`` says now.

        Raises:
            httpx.HTTPError: no answer.
        """
        return httpx.get(f"{self.url}/metrics", timeout=5, trust_env=False).text


def _program(clock_s: int) -> list[str]:
    """Python's arguments that run ``mailpulse``, with a wrong clock if wanted."""
    if not clock_s:
        return ["-P", "-m", "streams.cli"]
    script = (
        "import time; seconds, exact = time.time, time.time_ns;"
        f" time.time = lambda: seconds() + {clock_s};"
        f" time.time_ns = lambda: exact() + {clock_s} * 10**9;"
        " from streams.cli.main import main; main()"
    )
    return ["-P", "-c", script]


class Pipeline:
    """Topics and roles on one broker; a context manager: everything is ready inside the block.

    Args:
        bootstrap: of a broker whose topics are not made yet, or are ours.
        folder: for data, state and logs.
        config: text of ``mailpulse.toml``.
        secrets: environment variables that ``config`` names.
        partitions: of each topic.
        ingests: number of ingress processes; ``workers``: of workers; the sink is one.
        dashboard: whether there is one.
        static: whether workers keep their partitions over a restart, by their names.
        clocks: role's name -> seconds that its clock is fast by.
        settings: more settings, names without prefix, for every role.
    """

    def __init__(
        self,
        bootstrap: str,
        folder: Path,
        config: str,
        secrets: Mapping[str, str],
        *,
        partitions: int = 4,
        ingests: int = 1,
        workers: int = 1,
        dashboard: bool = False,
        static: bool = False,
        clocks: Mapping[str, int] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "mailpulse.toml").write_text(config, encoding="utf-8")
        self._static = static
        self._page_port = free_port()
        self._warehouse = None if "CLICKHOUSE_DSN" in (settings or {}) else Addresses()
        self._environ = {
            "KAFKA_BOOTSTRAP": bootstrap,
            "PARTITIONS": str(partitions),
            "SESSION_TIMEOUT_MS": "6000",
            "REBALANCE_TIMEOUT_MS": "6000",
            "CONFIG_FILE": str(folder / "mailpulse.toml"),
            "DATA_DIR": str(folder / "data"),
            "WAREHOUSE_DIR": str(folder / "clickhouse"),
            "LOG_FORMAT": "json",
            **(settings or {}),
        }
        if self._warehouse is not None:
            self._environ["CLICKHOUSE_DSN"] = f"{self._warehouse.url}/mailpulse"
        self._secrets = dict(secrets)
        self._clocks = dict(clocks or {})
        self.roles: dict[str, Role] = {}
        counts = {"warehouse": int(self._warehouse is not None)}
        counts |= {"sink": 1, "worker": workers, "ingest": ingests, "dashboard": int(dashboard)}
        for kind, count in counts.items():
            for number in range(1, count + 1):
                self._add(f"{kind}-{number}")

    def _add(self, name: str) -> Role:
        warehouse = self._warehouse
        kind = name.rsplit("-", 1)[0]
        port = warehouse.health if warehouse and kind == "warehouse" else free_port()
        own = {
            "warehouse": warehouse.own_settings() if warehouse else {},
            "worker": {"STATE_DIR": str(self.folder / "state" / name), "METRICS_PORT": str(port)},
            "sink": {
                "METRICS_PORT": str(port),
                **(warehouse.sink_settings() if warehouse else {}),
            },
            "ingest": {"INGEST_PORT": str(port)},
            "dashboard": {
                "DASHBOARD_PORT": str(self._page_port),
                "METRICS_PORT": str(port),
            },
        }[kind]
        if self._static and kind == "worker":
            own["GROUP_INSTANCE_ID"] = name
        environ, clock_s = {**self._environ, **own}, self._clocks.get(name, 0)
        role = Role(name, self.folder, environ, port, self._secrets, clock_s)
        self.roles[name] = role
        return role

    def __getitem__(self, name: str) -> Role:
        return self.roles[name]

    def change(self, name: str, **settings: str) -> Role:
        """Kills a role and starts it with other settings, names without prefix."""
        self.roles[name].kill()
        self._environ |= settings
        role = self._add(name)
        role.start()
        return role

    def add_worker(self) -> Role:
        """Starts another worker; returns at once, so that a test can watch the rebalance."""
        number = 1 + sum(role.kind == "worker" for role in self.roles.values())
        role = self._add(f"worker-{number}")
        role.start()
        return role

    @property
    def environ(self) -> dict[str, str]:
        """The environment of an operator's command."""
        return {PREFIX + key: value for key, value in self._environ.items()}

    @property
    def settings(self) -> Settings:
        """Settings as a role has them, for ``streams.kafka.admin``."""
        return load_settings(self.environ, lambda path: path.read_text(encoding="utf-8"))

    @property
    def ingest_url(self) -> str:
        """Base of the first ingress."""
        return self.roles["ingest-1"].url

    @property
    def dashboard_url(self) -> str:
        """Base of the dashboard's pages; of the one dashboard."""
        return f"http://127.0.0.1:{self._page_port}"

    @property
    def clickhouse_dsn(self) -> str:
        """Where analysts connect."""
        return self._environ["CLICKHOUSE_DSN"]

    @property
    def all_rights_dsn(self) -> str:
        """The DSN of the warehouse's other listener, with all rights."""
        assert self._warehouse is not None
        return self._warehouse.dsn()

    def start(self) -> Self:
        """Makes the topics and starts every role; returns when all are ready.

        Raises:
            ProcessFailed: a role ended or is not ready in time; its log's tail is in the message.
        """
        asyncio.run(admin.topics_apply(self.settings))
        for role in self.roles.values():
            role.start()
        for role in self.roles.values():
            role.wait_ready()
        return self

    def stop(self) -> dict[str, int | None]:
        """SIGTERM to each role, in the order in which events pass them, each given time to finish.

        Returns:
            Exit status of each.
        """
        order = sorted(self.roles.values(), key=lambda role: _STOP_ORDER.index(role.kind))
        return {role.name: role.stop() for role in order}

    def recreate_raw(self) -> None:
        """Recreates the raw topic as an operator would: it is missing for a moment, then empty."""
        kafka = AdminClient({"bootstrap.servers": self.settings.kafka_bootstrap})
        kafka.delete_topics([topics.RAW])[topics.RAW].result(20)
        time.sleep(2)
        asyncio.run(admin.topics_apply(self.settings))

    def caught_up(self) -> bool:
        """Whether workers and sink have read everything; ``False`` too while unknown."""
        try:
            rows = asyncio.run(admin.lag(self.settings))
        except MailpulseError:
            return False
        return bool(rows) and all(row.lag == 0 for row in rows)

    def wait_caught_up(self, timeout_s: float = CAUGHT_UP_S) -> None:
        """Waits until workers and sink have read everything.

        Raises:
            ProcessFailed: not in time; the logs' tails are in the message.
        """
        end = time.monotonic() + timeout_s
        while not self.caught_up():
            if time.monotonic() > end:
                raise ProcessFailed(f"not caught up after {timeout_s:g} s\n{self.log_tails()}")
            time.sleep(0.3)

    def log_tails(self, lines: int = 25) -> str:
        """The end of every role's log, for messages."""
        return "\n".join(
            f"--- {role.name} (exit {role.returncode})\n{role.log_tail(lines)}"
            for role in self.roles.values()
        )

    def __iter__(self) -> Iterator[Role]:
        return iter(self.roles.values())

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self._end()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        for role in self.roles.values():
            role.kill()


_STOP_ORDER = ("ingest", "worker", "dashboard", "sink", "warehouse")
