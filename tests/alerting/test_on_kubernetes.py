"""The same alerts fire on what the Prometheus operator makes of the pods.

There ``job`` is the pod's name label, ``instance`` an address, and every series says its namespace,
pod, container and endpoint. Caddy's and ClickHouse's metrics are not there.
"""

import re
from pathlib import Path

from tests.alerting.cases import CASES
from tests.alerting.judging import FIRING, firing_samples, run
from tests.alerting.test_pages import JOBS
from tests.alerting.test_rules import WITHOUT_OBJECTIVES

OF_COMPOSE = {"MailpulsePeerDown", "MailpulseProxyWithoutIngress"}
"""About what compose brings, and a cluster has otherwise."""


def on_a_cluster(series: str) -> str | None:
    """A series of compose as a pod has it; ``None``: there is none."""
    job, instance = (
        re.search(r'job="([^"]+)"', series),
        re.search(r'instance="(\S+):(\d+)"', series),
    )
    assert job is not None, series
    if "namespace=" in series:
        return series  # it is of a pod already
    assert instance is not None, series
    if job[1] not in JOBS:
        return None
    pod = f"{job[1]}-{re.sub(r'[^0-9]', '', instance[1]) or 0}"
    endpoint = "http" if job[1] == "mailpulse-ingest" else "health"
    address = f"10.0.{sorted(JOBS).index(job[1])}.{pod[-1]}:{instance[2]}"
    labels = (
        f'container="{job[1].removeprefix("mailpulse-")}",endpoint="{endpoint}",'
        f'instance="{address}",namespace="mailpulse",pod="{pod}"'
    )
    return series.replace(instance[0], labels)


def test_what_fires_on_compose_fires_on_kubernetes(tmp_path: Path) -> None:
    """Each alert's case, with a pod's labels, in one run of promtool."""
    tests, fired = [], set()
    for case in CASES:
        if case.fires and case.of not in OF_COMPOSE and "Budget" not in case.of:
            series = {on_a_cluster(name): values for name, values in case.series.items()}
            series.pop(None, None)
            wanted = case.firing - OF_COMPOSE
            fired |= wanted
            tests.append({
                "interval": "60s",
                "input_series": [{"series": name, "values": it} for name, it in series.items()],
                "promql_expr_test": [{
                    "expr": FIRING, "eval_time": f"{case.at}m",
                    "exp_samples": firing_samples(wanted),
                }],
            })  # fmt: skip
    assert len(fired) > 30
    run(tests, tmp_path, files=WITHOUT_OBJECTIVES)
