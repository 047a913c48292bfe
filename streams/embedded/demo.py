"""``mailpulse demo``: the embedded pipeline with simulated providers, and a check of every figure.

Invariants:
1. The pipeline is the real one: the roles that a user runs, over HTTP and Kafka.
2. The check is independent: it compares the simulator's ledger with ClickHouse's answers.
3. With ``quiet`` only the report is written to stdout.
"""

import asyncio
import contextlib
import random
import secrets
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.live import Live

from schemas.errors import MailpulseError, Unavailable
from schemas.glossary import COUNTER_NAMES
from schemas.settings import Settings
from schemas.topics import DEAD_LETTERS
from streams.embedded.child import Announce
from streams.embedded.data_dir import with_token
from streams.embedded.stopping import Stop
from streams.embedded.supervisor import Embedded, embedded
from streams.kafka import admin
from streams.simulation import screen
from streams.simulation.accepted import AcceptedOnDisk
from streams.simulation.accounts import Accounts, open_accounts
from streams.simulation.crm import Crm, receiving
from streams.simulation.ledger import Compared, Ledger, compare_events, differences, recount
from streams.simulation.readout import ClickHouse, Freshness
from streams.simulation.simulator import PLANS, Simulator
from streams.simulation.traffic import Traffic
from streams.terminal.output import Terminal

COMPARED_AT_ONCE = 50_000
"""Events whose rows are compared at once, as those of an hour would not fit into memory."""
SETTLE_S = 45.0
"""Longest wait for the pipeline to drain, and for the figures to agree; seconds each."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the command line.

    Attributes:
        seconds: how long to send; ``None``: until stopped.
        check: compare what was sent with what is stored.
        quiet: progress as plain lines on stderr.
        rate_per_s: events per second.
        seed: of the simulator; ``None``: a random one.
        next_port: as of ``Embedded``.
    """

    seconds: float | None = None
    check: bool = False
    quiet: bool = False
    rate_per_s: float = 1_000.0
    seed: int | None = None
    next_port: bool = False


@dataclass(slots=True)
class Report:
    """The outcome; the keys of ``document`` are part of the interface."""

    sent_requests: int = 0
    accepted_requests: int = 0
    refused_requests: int = 0
    unique_events_accepted: int = 0
    duplicates_sent: int = 0
    events_stored: int = 0
    dead_letters: int = 0
    lost: int = 0
    double_counted: int = 0
    campaigns_compared: int = 0
    campaigns_differing: int = 0
    seconds_to_visible_p50: float | None = None
    seconds_to_visible_p99: float | None = None
    malformed_bodies: int = 0
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether nothing was lost, counted twice or counted differently."""
        return not (self.lost or self.double_counted or self.campaigns_differing)

    def document(self) -> dict[str, Any]:
        """The report as one flat object."""
        values = asdict(self)
        del values["details"], values["malformed_bodies"]
        for name in ("seconds_to_visible_p50", "seconds_to_visible_p99"):
            values[name] = None if values[name] is None else round(values[name], 3)
        return values


class Demo:
    """One run against a running pipeline.

    Args:
        run: part of every message id of the run.
        letters: number of dead letters before the run.
    """

    def __init__(
        self, pipeline: Embedded, traffic: Traffic, simulator: Simulator, run: str,
        clickhouse: ClickHouse, freshness: Freshness, letters: int, crm: Crm,
    ) -> None:  # fmt: skip
        self._pipeline = pipeline
        self._traffic = traffic
        self._campaigns = simulator.campaigns
        self._run = run
        self._clickhouse = clickhouse
        self._freshness = freshness
        self._letters = letters
        self._crm = crm
        self._began = time.monotonic()
        self.view = screen.View(traffic.ledger)

    async def refresh(self) -> screen.View:
        """The present figures; those of ClickHouse stay as they were while it does not answer."""
        view = self.view
        view.seconds = time.monotonic() - self._began
        view.fresh_p50_s = self._freshness.quantile(0.5)
        view.fresh_p99_s = self._freshness.quantile(0.99)
        view.trouble = dict(self._traffic.trouble)
        view.crm, view.crm_got = list(self._crm.lines), self._crm.got
        if self._pipeline.endpoints is not None:
            view.dashboard_url = self._pipeline.endpoints.dashboard_url
        refusal = self._traffic.refusal
        if refusal is not None:
            view.refusal = f"POST /hooks/{refusal.source} → {refusal.status} {refusal.document}"
        with contextlib.suppress(Unavailable):
            view.campaigns = await self._clickhouse.rates(self._campaigns)
            view.incidents = await self._clickhouse.incidents(self._campaigns)
            rows = await self._clickhouse.rows(
                f"SELECT count() FROM events FINAL WHERE message_id LIKE 'm{self._run}%'"
            )
            view.stored = int(rows[0][0])
            view.suppressed, view.follow_ups = await self._clickhouse.acted_upon(self._run)
        return view

    async def settle(self) -> None:
        """Waits until worker and sink have read and written everything."""
        settings = self._pipeline.settings
        await self._pipeline.drained(settings.consumer_group, SETTLE_S)
        await self._pipeline.drained(settings.sink_group, SETTLE_S)

    async def report(self, patience_s: float = 0.0) -> Report:
        """Compares; repeats this for up to ``patience_s`` seconds while something differs."""
        deadline = time.monotonic() + patience_s
        while True:
            report = await self._compare()
            if report.passed or time.monotonic() > deadline:
                return report
            await asyncio.sleep(1.0)

    async def _compare(self) -> Report:
        ledger = self._traffic.ledger
        compared, recounted = Compared(), defaultdict[str, Counter[str]](Counter)
        for part in ledger.parts(COMPARED_AT_ONCE):
            stored = await self._clickhouse.stored(self._run, part.first, part.beyond)
            compared += compare_events(part.ledger, stored)
            for campaign, counts in recount(part.ledger.accepted.values()).items():
                recounted[campaign].update(counts)
        expected = {name: recounted[name] for name in self._campaigns if name in recounted}
        found = await self._clickhouse.counters(self._campaigns)
        differing = differences(expected, found, COUNTER_NAMES)
        return Report(
            sent_requests=ledger.sent_requests,
            accepted_requests=ledger.accepted_requests,
            refused_requests=ledger.refused_requests,
            unique_events_accepted=len(ledger.accepted),
            duplicates_sent=ledger.duplicates_sent,
            events_stored=compared.stored,
            dead_letters=await _records(self._pipeline.kafka, DEAD_LETTERS) - self._letters,
            lost=compared.lost,
            double_counted=compared.double_counted,
            campaigns_compared=len({*expected, *found}),
            campaigns_differing=len(differing),
            seconds_to_visible_p50=self._freshness.quantile(0.5),
            seconds_to_visible_p99=self._freshness.quantile(0.99),
            malformed_bodies=ledger.malformed_accepted,
            details=differing,
        )


async def _records(kafka: Settings, topic: str) -> int:
    """Number of records ever written to ``topic``."""
    rows = await admin.lag(kafka, {"mailpulse-demo": (topic,)})
    return sum(row.end for row in rows)


async def run(
    settings: Settings,
    environ: Mapping[str, str],
    options: Options,
    stop: Stop,
    console: Terminal,
) -> Report:
    """Starts the pipeline, sends, checks, stops.

    Raises:
        ConfigError, Unavailable: the pipeline can't be started.
        Stopped: a stop was asked for before it had started.
    """
    name = secrets.token_hex(3)
    accounts = open_accounts()
    # a unique name: a second demo on this directory is refused, and must not change the first's
    config = settings.data_dir / f"demo-{name}.toml"
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    told = settings.model_copy(update={"config_file": config})
    console.say("Starting broker, database and roles …")
    logs = settings.data_dir / "logs"
    try:
        async with receiving() as crm:
            config.write_text(accounts.toml + crm.toml, encoding="utf-8")
            given = {**environ, **accounts.environ, **crm.environ}
            async with embedded(
                told, given, console.say, logs, stop, next_port=options.next_port
            ) as pipeline:
                return await _with_traffic(
                    pipeline, accounts, crm, name, options, console, stop.asked
                )
    finally:
        config.unlink(missing_ok=True)


async def _with_traffic(
    pipeline: Embedded,
    accounts: Accounts,
    crm: Crm,
    name: str,
    options: Options,
    console: Terminal,
    stop: asyncio.Event,
) -> Report:
    """Sends, shows the figures, drains and compares."""
    where = pipeline.endpoints
    assert where is not None
    token = pipeline.settings.door_token.get_secret_value()
    clickhouse = ClickHouse(with_token(where.clickhouse_dsn, token))
    freshness = Freshness(clickhouse)
    letters = await _records(pipeline.kafka, DEAD_LETTERS)
    ledger = Ledger(AcceptedOnDisk(pipeline.data_dir))
    seed = options.seed if options.seed is not None else secrets.randbits(32)
    # an earlier demo's campaigns in this directory must not be counted again
    known = await clickhouse.counters([plan.name for plan in PLANS])
    simulator = Simulator(
        name, options.rate_per_s, time.time(), random.Random(seed), plain_names=not known
    )
    traffic = Traffic(
        simulator, accounts.senders, where.ingest_url, random.Random(seed + 1), freshness.answered,
        ledger=ledger,
    )  # fmt: skip
    pipeline.tells_logs = False  # refused forgeries and dead letters are this traffic's purpose
    demo = Demo(pipeline, traffic, simulator, name, clickhouse, freshness, letters, crm)
    screen.show_opening(console, where.dashboard_url)
    supervision = asyncio.create_task(pipeline.supervise(stop))
    try:
        async with _background(freshness.watch()), _shown(demo, console):
            await _either(traffic.run(options.seconds, stop), supervision)
            console.say("Traffic has ended; waiting for the pipeline to drain …")
            await demo.settle()
        report = await demo.report(SETTLE_S if options.check else 0.0)
        if not options.quiet:
            console.print(screen.closing(await demo.refresh()))
        _tell(report, options, console.say)
    finally:
        supervision.cancel()
        await clickhouse.close()
    return report


async def _either(work: Any, supervision: "asyncio.Task[None]") -> None:
    """Runs ``work``; an error of the supervision ends it and is raised."""
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait([task, supervision], return_when=asyncio.FIRST_COMPLETED)
    if supervision in done and supervision.exception() is not None:
        task.cancel()
        await supervision
    await task


def _tell(report: Report, options: Options, say: Announce) -> None:
    """Reports the outcome in words."""
    for campaign, counters in report.details.items():
        for counter, (expected, found) in counters.items():
            say(f"differs: {campaign} {counter}: expected {expected}, found {found}")
    if options.check:
        verdict = "every figure agrees" if report.passed else "figures differ"
        say(
            f"Checked: {report.unique_events_accepted:,} events accepted, {report.lost} lost,"
            f" {report.double_counted} counted twice, {report.campaigns_differing} of"
            f" {report.campaigns_compared} campaigns differ: {verdict}."
        )
        say(
            f"Dead letters: {report.dead_letters}, for {report.malformed_bodies} signed bodies that"
            " were not JSON; forged requests left none."
        )


@asynccontextmanager
async def _background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs ``work`` until the block ends."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, MailpulseError):
            await task


@asynccontextmanager
async def _shown(demo: Demo, console: Terminal) -> AsyncIterator[None]:
    """Keeps the picture on the terminal up to date, or prints lines, while the block runs."""
    moving = console.is_terminal and sys.stdout.isatty()
    picture = Live(console=console, transient=True) if moving else contextlib.nullcontext()
    with picture as live:
        async with _background(_refreshed(demo, console, live)):
            yield


async def _refreshed(demo: Demo, console: Terminal, live: Live | None) -> None:
    told: set[str] = set()
    while True:
        await asyncio.sleep(1.0 if live else 5.0)
        view = await demo.refresh()
        if live is not None:
            live.update(screen.picture(view))
        else:
            for line in screen.plain_lines(view, told):
                console.say(line)
