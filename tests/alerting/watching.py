"""A real Prometheus beside a pipeline of these tests, with the rules that are shipped."""

import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import yaml

from tests.live.maven import Missing
from tests.live.process import Process, free_port

RULES = Path(__file__).parents[2] / "analytics" / "prometheus"
SCRAPED_EVERY_S = 10


def program(name: str) -> str:
    """Where a program of Debian's packages ``prometheus`` and ``prometheus-alertmanager`` is.

    Raises:
        Missing: not on this machine.
    """
    found = shutil.which(name)
    if found is None:
        raise Missing(f"{name} is not installed (Debian: prometheus, prometheus-alertmanager)")
    return found


class Prometheus:
    """Scrapes what it is told, judges by ``recording.yml`` and ``alerts.yml``; a context manager.

    Args:
        targets: job -> instance -> its port here. Instances keep the names they have in compose.
        folder: for its data and log.
    """

    def __init__(self, targets: Mapping[str, Mapping[str, int]], folder: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        folder.mkdir()
        config = folder / "prometheus.yml"
        config.write_text(yaml.safe_dump(_config(targets)), "utf-8")
        self._process = Process(
            "prometheus",
            [program("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address={self.url.removeprefix('http://')}"],
            folder / "prometheus.log",
        )  # fmt: skip

    def ask(self, path: str, **parameters: Any) -> Any:
        """The data of an answer of its API.

        Raises:
            httpx.HTTPError: no answer, or it refuses the question.
        """
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, trust_env=False)
        answer.raise_for_status()
        return answer.json()["data"]

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        return {
            one["labels"]["alertname"]
            for one in self.ask("alerts")["alerts"]
            if one["state"] == "firing"
        }

    def wait_silent(self, usual: Iterable[str], timeout_s: float) -> None:
        """Waits until no other than the ``usual`` alerts fires or is about to.

        Raises:
            TimeoutError: not in time.
        """
        usual, end = set(usual), time.monotonic() + timeout_s
        while (
            active := {one["labels"]["alertname"] for one in self.ask("alerts")["alerts"]} - usual
        ):
            if time.monotonic() > end:
                raise TimeoutError(f"{active} are not silent")
            time.sleep(2)

    def __enter__(self) -> Self:
        self._process.start()
        self._process.wait_until(self._answers, "ready", 60)
        return self

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.stop()


def _config(targets: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    shipped = yaml.safe_load((RULES / "prometheus.yml").read_text("utf-8"))
    return {
        "global": shipped["global"] | {"scrape_interval": f"{SCRAPED_EVERY_S}s"},
        "rule_files": [str(RULES / name) for name in shipped["rule_files"]],
        "scrape_configs": [
            {
                "job_name": job,
                "static_configs": [
                    {"targets": [f"127.0.0.1:{port}"], "labels": {"instance": name}}
                    for name, port in instances.items()
                ],
            }
            for job, instances in targets.items()
        ],
    }
