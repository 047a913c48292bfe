"""``mailpulse demo``: the embedded pipeline, simulated providers, and a check of every figure.

Invariants:
1. The pipeline is the real one: the same roles, over HTTP and Kafka, that a user runs.
2. The verdict comes from outside: the simulator's ledger against what ClickHouse answers.
3. With ``quiet`` nothing but the report is written to stdout.
"""

import asyncio
import contextlib
import random
import secrets
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.live import Live
from rich.text import Text

from schemas.errors import MailpulseError, Unavailable
from schemas.glossary import COUNTER_NAMES
from schemas.settings import Settings
from schemas.topics import DEAD_LETTERS
from streams.embedded.data_dir import with_token
from streams.embedded.supervisor import Embedded, embedded
from streams.kafka import admin
from streams.simulation import screen
from streams.simulation.accounts import Accounts, open_accounts
from streams.simulation.ledger import compare_events, differences, recount
from streams.simulation.readout import ClickHouse, Freshness
from streams.simulation.simulator import Simulator
from streams.simulation.traffic import Traffic
from streams.terminal import output
from streams.terminal.output import Terminal
from streams.terminal.visible import visible

SETTLE_S = 45.0
"""Longest wait for the pipeline to drain before figures are compared for good."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line.

    Attributes:
        seconds: how long to send; ``None``: until stopped.
        check: compare what was sent with what is stored.
        quiet: no pictures; progress goes to stderr.
        seed: of the simulator's chance; ``None``: another one each time.
    """

    seconds: float | None = None
    check: bool = False
    quiet: bool = False
    rate_per_s: float = 1_000.0
    seed: int | None = None


@dataclass(slots=True)
class Report:
    """The outcome; ``document`` has exactly the keys that are promised."""

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
        """Whether nothing was lost, doubled or counted differently."""
        return not (self.lost or self.double_counted or self.campaigns_differing)

    def document(self) -> dict[str, Any]:
        """The report as one flat object."""
        values = asdict(self)
        del values["details"], values["malformed_bodies"]
        for name in ("seconds_to_visible_p50", "seconds_to_visible_p99"):
            values[name] = None if values[name] is None else round(values[name], 3)
        return values


class Demo:
    """One run over a pipeline that is up."""

    def __init__(
        self, pipeline: Embedded, traffic: Traffic, simulator: Simulator, run: str,
        clickhouse: ClickHouse, freshness: Freshness,
    ) -> None:  # fmt: skip
        self._pipeline = pipeline
        self._traffic = traffic
        self._campaigns = simulator.campaigns
        self._run = run
        self._clickhouse = clickhouse
        self._freshness = freshness
        self._began = time.monotonic()
        self.view = screen.View()

    async def refresh(self) -> screen.View:
        """Figures of this moment; what ClickHouse can't tell yet stays as it was."""
        ledger, view = self._traffic.ledger, self.view
        view.seconds = time.monotonic() - self._began
        view.sent_requests = ledger.sent_requests
        view.unique_accepted = len(ledger.accepted)
        view.duplicates_sent = ledger.duplicates_sent
        view.forged_refused = ledger.forged_refused
        view.malformed = ledger.malformed_accepted
        view.fresh_p50_s = self._freshness.quantile(0.5)
        view.fresh_p99_s = self._freshness.quantile(0.99)
        view.trouble = dict(self._traffic.trouble)
        if self._pipeline.endpoints is not None:
            view.dashboard_url = self._pipeline.endpoints.dashboard_url
        refusal = self._traffic.refusal
        if refusal is not None:
            view.refusal = f"POST /hooks/{refusal.source} → {refusal.status} {refusal.document}"
        with contextlib.suppress(Unavailable):
            view.campaigns = await self._clickhouse.rates(self._campaigns)
            view.alerts = await self._clickhouse.alerts(self._campaigns)
            rows = await self._clickhouse.rows(
                f"SELECT count() FROM events FINAL WHERE message_id LIKE 'm{self._run}%'"
            )
            view.stored = int(rows[0][0])
            view.suppressed, view.follow_ups = await self._clickhouse.acted_upon(self._run)
        return view

    async def settle(self) -> None:
        """Waits for worker and sink to have read and written everything."""
        settings = self._pipeline.settings
        await self._pipeline.drained(settings.consumer_group, SETTLE_S)
        await self._pipeline.drained(settings.sink_group, SETTLE_S)

    async def report(self, patience_s: float = 0.0) -> Report:
        """Compares, again and again for ``patience_s`` seconds while something differs."""
        deadline = time.monotonic() + patience_s
        while True:
            report = await self._compare()
            if report.passed or time.monotonic() > deadline:
                return report
            await asyncio.sleep(1.0)

    async def _compare(self) -> Report:
        ledger = self._traffic.ledger
        compared = compare_events(ledger, await self._clickhouse.stored(self._run))
        expected = {
            campaign: counts
            for campaign, counts in recount(ledger.accepted.values()).items()
            if campaign in self._campaigns
        }
        found = await self._clickhouse.counters(self._campaigns)
        differing = differences(expected, found, COUNTER_NAMES)
        return Report(
            sent_requests=ledger.sent_requests,
            accepted_requests=ledger.accepted_requests,
            refused_requests=ledger.refused_requests,
            unique_events_accepted=len(ledger.accepted),
            duplicates_sent=ledger.duplicates_sent,
            events_stored=compared.stored,
            dead_letters=await _records(self._pipeline.kafka, DEAD_LETTERS),
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
    """Records ever written to ``topic`` of this broker's life."""
    rows = await admin.lag(kafka, {"mailpulse-demo": (topic,)})
    return sum(row.end for row in rows)


async def run(
    settings: Settings, environ: Mapping[str, str], options: Options, stop: asyncio.Event
) -> Report:
    """Starts everything, sends, checks, stops.

    Raises:
        ConfigError, Unavailable: the pipeline can't be started.
    """
    console = output.console(stderr=options.quiet)
    name = secrets.token_hex(3)
    accounts = open_accounts()
    # a name of its own: another demo may be refused on this directory, and must change nothing
    config = settings.data_dir / f"demo-{name}.toml"
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    config.write_text(accounts.toml, encoding="utf-8")
    told = settings.model_copy(update={"config_file": config})
    say = _announcer(console)
    say("Starting broker, database and roles …")
    logs = settings.data_dir / "logs"
    try:
        async with embedded(told, {**environ, **accounts.environ}, say, logs) as pipeline:
            return await _with_traffic(pipeline, accounts, name, options, console, stop)
    finally:
        config.unlink(missing_ok=True)


async def _with_traffic(
    pipeline: Embedded,
    accounts: Accounts,
    name: str,
    options: Options,
    console: Terminal,
    stop: asyncio.Event,
) -> Report:
    """Sends, shows, drains and compares, over a pipeline that is up."""
    where = pipeline.endpoints
    assert where is not None
    say = _announcer(console)
    token = pipeline.settings.door_token.get_secret_value()
    clickhouse = ClickHouse(with_token(where.clickhouse_dsn, token))
    freshness = Freshness(clickhouse)
    seed = options.seed if options.seed is not None else secrets.randbits(32)
    simulator = Simulator(name, options.rate_per_s, time.time(), random.Random(seed))
    traffic = Traffic(
        simulator, accounts.senders, where.ingest_url, random.Random(seed + 1), freshness.answered
    )
    demo = Demo(pipeline, traffic, simulator, name, clickhouse, freshness)
    screen.show_opening(console, where.dashboard_url)
    supervision = asyncio.create_task(pipeline.supervise(stop))
    try:
        async with _watched(freshness), _shown(demo, console):
            await _either(traffic.run(options.seconds, stop), supervision)
            say("Traffic has ended; letting the pipeline drain …")
            await demo.settle()
        report = await demo.report(SETTLE_S if options.check else 0.0)
        if not options.quiet:
            console.print(screen.closing(await demo.refresh()))
        _tell(report, options, say)
    finally:
        supervision.cancel()
        await clickhouse.close()
    return report


async def _either(work: Any, supervision: "asyncio.Task[None]") -> None:
    """Runs ``work``; an error of the supervision ends it."""
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait([task, supervision], return_when=asyncio.FIRST_COMPLETED)
    if supervision in done and supervision.exception() is not None:
        task.cancel()
        await supervision
    await task


def _announcer(console: Terminal) -> Any:
    def say(line: str) -> None:
        console.print(Text(visible(line)), soft_wrap=True)

    return say


def _tell(report: Report, options: Options, say: Any) -> None:
    """The outcome in words."""
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
            " were no JSON; forged requests left none."
        )


@asynccontextmanager
async def _watched(freshness: Freshness) -> AsyncIterator[None]:
    task = asyncio.create_task(freshness.watch())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, MailpulseError):
            await task


@asynccontextmanager
async def _shown(demo: Demo, console: Terminal) -> AsyncIterator[None]:
    """Keeps the terminal (or the log) up to date while the block runs."""
    told: set[str] = set()
    moving = console.is_terminal and sys.stdout.isatty()

    async def refresh(live: Live | None) -> None:
        while True:
            await asyncio.sleep(1.0 if live else 5.0)
            view = await demo.refresh()
            if live is not None:
                live.update(screen.picture(view))
            else:
                for line in screen.plain_lines(view, told):
                    console.print(Text(visible(line)), soft_wrap=True)

    with contextlib.ExitStack() as stack:
        live = stack.enter_context(Live(console=console, transient=True)) if moving else None
        task = asyncio.create_task(refresh(live))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, MailpulseError):
                await task
