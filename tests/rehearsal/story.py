"""What a rehearsal does, step by step; each step is one that an operator would take or look at."""

import asyncio
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from schemas.errors import MailpulseError
from schemas.settings import Settings
from streams.kafka import admin
from streams.simulation.accounts import Accounts, open_accounts
from tests.live.verdict import Verdict, verdict_of
from tests.rehearsal import network
from tests.rehearsal.container import Container
from tests.rehearsal.image import NOT_HERE, OWN, image_of
from tests.rehearsal.names import Resolver
from tests.rehearsal.ports import Forward, forwarding
from tests.rehearsal.project import Extent, Service, services_of
from tests.rehearsal.stack import Stack
from tests.streams.beside import beside
from tests.streams.receiving import Receiver, receiver

UP_S, BACK_S, CAUGHT_UP_S = 300.0, 180.0, 180.0
RATE_PER_S = 100.0
SENT_MIN = 500
BEFORE_S = 10.0
"""How long events come before the one kill of a short rehearsal."""
CRM_PORT = 8099
SOURCES = "/run/secrets/sources"
OPERATOR = "operator"
"""The service that is only for commands."""
CHANGED = {
    # the engine that stands for a server can neither
    "MAILPULSE_CLICKHOUSE_MANAGE_ACCESS": "false",
    "MAILPULSE_CLICKHOUSE_COMPRESS": "false",
}
"""Settings of mailpulse's roles that differ from the compose file's."""
ENDS = {"kafka": {0, 143}, "registry": {0, 143}}
"""Exit codes of an orderly stop; of all others 0. Java's is 143."""
DESTINATION = """
[destinations.crm]
url = "http://{host}:{port}/hook"
topics = ["engagement", "suppressions"]
allow_networks = ["{host}/32"]
secret = "file:{sources}/crm_key"
"""


@dataclass
class Findings:
    """What was looked at; ``failed`` has what is not as it should be."""

    began: float = field(default_factory=time.monotonic)
    passed: int = 0
    failed: list[str] = field(default_factory=list)

    def tell(self, text: str) -> None:
        """One line, with the seconds since the begin."""
        print(f"{time.monotonic() - self.began:6.1f} s  {text}", flush=True)

    def check(self, what: str, holds: bool, detail: str = "") -> None:
        """Notes whether something holds."""
        self.tell(f"{'ok    ' if holds else 'FAILED'} {what}{f': {detail}' if detail else ''}")
        self.passed += holds
        if not holds:
            self.failed.append(what)


class Rehearsal:
    """A running stack, and what is done to it.

    Args:
        document: the loaded project.
        folder: of this run; ``secrets`` is in it, and everything else goes there.
        extent: unless ``whole``, only services that have a twin, and the proxy before them, are
            restarted; of ``short``, none, and only a worker is killed.
    """

    def __init__(
        self, document: Mapping[str, Any], folder: Path, found: Findings, extent: Extent
    ) -> None:
        self.found = found
        self.extent = extent
        self.folder = folder
        self.services = {
            name: one
            for name, one in services_of(document).items()
            if not one.image.startswith(NOT_HERE)
        }
        self.plan = network.plan(document["networks"], self.services)
        self.accounts = self._configure()
        started = [one for name, one in self.services.items() if name != OPERATOR]
        self.stack = Stack({one.name: self._container(one) for one in started}, found.tell)

    def _container(self, service: Service) -> Container:
        changed = CHANGED if service.image.startswith(OWN) else {}
        address = str(next(iter(self.plan.addresses[service.name].values())))
        return Container(service, image_of(service), changed, address, self.folder)

    def operate(self, *command: str) -> tuple[int | None, str]:
        """``docker compose run --rm operator COMMAND``; exit code and output."""
        container = self._container(replace(self.services[OPERATOR], command=command))
        log = container.process.log
        before = log.stat().st_size if log.exists() else 0
        container.start()
        while container.process.running:
            time.sleep(0.1)
        return container.process.returncode, log.read_bytes()[before:].decode("utf-8", "replace")

    def _configure(self) -> Accounts:
        """Writes ``mailpulse.toml`` and the sources' secrets, as their owner would."""
        accounts, sources = open_accounts(), self.folder / "secrets" / "sources"
        toml = accounts.toml
        for name, value in accounts.environ.items():
            toml = toml.replace(f'"env:{name}"', f'"file:{SOURCES}/{name.lower()}"')
            (sources / name.lower()).write_text(value, "utf-8")
        (sources / "crm_key").write_text("whsec_" + "a2V5" * 8, "utf-8")
        host = str(self.plan.networks["deliver-out"].gateway)
        toml += DESTINATION.format(host=host, port=CRM_PORT, sources=SOURCES)
        (self.folder / "mailpulse.toml").write_text(toml, "utf-8")
        return accounts

    def mount(self, options: Sequence[str]) -> None:
        """Mounts something in the run's own mount namespace.

        Raises:
            CalledProcessError: the kernel refuses.
        """
        subprocess.run(["mount", *options], check=True, timeout=30)

    def secret(self, name: str) -> str:
        """The text of a file of ``config secrets``."""
        return (self.folder / "secrets" / name).read_text("utf-8").strip()

    @contextmanager
    def machine(self) -> Iterator[Receiver]:
        """Networks, names and published ports; gives the receiver that ``deliver`` writes to."""
        network.make(self.plan)

        def find(asker: str, name: str) -> Any:
            return self.plan.find(asker, name) if self.stack.is_running(name) else None

        Resolver(self.services, find).start()
        with ExitStack() as opened:
            crm = opened.enter_context(beside(receiver))
            gateway = str(self.plan.networks["deliver-out"].gateway)
            forwards = [*self._published(), Forward(gateway, CRM_PORT, "127.0.0.1", crm.port)]
            opened.enter_context(beside(lambda: forwarding(forwards)))
            yield crm

    def _published(self) -> list[Forward]:
        found = []
        for name, service in self.services.items():
            for port in service.ports:
                at = self.plan.published_at(name)
                self.found.check(f"port {port.published} can be published", at is not None, name)
                if at is not None:
                    found.append(Forward(port.host, port.published, str(at), port.target))
        return found

    def published(self, name: str) -> str:
        """``host:port`` of this machine that leads to a service."""
        [port] = self.services[name].ports
        return f"{port.host}:{port.published}"

    def long_running(self) -> list[str]:
        """Services that are no jobs, those first that others need last."""
        return [name for name, one in self.stack.containers.items() if not one.service.is_job]

    def restarted(self) -> list[str]:
        """Services to restart, one by one."""
        if self.extent == "whole":
            return self.long_running()
        runs = [(one.image, one.command) for one in self.services.values()]
        return [
            name
            for name in self.long_running()
            if name == "caddy"
            or runs.count((self.services[name].image, self.services[name].command)) > 1
        ]

    # --- for tests.live.verdict -----------------------------------------------------------------

    @property
    def ingest_url(self) -> str:
        """Where providers post to; by name, as the certificate is for one."""
        return f"https://localhost:{self.published('caddy').partition(':')[2]}"

    @property
    def clickhouse_dsn(self) -> str:
        """As an analyst on this machine has it."""
        inside = self.secret("clickhouse_reader_dsn")
        return inside.replace("clickhouse:8123", self.published("clickhouse"))

    def wait_caught_up(self) -> None:
        """Waits until workers and sink have read everything.

        Raises:
            TimeoutError: not in time.
        """
        settings = Settings(kafka_bootstrap=self.published("kafka"))
        end = time.monotonic() + CAUGHT_UP_S
        while True:
            try:
                rows = asyncio.run(admin.lag(settings))
                if rows and all(row.lag == 0 for row in rows):
                    return
            except MailpulseError:
                pass  # Kafka has only just come back
            if time.monotonic() > end:
                raise TimeoutError(f"workers or sink have not caught up in {CAUGHT_UP_S:g} s")
            time.sleep(0.5)

    def trust(self) -> ssl.SSLContext:
        """Trusts the authority that Caddy made for itself."""
        made = self.folder / "volumes" / "caddy-data" / "caddy" / "pki" / "authorities" / "local"
        return ssl.create_default_context(cafile=str(made / "root.crt"))


def disturb(one: Rehearsal) -> None:
    """Ends one of each service as a crash does, two at a time; then restarts one after another.

    A short rehearsal ends a worker alone."""
    first = {(service.image, service.command): name
             for name, service in reversed(one.services.items()) if not service.is_job}  # fmt: skip
    if one.extent == "short":
        time.sleep(BEFORE_S)
        seconds = one.stack.kill(["worker-1"], BACK_S)
        one.found.check("worker-1 comes back after SIGKILL", True, f"{seconds:.1f} s")
        return
    for pair in batched(sorted(first.values()), 2):
        seconds = one.stack.kill(pair, BACK_S)
        one.found.check(f"{' and '.join(pair)} come back after SIGKILL", True, f"{seconds:.1f} s")
    for name in one.restarted():
        began = time.monotonic()
        code = one.stack.restart(name, BACK_S)
        seconds = time.monotonic() - began
        ends = ENDS.get(name, {0})
        one.found.check(f"{name} restarts in order", code in ends, f"exit {code}, {seconds:.1f} s")


def batched(names: Sequence[str], number: int) -> list[Sequence[str]]:
    """Groups of ``number``, the last perhaps smaller."""
    return [names[at : at + number] for at in range(0, len(names), number)]


def send(one: Rehearsal) -> Verdict:
    """Signed traffic by TLS through Caddy while ``disturb`` runs; compared with what is stored."""

    async def meanwhile() -> None:
        await asyncio.to_thread(disturb, one)

    return verdict_of(
        one, one.accounts, seconds=None, rate_per_s=RATE_PER_S, disturb=meanwhile, tls=one.trust()
    )


def look(one: Rehearsal, crm: Receiver) -> None:
    """What an operator looks at afterwards: pages, targets, alerts, destinations, ``doctor``."""
    check = one.found.check
    token = {"authorization": f"Bearer {one.secret('dashboard_token')}"}
    page = httpx.get(f"http://{one.published('dashboard')}/", headers=token, trust_env=False)
    check("the dashboard shows its page to who has the token", page.status_code == 200)
    without = httpx.get(f"http://{one.published('dashboard')}/api/overview", trust_env=False)
    check("and to nobody else", without.status_code == 401, str(without.status_code))
    prometheus = f"http://{one.published('prometheus')}/api/v1"
    down = _eventually(lambda: _down(prometheus), lambda found: not found, 30)
    check("Prometheus reaches every target", not down, ", ".join(down))
    rules = httpx.get(f"{prometheus}/rules", trust_env=False).json()["data"]["groups"]
    bad = [rule["name"] for group in rules for rule in group["rules"] if rule["health"] == "err"]
    check(f"{sum(len(group['rules']) for group in rules)} rules are evaluated", not bad, str(bad))
    alerts = f"http://{one.published('alertmanager')}/api/v2/alerts"
    told = _eventually(lambda: _names(alerts), lambda found: "MailpulseWatchdog" in found, 60)
    check("Alertmanager is told of alerts", "MailpulseWatchdog" in told, ", ".join(sorted(told)))
    kinds = {got.document["type"] for got in crm.got}
    check("deliver reaches its destination", bool(kinds), f"{len(crm.got)} requests, {kinds}")
    code, said = one.operate("doctor")
    bad = [line for line in said.splitlines() if not line.startswith("ok")]
    check("mailpulse doctor finds nothing wrong", code == 0, "; ".join(bad))


def _eventually(ask: Callable[[], Any], good: Callable[[Any], bool], timeout_s: float) -> Any:
    end = time.monotonic() + timeout_s
    while not good(found := ask()) and time.monotonic() < end:
        time.sleep(1)
    return found


def _down(prometheus: str) -> list[str]:
    targets = httpx.get(f"{prometheus}/targets", trust_env=False).json()["data"]["activeTargets"]
    return [
        f"{target['scrapeUrl']} ({target['lastError'] or target['health']})"
        for target in targets
        if target["health"] != "up"
    ] + ([] if targets else ["no target"])


def _names(alertmanager: str) -> set[str]:
    found = httpx.get(alertmanager, trust_env=False).json()
    return {one["labels"]["alertname"] for one in found}


def play(
    document: Mapping[str, Any],
    folder: Path,
    extent: Extent,
    instead: Callable[[Rehearsal], None] | None = None,
) -> Findings:
    """The whole rehearsal, in namespaces that are the caller's own.

    Args:
        extent: see ``Rehearsal``.
        instead: what is done to the running services, instead of kills and restarts.

    Raises:
        Trouble, RuntimeError: the stack can't go on; what was found until then is printed.
    """
    found = Findings()
    one = Rehearsal(document, folder, found, extent)
    with one.machine() as crm:
        try:
            one.stack.up(UP_S)
            found.check(f"{len(one.stack.containers)} services are up", True)
            if instead is not None:
                instead(one)
            else:
                verdict = send(one)
                sent = verdict.unique
                found.check("figures agree with what was sent", verdict.exact, str(verdict))
                found.check("something was sent", sent > SENT_MIN, f"{sent} events")
                look(one, crm)
        finally:
            codes = one.stack.down()
        wrong = {name: code for name, code in codes.items() if code not in ENDS.get(name, {0})}
        found.check("all stop in order", not wrong, str(wrong or ""))
    return found
