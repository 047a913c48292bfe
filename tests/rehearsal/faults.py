"""Ten faults of a deployment, brought about, found and mended: ``make rehearse ARGS=--faults``.

Invariants:
1. What names a fault is what somebody with the pages alone looks at: ``docker compose ps`` and
   ``logs``, alerts, ``mailpulse doctor`` and other commands of ``operator``.
2. What mends it is what the pages or the sign itself say, step by step.
3. Signed traffic goes on meanwhile. What was answered 200 is stored once, whatever happened.

``docker compose ps`` and ``logs`` are read from the containers' states and log files.
"""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from schemas import topics
from schemas.settings import Settings
from streams.kafka import admin
from streams.simulation.senders import PostmarkSender
from tests.live.verdict import verdict_of
from tests.rehearsal.story import BACK_S, Rehearsal

SEEN_S, CALM_S = 300.0, 90.0
RATE_PER_S = 60.0
BEFORE_S, AFTER_S = 4.0, 4.0
DELETED = topics.ENGAGEMENT
INGESTS = ("ingest-1", "ingest-2")
STRAYS = 150
"""Records of a stray producer; more than MailpulseDeadLetterBurst takes for an accident."""
DISK_BYTES = 8 << 20
BALLAST = "somebody-elses-file"


@dataclass(frozen=True)
class Sign:
    """Something that shows a fault.

    Attributes:
        where: ``ps``, ``alerts``, ``logs SERVICE``, or a command of ``operator``.
        says: what it says then and not before.
    """

    where: str
    says: str


@dataclass(frozen=True)
class Fault:
    """One fault. ``mend`` takes the steps that are told; ``step`` names them as the page does."""

    name: str
    bring: Callable[[Rehearsal], None]
    signs: tuple[Sign, ...]
    step: str
    mend: Callable[[Rehearsal], None]


# --- looking --------------------------------------------------------------------------------------


def seen_at(one: Rehearsal, where: str, begins: dict[str, int]) -> str:
    """What there is to see.

    Args:
        begins: service -> size of its log when the fault began.
    """
    first, _, rest = where.partition(" ")
    if first == "ps":
        return "\n".join(f"{name}: {_state(one, name)}" for name in one.long_running())
    if first == "alerts":
        url = f"http://{one.published('prometheus')}/api/v1/alerts"
        found = httpx.get(url, trust_env=False).json()["data"]["alerts"]
        return "\n".join(sorted({it["labels"]["alertname"] for it in found}))
    if first == "logs":
        return _log(one, rest).read_bytes()[begins[rest] :].decode("utf-8", "replace")
    return one.operate(*where.split())[1]


def _state(one: Rehearsal, name: str) -> str:
    state = one.stack.states[name]
    if not state.running:
        return "stopped" if not state.wanted else f"restarting ({state.code})"
    return "healthy" if state.healthy else "unhealthy"


def log_sizes(one: Rehearsal) -> dict[str, int]:
    """Service -> bytes of its log."""
    return {name: _log(one, name).stat().st_size for name in one.long_running()}


def _log(one: Rehearsal, name: str) -> Path:
    return one.stack.containers[name].process.log


def watch(one: Rehearsal, fault: Fault, begins: dict[str, int]) -> dict[Sign, float]:
    """Looks until every sign is seen, or for ``SEEN_S``; sign -> seconds until it was."""
    began, seen = time.monotonic(), dict[Sign, float]()
    while len(seen) < len(fault.signs) and time.monotonic() - began < SEEN_S:
        for sign in fault.signs:
            if sign not in seen:
                text = seen_at(one, sign.where, begins)
                _keep(one, f"{fault.name}: {sign.where}", text)
                if sign.says in text:
                    seen[sign] = time.monotonic() - began
        time.sleep(1)
    return seen


def _keep(one: Rehearsal, name: str, text: str) -> None:
    """Puts what was seen into the run's folder."""
    folder = one.folder / "faults"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.txt").write_text(text, "utf-8")


def is_calm(one: Rehearsal) -> str:
    """Waits until ``doctor`` finds nothing wrong; what it still says after ``CALM_S``."""
    end = time.monotonic() + CALM_S
    while True:
        code, said = one.operate("doctor")
        wrong = [line for line in said.splitlines() if not line.startswith("ok")]
        if code == 0 or time.monotonic() > end:
            return "; ".join(wrong) if code else ""
        time.sleep(2)


# --- bringing about, and mending ------------------------------------------------------------------


def _restart(one: Rehearsal, names: Sequence[str]) -> None:
    for name in names:
        one.stack.restart(name, BACK_S)


def _stop(*names: str) -> Callable[[Rehearsal], None]:
    def stop(one: Rehearsal) -> None:
        for name in names:
            one.stack.stop(name)

    return stop


def _start(*names: str) -> Callable[[Rehearsal], None]:
    def start(one: Rehearsal) -> None:
        for name in names:
            one.stack.start(name)
        one.stack.wait(names, BACK_S)

    return start


_ROTATED = "a-password-that-the-provider-made-anew"


def _rotate_key(one: Rehearsal) -> None:
    one.accounts.senders["transactional"] = PostmarkSender("transactional", "postmark", _ROTATED)


def _take_over_key(one: Rehearsal) -> None:
    (one.folder / "secrets/sources/mailpulse_secret_demo_postmark_password").write_text(_ROTATED)
    _restart(one, INGESTS)


def _fill_disks(one: Rehearsal) -> None:
    """A disk of a few megabytes, full, under the spool of each ingress; then Kafka goes."""
    for name in INGESTS:
        place = one.folder / "volumes" / name
        one.stack.stop(name)
        options = f"size={DISK_BYTES},uid=10001,gid=10001,mode=0700"
        one.mount(["-t", "tmpfs", "-o", options, "disk", str(place)])
        one.stack.start(name)
        one.stack.wait([name], BACK_S)
        with (place / BALLAST).open("wb", buffering=0) as file:
            try:
                while file.write(b"\0" * 65_536):
                    pass
            except OSError:
                pass
            os.truncate(file.fileno(), os.fstat(file.fileno()).st_size)
    one.stack.stop("kafka")


def _free_disks(one: Rehearsal) -> None:
    for name in INGESTS:
        (one.folder / "volumes" / name / BALLAST).unlink()
    one.stack.wait(INGESTS, BACK_S)  # by the spool, before Kafka is back
    _start("kafka")(one)


def _remove_worker(one: Rehearsal) -> None:
    code, said = one.operate("workers", "remove", "worker-2")
    one.found.check("workers remove takes it out of the group", code == 0, said.strip())
    seconds = _read_by_now(one)
    one.found.check("the other one reads its partitions, too", seconds < BACK_S, f"{seconds:.0f} s")
    _start("worker-2")(one)


def _read_by_now(one: Rehearsal) -> float:
    """Waits until the workers have committed what is on the raw topic now, however much comes
    meanwhile; seconds."""
    settings, began = Settings(kafka_bootstrap=one.published("kafka")), time.monotonic()
    groups: dict[str, tuple[str, ...]] = {settings.consumer_group: (topics.RAW,)}
    ends = {row.partition: row.end for row in asyncio.run(admin.lag(settings, groups))}
    while time.monotonic() - began < BACK_S:
        rows = asyncio.run(admin.lag(settings, groups))
        if all((row.committed or 0) >= ends[row.partition] for row in rows):
            break
        time.sleep(0.5)
    return time.monotonic() - began


def _write_strays(one: Rehearsal) -> None:
    producer = Producer({"bootstrap.servers": one.published("kafka")})
    for number in range(STRAYS):
        producer.produce(topics.RAW, b'{"a record": "of somebody else"}', key=str(number).encode())
    if producer.flush(30):
        raise RuntimeError("stray records can't be written")


def _look_at_strays(one: Rehearsal) -> None:
    code, said = one.operate("dlq", "ls", "--json")
    _keep(one, "dlq ls", said)
    one.found.check("dlq ls has them", code == 0 and "bad_framing" in said)


def _spoil_password(one: Rehearsal) -> None:
    file = one.folder / "secrets" / "clickhouse_dsn"
    (one.folder / "secrets" / "kept").write_text(file.read_text("utf-8"), "utf-8")
    before, _, after = file.read_text("utf-8").partition("@")
    file.write_text(f"{before}x@{after}", "utf-8")
    one.stack.stop("sink")
    one.stack.start("sink")


def _correct_password(one: Rehearsal) -> None:
    kept = one.folder / "secrets" / "kept"
    (one.folder / "secrets" / "clickhouse_dsn").write_text(kept.read_text("utf-8"), "utf-8")
    kept.unlink()
    _restart(one, ["sink"])


def _trust(one: Rehearsal, network: str) -> None:
    for name in INGESTS:
        one.stack.stop(name)
        one.stack.containers[name].give({"MAILPULSE_TRUSTED_PROXIES": network})
        one.stack.start(name)
    one.stack.wait(INGESTS, BACK_S)


def _trust_others(one: Rehearsal) -> None:
    _trust(one, "10.99.0.0/24")


def _trust_caddy(one: Rehearsal) -> None:
    _trust(one, one.services["ingest-1"].environment["MAILPULSE_TRUSTED_PROXIES"])


def _delete_topic(one: Rehearsal) -> None:
    client = AdminClient({"bootstrap.servers": one.published("kafka")})
    client.delete_topics([DELETED])[DELETED].result(30)


def _apply_topics(one: Rehearsal) -> None:
    code, _ = one.operate("topics", "apply")
    one.found.check("topics apply makes it again", code == 0)
    one.stack.wait(one.long_running(), BACK_S)


FAULTS = (
    Fault(
        "a provider's key is not ours",
        _rotate_key,
        (
            Sign("logs ingest-1", "unauthorized"),
            Sign("alerts", "MailpulseIngestUnauthorized"),
            Sign("doctor", "transactional: All"),
        ),
        "the new key into the source's secret, ingress restarted",
        _take_over_key,
    ),
    Fault(
        "Kafka is down",
        _stop("kafka"),
        (
            Sign("ps", "kafka: stopped"),
            Sign("alerts", "MailpulseIngestWithoutKafka"),
            Sign("doctor", "FAIL kafka"),
        ),
        "`docker compose start kafka`",
        _start("kafka"),
    ),
    Fault(
        "the schema registry is down",
        _stop("registry"),
        (Sign("ps", "registry: stopped"), Sign("doctor", "FAIL registry")),
        "`docker compose start registry`",
        _start("registry"),
    ),
    Fault(
        "ClickHouse is down",
        _stop("clickhouse"),
        (
            Sign("ps", "clickhouse: stopped"),
            Sign("alerts", "MailpulseSinkWithoutClickHouse"),
            Sign("doctor", "FAIL clickhouse"),
        ),
        "`docker compose start clickhouse`",
        _start("clickhouse"),
    ),
    Fault(
        "the spool's disk is full, and Kafka is down",
        _fill_disks,
        (
            Sign("ps", "ingest-1: unhealthy"),
            Sign("alerts", "MailpulseIngestRefuses"),
            Sign("logs ingest-1", "No space left"),
        ),
        "space freed: ingress takes requests into its spool; then Kafka started",
        _free_disks,
    ),
    Fault(
        "a worker is gone for good",
        _stop("worker-2"),
        (Sign("ps", "worker-2: stopped"), Sign("alerts", "MailpulseRoleDown")),
        "`docker compose run --rm operator workers remove worker-2`",
        _remove_worker,
    ),
    Fault(
        "a stray producer writes to the raw topic",
        _write_strays,
        (
            Sign("alerts", "MailpulseDeadLetterBurst"),
            Sign("status", "of no source (bad_framing)"),
        ),
        "`mailpulse dlq ls`, `mailpulse dlq show`: stop what writes them; nothing is to be resent",
        _look_at_strays,
    ),
    Fault(
        "the sink's password is wrong",
        _spoil_password,
        (
            Sign("alerts", "MailpulseSinkWithoutClickHouse"),
            Sign("doctor", "FAIL clickhouse"),
            Sign("ps", "sink: unhealthy"),
        ),
        "the right one into `secrets/clickhouse_dsn`, sink restarted",
        _correct_password,
    ),
    Fault(
        "ingress does not believe its proxy",
        _trust_others,
        (
            Sign("logs ingest-1", "https_required"),
            Sign("alerts", "MailpulseIngestProxyNotTrusted"),
            Sign("ps", "caddy: unhealthy"),
        ),
        "the proxy's network into `MAILPULSE_TRUSTED_PROXIES`",
        _trust_caddy,
    ),
    Fault(
        "a topic was deleted",
        _delete_topic,
        (
            Sign("doctor", f"missing: {DELETED}"),
            Sign("logs worker-1", f"{DELETED} not found"),
        ),
        "`docker compose run --rm topics`",
        _apply_topics,
    ),
)


# --- the walk -------------------------------------------------------------------------------------


def occur(one: Rehearsal, number: int) -> None:
    """One fault, from its begin until everything is well again."""
    fault, check = FAULTS[number - 1], one.found.check
    time.sleep(BEFORE_S)
    begins = log_sizes(one)
    one.found.tell(f"fault {number}: {fault.name}")
    fault.bring(one)
    seen = watch(one, fault, begins)
    for sign in fault.signs:
        when = f"{seen[sign]:.0f} s" if sign in seen else f"not in {SEEN_S:.0f} s"
        check(f"{sign.where}: {sign.says}", sign in seen, when)
    began = time.monotonic()
    fault.mend(one)
    one.stack.wait(one.long_running(), BACK_S)
    wrong = is_calm(one)
    check(f"mended: {fault.step}", not wrong, wrong or f"{time.monotonic() - began:.0f} s")
    time.sleep(AFTER_S)


def walk(one: Rehearsal, numbers: Sequence[int]) -> None:
    """Faults one after another, each under traffic of its own, whose figures must agree."""
    for number in numbers:

        async def meanwhile(number: int = number) -> None:
            await asyncio.to_thread(occur, one, number)

        verdict = verdict_of(
            one, one.accounts, seconds=None, rate_per_s=RATE_PER_S, disturb=meanwhile,
            tls=one.trust(),
        )  # fmt: skip
        one.found.check(f"fault {number}: figures agree", verdict.exact, str(verdict))
