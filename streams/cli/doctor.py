"""Commands for setting up mailpulse: config, doctor, bench."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import httpx
import typer

from schemas import compiled_build
from schemas.errors import BadInput, ConfigError, MailpulseError
from schemas.settings import PREFIX, Settings, Source
from schemas.topics import TOPICS
from streams.cli.clickhouse import row_of, rows_of
from streams.cli.context import (
    FAILED,
    READABLE,
    ConfigFile,
    Json,
    destinations_of,
    emit,
    environ,
    explain,
    now,
    say,
    settings_of,
    sources_of,
    table_or_json,
)
from streams.cli.logs import redact_text
from streams.cli.sources import CONFIG_EXAMPLE
from streams.embedded.data_dir import running
from streams.embedded.ports import is_free

if TYPE_CHECKING:
    from streams.deliver.destinations import AnyDestination

config = typer.Typer(help="Settings and mailpulse.toml.", no_args_is_help=True)

CLOCK_SKEW_S_MAX = 5.0
DISK_FREE_BYTES_MIN = 2 << 30
RECONCILED_S_MAX = 3600.0
RECONCILED = (
    "SELECT reconciled_at IS NOT NULL,"
    " toFloat64(now64(3)) - toFloat64(ifNull(reconciled_at, toDateTime64(0, 3, 'UTC'))),"
    " missing, unexplained FROM pipeline_state"
)
"""Whether the sink has compared, seconds since, and both differences."""
MIGRATIONS = "SELECT arrayJoin(migrations) FROM pipeline_state"


@config.command("show")
def show(json: Json = False) -> None:
    """Shows every setting with its value, origin and meaning; secrets are hidden."""
    settings = settings_of()
    given = environ()
    plain = settings_of(attach=False)
    rows = []
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        secret = "Secret" in str(field.annotation)
        if name == "clickhouse_dsn":
            value = redact_text(value.get_secret_value())
        elif secret:
            value = "(hidden)" if value.get_secret_value() else "(empty)"
        variable = PREFIX + name.upper()
        origin = "default"
        if f"{variable}_FILE" in given:
            origin = f"file {given[f'{variable}_FILE']}"
        elif variable in given:
            origin = "environment"
        elif getattr(plain, name) != getattr(settings, name):
            origin = "running pipeline"
        shown = "" if value is None else str(value)
        rows.append((variable, shown, origin, field.description or ""))
    table_or_json(json, "", ("setting", "value", "origin", "meaning"), rows)


@config.command("init")
def init(
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Writes a commented mailpulse.toml into this directory."""
    path = settings_of().config_path
    if path.exists() and not force:
        raise ConfigError([f"{path}: exists already; --force replaces it"])
    path.write_text(CONFIG_EXAMPLE, encoding="utf-8")
    path.chmod(READABLE)
    say(f"Wrote {path}. Next: mailpulse sources add PROVIDER")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. ``mend`` is the command or setting that solves the problem."""

    what: str
    ok: bool
    detail: str
    mend: str = ""


def doctor(json: Json = False, config_file: ConfigFile = None) -> None:
    """Checks Kafka, topics, ClickHouse and its parts, sources, destinations, clock, disk, ports.

    Says how to solve each problem. Exit code 1 if there is any.
    """
    settings = settings_of(config_file=config_file)
    checks: tuple[Callable[[Settings], list[Finding]], ...] = (
        _kafka, _registry, _clickhouse, _parts, _reconciliation, _sources,
        _requests, _destinations, _build, _machine,
    )  # fmt: skip
    findings = [finding for one in checks for finding in _careful(one, settings)]
    if json:
        emit([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            say(f"{'ok  ' if finding.ok else 'FAIL'} {finding.what}: {finding.detail}")
            if not finding.ok and finding.mend:
                say(f"     → {finding.mend}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(FAILED)


def _careful(one: Callable[[Settings], list[Finding]], settings: Settings) -> list[Finding]:
    """Makes a check; one that can't be made is a finding too."""
    try:
        return one(settings)
    except MailpulseError as error:
        name = one.__name__
        text = "; ".join(line.removeprefix("settings: ") for line in explain(error))
        clickhouse = _clickhouse_mend(text)
        mends = {
            "_kafka": _kafka_mend(settings),
            "_clickhouse": clickhouse,
            "_parts": clickhouse,
            "_reconciliation": clickhouse,
            "_requests": clickhouse,
            "_destinations": "see «Destinations» of streams/deploy/README.md",
            "_sources": _config_mend(settings),
        }
        return [Finding(name.strip("_"), False, text, mends.get(name, ""))]


def _kafka_mend(settings: Settings) -> str:
    """What to do when no broker answers; one that refuses a password says no more than that."""
    mend = f"start Kafka, or set {PREFIX}KAFKA_BOOTSTRAP; 'mailpulse up' brings its own"
    if settings.kafka_security_protocol == "PLAINTEXT":
        return mend
    return f"{mend}. If it runs: correct user, password or certificate ({PREFIX}KAFKA_S…)"


def _clickhouse_mend(text: str) -> str:
    """What to do when ClickHouse gives no answer, or refuses who asks."""
    from streams.cli.source_requests import REFUSED_WHO_ASKS

    if REFUSED_WHO_ASKS in text:
        return (
            f"it runs, but refuses user or password: correct {PREFIX}CLICKHOUSE_DSN or its file,"
            " for the sink too, and start that again"
        )
    return f"start ClickHouse, or set {PREFIX}CLICKHOUSE_DSN"


def _config_mend(settings: Settings) -> str:
    """What to do where the sources can't be read at all."""
    if settings.config_path.exists():
        return f"correct {settings.config_path}; 'mailpulse sources ls' reads it again"
    return "mailpulse config init; mailpulse sources add PROVIDER"


def _kafka(settings: Settings) -> list[Finding]:
    from streams.kafka import admin, retention

    cluster = asyncio.run(admin.topics_show(settings))
    findings = [Finding("kafka", True, f"{cluster.brokers} broker(s), {settings.kafka_bootstrap}")]
    missing = [topic.name for topic in TOPICS if topic.name not in cluster.topics]
    if missing:
        findings.append(Finding("topics", False, f"missing: {', '.join(missing)}",
                                "mailpulse topics apply"))  # fmt: skip
    for topic in TOPICS:
        state = cluster.topics.get(topic.name)
        if state is None:
            continue
        harmful, differing = admin.judge(state, topic, settings.partitions)
        findings += [Finding("topics", False, line, "see the message") for line in harmful]
        findings += [Finding("topics", False, line, "kafka-topics.sh --describe")
                     for line in differing]  # fmt: skip
    configs = {name: state.config for name, state in cluster.topics.items()}
    for line in retention.contradictions(settings, configs):
        findings.append(Finding("topics", False, line, "see the message"))
    if len(findings) == 1:
        findings.append(Finding("topics", True, f"{len(TOPICS)} topics, all as expected"))
    return findings


def _registry(settings: Settings) -> list[Finding]:
    url = settings.schema_registry_url.get_secret_value()
    if not url:
        return []  # then the ids are those fixed in schemas/
    try:
        answer = httpx.get(f"{url}/subjects", timeout=5.0)
        ok, detail = answer.status_code == 200, f"{redact_text(url)}: {answer.status_code}"
    except httpx.HTTPError as error:
        ok, detail = False, f"{redact_text(url)}: {type(error).__name__}"
    mend = f"start it, or set {PREFIX}SCHEMA_REGISTRY_URL"
    if detail.endswith((": 401", ": 403")):
        mend = f"it runs, but refuses user or password: correct {PREFIX}SCHEMA_REGISTRY_URL"
    return [Finding("registry", ok, detail, mend)]


def _clickhouse(settings: Settings) -> list[Finding]:
    from analytics import migrate

    asked = "SELECT version(), toFloat64(now64(3))"
    version, at = row_of(settings, asked, tuple[str, float])
    skew = abs(now() - at)
    findings = [
        Finding("clickhouse", True, f"version {version}"),
        Finding("clock", skew < CLOCK_SKEW_S_MAX, f"{skew:.1f} s between here and ClickHouse",
                "synchronise the clocks (NTP): signatures and rates depend on them"),
    ]  # fmt: skip
    try:
        applied = rows_of(settings, MIGRATIONS, {}, tuple[int])
    except BadInput:  # before any migration, or before the one that makes this view
        applied = []
    behind = {step.number for step in migrate.load()} - {number for (number,) in applied}
    detail = f"{len(behind)} to apply" if behind else "at this version"
    findings.append(Finding("migrations", not behind, detail, "mailpulse migrate"))
    return findings


def _parts(settings: Settings) -> list[Finding]:
    """Damaged parts on ClickHouse's disk, and how to remove each."""
    from analytics.damage import CHECK_S_MAX, examine, steps

    seen = examine(partial(rows_of, settings))
    data_dir = settings.data_dir.resolve()
    findings = []
    for part in seen.parts:
        mend = steps(part, settings.sink_group, data_dir)
        if not part.replicated:
            mend = f"mailpulse repair --yes; or by hand: {mend}"
        rows = f", {part.rows} rows" if part.rows >= 0 else ""
        fate = "detached at ClickHouse's start: its rows are missing" if part.aside else "damaged"
        findings.append(Finding("parts", False, f"{part}{rows}: {fate}", mend))
    if not findings:
        far = f"; not finished in {CHECK_S_MAX} s: " + ", ".join(seen.unfinished)
        detail = f"{seen.tables} tables checked, nothing damaged"
        findings.append(Finding("parts", True, detail + (far if seen.unfinished else "")))
    return findings


def _reconciliation(settings: Settings) -> list[Finding]:
    """Whether the sink compares accepted with stored events, and with what result."""
    if not settings.sink_reconcile:
        return []
    passes, age_s, missing, unexplained = row_of(settings, RECONCILED, tuple[int, float, int, int])
    if not passes or age_s > RECONCILED_S_MAX:
        when = f"last compared {age_s / 3600:.1f} h ago" if passes else "never compared"
        detail = f"accepted and stored events were {when}"
        return [
            Finding(
                "reconciliation",
                False,
                detail,
                "start 'mailpulse sink', or see why its log says «not reconciled»",
            )
        ]
    detail = f"{missing} missing, {unexplained} unexplained, compared {age_s:.0f} s ago"
    balanced = missing == unexplained == 0
    return [Finding("reconciliation", balanced, detail,
                    "mailpulse lag; then look at view reconciliation")]  # fmt: skip


def _sources(settings: Settings) -> list[Finding]:
    found = sources_of(settings, whole=False, all_off=True)
    off = [
        Finding("sources", False, f"{name} is off: {'; '.join(one.unset)}",
                "set it here and for ingress (or 'mailpulse up'), and start that again; other"
                " sources work")
        for name, one in sorted(found.items()) if one.unset
    ]  # fmt: skip
    if not found:
        return [Finding("sources", False, "none configured", "mailpulse sources add PROVIDER")]
    on = sorted(name for name, one in found.items() if not one.unset)
    fine = [Finding("sources", True, ", ".join(on))] if on else []
    return [*fine, *off, *_published(settings, found)]


def _requests(settings: Settings) -> list[Finding]:
    """Sources whose requests are all refused, as ingress counts them."""
    from streams.cli.source_requests import refused, to_no_source

    found = refused(settings)
    with contextlib.suppress(ConfigError):  # which the check of sources says
        known = sources_of(settings, whole=False, keys=False)
        found = {name: one for name, one in found.items() if name in known}
    findings = [
        Finding("requests", not one.is_fault, f"{name}: {one.advice}", "see the message")
        for name, one in sorted(found.items())
    ]
    if not any(one.is_fault for one in found.values()):
        stray = to_no_source(settings)
        said = f"; {stray:,} to paths that name no source in 24 hours" if stray else ""
        findings.append(Finding("requests", True, f"no source has all of its refused{said}"))
    return findings


def _published(settings: Settings, sources: Mapping[str, Source]) -> list[Finding]:
    """How old the addresses are that ``allow_ips = "published"`` lets in."""
    from ingest.published import OLD_DAYS, ages
    from streams.cli.addresses import days_seen

    found = ages(sources, now(), days_seen(settings.data_dir))
    return [
        Finding("addresses", days <= OLD_DAYS, f"of {provider}: read {days} days ago",
                f"mailpulse sources refresh; addresses that are new are refused: {page}")
        for provider, (days, page) in sorted(found.items())
    ]  # fmt: skip


def _destinations(settings: Settings) -> list[Finding]:
    """Whether destinations are complete, and whether their hosts may be connected to."""
    return [
        Finding("destinations", not problem, problem or f"{name}: {one.kind}, {one.host}", mend)
        for name, one in sorted(destinations_of(settings).items())
        for problem, mend in [_reached(name, one)]
    ]


def _reached(name: str, one: "AnyDestination") -> tuple[str, str]:
    """Why no connection to a destination's host is made, and what to do; empty if one may be."""
    from streams.deliver.addresses import may_go_to

    try:
        found = socket.getaddrinfo(one.host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return f"{name}: {one.host} is not found", "correct its host in mailpulse.toml, or the DNS"
    addresses = sorted({str(address[0]) for *_, address in found})
    if any(may_go_to(address, one.networks) for address in addresses):
        return "", ""
    return (
        f"{name}: {one.host} is {', '.join(addresses)}, which is not public",
        "if it is yours, name it: allow_networks in mailpulse.toml",
    )


def _build(_settings: Settings) -> list[Finding]:
    build = compiled_build.state()
    return [Finding("build", not build.problem, str(build), "make compiled, and start it anew")]


def _machine(settings: Settings) -> list[Finding]:
    from streams.embedded.disk_note import noted
    from streams.embedded.local_kafka import lost_sight_of

    findings = []
    where = settings.data_dir if settings.data_dir.exists() else Path()
    free = shutil.disk_usage(where).free
    findings.append(
        Finding("disk", free > DISK_FREE_BYTES_MIN, f"{free / 2**30:.1f} GiB free at {where}",
                f"free some space, or set {PREFIX}DATA_DIR"),
    )  # fmt: skip
    if budget := noted(settings.data_dir):
        findings.append(
            Finding("disk budget", not budget["short"], str(budget["outlook"]),
                    f"raise {PREFIX}DISK_BYTES_MAX, or give it a larger disk"),
        )  # fmt: skip
    if said := lost_sight_of(settings.data_dir):
        findings.append(Finding("kafka's data", False, said, "stop and start 'mailpulse up'"))
    if running(settings.data_dir) is None:
        port = settings.ingest_port
        findings.append(
            Finding("port", is_free(port), f"{port} for webhooks",
                    f"it is in use: --port, or {PREFIX}INGEST_PORT"),
        )  # fmt: skip
    return findings


def bench(
    only: Annotated[str | None, typer.Option(help="ingress, engine, meaning or analytics.")] = None,
    json: Json = False,
) -> None:
    """Measures mailpulse on this machine; needs a checkout of the source, with its tests."""
    script = Path.cwd() / "tests" / "bench"
    if not (script / "__main__.py").exists():
        raise BadInput("no_checkout", "run it in a checkout of mailpulse: make bench does the same")
    command = [sys.executable, "-m", "tests.bench"]
    command += ["--only", only] if only else []
    command += ["--json"] if json else []
    raise typer.Exit(subprocess.run(command, check=False).returncode)


def register(app: typer.Typer) -> None:
    """Adds these commands to ``app``."""
    app.command(rich_help_panel="Set-up")(doctor)
    app.add_typer(config, name="config", rich_help_panel="Set-up")
    app.command(rich_help_panel="Set-up")(bench)
