"""The metrics that ``tests/alerting/record.py`` recorded, as compose or Kubernetes labels them."""

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "recorded"
Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Recording:
    """One phase.

    Attributes:
        series: labels, ``__name__`` among them -> values in promtool's notation.
        fired: alerts that fired at its end, judged by Prometheus while it was recorded.
        seconds: how long it was.
    """

    step_s: int
    series: dict[Labels, str]
    fired: frozenset[str]
    seconds: int

    def named(self, kubernetes: bool = False) -> dict[str, str]:
        """Series as promtool names them; with the labels of a pod's monitor if wanted."""
        return {
            _name(of_pod(labels) if kubernetes else dict(labels)): values
            for labels, values in self.series.items()
        }


def of_pod(labels: Labels) -> dict[str, str]:
    """The labels that the Prometheus operator gives instead: ``job`` stays, as the name label."""
    found = dict(labels)
    host, _, port = found["instance"].partition(":")
    number = int(re.sub(r"\D", "", host) or 1)
    role = found["job"].removeprefix("mailpulse-")
    return {
        **found, "instance": f"10.0.{len(role)}.{number}:{port}", "namespace": "mailpulse",
        "pod": f"mailpulse-{role}-7d9f-{number}", "container": role,
        "endpoint": "http" if role == "ingest" else "health",
    }  # fmt: skip


def _name(labels: dict[str, str]) -> str:
    name = labels.pop("__name__")
    return name + "{" + ",".join(f'{k}="{v}"' for k, v in sorted(labels.items())) + "}"


@cache
def recording(phase: str) -> Recording:
    """The recording of a phase."""
    found = json.loads((FOLDER / f"{phase}.json").read_text("utf-8"))
    series = {tuple(one["labels"].items()): one["values"] for one in found["series"]}
    fired, seconds = frozenset(found["fired"]), int(found["seconds"])
    return Recording(found["step_s"], series, fired, seconds)


def phases() -> tuple[str, ...]:
    """Names of all recordings."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))
