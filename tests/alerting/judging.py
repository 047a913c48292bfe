"""What Prometheus makes of series by the rules that are shipped (``promtool test rules``)."""

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.alerting.watching import RULES, program
from tests.live.fixtures import or_skip

RULE_FILES = ("recording.yml", "alerts.yml", "slo.yml")
STEP_S = 60
"""Between two samples of a case, and two judgements: a compromise with promtool's pace."""
LONG = 100
"""Minutes after which a case is judged at the latest."""
_ENDLESS = LONG + 5
FIRING = 'group by (alertname) (ALERTS{alertstate="firing"})'


def rules() -> list[dict[str, Any]]:
    """Every rule of every file."""
    return [
        rule
        for name in RULE_FILES
        for group in yaml.safe_load((RULES / name).read_text("utf-8"))["groups"]
        for rule in group["rules"]
    ]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
RECORDED = {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}


def flat(value: float, minutes: float = _ENDLESS) -> str:
    """The same value for a while."""
    return f"{value:g}x{_steps(minutes)}"


def _steps(minutes: float) -> int:
    return max(0, round(minutes * 60 / STEP_S) - 1)  # behind the first sample


def ramp(per_s: float, minutes: float = _ENDLESS, begin: float = 0.0) -> str:
    """A value that grows steadily."""
    return f"{begin:g}+{per_s * STEP_S:g}x{_steps(minutes)}"


def absent(minutes: float) -> str:
    """No samples for a while."""
    return f"_x{round(minutes * 60 / STEP_S)}"


def then(*parts: str) -> str:
    """One stretch after the other."""
    return " ".join(parts)


def written(values: Iterable[float | None]) -> str:
    """Recorded values in promtool's notation; ``None``: absent."""
    out: list[str] = []
    runs: list[tuple[float | None, int]] = []
    for value in values:
        if runs and runs[-1][0] == value:
            runs[-1] = (value, runs[-1][1] + 1)
        else:
            runs.append((value, 1))
    for value, times in runs:
        text = "_" if value is None else f"{value:.12g}"
        out.append(text if times == 1 else f"{text}x{times if value is None else times - 1}")
    return " ".join(out)


def check(
    series: Mapping[str, str],
    expected: Mapping[str, Sequence[Mapping[str, Any]]],
    folder: Path,
    *,
    at_s: float = LONG * 60,
    step_s: int = STEP_S,
    files: Sequence[str] = RULE_FILES,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Has promtool evaluate expressions over series.

    Args:
        series: name and labels -> values in promtool's notation, every ``step_s`` seconds.
        expected: expression -> its samples.
        folder: for promtool's file.
        at_s: when to evaluate, seconds from the series' begin.
        files: of rules that take part.
        more: of promtool's test, such as ``alert_rule_test``.

    Raises:
        AssertionError: it finds other samples; the message is promtool's.
        Failed: there is no promtool here, and CI requires it; elsewhere the test is skipped.
    """
    one = {
        "interval": f"{step_s}s",
        "input_series": [{"series": k, "values": v} for k, v in series.items()],
        "promql_expr_test": [
            {"expr": expression, "eval_time": f"{at_s:g}s", "exp_samples": list(samples)}
            for expression, samples in expected.items()
        ],
        **(more or {}),
    }
    run([one], folder, step_s=step_s, files=files)


def run(
    tests: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    step_s: int = STEP_S,
    files: Sequence[str] = RULE_FILES,
) -> None:
    """Runs tests in promtool's own form; otherwise as ``check``."""
    document = {
        "rule_files": [str(RULES / name) for name in files],
        "evaluation_interval": f"{step_s}s",
        "tests": list(tests),
    }
    path = folder / "case.yml"
    path.write_text(yaml.safe_dump(document, allow_unicode=True), "utf-8")
    promtool = or_skip(lambda: program("promtool"))
    done = subprocess.run([promtool, "test", "rules", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def firing_samples(firing: Iterable[str]) -> list[dict[str, Any]]:
    """What ``FIRING`` gives if exactly these alerts fire, and the watchdog."""
    names = sorted({*firing, "MailpulseWatchdog"})
    return [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in names]


def check_firing(
    series: Mapping[str, str], firing: Iterable[str], folder: Path, **how: Any
) -> None:
    """Whether exactly these alerts fire, and the watchdog, which always does; as ``check``."""
    check(series, {FIRING: firing_samples(firing)}, folder, **how)
