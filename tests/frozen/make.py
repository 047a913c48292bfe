"""Makes the frozen data: ``python -m tests.frozen.make``, once per release that changes a form.

It runs ``mailpulse up`` on a small load with every kind of record, stops it in order, and keeps:

- ``data.tar.xz``: the data directory (Kafka's log, state, ClickHouse's tables);
- ``topics.jsonl.xz``: every record of every topic;
- ``figures.json``: what analysts were told.

A change of form either leaves these readable with the same figures, or comes with a migration that
the tests run first. Never make them anew to get a test to pass.
"""

import asyncio
import base64
import json
import lzma
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from schemas.codec import Codec
from schemas.settings import Settings
from schemas.topics import BY_NAME
from streams.books.watch import Watch
from streams.cli.clickhouse import table_of
from streams.embedded.data_dir import Endpoints
from tests.builders import record
from tests.live import story
from tests.live.log_reading import records_of
from tests.live.roles import clean_environ
from tests.live.up import Up

HERE = Path(__file__).parent
DATA, TOPICS, FIGURES = HERE / "data.tar.xz", HERE / "topics.jsonl.xz", HERE / "figures.json"
PARTITIONS = 2
FIGURES_SQL = {
    "events": (
        "SELECT event_type, actor, actor_reason, bounce_class, first_of_kind, first_human, count()"
        " FROM events FINAL GROUP BY ALL ORDER BY ALL"
    ),
    "summary": "SELECT * FROM campaign_summary ORDER BY campaign_id",
    "suppressions": "SELECT recipient, reason FROM suppressions FINAL ORDER BY ALL",
    "scoped": "SELECT recipient, source, scope, reason FROM scoped_suppressions FINAL ORDER BY ALL",
}
"""What must be the same on every later day; nothing of it depends on the time of asking."""
ENVIRON = {"MAILPULSE_PARTITIONS": str(PARTITIONS)}


def figures(where: Endpoints) -> dict[str, Any]:
    """What analysts are told."""
    asked = Settings.model_validate({"clickhouse_dsn": where.clickhouse_dsn})
    found = {}
    for name, sql in FIGURES_SQL.items():
        columns, rows = table_of(asked, sql)
        found[name] = [dict(zip(columns, map(str, row), strict=True)) for row in rows]
    return found


def everything(where: Endpoints) -> list[dict[str, Any]]:
    """Every record of every topic, in order."""
    found = asyncio.run(records_of(where.kafka_bootstrap, PARTITIONS))
    assert set(found) == set(BY_NAME)
    return [
        {
            "topic": topic, "partition": one.partition, "offset": one.offset,
            "timestamp": one.timestamp, "key": _text(one.key), "value": _text(one.value),
            "headers": [[name, _text(value)] for name, value in one.headers],
        }
        for topic, records in found.items()
        for one in records
    ]  # fmt: skip


def _text(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def load(where: Endpoints) -> None:
    """Posts and enters something of everything, and waits until analysts find it."""
    told = story.tell(where.ingest_url, "crm")
    more = [
        {"event": kind, "id": kind, "time": int(time.time()) - 60, "recipient": story.address(kind)}
        for kind in ("complained", "unsubscribed", "subscribed", "autoresponded", "no such event")
    ]
    answer = story.post(where.ingest_url, json.dumps(more).encode(), source="crm")
    told += answer.json()["accepted"]
    environ = {**clean_environ(), "MAILPULSE_KAFKA_BOOTSTRAP": where.kafka_bootstrap}
    for words in (
        ("campaigns", "set", "spring", "--name", "Spring", "--owner", "Ada"),
        ("suppressions", "add", story.address("list"), "--source", "crm", "--scope", "list:1"),
    ):
        subprocess.run([sys.executable, "-P", "-m", "streams.cli", *words], check=True, env=environ)
    asyncio.run(fall_silent(where))
    until_told(where, told + 1)
    until_counted(where)


async def fall_silent(where: Endpoints) -> None:
    """Tells an incident of a source, and waits until it is stored."""
    now_us = int(time.time() * 1e6)
    silent = record(
        "source_alert", incident_id="5e" * 16, sequence=1, state="opened", source="crm",
        level="critical", silent_since=now_us - 7_200_000_000, usual_gap_s=720, explained_s=2_160,
        opened_at=now_us, changed_at=now_us, as_of=now_us, advice="Run a test.",
    )  # fmt: skip
    to_kafka = Settings.model_validate({"kafka_bootstrap": where.kafka_bootstrap})
    await Watch(to_kafka, Codec(), time.time).tell([silent])
    asked = Settings.model_validate({"clickhouse_dsn": where.clickhouse_dsn})
    for _ in range(60):
        _, rows = table_of(asked, "SELECT source, advice FROM source_incidents")
        if [list(row) for row in rows] == [["crm", "Run a test."]]:
            return
        await asyncio.sleep(1)
    raise AssertionError("the incident is not stored")


def until_counted(where: Endpoints) -> None:
    """Waits until ingress has published how it answered, which it does each minute."""
    asked = Settings.model_validate({"clickhouse_dsn": where.clickhouse_dsn})
    for _ in range(90):
        if table_of(asked, "SELECT count() FROM source_requests")[1] != [[0]]:
            return
        time.sleep(2)
    raise AssertionError("no request is counted")


def until_told(where: Endpoints, events: int) -> None:
    """Waits until this many events are stored and the figures stand still."""
    before: dict[str, Any] = {}
    for _ in range(120):
        now = figures(where)
        if sum(int(row["count()"]) for row in now["events"]) == events and now == before:
            return
        before = now
        time.sleep(2)
    raise AssertionError(before)


def main() -> None:
    """See the module."""
    with tempfile.TemporaryDirectory() as folder:
        up = Up(Path(folder), Path(folder) / "up.log", ENVIRON)
        with (Path(folder) / "mailpulse.toml").open("a", encoding="utf-8") as config:
            config.write("[alerts]\nhold_seconds = 0\n")  # an incident opens at once
        try:
            where = up.start()
            load(where)
            found, lines = figures(where), everything(where)
            up.stop()
        except BaseException:
            print(up.said()[-4_000:], file=sys.stderr)
            up.kill()
            raise
        FIGURES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        with lzma.open(TOPICS, "wt", encoding="utf-8", preset=9) as out:
            out.writelines(json.dumps(line) + "\n" for line in lines)
        with (
            lzma.open(DATA, "wb", preset=9) as packed,
            tarfile.open(fileobj=packed, mode="w") as tar,
        ):
            tar.add(up.data, "data", filter=_kept)


def _kept(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Without what a start makes anew, and with nothing of the machine it was made on."""
    if entry.name.endswith(("/LOG", "/broker.log", "/config.xml", ".lock")):
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    main()
