"""The commands against a running pipeline: what a user types after ``mailpulse up``."""

import csv
import hashlib
import hmac
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.hostile import fill
from tests.live.roles import clean_environ

pytestmark = pytest.mark.slow

SECRET = "s3cret"
CONFIG = """\
[sources.crm]
provider = "generic"
secret = "env:MAILPULSE_SECRET_CRM"
"""


class Pipeline:
    """A running ``mailpulse up`` in a directory of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = fill(folder)  # a user's folder may hold files of any name
        (folder / "mailpulse.toml").write_text(CONFIG, encoding="utf-8")
        self.environ = {**clean_environ(), "MAILPULSE_SECRET_CRM": SECRET}
        self.log = (folder / "up.log").open("w", encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "streams.cli", "up", "--port", "0"],
            stderr=self.log, stdout=self.log, cwd=folder, env=self.environ,
        )  # fmt: skip
        self.until(lambda: "Ctrl-C stops it" in self.said(), 90)
        state = (folder / "mailpulse-data" / "embedded.json").read_text(encoding="utf-8")
        self.url: str = json.loads(state)["ingest_url"]

    def said(self) -> str:
        """Its output."""
        return (self.folder / "up.log").read_text(encoding="utf-8")

    def until(self, holds: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.1)

    def run(self, *arguments: str, code: int = 0) -> str:
        """A command's stdout; its exit code must be ``code``."""
        answer = subprocess.run(
            [sys.executable, "-P", "-m", "streams.cli", *arguments],
            capture_output=True, text=True, cwd=self.folder, env=self.environ, check=False,
            timeout=60,
        )  # fmt: skip
        assert answer.returncode == code, f"{arguments}: {answer.stdout}{answer.stderr}"
        assert "Traceback" not in answer.stderr
        return answer.stdout

    def json(self, *arguments: str, code: int = 0) -> Any:
        """A command's one JSON document."""
        out = self.run(*arguments, "--json", code=code)
        assert out.count("\n") == 1, out
        return json.loads(out)

    def lines(self, *arguments: str) -> list[Any]:
        """A command's JSON lines."""
        return [json.loads(line) for line in self.run(*arguments, "--json").splitlines()]

    def post(self, body: bytes) -> int:
        """A signed request to the source; its status."""
        signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        headers = {"x-webhook-signature": f"sha256={signature}"}
        return httpx.post(f"{self.url}/hooks/crm", content=body, headers=headers).status_code

    def until_stored(self, sql: str, wanted: int) -> None:
        """Waits until a query for one number gives at least ``wanted``."""
        self.until(lambda: int(self.run("query", sql, "--format", "TSV")) >= wanted, 60)

    def close(self) -> None:
        """Stops it as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        self.log.close()


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """One pipeline with a campaign of three messages in it, and one dead letter."""
    started = Pipeline(tmp_path_factory.mktemp("up"))
    try:
        events: list[dict[str, object]] = []
        for number in range(3):
            message = {
                "message_id": f"m{number}", "recipient": f"ada{number}@example.com",
                "campaign_id": "spring",
            }  # fmt: skip
            now = int(time.time()) - 600
            events += [
                {"event": "delivered", "id": f"d{number}", "time": now, **message},
                {"event": "opened", "id": f"o{number}", "time": now + 120, **message},
            ]
        bounce = {"event": "bounced", "id": "b", "time": int(time.time()), "message_id": "m9",
                  "recipient": "gone@example.com", "campaign_id": "spring",
                  "bounce": {"class": "hard"}}  # fmt: skip
        assert started.post(json.dumps([*events, bounce]).encode()) == 200
        assert started.post(b'{"nonsense": 1}') == 200
        started.until_stored("SELECT count() FROM events", 7)
        started.until_stored("SELECT sum(delivered) FROM campaign_summary", 3)
        yield started
    finally:
        started.close()


@pytest.mark.timeout(480)
def test_log_levels_follow_signals(pipeline: Pipeline) -> None:
    """``up`` passes them on: every role but the database writes debug lines, and none ends."""
    logs = pipeline.folder / "mailpulse-data" / "logs"

    def at(level: str) -> set[str]:
        return {
            path.stem
            for path in logs.glob("*.log")
            if [json.loads(line)["level_now"] for line in path.read_text("utf-8").splitlines()
                if '"log level"' in line][-1:] == [level]
        }  # fmt: skip

    def detailed() -> bool:
        return '"level":"debug"' in (logs / "worker.log").read_text("utf-8")

    roles = {"ingest", "worker", "sink", "dashboard"}
    assert not detailed()
    pipeline.process.send_signal(signal.SIGUSR1)
    pipeline.until(lambda: at("DEBUG") >= roles and detailed(), 30)
    pipeline.process.send_signal(signal.SIGUSR2)
    pipeline.until(lambda: at("INFO") >= roles, 30)
    assert "restarting" not in pipeline.said()


@pytest.mark.timeout(480)
def test_data_is_for_its_user_alone(pipeline: Pipeline) -> None:
    """Recipients are in the files of the database and of the state, whatever the caller's umask."""
    data = pipeline.folder / "mailpulse-data"
    files = [path for path in data.rglob("*") if path.is_file()]
    assert len(files) > 100
    assert [path for path in (data, *files) if path.stat().st_mode & 0o077] == []


@pytest.mark.timeout(480)
def test_doctor_finds_nothing_wrong(pipeline: Pipeline) -> None:
    """Broker, topics, database, sources, clock and disk of a pipeline that just started."""
    findings = pipeline.json("doctor")
    assert all(finding["ok"] for finding in findings)
    assert {"kafka", "topics", "clickhouse", "migrations", "sources", "clock", "disk"} <= {
        finding["what"] for finding in findings
    }


def test_query_answers_in_the_format_asked_for(pipeline: Pipeline) -> None:
    """A query from a page, as a table for programs, and a refusal with ClickHouse's message."""
    sql = "SELECT campaign_id, bounce_rate, click_rate FROM campaign_summary"
    assert pipeline.json("query", sql) == [
        {"campaign_id": "spring", "bounce_rate": 0.25, "click_rate": 0}
    ]
    assert pipeline.run("query", sql, "--format", "CSV") == '"spring",0.25,0\n'
    pipeline.run("query", "DROP TABLE events", code=1)
    pipeline.run("query", "SELECT nonsense", code=1)


def test_campaigns_are_listed_shown_and_described(pipeline: Pipeline) -> None:
    """Figures come from the view; facts go through the topic into the table."""
    (campaign,) = pipeline.json("campaigns", "ls")
    assert (campaign["campaign_id"], campaign["sent"]) == ("spring", 4)
    assert pipeline.json("campaigns", "show", "spring")["opened"] == 3
    pipeline.run("campaigns", "show", "nobody", code=1)
    pipeline.run("campaigns", "set", "spring", "--name", "Spring sale", "--expected", "4")
    pipeline.until_stored("SELECT count() FROM campaigns FINAL WHERE name = 'Spring sale'", 1)


def test_export_writes_whole_files(pipeline: Pipeline) -> None:
    """CSV with names, parquet that ClickHouse reads, nothing left of a failed one."""
    pipeline.run("export", "events", "--format", "csv", "-o", "events.csv")
    with (pipeline.folder / "events.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["event_type"] for row in rows) == [
        "bounced", "delivered", "delivered", "delivered", "opened", "opened", "opened",
    ]  # fmt: skip
    pipeline.run("export", "campaign_summary", "--format", "parquet", "-o", "summary.parquet")
    assert (pipeline.folder / "summary.parquet").read_bytes()[:4] == b"PAR1"
    pipeline.run("export", "no_such_view", "-o", "none.csv", code=1)
    assert not list(pipeline.folder.glob("none*"))


def test_suppressed_address_is_found(pipeline: Pipeline) -> None:
    """Exit code 1 for a suppressed address, 0 for others; the export contains it."""
    pipeline.until_stored("SELECT count() FROM suppressions FINAL", 1)
    found = pipeline.json("suppressions", "check", "Gone@Example.com", code=1)
    assert (found["suppressed"], found["reason"]) == (True, "hard_bounce")
    assert pipeline.json("suppressions", "check", "ada0@example.com") == {
        "suppressed": False, "scopes": [],
    }  # fmt: skip
    assert "gone@example.com" in pipeline.run("suppressions", "export")


def test_operators_enter_and_lift_suppressions(pipeline: Pipeline) -> None:
    """Through the raw topic; a list's entry does not concern the address. A bad file is refused."""
    listed = pipeline.folder / "listed.csv"
    listed.write_text("email,reason\nKim@Example.com,complaint\nnobody\n", encoding="utf-8")
    imported = ("suppressions", "import", "listed.csv")
    pipeline.run(*imported, "--at", "1h", code=1)
    pipeline.run(*imported, "--skip-bad", code=1)
    done = pipeline.json(*imported, "--skip-bad", "--at", "1h")
    assert done == {"entered": 1, "bad_lines": 1}
    pipeline.run("suppressions", "add", "lee@example.com", "--source", "crm", "--scope", "list:7")
    pipeline.until_stored("SELECT count() FROM suppressions FINAL", 2)
    pipeline.until_stored("SELECT count() FROM scoped_suppressions FINAL", 1)
    found = pipeline.json("suppressions", "check", "kim@example.com", code=1)
    assert (found["reason"], found["provider"]) == ("complaint", "mailpulse")
    assert pipeline.json("suppressions", "check", "lee@example.com")["suppressed"] is False
    its = ("check", "lee@example.com", "--source", "crm", "--scope", "list:7")
    assert pipeline.json("suppressions", *its, code=1)["scopes"][0]["scope"] == "list:7"
    assert "lee@example.com" in pipeline.run("suppressions", "export", "--scoped")
    pipeline.run("suppressions", "lift", "kim@example.com")
    pipeline.until_stored("SELECT 2 - count() FROM suppressions FINAL", 1)
    assert pipeline.json("suppressions", "check", "kim@example.com")["suppressed"] is False


def test_topics_and_lag_are_shown(pipeline: Pipeline) -> None:
    """All topics, and nothing left to read."""
    shown = pipeline.json("topics", "show")
    assert {row["partitions"] for row in shown} == {4}
    rows = pipeline.json("lag")
    assert {row["group"] for row in rows} == {"mailpulse", "mailpulse-sink"}
    assert pipeline.json("topics", "apply")["created"] == []


def test_tail_decodes_masks_and_filters(pipeline: Pipeline) -> None:
    """Events in their topic's schema, addresses masked unless asked for."""
    opened = pipeline.lines("tail", "enriched", "--type", "opened", "--campaign", "spring")
    assert len(opened) == 3
    for line in opened:
        assert line["value"]["event"]["recipient"] == "a***@example.com"
        assert line["value"]["enrichment"]["first_human"] is True
    whole = pipeline.run("tail", "raw", "--unmasked", "--since", "1h")
    assert "ada0@example.com" in whole
    assert pipeline.lines("tail", "raw", "--since", "2100-01-01") == []
    events = pipeline.lines("tail", "raw", "--since", "1h")
    assert pipeline.lines("tail", "raw", "-n", "1") == events[-1:]
    assert pipeline.lines("tail", "raw", "-n", "3") == events[-3:]
    [newest] = pipeline.lines("tail", "raw", "-n", "1")
    place = f"{newest['partition']}:{newest['offset']}"
    asked = ("tail", "raw", "--from", place, "--format", "{partition}:{offset}")
    assert pipeline.run(*asked).splitlines() == [place]


def test_dead_letter_is_listed_and_shown(pipeline: Pipeline) -> None:
    """With its reason and content; the id may be shortened."""
    (letter,) = pipeline.json("dlq", "ls", "--reason", "no_event_type")
    assert letter["stage"] == "ingest"
    shown = pipeline.json("dlq", "show", letter["dead_letter_id"][:8])
    assert json.loads(shown["content"]) == {"nonsense": 1}
    pipeline.run("dlq", "show", "ffffffffffff", code=1)


def test_replay_mends_what_can_be_mended_and_doubles_nothing(pipeline: Pipeline) -> None:
    """First a plan; once the source knows the field of the event name, a letter becomes an
    event."""
    nothing = {
        "letters": 1, "records": 0, "requests": 0, "sent": False,
        "still_bad": {"no_event_type": 1},
    }  # fmt: skip
    assert pipeline.json("dlq", "resend", code=1) == nothing
    assert pipeline.post(b'{"kind": "opened", "id": "late", "message_id": "m0"}') == 200
    pipeline.until_stored("SELECT sum(letters) FROM dead_letter_counts", 2)
    config = pipeline.folder / "mailpulse.toml"
    config.write_text(CONFIG + '[sources.crm.mapping.fields]\nevent = "kind"\n', encoding="utf-8")
    try:
        before = pipeline.json("query", "SELECT count() AS n FROM events FINAL")[0]["n"]
        outcome = pipeline.json("dlq", "resend", "--yes", code=1)
        assert outcome == {**nothing, "letters": 2, "records": 1, "sent": True}
        assert pipeline.json("dlq", "resend", "--yes", code=1) == outcome
    finally:
        config.write_text(CONFIG, encoding="utf-8")
    # what comes behind both copies in the log is stored: so are they
    pipeline.run("send-test", "crm")
    pipeline.until_stored("SELECT count() FROM events FINAL WHERE campaign_id = 'sample'", 1)
    late = "SELECT count() AS n FROM events FINAL WHERE message_id = 'm0'"
    pipeline.until_stored(late, 3)
    assert pipeline.json("query", late) == [{"n": 3}]
    assert pipeline.json("query", "SELECT count() AS n FROM events FINAL")[0]["n"] == before + 2


def test_send_test_goes_all_the_way(pipeline: Pipeline) -> None:
    """The event that was sent is in ClickHouse under the reported id."""
    sent = pipeline.json("send-test", "crm", "--number", "77")
    assert sent["status"] == 200
    (event_id,) = sent["event_ids"]
    pipeline.until_stored(f"SELECT count() FROM events WHERE event_id = toUUID('{event_id}')", 1)


def test_config_show_names_the_pipeline_as_origin(pipeline: Pipeline) -> None:
    """Values from the running pipeline are marked as such."""
    rows = {row["setting"]: row for row in pipeline.json("config", "show")}
    assert rows["MAILPULSE_KAFKA_BOOTSTRAP"]["origin"] == "running pipeline"
    assert rows["MAILPULSE_LOG_LEVEL"]["origin"] == "default"


def test_migrate_has_nothing_to_do(pipeline: Pipeline) -> None:
    """The sink did it when it started."""
    assert pipeline.json("migrate", "--plan") == []


def test_a_person_is_exported_and_forgotten(pipeline: Pipeline) -> None:
    """Last of all, as it changes rows: their past is gone, counts are not."""
    count = "SELECT count() AS n FROM events FINAL"
    before = pipeline.json("query", count)
    known = json.loads(pipeline.run("export-person", "ADA2@example.com"))
    assert known["events"]
    (certificate,) = pipeline.json("forget", "ada2@example.com", "--yes")["certificates"]
    assert certificate["stores"][0]["count"] == len(known["events"])
    verified = pipeline.json("forget", "Ada2@example.com", "--verify")
    stores = {one["store"]: one["count"] for one in verified["stores"]}
    assert verified["gone"]
    assert stores["workers' state"] == 0
    assert stores["Kafka: email.events.raw.v1"] >= len(known["events"])
    left = json.loads(pipeline.run("export-person", "ada2@example.com"))
    assert left["events"] == []
    assert certificate.pop("backups") == []
    assert left["erasures"] == [certificate]
    assert pipeline.json("query", count) == before
    pipeline.run("forget", "nobody@example.com", "--yes", code=1)
