"""The worker: a Faust app with the agents ``enrich`` and ``campaigns``.

Invariants:
1. One process, one event loop, one core; scale by starting more workers in the same group.
2. The first failure ends the process with exit code 1 and a message that says why; a supervisor
   starts it again and it replays from the last checkpoint.
3. Ready means: partitions assigned, their state restored, no failure.
"""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import structlog

from schemas import topics
from schemas.codec import Codec
from schemas.errors import ConfigError, MailpulseError, NewerRelease, Unavailable
from schemas.settings import Settings
from schemas.trace import Tracer
from streams.campaigns.lines import Lines
from streams.classify import actors, mailbox, user_agent
from streams.enrich.derive import LookUps
from streams.enrich.epochs import History, Ruling
from streams.erasure.topic import ErasureLog
from streams.kafka.admin import log_id as find_log_id
from streams.kafka.retention import check_retention
from streams.kafka.stretches import OpenStretches, stretches_of
from streams.reprocess.rules_topic import Rulebook
from streams.transport import runner
from streams.transport.app import ChunkApp
from streams.transport.chunks import TP
from streams.worker.agent import Agent
from streams.worker.campaigns_agent import CampaignsAgent
from streams.worker.enrich_agent import EnrichAgent
from streams.worker.health import serve_health
from streams.worker.log_watch import watch_of
from streams.worker.metrics import StreamMetrics
from streams.worker.outputs import Outputs
from streams.worker.reprocessing import RulesChanged
from streams.worker.snapshotting import Snapshotting
from streams.worker.store import StateDirectory
from streams.worker.work import Resources

log = structlog.get_logger(__name__)

CHUNK_BYTES_MAX = 4 << 20
TICK_S = 0.05
"""How often the worker asks what is due."""
GAUGES_S = 1.0
WAITING_S = 2.0
LOG_CHECK_S = 5.0
"""How often a worker checks that the raw topic was not recreated, while no records come. With
records it checks more often (``streams.worker.log_watch``)."""
RESTART = 75
"""What ``Worker.run`` returns when the worker has to start again to judge by newer rules."""
RULES_S = 1.0
"""How often a worker asks whether newer rules hold."""
STAGES = ("enrich", "campaigns")


class AgentHooks:
    """Passes the transport's ``Hooks`` on to the agent whose topic it is."""

    def __init__(self, agents: Iterable[Agent]) -> None:
        self.agents = {agent.topic: agent for agent in agents}

    def next_offset(self, tp: TP) -> int | None:
        """See ``Agent.next_offset``."""
        return self.agents[tp.topic].next_offset(tp)

    def is_open(self, tp: TP) -> bool:
        """See ``Agent.is_open``."""
        return self.agents[tp.topic].is_open(tp)

    async def on_revoke(self, tps: set[TP]) -> None:
        """See ``Agent.on_revoke``."""
        for topic, agent in self.agents.items():
            await agent.on_revoke({tp for tp in tps if tp.topic == topic})

    async def on_assign(self, tps: set[TP]) -> None:
        """See ``Agent.on_assign``."""
        for topic, agent in self.agents.items():
            await agent.on_assign({tp for tp in tps if tp.topic == topic})


class Worker:
    """Everything that one worker process holds, put together.

    Args:
        stages: which agents run; all workers of a consumer group must run the same.
        tracer: records spans of chunks that hold traced records; none without one.
        rulebook: read to its end; default: rules never change.
        erasures: default: nobody is ever erased.
        source: opens the partitions that state is restored from.
        now_ns: the clock of rolling rates, nanoseconds since 1970.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        log_id: str,
        codec: Codec | None = None,
        look_ups: LookUps | None = None,
        lines: Lines | None = None,
        stages: Collection[str] = STAGES,
        tracer: Tracer | None = None,
        rulebook: Rulebook | None = None,
        erasures: ErasureLog | None = None,
        source: OpenStretches = stretches_of,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.settings = settings
        self.log_id = log_id
        self.superseded = False
        self.refused: NewerRelease | None = None
        self.stop = asyncio.Event()
        self.metrics = StreamMetrics()
        codec = codec or Codec()
        self.directory = StateDirectory(settings.streams_state_dir / settings.consumer_group)
        self.outputs = Outputs(settings)
        self.snapshots = Snapshotting(settings, self.directory.path, self.metrics)
        shared = Resources(
            settings, codec, self.directory, self.outputs, self.metrics, log_id, source,
            self.snapshots,
        )  # fmt: skip
        history = History() if rulebook is None else rulebook.history
        own = look_ups or look_ups_of(settings)
        if history.newest is not None and own.rules.version > history.newest.version:
            log.warning(
                "the rules file is newer than the rules that hold, and is not used; 'mailpulse "
                "reprocess' puts it into force",
                version=own.rules.version, holds=history.newest.version,
            )  # fmt: skip
        ruling = Ruling.of(history, own)
        self.log_watch = watch_of(settings, log_id)
        self.enrich = EnrichAgent(
            shared, ruling=ruling, rulebook=rulebook, erasures=erasures, tracer=tracer,
            verify=self.log_watch.verify,
        )  # fmt: skip
        self.campaigns = CampaignsAgent(shared, lines=lines or Lines(), now_ns=now_ns)
        both: tuple[Agent, ...] = (self.enrich, self.campaigns)
        self.agents = tuple(agent for agent in both if agent.name in stages)
        self.app = ChunkApp(
            settings.consumer_group,
            chunk_topics=[agent.topic for agent in self.agents],
            chunk_records_max=settings.chunk_records_max,
            chunk_bytes_max=CHUNK_BYTES_MAX,
            hooks=AgentHooks(self.agents),
            claims=self.claims,
            commit_notes={} if settings.log_id else {topics.RAW: log_id},
            on_fatal=lambda message: log.error("worker ends", reason=message),
            **runner.faust_options(settings),
        )
        for agent in self.agents:
            agent.app = self.app
            self.app.agent(self.app.chunk_topic(agent.topic), name=agent.name)(agent.run)

    def claims(self) -> dict[TP, int]:
        """How far this worker's state on disk reaches: partitions go where state is newest."""
        out: dict[TP, int] = {}
        for agent in self.agents:
            out.update(agent.claims())
        return out

    @property
    def ready(self) -> bool:
        """Invariant 3."""
        return (
            self.app.failure is None
            and any(agent.assigned for agent in self.agents)
            and all(agent.is_ready for agent in self.agents)
        )

    async def tick(self) -> None:
        """Time-driven work: rates, checkpoints, gauges."""
        await self.campaigns.tick()
        await self.checkpoint_due()
        self.measure()

    async def checkpoint_due(self) -> None:
        """Checkpoints what is due, of both agents."""
        for agent in self.agents:
            await agent.checkpoint_due()

    def measure(self) -> None:
        """Sets the gauges of the state on disk."""
        self.metrics.state_bytes.set(self.directory.disk_bytes())
        self.metrics.state_keys.set(self.directory.keys_estimate())

    async def measure_waiting(self) -> None:
        """Sets the lag of partitions whose state is being restored."""
        for agent in self.agents:
            await agent.measure_waiting()

    async def run(self, stop: asyncio.Event | None = None) -> int:
        """Runs until stopped, failed or superseded; returns the exit code, or ``RESTART``.

        Raises:
            NewerRelease: a partition can't be gone on with by this release.
        """
        user_agent.load()
        await self.outputs.start()
        stop = self.stop = stop or asyncio.Event()
        interval_s = self.settings.checkpoint_interval_ms / 1000
        jobs = {
            "checkpoints": every(min(TICK_S, interval_s / 2), self.checkpoint_due),
            "rates": every(TICK_S, self.campaigns.tick),
            "gauges": every(GAUGES_S, self.measure),
            "lag of what waits": every(WAITING_S, self.measure_waiting),
            "snapshots": self.snapshots.run(self.agents),
            "the check of the log": self._check_log(),
            "the watch over rules": self._watch_rules(),
            "reprocessing": self.enrich.reprocessing.second.run(),
            "health": serve_health(
                self.settings, "worker", self.metrics.registry, lambda: self.ready
            ),
            **{f"opening state of {agent.name}": agent.keep_open() for agent in self.agents},
        }
        tasks = [asyncio.create_task(self.guarded(*job), name=job[0]) for job in jobs.items()]
        try:
            code = await runner.run(self.app, stop)
            if self.refused is not None:
                raise self.refused
            return code or (RESTART if self.superseded else 0)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.log_watch.close()
            await self.outputs.stop()
            for agent in self.agents:
                agent.close()
            self.directory.close()

    async def guarded(self, what: str, job: Awaitable[None]) -> None:
        """Ends the worker when a job in the background fails (invariant 2).

        A worker that stops in order closes what its jobs use: a partition that it is still given
        may fail to open then, which is no failure of the worker.
        """
        try:
            await job
        except NewerRelease as error:
            self.refused = error
            self.app.fail(str(error), error)
        except RulesChanged as error:  # told at the very moment that a partition is opened
            self._restart(str(error))
        except MailpulseError as error:
            self.app.fail(str(error), error)
        except Exception as error:
            if self.stop.is_set():
                log.info(f"{what} ended with the worker", error=repr(error))
            else:
                self.app.fail(f"{what} failed: {error!r}", error)

    async def _check_log(self) -> None:
        """Ends the worker when the raw topic was recreated, also when no records come.

        The next worker reads the new log. While no broker answers, the worker waits.
        """
        while True:
            await asyncio.sleep(LOG_CHECK_S)
            with suppress(Unavailable):
                await self.log_watch.look()

    async def _watch_rules(self) -> None:
        """Ends the worker in order when newer rules hold."""
        while not self.stop.is_set():
            await asyncio.sleep(RULES_S)
            with suppress(Unavailable):  # then nothing is known, and nothing is written either
                if await self.enrich.reprocessing.changed():
                    self._restart("other rules hold: the worker restarts to judge by them")

    def _restart(self, reason: str) -> None:
        """Ends the worker in order, to begin again."""
        log.warning(reason)
        self.superseded = True
        self.stop.set()


async def every(pause_s: float, job: Callable[[], Awaitable[None] | None]) -> None:
    """Does a job for ever, with a pause before each time."""
    while True:
        await asyncio.sleep(pause_s)
        doing = job()
        if doing is not None:
            await doing


def look_ups_of(settings: Settings) -> LookUps:
    """The look-ups of ``step`` that the settings ask for.

    Raises:
        ConfigError: a rules file or database can't be used, named by its setting.
    """
    given: dict[str, Any] = {
        "message_ttl_s": settings.message_ttl_hours * 3600,
        "correction_s": settings.correction_hours * 3600,
        "record_bytes_max": settings.record_bytes_max,
    }
    problems = []
    if settings.correction_hours > settings.message_ttl_hours:
        problems.append(
            f"MAILPULSE_CORRECTION_HOURS: {settings.correction_hours} is more than "
            f"MAILPULSE_MESSAGE_TTL_HOURS ({settings.message_ttl_hours})"
        )
    readers: dict[str, tuple[Path | None, str, Callable[[Path], Any]]] = {
        "MACHINE_RULES_FILE": (settings.machine_rules_file, "rules", _machine_rules),
        "MAILBOX_RULES_FILE": (settings.mailbox_rules_file, "mailbox", _mailbox_rules),
        "GEOIP_FILE": (settings.geoip_file, "country", _countries),
    }
    for name, (path, field, read) in readers.items():
        if path is None:
            continue
        try:
            given[field] = read(path)
        except (OSError, ValueError, ImportError) as error:
            problems.append(f"MAILPULSE_{name}: {path}: {error}")
    if problems:
        raise ConfigError(problems)
    return LookUps(**given)


def _machine_rules(path: Path) -> actors.Rules:
    return actors.Rules.load(path.read_text(encoding="utf-8"))


def _mailbox_rules(path: Path) -> Callable[[str], str]:
    return mailbox.with_rules(mailbox.load_rules(path.read_text(encoding="utf-8")))


def _countries(path: Path) -> Callable[[str | None], str]:
    """A look-up in the operator's database, read into memory so that the file may be replaced.

    Raises:
        ImportError: the extra ``geo`` is not installed.
    """
    import maxminddb

    database = maxminddb.open_database(path, maxminddb.MODE_MEMORY)

    @lru_cache(maxsize=65_536)
    def country(ip: str | None) -> str:
        if not ip:
            return ""
        try:
            found: Any = database.get(ip)
        except ValueError:
            return ""
        return str(((found or {}).get("country") or {}).get("iso_code") or "")

    return country


async def _main(settings: Settings, **parts: Any) -> int:
    log_id = await find_log_id(settings)
    await check_retention(settings)
    codec = parts.get("codec") or Codec()
    async with Rulebook(settings, codec) as rulebook, ErasureLog(settings, codec) as erasures:
        await rulebook.refresh()
        return await Worker(
            settings, log_id=log_id, rulebook=rulebook, erasures=erasures, **parts
        ).run()


def run_worker(settings: Settings, **parts: Any) -> int:
    """Runs a worker in this process until it is stopped (SIGTERM, SIGINT) or fails.

    Args:
        parts: more arguments of ``Worker``: codec, lines, tracer.

    Returns:
        0 after an orderly stop, 1 after a failure.

    Raises:
        ConfigError: topics are missing, or keep records for less than the settings need; the state
            directory is another worker's; a newer release was at work here.
    """
    try:
        code = asyncio.run(_main(settings, **parts))
        if code == RESTART:  # under the same process id, so that no supervisor has to act
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
        return code
    except ConfigError:
        raise
    except MailpulseError as error:
        log.error("worker ends", reason=str(error))
        return 1
