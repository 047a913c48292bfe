"""``mailpulse import`` on real Kafka and chDB: killed while it writes, with live traffic beside it.

What counts once per message is counted once over the cut, and equals a plain recount. About 50
seconds. ``MAILPULSE_TEST_IMPORT_EVENTS=2000000`` is the long form: three months, with the rate of
the import and the delay of live events before it and beside it (with ``-s``).
"""

import asyncio
import io
import json
import os
import random
import sys
import tarfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer

from schemas import topics
from schemas.cloudevents import leading_text
from streams.cli.clickhouse import table_of
from tests.live.fixtures import KafkaCluster
from tests.live.process import Process
from tests.live.recount import CODEC, read_topic
from tests.live.roles import Pipeline, clean_environ
from tests.live.threads import in_threads

pytestmark = [pytest.mark.timeout(3_600), pytest.mark.live]

EVENTS = int(os.environ.get("MAILPULSE_TEST_IMPORT_EVENTS", "6000"))
LONG = EVENTS > 100_000
DAYS = 90
DAY_S = 86_400
RECENT_S, RECENT_MAX = 20 * DAY_S, 400
"""Of messages that are opened live: later than their last event the message TTL (30 days) ends."""
CAMPAIGNS = 40
CONFIG = """\
[sources.news]
provider = "generic"
username = "env:NEWS_USER"
password = "env:NEWS_PASSWORD"
[sources.table]
provider = "generic"
token = "env:NEWS_PASSWORD"
[sources.table.mapping.fields]
event = "Type"
event_id = "Id"
time = "When"
message_id = "Message"
recipient = "To"
campaign = "Campaign"
"""
SECRETS = {"NEWS_USER": "hook", "NEWS_PASSWORD": "letmein"}
Fact = dict[str, Any]
AGENT = "Mozilla/5.0"


def history(now_s: int) -> Iterator[Fact]:
    """Bodies of before the cut: messages' lives over three months, one event in fifty twice."""
    dice = random.Random(22)
    number, made = 0, 0
    while made < EVENTS:
        sent = now_s - dice.randrange(DAY_S // 2, DAYS * DAY_S)
        for body in life(number, sent, f"c{number % CAMPAIGNS}", dice):
            if body["time"] >= now_s:
                continue
            made += 1
            yield body
            if not dice.randrange(50):
                yield body
        number += 1


def life(number: int, sent: int, campaign: str, dice: random.Random) -> Iterator[Fact]:
    """The events of a message."""
    if not dice.randrange(20):
        yield fact("bounced", number, campaign, sent) | {"bounce": {"class": "hard"}}
        return
    yield fact("delivered", number, campaign, sent)
    at = sent
    for kind, share in (("opened", 3), ("opened", 5), ("clicked", 2)):
        at += dice.randrange(60, 3 * DAY_S)
        if dice.randrange(10) < share:
            yield fact(kind, number, campaign, at)
    if not dice.randrange(400):
        yield fact("complained", number, campaign, at + 60)


def fact(kind: str, number: int, campaign: str, at: int) -> Fact:
    """A body in the default shape of a generic source."""
    return {
        "event": kind, "id": f"{kind}-{number}-{at}", "time": at, "message_id": f"m{number}",
        "recipient": f"reader{number}@gmail.com", "campaign_id": campaign, "user_agent": AGENT,
        **({"url": "https://shop.example/1"} if kind == "clicked" else {}),
    }  # fmt: skip


class Recount:
    """A plain recount: what each message had, whenever and however it was told."""

    def __init__(self) -> None:
        self._kinds: dict[str, set[str]] = defaultdict(set)
        self._campaign: dict[str, str] = {}
        self._ids: dict[str, set[str]] = defaultdict(set)

    def add(self, body: Fact) -> None:
        """Takes an event, perhaps again."""
        message = body["message_id"]
        self._kinds[message].add(body["event"])
        self._campaign[message] = body["campaign_id"]
        self._ids[body["campaign_id"]].add(body["id"])

    def campaigns(self) -> dict[str, Counter[str]]:
        """Counts that are exact whatever the correction window does, by campaign."""
        out: dict[str, Counter[str]] = defaultdict(Counter)
        for campaign, ids in self._ids.items():
            out[campaign]["events"] = len(ids)
        for message, kinds in self._kinds.items():
            row = out[self._campaign[message]]
            row["delivered"] += "delivered" in kinds
            row["bounced_hard"] += "bounced" in kinds
            row["complained"] += "complained" in kinds
            for kind in ("opened", "clicked"):
                row[f"{kind}_any"] += kind in kinds
                row[f"cohort_{kind}_any"] += kinds >= {kind, "delivered"}
        return {campaign: +row for campaign, row in out.items()}


COUNTED = (
    "events", "delivered", "bounced_hard", "complained", "opened_any", "clicked_any",
    "cohort_opened_any", "cohort_clicked_any",
)  # fmt: skip


class Site:
    """A pipeline, its live traffic, and an operator who imports."""

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        self.pipeline, self.folder = pipeline, folder
        self.recount = Recount()
        self.source = "news"
        self.recent: list[Fact] = []
        self.written_s: dict[str, float] = {}
        """Seconds until a command had written its events; it then waits for the join."""
        self.client = httpx.Client(trust_env=False, timeout=30)
        self.environ = {**clean_environ(), **pipeline.environ, **SECRETS}

    def post(self, bodies: list[Fact]) -> None:
        """Live events."""
        for body in bodies:
            self.recount.add(body)
        answer = self.client.post(
            f"{self.pipeline.ingest_url}/hooks/news", json=bodies, auth=("hook", "letmein")
        )
        assert answer.status_code == 200, answer.text

    def rows(self, sql: str) -> list[list[Any]]:
        """An analyst's query."""
        return table_of(self.pipeline.settings, sql)[1]

    def command(self, name: str, *given: str) -> Process:
        """``mailpulse import``, not started."""
        argv = [sys.executable, "-P", "-m", "streams.cli", "import", self.source, *given]
        log = self.folder / f"{name}.log"
        return Process(name, argv, log, env=self.environ, cwd=self.folder)

    def run(self, name: str, *given: str) -> str:
        """Runs it to its end; what it said."""
        process = self.command(name, *given)
        process.start()
        log, begun = self.folder / f"{name}.log", time.monotonic()

        def is_over() -> bool:
            if " imported, " in log.read_text("utf-8") and name not in self.written_s:
                self.written_s[name] = time.monotonic() - begun
            return not process.running

        process.wait_until(is_over, "over", 2_400)
        said = log.read_text("utf-8")
        assert process.returncode == 0, said
        return said

    def figures(self, name: str, *given: str) -> dict[str, Any]:
        """The same with ``--json``; progress is on the lines before."""
        found: dict[str, Any] = json.loads(self.run(name, *given, "--json").splitlines()[-1])
        return found


def write_files(folder: Path, now_s: int, recount: Recount) -> tuple[int, list[Fact]]:
    """Lines, an archive and a table, with bad ones among them.

    Returns:
        How many events they hold, and deliveries of messages that state still knows.
    """
    folder.mkdir()
    ids = set()
    recent: list[Fact] = []
    with (
        (folder / "bodies.jsonl").open("w") as lines,
        (folder / "rows.csv").open("w") as rows,
        tarfile.open(folder / "more.tar", "w") as archive,
    ):
        rows.write("Type;Id;When;Message;To;Campaign\n")
        for number, body in enumerate(history(now_s)):
            recount.add(body)
            ids.add(body["id"])
            if body["event"] == "delivered" and body["time"] > now_s - RECENT_S:
                recent.append(body)
            if number % 97 == 5 and body["event"] != "bounced":
                when = datetime.fromtimestamp(body["time"], UTC).isoformat()
                cells = (body["event"], f"row-{number}", when, body["message_id"],
                         body["recipient"], body["campaign_id"])  # fmt: skip
                recount.add({**body, "id": f"row-{number}"})
                ids.add(f"row-{number}")
                rows.write(";".join(cells) + "\n")
            if number % 89 == 7:
                content = json.dumps([body]).encode()
                member = tarfile.TarInfo(f"day/{number}.json")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            else:
                lines.write(json.dumps(body) + "\n")
        for number in range(300):  # a disaster of yesterday, which nobody is to be woken for
            body = fact("bounced", 10**9 + number, "bad", now_s - DAY_S // 3 - number)
            body["bounce"] = {"class": "hard"}
            recount.add(body)
            ids.add(body["id"])
            lines.write(json.dumps(body) + "\n")
        lines.write("{not json\n")
        lines.write(json.dumps({"event": "opened", "id": "timeless", "message_id": "m1"}) + "\n")
        rows.write("delivered;too;few\n")
    return len(ids), recent[:RECENT_MAX]


def opened(delivery: Fact, at: int) -> Fact:
    """A live open of a message of history."""
    return fact("opened", int(delivery["message_id"][1:]), delivery["campaign_id"], at)


def live_bodies(recent: list[Fact], now_s: int, share: int) -> list[Fact]:
    """Opens that come live: half of messages of history, which may have been opened, half of new
    ones."""
    bodies = []
    for number, delivery in enumerate(recent[share::4]):
        bodies.append(opened(delivery, now_s - 1))
        new = 2 * 10**9 + 4 * number + share
        bodies += [fact("delivered", new, "live", now_s - 2), fact("opened", new, "live", now_s)]
    return bodies


def killed(site: Site, given: tuple[str, ...], kills: int) -> None:
    """Starts the import and kills it so often while it writes."""
    dice = random.Random(5)
    for number in range(kills):
        process = site.command(f"killed-{number}", *given)
        process.start()
        before = ends(site)
        process.wait_until(lambda: ends(site) > before or not process.running, "writing", 600)  # noqa: B023
        time.sleep(dice.random() / 4)
        process.kill()


def ends(site: Site) -> int:
    """Records on the topic of history."""
    from streams.cli.import_effects import ends_of

    return sum(asyncio.run(ends_of(site.pipeline.settings, 4)))


def test_uniques_hold_over_the_cut_whatever_is_killed(
    kafka_cluster: KafkaCluster, tmp_path: Path
) -> None:
    """Live runs for a while, then history is imported beside it, in spite of kills; all figures
    are those of a recount of both, nobody is told of the past, and again it is all known."""
    (broker,) = kafka_cluster()
    settings = {"SINK_INTERVAL_MS": "300"}
    with Pipeline(broker.bootstrap, tmp_path, CONFIG, SECRETS, settings=settings) as pipeline:
        site = Site(pipeline, tmp_path)
        now_s = int(time.time())
        files = tmp_path / "archive"
        written, site.recent = write_files(files, now_s, site.recount)
        site.post(live_bodies(site.recent, now_s, 0))
        pipeline.wait_caught_up()
        given = (str(files), "--mapping", "table")
        survey = site.figures("survey", *given)
        assert (survey["new"] + survey["known"]) >= written
        assert survey["known"] == 0
        assert survey["rejected"] == 3
        assert ends(site) == 0, "a dry run writes nothing"
        rejects = (tmp_path / "data" / "import-rejects-news.jsonl").read_text().splitlines()
        assert {json.loads(one)["place"].rpartition(":")[0] for one in rejects} == {
            str(files / "bodies.jsonl"), str(files / "rows.csv")
        }  # fmt: skip
        probe = Probe(site) if LONG else None
        if probe is not None:
            probe.measure("before", 30)
        with in_threads(lambda over: traffic(site, over)):
            if probe is not None:
                probe.begin()
            killed(site, (*given, "--write"), 0 if LONG else 2)
            begun = time.monotonic()
            said = site.run("import", *given, "--write")
            took = time.monotonic() - begun
            if probe is not None:
                probe.end("beside the import")
                alone = site.written_s["import"]
                print(f"\n{EVENTS:,} events written in {alone:.0f} s: {EVENTS / alone:,.0f}/s;"
                      f" joined after {took:.0f} s: {EVENTS / took:,.0f}/s")  # fmt: skip
                print(said)
        site.post(live_bodies(site.recent, now_s, 2))
        pipeline.wait_caught_up(600)
        check_figures(site)
        check_nobody_was_told(site, broker.bootstrap)
        again = site.figures("again", *given, "--write")
        assert (again["new"], again["imported"]) == (0, 0)
        assert "100.0 %" in said, "the join was watched"


def traffic(site: Site, over: threading.Event) -> None:
    """Live events beside the import; more of messages of history among them."""
    dice = random.Random(3)
    while not over.wait(0.2):
        at = int(time.time())
        site.post(
            [
                opened(dice.choice(site.recent), at),
                fact("delivered", 3 * 10**9 + dice.randrange(10**6), "live", at),
            ]
        )


def check_figures(site: Site) -> None:
    """Counts and events as analysts see them."""
    wanted = site.recount.campaigns()
    sums = ", ".join(f"toInt64(sum({name}))" for name in COUNTED)
    deadline = time.monotonic() + 120
    while True:
        rows = site.rows(
            f"SELECT campaign_id, {sums} FROM campaign_minutes FINAL GROUP BY campaign_id"
        )
        found = {row[0]: +Counter(dict(zip(COUNTED, row[1:], strict=True))) for row in rows}
        found.pop("probe", None)
        if found == wanted or time.monotonic() > deadline:
            break
        time.sleep(1)
    assert found == wanted
    [[stored, ids]] = site.rows("SELECT count(), uniqExact(event_id) FROM events FINAL"
                                " WHERE campaign_id != 'probe'")  # fmt: skip
    assert stored == ids == sum(row["events"] for row in wanted.values())
    [[firsts]] = site.rows(
        "SELECT count() FROM events FINAL WHERE event_type = 'opened' AND first_of_kind"
        " AND campaign_id != 'probe'"
    )
    assert firsts == sum(row["opened_any"] for row in wanted.values())


def check_nobody_was_told(site: Site, bootstrap: str) -> None:
    """No alert, no suppression, and no engagement of history."""
    for topic in (topics.ALERTS, topics.SUPPRESSIONS):
        assert asyncio.run(read_topic(bootstrap, topic)) == []
    for record in asyncio.run(read_topic(bootstrap, topics.ENGAGEMENT)):
        value = CODEC.decode(record.value, "engagement")
        assert not value["log_id"].startswith("history-")


class Probe:
    """Delay from a webhook's request to the enriched record, of an event each tenth of a second."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._delays: list[float] = []
        self._answers: list[float] = []
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def measure(self, name: str, seconds: float) -> None:
        """Measures for a while."""
        self.begin()
        time.sleep(seconds)
        self.end(name)

    def begin(self) -> None:
        """Starts measuring."""
        self._delays, self._answers, self._over = [], [], threading.Event()
        self._threads = [threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)]
        for thread in self._threads:
            thread.start()

    def end(self, name: str) -> None:
        """Stops, and says what was found."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        for what, delays in (("visible", self._delays), ("answered", self._answers)):
            found = sorted(delays)
            half, most = (found[int(share * (len(found) - 1))] * 1_000 for share in (0.5, 0.99))
            print(f"\nlive {name}, {what}: p50 {half:.0f} ms, p99 {most:.0f} ms of {len(found)}")

    async def _run(self) -> None:
        bootstrap = self._site.pipeline.settings.kafka_bootstrap
        consumer = AIOKafkaConsumer(
            topics.ENRICHED, bootstrap_servers=bootstrap, group_id=None,
            auto_offset_reset="latest", fetch_max_wait_ms=20,
        )  # fmt: skip
        await consumer.start()
        sent: dict[bytes, float] = {}
        posting = asyncio.create_task(self._post(sent))
        try:
            while not posting.done() or sent:
                for records in (await consumer.getmany(timeout_ms=50)).values():
                    for record in records:
                        begun = sent.pop(leading_text(record.value), None)
                        if begun is not None:
                            self._delays.append(time.monotonic() - begun)
        finally:
            await consumer.stop()

    async def _post(self, sent: dict[bytes, float]) -> None:
        from ingest.providers import REGISTRY
        from ingest.providers.base import Request
        from schemas.settings import Source

        source = Source(name="news", provider="generic")
        url = f"{self._site.pipeline.ingest_url}/hooks/news"
        number = 0
        async with httpx.AsyncClient(trust_env=False, auth=("hook", "letmein")) as client:
            while not self._over.is_set():
                number += 1
                at = time.time()
                body = fact("delivered", 4 * 10**9 + int(at * 1000), "probe", int(at))
                content = json.dumps(body).encode()
                request = Request("POST", "", (("content-type", "application/json"),), content, "")
                [event] = REGISTRY["generic"].parse(request, source, int(at * 1e6)).events
                sent[event["event_id"].encode()] = time.monotonic()
                posted = time.monotonic()
                await client.post(url, content=content)
                self._answers.append(time.monotonic() - posted)
                await asyncio.sleep(0.1)
