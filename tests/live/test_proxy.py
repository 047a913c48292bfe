"""The Caddyfile on a real Caddy, in the networks of ``docker-compose.yml``; about 10 s.

Caddy runs in a network namespace, ingress outside it, and names resolve as Docker resolves them.
Only the port of ingress and the paths of files are replaced.
"""

import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

from tests.alerting.watching import RULES
from tests.compose import OURS, ROOT, SERVICES, shared_networks
from tests.live.fixtures import or_skip
from tests.live.ingress_role import SOURCE, Ingress
from tests.live.kafka import Kafka, create_mailpulse_topics
from tests.live.maven import Missing
from tests.live.networks import Surroundings, believed
from tests.live.process import Process

UPSTREAMS = tuple(name for name in OURS if name.startswith("ingest-"))
PORT = 443  # inside the namespace


def wait_until(check: Callable[[], bool], timeout_s: float = 30) -> None:
    """Waits until ``check()`` holds.

    Raises:
        TimeoutError: it does not.
    """
    end = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.2)


@dataclass
class Proxied:
    """A running ingress behind a running Caddy."""

    ingress: Ingress
    around: Surroundings
    folder: Path

    @property
    def address(self) -> str:
        """Where Caddy's port is published."""
        return self.around.addresses["caddy-port"]

    def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Asks as anyone outside does: by TLS, at Caddy's published port."""
        root = self.folder / "caddy" / "pki" / "authorities" / "local" / "root.crt"
        trusting = ssl.create_default_context(cafile=str(root))
        with httpx.Client(verify=trusting, timeout=20) as client:
            return client.request(
                method,
                f"https://{self.address}:{PORT}{path}",
                content=body,
                headers={**(headers or {}), "host": "localhost"},
                extensions={"sni_hostname": "localhost"},
            )

    def post(self, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        """Posts to the hook as a provider does."""
        return self.request("POST", f"/hooks/{SOURCE}", body, headers)

    def listens(self) -> bool:
        """Whether Caddy has its certificate and answers."""
        try:
            return self.request("GET", "/").status_code == 404
        except (OSError, httpx.TransportError):
            return False

    def metrics_seen_by(self, service: str) -> set[str]:
        """Names of the metrics that a service reads in its network with Caddy, at the port that
        Prometheus' configuration names."""
        [network] = shared_networks(service, "caddy")
        document = yaml.safe_load((RULES / "prometheus.yml").read_text("utf-8"))
        [port] = [
            target.partition(":")[2]
            for job in document["scrape_configs"]
            if job["job_name"] == "mailpulse-caddy"
            for target in job["static_configs"][0]["targets"]
        ]
        answer = httpx.get(f"http://{self.around.addresses[network]}:{port}/metrics", timeout=5)
        return {line.partition("{")[0] for line in answer.text.splitlines()}

    def health(self) -> int:
        """Exit code of the container's health check, by the image's wget."""
        tools = self.folder / "bin"
        tools.mkdir(exist_ok=True)
        busybox = shutil.which("busybox")
        if busybox is None:
            raise Missing("no busybox")
        (tools / "wget").unlink(missing_ok=True)
        (tools / "wget").symlink_to(busybox)
        _, check = SERVICES["caddy"]["healthcheck"]["test"]
        ran = subprocess.run(
            self.around.command("sh", "-c", check),
            env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
            timeout=60,
        )
        return ran.returncode


@contextmanager
def proxied(folder: Path, trusted: str) -> Iterator[Proxied]:
    """Both are running; ingress need not trust Caddy."""
    caddy = Path(sys.executable).with_name("caddy")
    around = or_skip(Surroundings("caddy", UPSTREAMS).start)
    try:
        with or_skip(Kafka) as broker:
            create_mailpulse_topics(broker.bootstrap)
            ingress = Ingress(
                folder, broker.bootstrap, ingest_host="0.0.0.0",
                trusted_proxies=trusted,
            )  # fmt: skip
            text = (ROOT / "ingest" / "deploy" / "Caddyfile").read_text("utf-8")
            config = folder / "Caddyfile"
            config.write_text(text.replace(":8080", f":{ingress.port}"), "utf-8")
            process = Process(
                "caddy",
                around.command(
                    str(caddy), "run", "--adapter", "caddyfile", "--config", str(config)
                ),
                folder / "caddy.log",
                env={"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_DATA_HOME": str(folder)},
            )
            one = Proxied(ingress, around, folder)
            try:
                ingress.start()
                process.start()
                process.wait_until(one.listens, "listening")
                yield one
            finally:
                process.kill()
                ingress.process.kill()
    finally:
        around.remove()


def test_a_signed_hook_through_the_proxy_is_kept(tmp_path: Path) -> None:
    """The first thing that a provider sends to what compose starts."""
    with proxied(tmp_path, believed("ingest-1")) as one:
        wait_until(lambda: one.health() == 0)
        sample = next(one.ingress.samples())
        answer = one.post(sample.body, sample.headers)
        assert (answer.status_code, answer.json()) == (200, {"accepted": 1, "rejected": 0})
        assert one.post(sample.body, {}).status_code == 401
        seen = one.metrics_seen_by("prometheus")
        assert seen >= {"caddy_reverse_proxy_upstreams_healthy", "caddy_http_requests_total"}
        assert one.request("GET", "/metrics").status_code == 404, "not from outside"


def test_a_proxy_that_is_not_trusted_is_not_healthy(tmp_path: Path) -> None:
    """Every hook gets 403, and ``docker compose up --wait`` reports it instead of success."""
    with proxied(tmp_path, "203.0.113.0/24") as one:
        sample = next(one.ingress.samples())
        assert one.post(sample.body, sample.headers).status_code == 403
        assert one.health() != 0
        assert "no trusted proxy" in one.ingress.process.log_tail()
