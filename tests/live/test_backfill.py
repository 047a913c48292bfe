"""A webhook that was refused for 72 hours, and ``mailpulse backfill``, killed while it refills.

On real Kafka and chDB, with replicas of the four providers that answer 401, 429 and 5xx at random.
``MAILPULSE_TEST_KILLS=20`` is the long form.
"""

import asyncio
import hashlib
import hmac
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from ingest.providers import REGISTRY
from ingest.providers.base import Request
from schemas.glossary import COUNTER_NAMES
from schemas.settings import Source
from streams.cli.clickhouse import table_of
from tests.ingest.history_server import serving
from tests.ingest.keys import example
from tests.ingest.replicas import (
    DOMAIN,
    KEY,
    REPLICAS,
    WEBHOOK,
    Happening,
    Replica,
    Trouble,
    happened,
    iso,
)
from tests.live.fixtures import or_skip
from tests.live.kafka import Kafka
from tests.live.process import Process
from tests.live.recount import assert_exact, raw_events
from tests.live.roles import Pipeline, clean_environ
from tests.streams.reference import count

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

KILLS = int(os.environ.get("MAILPULSE_TEST_KILLS", "2"))
HOUR_S = 3600
OUTAGE_S = 72 * HOUR_S
EVENTS = {"mailgun": 200, "sparkpost": 200, "sendgrid": 24, "resend": 8}
"""Of the last two each message or event takes a request."""
SIGNING, USER, PASSWORD = "k3y", "hook", "letmein"
CONFIG = """\
[sources.mailgun]
provider = "mailgun"
signing_key = "env:MAILGUN_SIGNING"
[sources.mailgun.history]
api_key = "env:HISTORY_KEY"
url = "{mailgun}"
domains = "{domain}"
[sources.sparkpost]
provider = "sparkpost"
username = "env:SPARKPOST_USER"
password = "env:SPARKPOST_PASSWORD"
[sources.sparkpost.history]
api_key = "env:HISTORY_KEY"
url = "{sparkpost}"
[sources.sendgrid]
provider = "sendgrid"
public_key = '''{public_key}'''
[sources.sendgrid.history]
api_key = "env:HISTORY_KEY"
url = "{sendgrid}"
[sources.resend]
provider = "resend"
secret = "env:RESEND_SECRET"
[sources.resend.history]
api_key = "env:HISTORY_KEY"
url = "{resend}"
webhook_id = "{webhook}"
"""
OF_WEBHOOKS = {
    "MAILGUN_SIGNING": SIGNING, "SPARKPOST_USER": USER, "SPARKPOST_PASSWORD": PASSWORD,
    "RESEND_SECRET": "whsec_" + "QUJD" * 8,
}  # fmt: skip


class Outage:
    """A pipeline, four replicas, and the 72 hours of events that they remember."""

    def __init__(self, stack: ExitStack, folder: Path, bootstrap: str) -> None:
        self.dice = random.Random(2026)
        self.now = float(int(time.time()))
        self.begin, self.end = self.now - OUTAGE_S - HOUR_S, self.now - HOUR_S
        self.folder = folder
        self.replicas = {name: self._replica(name) for name in REPLICAS}
        urls = {name: stack.enter_context(serving(one)) for name, one in self.replicas.items()}
        [public_key] = example("sendgrid").source.public_key
        config = CONFIG.format(**urls, domain=DOMAIN, webhook=WEBHOOK, public_key=public_key)
        self.pipeline = stack.enter_context(Pipeline(bootstrap, folder, config, OF_WEBHOOKS))
        self.client = stack.enter_context(httpx.Client(trust_env=False))

    def _replica(self, name: str) -> Replica:
        make, kinds = REPLICAS[name]
        happenings = happened(kinds, self.begin, self.now, EVENTS[name], 7)
        trouble = Trouble(0.03, 0.03, 0.02, 0.01, retry_after_s=0)
        return make(happenings, trouble, self.dice, page=4)

    def holds(self, name: str) -> dict[str, Happening]:
        """Event id -> what happened: what the API holds of the range that is asked for."""
        source, found = Source(name=name, provider=name), {}
        for one in self.replicas[name].happenings:
            body, headers = self.replicas[name].hook(one)
            request = Request("POST", "", headers, body, "")
            [event] = REGISTRY[name].parse(request, source, int(self.now * 1e6)).events
            if one.kind != "initial_open" and one.at_s < self.end:
                found[event["event_id"]] = one
        return found

    def post(self, name: str, one: Happening, *, key: str, password: str) -> int:
        """The webhook's request for an event; its status."""
        body = self.replicas[name].hook(one)[0]
        if name == "mailgun":
            at = str(int(time.time()))
            proof = hmac.new(key.encode(), f"{at}{one.number}".encode(), hashlib.sha256)
            signature = {"timestamp": at, "token": str(one.number), "signature": proof.hexdigest()}
            body = json.dumps({**json.loads(body), "signature": signature}).encode()
        url = f"{self.pipeline.ingest_url}/hooks/{name}"
        headers = {"content-type": "application/json"}
        return self.client.post(
            url, content=body, headers=headers, auth=(USER, password)
        ).status_code

    def backfill(self, name: str, kills: int) -> str:
        """Runs the command to its end, killed so often on its way; what it said at last."""
        environ = {**clean_environ(), **self.pipeline.environ, "HISTORY_KEY": KEY}
        log = self.folder / f"backfill-{name}.log"
        notes = self.folder / "data" / "backfill" / f"{name}.json"
        command = [sys.executable, "-P", "-m", "streams.cli", "backfill", name]
        process = Process(
            f"backfill {name}", [*command, "--from", iso(self.begin - 60), "--to", iso(self.end)],
            log, env=environ, cwd=self.folder,
        )  # fmt: skip
        for number in range(kills + 1):
            process.start()
            if number < kills:
                before = requests_of(notes)
                wanted = before + self.dice.randint(1, 12)
                process.wait_until(lambda: requests_of(notes) >= wanted, "reading", 60)  # noqa: B023
                time.sleep(self.dice.random() / 50)
                process.kill()
                process.become(command)  # goes on where it was
        process.wait_until(lambda: "requests," in log.read_text("utf-8"), "done", 300)
        assert not notes.exists()
        return log.read_text("utf-8")


def requests_of(notes: Path) -> int:
    """How many answers the notes of a run count; it may end and remove them."""
    try:
        return int(json.loads(notes.read_text("utf-8"))["counts"]["requests"])
    except OSError:
        return 0


@pytest.fixture
def outage(tmp_path: Path) -> Iterator[Outage]:
    """A running pipeline that got what came before, and a part of what came during the outage."""
    with or_skip(Kafka) as broker, ExitStack() as stack:
        yield Outage(stack, tmp_path, broker.bootstrap)


def test_what_the_api_holds_is_stored_once_whatever_happens(outage: Outage) -> None:
    """All of it, nothing doubled, every view as a recount: kills, refusals, repeats by webhook."""
    for name in ("mailgun", "sparkpost"):
        for one in outage.replicas[name].happenings[::4]:
            rotated = outage.dice.random() < 0.5
            status = outage.post(name, one, key="old" if rotated else SIGNING,
                                 password="old" if rotated else PASSWORD)  # fmt: skip
            assert status == (401 if rotated else 200)
    outage.pipeline.wait_caught_up()
    kills = Counter(outage.dice.choices(["mailgun", "sparkpost", "sendgrid"], k=KILLS))
    for name in REPLICAS:
        said = outage.backfill(name, kills[name])
        assert "refused" not in said
        assert "Traceback" not in said
    for one in outage.replicas["mailgun"].happenings[1::9]:  # the provider tries again
        assert outage.post("mailgun", one, key=SIGNING, password=PASSWORD) == 200
    outage.pipeline.wait_caught_up()
    bootstrap = outage.pipeline.settings.kafka_bootstrap
    assert asyncio.run(assert_exact(bootstrap)) > 0
    for name in REPLICAS:
        check_stored(outage, name)
    check_views(outage)


def ask(outage: Outage, sql: str) -> list[list[object]]:
    """Rows of an analyst's query."""
    return table_of(outage.pipeline.settings, sql)[1]


def check_stored(outage: Outage, name: str) -> None:
    """100 % of what the API holds, 0 doubled; what had come by webhook is not marked as pulled."""
    rows = ask(
        outage,
        "SELECT replaceAll(toString(event_id), '-', ''), received_by FROM events FINAL"
        f" WHERE source = '{name}' LIMIT 100000",
    )
    ids = Counter(str(one) for one, _ in rows)
    missing = outage.holds(name).keys() - ids.keys()
    assert not missing, f"{name}: {len(missing)} of {len(outage.holds(name))} missing"
    assert max(ids.values()) == 1
    hooks = sum(how == "hook" for _, how in rows)
    assert (hooks > 0) == (name in ("mailgun", "sparkpost"))
    assert hooks < len(rows)


def check_views(outage: Outage) -> None:
    """The campaign's counts as analysts see them, against a recount of the raw topic."""
    events = asyncio.run(raw_events(outage.pipeline.settings.kafka_bootstrap))
    recounted = Counter[str]()
    for (campaign, _, _), counts in count(events).items():
        if campaign == "spring":
            recounted.update(counts)
    names = ", ".join(f"toInt64({one})" for one in COUNTER_NAMES)
    [row] = ask(outage, f"SELECT {names} FROM campaign_summary WHERE campaign_id = 'spring'")
    assert list(zip(COUNTER_NAMES, row, strict=True)) == [
        (one, recounted[one]) for one in COUNTER_NAMES
    ]
    assert recounted["delivered"] > 0
