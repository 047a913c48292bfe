"""Commands that run until they are stopped: the roles, ``up``, ``demo``.

Invariants:
1. A role exits with 0 if it was asked to stop, with 3 if its settings are invalid (its supervisor
   does not restart it then), with anything else if it should be restarted.
2. On SIGTERM and SIGINT every role finishes what it has accepted, commits and ends.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas import compiled_build
from schemas.errors import ConfigError
from schemas.settings import Settings
from streams.cli.context import (
    FAILED,
    OK,
    ConfigFile,
    Json,
    destinations_of,
    emit,
    environ,
    lines_of,
    now,
    role_codec,
    say,
    settings_of,
    sources_of,
)

if TYPE_CHECKING:
    from streams.embedded.stopping import Stop

Port = Annotated[
    int | None, typer.Option(help="Port of POST /hooks/SOURCE; 0: any free one. Default 8080.")
]
DataDir = Annotated[Path | None, typer.Option(help="Data directory. Default ./mailpulse-data.")]


def begin(role: str, *, attach: bool = False) -> Settings:
    """The settings of a role, with its logs configured."""
    from streams.cli import log_level, logs

    settings = settings_of(attach=attach)
    logs.configure(settings, role)
    if role not in log_level.WITHOUT:
        log_level.listen(settings)
    return settings


def say_build() -> None:
    """Logs whether the compiled build is used, and a warning if there is one that does not fit."""
    import structlog

    build = compiled_build.state()
    log = structlog.get_logger()
    if build.problem:
        log.warning("the compiled build is not used", problem=build.problem)
    else:
        log.info("build", kind=str(build))


def run_until_stopped(main: Callable[[asyncio.Event], Awaitable[Any]]) -> Any:
    """Runs ``main`` with an event that SIGINT, SIGTERM and SIGHUP set; returns its result."""

    async def outer() -> Any:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stop.set)
        return await main(stop)

    return asyncio.run(outer())


def ingest() -> None:
    """Receives webhooks: POST /hooks/SOURCE, /livez, /readyz, /metrics, /registry."""
    from ingest import server
    from ingest.registry_endpoint import registry_routes
    from streams.cli.telemetry import tracer_of

    sources = sources_of(settings_of(attach=False), whole=False)
    settings = begin("ingest")
    tracer = tracer_of(environ(), "ingest")
    codec = role_codec(settings)
    pages = [registry_routes(codec.ids)]
    server.run(settings, sources, codec=codec, pages=pages, tracer=tracer)


def worker() -> None:
    """Deduplicates, enriches and counts events with Faust. Several share the partitions."""
    from streams.cli.telemetry import tracer_of
    from streams.worker import worker
    from streams.worker.scaled_away import leave_if_scaled_away

    settings = begin("worker")
    say_build()
    tracer = tracer_of(environ(), "worker")
    codec, lines = role_codec(settings), lines_of(settings)
    code = worker.run_worker(settings, codec=codec, lines=lines, tracer=tracer)
    if code == 0:
        asyncio.run(leave_if_scaled_away(settings, environ()))
    raise typer.Exit(code)


def sink() -> None:
    """Writes the streams into ClickHouse; applies migrations first. Notices silent sources."""
    from analytics.sink import sink as analytics_sink
    from streams.books.watch import Watch
    from streams.cli.telemetry import tracer_of

    settings = begin("sink")
    tracer = tracer_of(environ(), "sink")
    codec = role_codec(settings)
    beside = Watch(settings, codec, now).run
    run_until_stopped(
        lambda stop: analytics_sink.serve(
            settings, codec=codec, stop=stop, tracer=tracer, beside=beside
        )
    )


def warehouse() -> None:
    """Embedded ClickHouse: stores the sink's rows and answers analysts, read-only, over HTTP."""
    from streams.embedded.extras import has_engine

    if not has_engine():
        raise ConfigError(["warehouse: pip install 'mailpulse[embedded]' brings the database"])
    from analytics.warehouse import serve as analytics_warehouse

    settings = begin("warehouse")
    run_until_stopped(lambda stop: analytics_warehouse.serve(settings, stop=stop))


def dashboard() -> None:
    """Serves the dashboard: GET /."""
    from analytics import dashboard as pages

    settings = begin("dashboard", attach=True)
    lines = lines_of(settings).levels_of
    run_until_stopped(lambda stop: pages.serve(settings, lines=lines, stop=stop))


def _at_terminal(main: Callable[["Stop"], Awaitable[Any]], announce: Callable[[str], None]) -> Any:
    """Runs ``main``; the first Ctrl-C is answered at once, a second one ends the process.

    Returns:
        Its result; ``None`` if it was stopped before it had started.
    """
    from streams.embedded.stopping import Stop, Stopped

    async def outer() -> Any:
        stop = Stop(announce)
        stop.listen()
        try:
            return await main(stop)
        except Stopped:
            return None

    return asyncio.run(outer())


def up(
    port: Port = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print the roles' logs instead of files.")
    ] = False,
) -> None:
    """Runs the whole pipeline on this machine for your own sources.

    Prints one line for each event of interest: first events, refused requests, warnings, restarts.
    The roles' logs are in the data directory, in logs/. SIGUSR1 makes them detailed, SIGUSR2 as
    they were.

    Example: mailpulse config init && mailpulse up --port 8080
    """
    from streams.cli.log_level import Relay
    from streams.embedded.supervisor import embedded

    settings = settings_of(attach=False, ingest_port=port, data_dir=data_dir, config_file=config)
    sources = sources_of(settings, whole=False)
    destinations_of(settings)  # their problems too, before anything starts

    logs = None if verbose else settings.data_dir.resolve() / "logs"

    async def run(stop: "Stop") -> None:
        say("Starting broker, database and roles …")
        levels = Relay()
        levels.listen()
        async with embedded(settings, environ(), say, logs, stop) as pipeline:
            levels.roles = pipeline.pids
            where = pipeline.endpoints
            assert where is not None
            for name, source in sources.items():
                say(f"Webhooks of {name}: POST {where.ingest_url}/hooks/{name}")
                for line in source.unset:
                    say(f"  off until this is set and it is started again: {line}")
            say(f"ClickHouse:   {where.clickhouse_dsn} (any HTTP client, read-only)")
            if where.dashboard_url:
                say(f"Dashboard:    {where.dashboard_url}")
            if logs is not None:
                say(f"Logs:         {logs} (-v prints them here)")
            say("Try:          mailpulse status · mailpulse tail enriched --follow")
            say("Ctrl-C stops it. Events answered 200 are kept; if possible, stored first.")
            await pipeline.supervise(stop.asked)

    _at_terminal(run, say)
    say("Stopped.")


def demo(
    seconds: Annotated[
        float | None, typer.Option(help="Stop after this long. Default: until Ctrl-C.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Compare what was sent with what ClickHouse holds.")
    ] = False,
    json: Json = False,
    rate: Annotated[float, typer.Option(help="Events per second.", min=1, max=50_000)] = 1_000,
    seed: Annotated[int | None, typer.Option(help="Same seed, same traffic.")] = None,
    port: Port = None,
    data_dir: DataDir = None,
) -> None:
    """Runs the whole pipeline with simulated, correctly signed traffic, and shows the figures.

    Exit code 1 if --check finds a lost event, one counted twice, or a campaign that differs.

    Example: mailpulse demo --seconds 40 --check --json
    """
    from streams.embedded.demo import Options, run
    from streams.terminal.output import console

    settings = settings_of(attach=False, ingest_port=port, data_dir=data_dir)
    options = Options(
        seconds=seconds, check=check, quiet=json, rate_per_s=rate, seed=seed,
        next_port=port is None,  # nobody posts to the demo from outside, so another will do
    )  # fmt: skip
    shown = console(stderr=json)
    report = _at_terminal(lambda stop: run(settings, environ(), options, stop, shown), shown.say)
    if report is None:
        say("Stopped.")
        raise typer.Exit(FAILED)
    if json:
        emit(report.document())
    raise typer.Exit(OK if report.passed or not check else FAILED)


def dev(
    rate: Annotated[float, typer.Option(help="Messages per second.", min=0.1, max=1_000)] = 2,
    data_dir: Annotated[
        Path | None, typer.Option(help="Data directory. Default ./mailpulse-dev.")
    ] = None,
) -> None:
    """Runs Kafka and a schema registry with believable records, for writing consumers.

    No webhooks, no database. One record in ten comes twice, as after a crash of a worker.

    Example: mailpulse dev --rate 10
    """
    from streams.embedded.fixture import run

    settings = settings_of(attach=False, data_dir=data_dir or Path("mailpulse-dev"))
    _at_terminal(lambda stop: run(settings, environ(), say, stop, rate), say)
    say("Stopped.")


def register(app: typer.Typer) -> None:
    """Adds these commands to ``app``."""
    app.command(rich_help_panel="Start here")(demo)
    app.command(rich_help_panel="Start here")(up)
    app.command(rich_help_panel="Start here")(dev)
    for role in (ingest, worker, sink, warehouse, dashboard):
        app.command(rich_help_panel="Roles, one process each")(role)
