"""Supervises the whole pipeline on one machine: Apache Kafka and one child process per role.

Invariants:
1. Everything listens on 127.0.0.1; one supervisor owns a data directory, a second one is refused.
2. What was answered 200 is on the disk: the data of Kafka and of ClickHouse is in the data
   directory, and each start continues from it, whatever ended the previous run.
3. A stop ends ingress first, then the worker once it has read everything, then the sink once it has
   written everything, then the database and the broker. A stage that needs longer is stopped all
   the same; what it has not read stays in Kafka, and this is announced.
4. A child that ends is restarted, the broker too; the others wait for it. One that runs and does
   not answer is killed first: a broker may stay like that after a full disk, and a process hang.
5. Each role gets only its own settings and secrets (``streams.embedded.role_environ``). The sink's
   token for the database is generated at each start; the database gets its SHA-256.
"""

import asyncio
import hashlib
import json
import math
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from schemas.errors import ConfigError, Unavailable
from schemas.groups import group_by_role, topics_by_group
from schemas.settings import PREFIX, Settings
from streams.backup.notes import Note
from streams.deliver.destinations import load_destinations
from streams.deliver.suppress.accounts import problems_with
from streams.embedded import disk_note, local_kafka
from streams.embedded.child import BACKOFF_S_MAX, Announce, Child, Program, python, until
from streams.embedded.data_dir import (
    LOCK_FILE,
    OPERATOR_FILE,
    STATE_FILE,
    Endpoints,
    locked,
    recipients_mark,
    with_token,
    write_secret,
)
from streams.embedded.disk_budget import DiskBudget
from streams.embedded.kept_log import kept_log
from streams.embedded.log_files import LogFile
from streams.embedded.looking import Patience, look_after
from streams.embedded.open_files import allow_open_files
from streams.embedded.ports import PORTS_IN_ORDER, Ports
from streams.embedded.role_environ import references_in, role_environ
from streams.embedded.stopping import Stop, counted
from streams.embedded.told import local_settings, told
from streams.embedded.unread import Unread, by_topic, farewell, left_to_read
from streams.kafka import admin

READY_S = 120.0
"""Longest wait for a role to get ready, seconds."""
DRAIN_S = 30.0
"""Longest wait for one stage to drain, seconds, so that ClickHouse is complete after a stop."""
PAUSE_MS_MAX = 2_000
"""Longest pause before the broker or the database is restarted and before the sink retries: a query
may crash the database repeatedly, and everything else waits for these two."""
BROKER_STARTS_MAX = 3
"""A broker that was started more often without ever answering is given up."""
BROKER_PATIENCE = Patience(answered=30.0, starting=60.0, idle=60.0)
"""At its start a broker looks through what was not flushed before its end."""
ROLE_PATIENCE = Patience(answered=60.0, starting=math.inf, idle=60.0)
"""A role may load state or parts for long before it listens."""
LOGS_S = 1.0
"""Seconds between two looks at logs and at the data directory."""
DASHBOARD_S = 10.0
"""Longest wait for the dashboard, once everything else is ready."""
LIVE_S = 5.0
"""Longest wait for one answer to ``/livez``."""
_DATABASE = "mailpulse"


class Embedded:
    """The supervisor.

    Args:
        settings: of the whole pipeline.
        environ: from which the children's environments are derived.
        announce: called with one line of text for the operator.
        logs: directory for the roles' logs; ``None``: they write to this process's stderr.
        next_port: another port than the one that is set for ingress will do, if that is taken.
    """

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        announce: Announce,
        logs: Path | None = None,
        next_port: bool = False,
    ) -> None:
        self.settings = settings
        self.data_dir = settings.data_dir.resolve()
        self._environ = dict(environ)
        self._announce = announce
        self._logs = logs
        self._next_port = next_port
        self._ports = Ports()
        self._budget: DiskBudget | None = None
        self._children: dict[str, Child] = {}
        self._http = httpx.AsyncClient(timeout=1.0, trust_env=False)
        self._gave_up: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._token = secrets.token_urlsafe(32)
        self._deliver_token = secrets.token_urlsafe(32)
        self._live_urls: dict[str, str] = {}
        self.endpoints: Endpoints | None = None
        self.unread: list[Unread] = []
        self._is_gone = False
        self.tells_logs = True
        """Whether what is of interest in the logs is announced."""

    # --- start ---

    async def start(self) -> Endpoints:
        """Starts the broker, creates topics, starts the roles; returns when all are ready.

        Raises:
            ConfigError: a setting is invalid.
            Unavailable: a part did not get ready; the message has its last log lines.
        """
        wished = self.settings.ingest_port
        ingest = self._ports.free(wished, PORTS_IN_ORDER if self._next_port else 1)
        if wished and ingest != wished and not self._next_port:
            raise ConfigError(
                [
                    f"{PREFIX}INGEST_PORT: port {wished} is taken;"
                    " choose another with --port, or --port 0 for any"
                ]
            )
        if Note(self.data_dir).read():
            raise ConfigError(
                [
                    f"{PREFIX}DATA_DIR: a restore into {self.data_dir} was cut off: run the same"
                    " 'mailpulse restore' again"
                ]
            )
        ports = self._ports.named(
            warehouse=self.settings.warehouse_port,
            door=self.settings.door_port, dashboard=self.settings.dashboard_port,
            kafka=0, controller=0, worker=0, sink=0, deliver=0, health=0,
        ) | {"ingest": ingest}  # fmt: skip
        urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        dsn = await self.start_stores(ports)
        if self.settings.disk_bytes_max:
            self._budget = DiskBudget(self.settings, self.kafka, dsn, self._announce)
        else:
            disk_note.forget(self.data_dir)
        await admin.topics_apply(self.kafka)
        bootstrap = self.kafka.kafka_bootstrap
        log_id = kept_log(self.data_dir, await admin.log_id(self.kafka))
        shared = told(self.settings, bootstrap) | {"LOG_ID": log_id}
        await self._start_role(
            "sink", shared, ports["sink"],
            CLICKHOUSE_DSN=dsn, CLICKHOUSE_COMPRESS=False, CLICKHOUSE_MANAGE_ACCESS=False,
            SINK_BACKOFF_MS_MAX=min(self.settings.sink_backoff_ms_max, PAUSE_MS_MAX),
        )  # fmt: skip
        await self._start_role("worker", shared, ports["worker"])
        await self._start_deliver(shared, ports["deliver"])
        await self._start_role("ingest", shared, 0, INGEST_PORT=ports["ingest"])
        where = Endpoints(
            os.getpid(), bootstrap, self.kafka.partitions, ingest_url=urls["ingest"],
            clickhouse_dsn=f"{urls['door']}/{_DATABASE}",
            worker_url=urls["worker"],
            dashboard_url=urls["dashboard"],
            recipients=recipients_mark(self.settings),
            log_id=log_id,
        )  # fmt: skip
        delivers = urls["deliver"] if "deliver" in self._children else ""
        await self._start_dashboard(shared, where, ports["dashboard"], delivers)
        await self._until_roles(urls)
        await until(partial(self._is_live, urls["dashboard"]), DASHBOARD_S)  # or without it
        self._live_urls = {
            role: urls["health" if role == "warehouse" else role]
            for role in ("ingest", "worker", "sink", "deliver", "warehouse", "dashboard")
            if role in self._children
        }
        self.endpoints = where
        state = json.dumps(asdict(where), indent=1)
        (self.data_dir / STATE_FILE).write_text(state + "\n", encoding="utf-8")
        return where

    async def start_stores(self, ports: Mapping[str, int]) -> str:
        """Starts what everything is stored in, the broker and the database; ``kafka`` is set.

        Args:
            ports: of ``kafka``, its ``controller``, ``warehouse``, ``door`` and ``health``.

        Returns:
            The address of the database with all rights. It is in ``operator.dsn`` too, for this
            user's commands.

        Raises:
            ConfigError, Unavailable: as ``start``.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True)
        bootstrap = f"127.0.0.1:{ports['kafka']}"
        await self._start_broker(ports)
        await self._start_warehouse(told(self.settings, bootstrap), ports)
        self.kafka = local_settings(self.settings, bootstrap)
        await self._until_broker(self.kafka)
        await self._until_ready("broker", partial(local_kafka.coordinates, self.kafka))
        health = f"http://127.0.0.1:{ports['health']}"
        await self._until_ready("warehouse", lambda: self._is_ready(health))
        dsn = f"http://sink:{self._token}@127.0.0.1:{ports['warehouse']}/{_DATABASE}"
        write_secret(self.data_dir / OPERATOR_FILE, dsn)
        return dsn

    def _delivers(self) -> bool:
        """Whether ``mailpulse.toml`` names destinations that get topics.

        Raises:
            ConfigError: with every problem of its section ``[destinations]``: nothing starts.
        """
        read_text = partial(Path.read_text, encoding="utf-8")
        found = load_destinations(self._config_text(), self._environ, read_text)
        if problems := problems_with(self.settings.recipients, found):
            raise ConfigError(problems)
        return any(one.topics for one in found.values())

    def _config_text(self) -> str:
        """``mailpulse.toml``; empty if it can't be read: the role that reads it says why."""
        try:
            return self.settings.config_path.read_text(encoding="utf-8-sig")
        except (OSError, ValueError):
            return ""

    def child_environ(self, role: str, told: Mapping[str, str]) -> dict[str, str]:
        """The environment of a role: ``told`` takes precedence over the caller's settings."""
        return role_environ(role, self._environ, told, references_in(self._config_text()))

    async def _start_broker(self, ports: Mapping[str, int]) -> None:
        environ = self.child_environ("broker", {})
        program = local_kafka.program(
            self.settings, self._environ, environ, ports, self._log_path("broker")
        )
        broker = Child(program, self._announce, pause_s_max=PAUSE_MS_MAX / 1000)
        self._children["broker"] = broker
        await broker.start()

    async def _until_broker(self, kafka: Settings) -> None:
        async def ready() -> bool:
            if self._children["broker"].starts > BROKER_STARTS_MAX:
                raise Unavailable(self._why("broker"))
            return await local_kafka.serves(kafka, created=False)

        await self._until_ready("broker", ready)
        if said := local_kafka.lost_sight_of(self.data_dir):  # before topics are made anew
            raise ConfigError([f"{PREFIX}DATA_DIR: {said}"])

    async def _start_warehouse(self, shared: Mapping[str, str], ports: Mapping[str, int]) -> None:
        await self._start_role(
            "warehouse", shared, ports["health"],
            DOOR_PORT=ports["door"],
            WAREHOUSE_PORT=ports["warehouse"],
            WAREHOUSE_DIR=self.data_dir / "clickhouse",
            WAREHOUSE_DATABASE=_DATABASE,
            WAREHOUSE_TOKEN_SHA256=hashlib.sha256(self._token.encode()).hexdigest(),
        )  # fmt: skip

    async def _start_role(
        self, role: str, shared: Mapping[str, str], metrics_port: int, **settings: object
    ) -> None:
        own = {name: str(value) for name, value in settings.items()}
        told = {**shared, **own, "METRICS_PORT": str(metrics_port)}
        environ = self.child_environ(role, told)
        program = Program(role, python(role), environ, self._log_path(role))

        def ended() -> None:
            # everything else works without the dashboard; why it ended was announced
            if role != "dashboard" and not self._gave_up.done():
                self._gave_up.set_result(self._why(role))

        most = PAUSE_MS_MAX / 1000 if role == "warehouse" else BACKOFF_S_MAX
        child = Child(program, self._announce, ended=ended, pause_s_max=most)
        self._children[role] = child
        await child.start()

    async def _start_deliver(self, shared: Mapping[str, str], port: int) -> None:
        if self._delivers():
            await self._start_role(
                "deliver", shared, port, GROUP_INSTANCE_ID="deliver",
                DASHBOARD_DELIVER_TOKEN=self._deliver_token,
            )  # fmt: skip

    async def _start_dashboard(
        self, shared: Mapping[str, str], where: Endpoints, port: int, delivers: str
    ) -> None:
        token = self.settings.door_token.get_secret_value()
        await self._start_role(
            "dashboard", shared, 0,
            DASHBOARD_PORT=port,
            CLICKHOUSE_DSN=with_token(where.clickhouse_dsn, token),
            DASHBOARD_METRICS_URLS=f"{where.ingest_url}/metrics",
            DASHBOARD_DELIVER_URLS=delivers,
            DASHBOARD_DELIVER_TOKEN=self._deliver_token,
        )  # fmt: skip

    def _log_path(self, role: str) -> Path | None:
        return None if self._logs is None else self._logs / f"{role}.log"

    # --- readiness ---

    async def _until_ready(self, role: str, ready: Callable[[], Any]) -> None:
        async def ready_or_given_up() -> bool:
            if self._gave_up.done():
                raise ConfigError(self._gave_up.result().splitlines())
            return bool(await ready())

        if not await until(ready_or_given_up, READY_S):
            raise Unavailable(f"{role} did not get ready in {READY_S:g} s\n{self._why(role)}")

    async def _until_roles(self, urls: Mapping[str, str]) -> None:
        for role in ("sink", "ingest", "worker"):
            try:
                await self._until_ready(role, partial(self._is_ready, urls[role]))
            except Unavailable as error:
                if role != "worker":  # it may rebuild for long, or wait for a command over Kafka
                    raise
                self._announce(f"{error}\nThe rest goes on, and records wait in Kafka.")

    def _why(self, role: str) -> str:
        program, end = self._children[role].program, self._children[role].end
        lines = [*([f"ended with {end}"] if end else []), *program.tail()]
        where = f" (log: {program.log_path})" if program.log_path else ""
        return "\n".join([f"{role}{where}", *(f"  {line}" for line in lines)])

    async def _is_ready(self, url: str) -> bool:
        """Whether ``/readyz`` below ``url`` answers 200 within a second."""
        try:
            return (await self._http.get(f"{url}/readyz")).status_code == 200
        except httpx.HTTPError:
            return False

    # --- supervision and stop ---

    def pids(self) -> dict[str, int]:
        """Role -> process id of the running children."""
        return {role: child.pid for role, child in self._children.items() if child.pid is not None}

    async def supervise(self, stop: asyncio.Event) -> None:
        """Runs until ``stop``.

        Raises:
            ConfigError: a role ended because its settings are invalid, or Kafka set records aside.
        """
        stopped = asyncio.ensure_future(stop.wait())
        looks = [asyncio.create_task(look) for look in self._looks(self._live_urls)]
        try:
            ends: list[asyncio.Future[Any]] = [stopped, self._gave_up, *looks]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            for look in looks:
                look.cancel()
        for look in looks:
            if look.done() and not look.cancelled():
                await look
        if self._gave_up.done():
            raise ConfigError(self._gave_up.result().splitlines())

    def _looks(self, urls: Mapping[str, str]) -> list[Coroutine[Any, Any, None]]:
        """Invariant 4: looks after every child that others wait for."""
        broker = look_after(
            self._children["broker"], self._broker_answers, BROKER_PATIENCE, self._announce
        )
        roles = (
            look_after(
                self._children[role], partial(self._is_live, url), ROLE_PATIENCE, self._announce
            )
            for role, url in urls.items()
        )
        logs = [] if self._logs is None else [self._read_logs(self._logs)]
        budget = [] if self._budget is None else [self._budget.run()]
        return [broker, *roles, *logs, *budget, self._see_directory()]

    async def _read_logs(self, folder: Path) -> None:
        """Tells what is of interest in the roles' logs, and bounds them."""
        files = [LogFile(role, folder / f"{role}.log") for role in self._live_urls]
        while True:
            for file in files:
                for line in await asyncio.to_thread(file.news, time.monotonic()):
                    if self.tells_logs:
                        self._announce(f"{time.strftime('%H:%M:%S')} {line}")
            await asyncio.sleep(LOGS_S)

    async def _see_directory(self) -> None:
        """Ends a pipeline whose data directory was deleted: nothing that it does would be kept.

        Raises:
            Unavailable: it is gone.
        """
        while (self.data_dir / LOCK_FILE).exists():  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(LOGS_S)
        self._is_gone = True
        raise Unavailable(
            f"{self.data_dir} was deleted while the pipeline ran: what was in it is lost;"
            " start it again"
        )

    async def _broker_answers(self) -> bool:
        if said := local_kafka.lost_sight_of(self.data_dir):
            raise ConfigError([f"{PREFIX}DATA_DIR: {said}"])
        return await local_kafka.serves(self.kafka)

    async def _is_live(self, url: str) -> bool:
        """Whether ``/livez`` below ``url`` is answered, however busy the role is."""
        with suppress(httpx.HTTPError):
            return (await self._http.get(f"{url}/livez", timeout=LIVE_S)).status_code == 200
        return False

    async def stop(self, drain: bool = True) -> None:
        """Stops everything in the order of invariant 3, also if a stage does not drain.

        What was left unread is announced, and is in ``unread``.
        """
        if self._is_gone:
            self.kill()
        await self._halt(drain and self.endpoints is not None and not self._is_gone)
        if said := farewell(self.unread, self.data_dir / local_kafka.FOLDER):
            self._announce(said)
        await self._http.aclose()
        self._ports.close()
        for name in (STATE_FILE, OPERATOR_FILE):
            (self.data_dir / name).unlink(missing_ok=True)

    def kill(self) -> None:
        """Kills every child at once; none is restarted."""
        for child in self._children.values():
            child.kill(for_good=True)

    async def _halt(self, drain: bool) -> None:
        for role in ("dashboard", "ingest", "worker", "deliver", "sink", "warehouse", "broker"):
            child = self._children.pop(role, None)
            if child is None:
                continue
            if drain and role in ("worker", "sink"):
                await self._drain(role)
            await child.stop()

    async def _drain(self, role: str) -> None:
        group = group_by_role(self.settings)[role]
        rows = await self._left_to_read(group, DRAIN_S)
        if rows != []:
            self.unread.append(Unread(role, None if rows is None else by_topic(rows)))

    async def drained(self, group: str, timeout_s: float = DRAIN_S) -> bool:
        """Waits until ``group`` has read everything; ``False`` after ``timeout_s`` seconds."""
        return await self._left_to_read(group, timeout_s) == []

    async def _left_to_read(self, group: str, timeout_s: float) -> list[admin.Lag] | None:
        return await left_to_read(
            self.kafka, group, topics_by_group(self.settings)[group], timeout_s
        )


@asynccontextmanager
async def embedded(
    settings: Settings,
    environ: Mapping[str, str],
    announce: Announce,
    logs: Path | None = None,
    stop: Stop | None = None,
    *,
    next_port: bool = False,
) -> AsyncIterator[Embedded]:
    """Runs a pipeline for the block; then drains and stops it.

    Args:
        stop: gives up the start when it is asked for, and is told what a second signal kills.
        next_port: as of ``Embedded``.

    Raises:
        ConfigError, Unavailable: as ``Embedded.start``.
        Stopped: a stop was asked for before everything was ready.
    """
    allow_open_files()
    with locked(settings.data_dir):
        pipeline = Embedded(settings, environ, announce, logs, next_port)
        try:
            if stop is None:
                await pipeline.start()
            else:
                stop.kill = pipeline.kill
                await stop.unless_asked(pipeline.start())
            yield pipeline
        finally:
            async with counted():
                await asyncio.shield(pipeline.stop())
