"""The versions that ``docker-compose.yml`` pins are the ones that are tested.

An image that was never started here may refuse what the tests accept: ClickHouse 26.3 refused the
first migration while the tests passed on 26.9. Images can't be downloaded where this project is
tested, so the same software comes from elsewhere (Maven, PyPI), in the pinned version.
"""

import re
from importlib.metadata import version

from tests.compose import ROOT, SERVICES
from tests.live.registry import APICURIO_VERSION
from tests.live.software import KAFKA_VERSION_DEFAULT

TAGS: dict[str, str] = dict(
    resolved.rpartition(":")[::2]
    for service in SERVICES.values()
    if not (resolved := service["image"]).startswith("mailpulse:")
)

TESTED = {
    "apache/kafka": KAFKA_VERSION_DEFAULT,  # every live test
    "apicurio/apicurio-registry": APICURIO_VERSION,  # tests/live/test_registry.py, test_compose.py
    "caddy": version("caddyserver"),  # tests/live/test_proxy.py
    "clickhouse/clickhouse-server": "26.3",  # make test-pinned
}
"""Image -> the version that tests run, wherever they get it from."""

UNTESTED = {
    "prom/prometheus": "Debian's Prometheus judges by the rules in tests/alerting",
    "prom/alertmanager": "Debian's amtool takes its configuration and routes in tests/alerting",
    "grafana/grafana": "its boards' queries run on ClickHouse, its pages are not opened",
    "redpandadata/console": "a help for debugging; nothing depends on it",
}
"""Image -> why no test runs it, and what is tested instead."""


def test_every_pinned_image_is_tested_or_said_not_to_be() -> None:
    """A new service needs a decision."""
    assert set(TAGS) == set(TESTED) | set(UNTESTED)
    assert not set(TESTED) & set(UNTESTED)


def test_what_is_pinned_is_what_tests_run() -> None:
    """Version by version; a tag may add a variant, such as -alpine."""
    assert {image: re.sub(r"-alpine$", "", TAGS[image]) for image in TESTED} == TESTED


def test_ci_runs_the_pinned_clickhouse() -> None:
    """The stage exists, and its engine is the pinned version."""
    text = (ROOT / ".ci" / "lock" / "pinned-engine.txt").read_text("utf-8")
    [engine] = re.findall(r"^chdb-core==(\d+\.\d+)\.\d+ \\$", text, re.MULTILINE)
    assert engine == TAGS["clickhouse/clickhouse-server"]
    assert "make test-pinned" in (ROOT / ".ci" / "run").read_text("utf-8")
