"""What comes after an import: the same files again, another source's, new judging of all.

Real Kafka and chDB; after each step all figures are those of a plain recount. Here another source
is imported, in about 40 seconds; the long form of ``test_import`` does all of it, in two minutes.
"""

import json
import sys
import time
from pathlib import Path

import pytest

from tests.compose import ROOT
from tests.live import test_import
from tests.live.fixtures import KafkaCluster
from tests.live.process import Process
from tests.live.roles import Pipeline
from tests.live.test_import import DAY_S, LONG, SECRETS, Fact, Site, check_figures, fact, opened

pytestmark = [pytest.mark.timeout(600), pytest.mark.live]

MESSAGES = 400
OLD_RULES = (ROOT / "streams/classify/tables/machines.toml").read_text("utf-8")
SHOP = 7 * 10**9
CONFIG = (
    test_import.CONFIG
    + """\
[sources.shop]
provider = "generic"
username = "env:NEWS_USER"
password = "env:NEWS_PASSWORD"
"""
)


def _written(path: Path, first: int, now_s: int, site: Site) -> list[Fact]:
    """A file of messages that were delivered, half of them opened; returns the deliveries."""
    deliveries = []
    with path.open("w") as lines:
        for number in range(first, first + MESSAGES):
            at = now_s - DAY_S - 600 * (number - first)
            bodies = [fact("delivered", number, f"c{number % 7}", at)]
            deliveries.append(bodies[0])
            if number % 2:
                bodies.append(opened(bodies[0], at + 300))
            for body in bodies:
                site.recount.add(body)
                lines.write(json.dumps(body) + "\n")
    return deliveries


def _live(site: Site, deliveries: list[Fact], share: int) -> None:
    """Opens of every eighth message, of which half were opened before the cut."""
    now_s = int(time.time())
    site.post([opened(one, now_s) for one in deliveries[share::8] + deliveries[share + 1 :: 8]])
    site.pipeline.wait_caught_up()


def _reprocessed(site: Site, *given: str) -> str:
    """What is live judged again."""
    argv = [sys.executable, "-P", "-m", "streams.cli", "reprocess", "--from", "1h", *given]
    log = site.folder / "reprocess.log"
    process = Process("reprocess", argv, log, env=site.environ, cwd=site.folder)
    process.start()
    process.wait_until(lambda: not process.running, "over", 300)
    said = log.read_text("utf-8")
    assert process.returncode == 0, said
    return said


def test_figures_are_those_of_a_recount_after_all_that_follows_an_import(
    kafka_cluster: KafkaCluster, tmp_path: Path
) -> None:
    """Imported, the same again, another source's, judged again, and once more the first files."""
    (broker,) = kafka_cluster()
    settings = {"SINK_INTERVAL_MS": "300", "REPROCESS_CORE_SHARE": "0.9"}
    with Pipeline(
        broker.bootstrap, tmp_path, CONFIG, SECRETS, partitions=1, settings=settings
    ) as pipeline:
        site = Site(pipeline, tmp_path)
        now_s = int(time.time())
        news, shop = tmp_path / "news.jsonl", tmp_path / "shop.jsonl"
        deliveries = _written(news, 0, now_s, site)
        _live(site, deliveries, 0)
        site.run("first", str(news), "--write")
        _live(site, deliveries, 2)
        check_figures(site)
        others = _written(shop, SHOP, now_s, site)
        site.source = "shop"
        second = site.figures("second", str(shop), "--write")
        assert second["imported"] == second["new"] == MESSAGES * 3 // 2
        _wait_joined(site)
        _live(site, deliveries, 4)
        _live(site, others, 4)
        check_figures(site)

        if LONG:
            _more(site, news, deliveries, others)


def _more(site: Site, news: Path, deliveries: list[Fact], others: list[Fact]) -> None:
    """Again by the rules in force and by newer ones, and files of which one was imported."""
    said = _reprocessed(site, "--again")
    assert "100.0 %" in said, "joining the import did it"
    rules = site.folder / "rules.toml"
    rules.write_text(OLD_RULES.replace("version = 2", "version = 3", 1))
    _reprocessed(site, "--rules", str(rules))
    _live(site, deliveries, 6)
    _live(site, others, 6)
    check_figures(site)
    site.source = "news"
    again = site.figures("again", str(news), "--write")
    assert (again["new"], again["imported"]) == (0, 0)
    third = site.folder / "third.jsonl"
    _written(third, 2 * SHOP, int(time.time()), site)
    last = site.figures("third", str(news), str(third), "--write")
    assert (last["new"], last["known"]) == (MESSAGES * 3 // 2, MESSAGES * 3 // 2)
    _wait_joined(site)
    _live(site, others, 0)
    check_figures(site)


def _wait_joined(site: Site) -> None:
    """Returns once live events are counted again behind the history."""
    site.pipeline.wait_caught_up()
    argv = [sys.executable, "-P", "-m", "streams.cli", "reprocess", "status"]
    log = site.folder / "status.log"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        process = Process("status", argv, log, env=site.environ, cwd=site.folder)
        process.start()
        process.wait_until(lambda: not process.running, "over", 60)  # noqa: B023
        if "No run is under way" in log.read_text("utf-8"):
            return
    raise AssertionError(log.read_text("utf-8"))
