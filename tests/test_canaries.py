"""No address where none may be: canaries in every field of every provider, and all that comes out.

Requests with a canary in one field go through the real ingress (parsing and privacy), the fold of
``enrich`` and the real engine. What comes out is decoded in every way (``tests.spellings.traces``).
``tests/live/test_privacy.py`` does the same with a few canaries through Kafka. With
MAILPULSE_CANARIES=all each of the 15,000 fields of all payloads gets one, and each of the 2,100
that differ by provider and name gets one in every coding: half an hour of one core.
"""

import io
import json
import logging
import os
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import structlog

from analytics.client import reader
from analytics.dashboard import create_app
from analytics.dashboard.asking import ClickHouseQuery
from schemas import topics
from schemas.codec import Codec
from schemas.identity import address_identity
from schemas.settings import Settings
from streams.cli import dlq, tail
from streams.cli.logs import configure
from streams.cli.main import main
from streams.enrich.minute_counts import record as counts_record
from tests.analytics.scenario import Sent
from tests.contracts.warehouse import Warehouse
from tests.ingest.front_door import MemoryLog, front_door
from tests.planting import KEY, Planted, every_coding, intake, plantings
from tests.spellings import ADDRESSES, CODINGS, traces
from tests.streams.folding import LOG, Fold, LogRecord
from tests.warehouses import OpenWarehouse, migrated_warehouse

CODEC = Codec()
PARTS = 4
ALL = os.environ.get("MAILPULSE_CANARIES") == "all"
EVERY = 1 if ALL else 6
"""Of the fields, every sixth gets a canary; payloads of a provider have most fields in common."""
EVERY_WHOLE = 3 if ALL else 17
"""And every seventeenth one that goes through the whole pipeline."""
MODES = ("plain", "hashed", "dropped")


def named(event: dict[str, Any]) -> str:
    """An event as text."""
    return json.dumps(event, ensure_ascii=False, default=repr)


def left(planted: Planted, mode: str) -> Iterator[str]:
    """Canaries in what ingress keeps of a request."""
    taken = planted.taken(intake(mode))
    plain = planted.taken(intake("plain"))
    for (key, value), (_, whole) in zip(taken.parcel.events, plain.parcel.events, strict=True):
        event = CODEC.decode(value, "raw_event")
        recipient = CODEC.decode(whole, "raw_event")["recipient"] or ""
        if address_identity(recipient) == address_identity(planted.address):
            yield from traces(named(event) + key.decode("utf-8", "replace"))
        else:  # a message id looks like an address, which nobody could tell from one
            yield from traces(named({**event, "message_id": "", "rfc_message_id": ""}))
    for key, value in taken.parcel.dead_letters:
        letter = CODEC.decode(value, "dead_letter")
        yield from traces(letter.pop("content").decode("utf-8", "replace"))
        yield from traces(named(letter) + key.decode())


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
def test_no_canary_passes_ingress(part: int) -> None:
    """Whatever the provider, the field and the coding: not in an event, a key or a dead letter."""
    found = {}
    number = 0
    for number, planted in enumerate(plantings(part, EVERY * PARTS)):
        mode = MODES[1 + number // 2 % 2]
        for trace in left(planted, mode):
            found[f"{planted}, {mode}"] = trace
    assert found == {}
    assert number > 400


@pytest.mark.timeout(3600)
@pytest.mark.skipif(not ALL, reason="takes minutes: MAILPULSE_CANARIES=all")
@pytest.mark.parametrize("part", range(PARTS))
def test_no_canary_passes_ingress_in_any_coding(part: int) -> None:
    """Every field of every provider, every coding, hashed and dropped."""
    found = {
        f"{planted}, {mode}": trace
        for planted in every_coding(part, PARTS)
        for mode in MODES[1:]
        for trace in left(planted, mode)
    }
    assert found == {}


# --- the whole pipeline ---------------------------------------------------------------------------


def is_tellable(planted: Planted) -> bool:
    """Whether no other's address is planted as a message id, which looks like one."""
    for _, value in planted.taken(intake("plain")).parcel.events:
        event = CODEC.decode(value, "raw_event")
        if address_identity(event["recipient"] or "") != address_identity(planted.address):
            if traces(f"{event['message_id']} {event['rfc_message_id']}"):
                return False
    return True


class Outcome:
    """What the pipeline made of every seventeenth request in one mode.

    Attributes:
        mode: the privacy setting.
        settings: of the warehouse's analysts.
        raw: values of the raw topic.
        enriched: values of the enriched topic.
        letters: values of the dead-letter topic.
        suppressions: keys and values.
        rejects: what the sink refused.
        tables: name -> rows as text.
    """

    def __init__(self, mode: str, warehouse: OpenWarehouse, loaded: Warehouse) -> None:
        self.mode = mode
        self.settings = warehouse.reader_settings
        chosen = filter(is_tellable, plantings(0, EVERY_WHOLE))
        taken = [one.taken(intake(mode)) for one in chosen]
        pairs = [pair for one in taken for pair in one.parcel.events]
        self.raw = [value for _, value in pairs]
        self.letters = [value for one in taken for _, value in one.parcel.dead_letters]
        at_ms = taken[0].parcel.timestamp_ms
        fold = Fold()
        log = [LogRecord(offset, at_ms, key, value) for offset, (key, value) in enumerate(pairs)]
        self.enriched = [value for _, value, _ in fold.fold(log).enriched]
        fold.publish_minutes()
        told = [(told.addressee, told.record) for told in fold.suppressions if told.record]
        self.suppressions, scoped = (
            [
                (whom.identity.encode(), CODEC.encode("suppression", record))
                for whom, record in told
                if bool(whom.scope) is limited
            ]
            for limited in (False, True)
        )
        prefix = CODEC.prefix("campaign_minute")
        minutes = [
            prefix + counts_record(key, vector, LOG, 0, at)
            for key, (at, vector) in fold.minutes.items()
        ]
        sent = [
            Sent(topic, 0, offset, at_ms, *pair)
            for topic, values in (
                (topics.ENRICHED, [(b"k", value) for value in self.enriched]),
                (topics.DEAD_LETTERS, [(b"k", value) for value in self.letters]),
                (topics.SUPPRESSIONS, self.suppressions),
                (topics.SCOPED_SUPPRESSIONS, scoped),
                (topics.MINUTES, [(b"k", value) for value in minutes]),
            )
            for offset, pair in enumerate(values)
        ]
        self.rejects = loaded.load(sent)
        self.tables = {
            name: [text for (text,) in loaded.rows(f"SELECT toString(tuple(*)) FROM {name}")]
            for (name,) in loaded.rows(
                "SELECT name FROM system.tables"
                " WHERE database = currentDatabase() AND engine LIKE '%MergeTree'"
            )
        }


@pytest.fixture(scope="module", params=MODES)
def outcome(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outcome]:
    """The pipeline in one mode; its engine stays open."""
    folder = tmp_path_factory.mktemp(request.param)
    with migrated_warehouse(folder) as (warehouse, client):
        yield Outcome(request.param, warehouse, Warehouse(warehouse.settings, client))


def test_no_canary_is_behind_ingress(outcome: Outcome) -> None:
    """Not in an enriched record, a suppression's key or a row of any table; unless kept."""
    assert outcome.rejects == []
    assert len(outcome.letters) > 10
    assert len(outcome.tables["events"]) > 400
    assert bool(outcome.suppressions) is (outcome.mode != "dropped")
    texts = [*(text for rows in outcome.tables.values() for text in rows)]
    texts += [named(CODEC.decode(value, "enriched_event")) for value in outcome.enriched]
    texts += [
        f"{key!r} {CODEC.decode(value, 'suppression')}" for key, value in outcome.suppressions
    ]
    found = [trace for text in texts for trace in traces(text)]
    assert bool(found) is (outcome.mode == "plain"), found[:3]


# --- for people: masked even where addresses are kept ---------------------------------------------


def stand_in_for_kafka(outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands read what the pipeline made."""
    logs = {
        topics.RAW: outcome.raw, topics.ENRICHED: outcome.enriched,
        topics.DEAD_LETTERS: outcome.letters,
    }  # fmt: skip

    async def records(
        _settings: Any, wanted: tail.Wanted, _codec: Any
    ) -> AsyncGenerator[tuple[Any, Any], None]:
        if wanted.topic.name == topics.SUPPRESSIONS:
            for key, value in outcome.suppressions:
                at = SimpleNamespace(timestamp=0, partition=0, offset=0, key=key, value=None)
                yield at, CODEC.decode(value, "suppression")
                yield at, None
            return
        for value in logs[wanted.topic.name]:
            at = SimpleNamespace(timestamp=0, partition=0, offset=0, key=b"k", value=value)
            yield at, CODEC.decode(value, wanted.topic.schema)

    monkeypatch.setattr(tail, "records", records)
    monkeypatch.setattr(dlq, "records", records)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command writes, on both streams."""
    with pytest.raises(SystemExit):
        main(list(arguments))
    written = capsys.readouterr()
    return written.out + written.err


def people(line: str) -> str:
    """A line without what commands show as it is."""
    return line if line[:1] != "{" else named(without_ids(json.loads(line)))


def without_ids(document: Any) -> Any:
    """A document without message ids, and without groups of links.

    Of a link with a coded address in a place where no parameter can be, a group is the part before
    the &, which is no address any more.
    """
    if isinstance(document, dict):
        ids = ("message_id", "rfc_message_id", "click_url_group")
        return {name: without_ids(one) for name, one in document.items() if name not in ids}
    return [without_ids(one) for one in document] if isinstance(document, list) else document


def test_commands_show_no_canary(
    outcome: Outcome, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:  # fmt: skip
    """``tail``, ``dlq ls`` and ``dlq show``, as text and as JSON."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAILPULSE_CANARIES", raising=False)  # it is no setting
    stand_in_for_kafka(outcome, monkeypatch)
    asked = [
        *(("tail", name, "--json") for name in ("raw", "enriched", "dlq", "suppressions")),
        ("tail", "suppressions"), ("dlq", "ls"), ("dlq", "ls", "--json"),
    ]  # fmt: skip
    ids = [CODEC.decode(value, "dead_letter")["dead_letter_id"] for value in outcome.letters]
    asked += [("dlq", "show", one) for one in ids[::20]]
    for arguments in asked:
        text = said(capsys, *arguments)
        assert len(text) > 100 or (outcome.mode, arguments[1]) == ("dropped", "suppressions")
        for line in text.splitlines():
            assert not traces(people(line)), arguments
    if outcome.mode == "plain":
        assert traces(said(capsys, "tail", "raw", "--unmasked"))


async def test_pages_show_no_canary(outcome: Outcome) -> None:
    """Documents and CSV tables of every page; a campaign's own id is in its links."""
    query = ClickHouseQuery(lambda: reader(outcome.settings))
    app = create_app(Settings(), query, wall=lambda: 1.8e9)
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        overview = (await http.get("/api/overview?period=all")).json()
        names = [one["id"] for one in overview["campaigns"]]
        clean = [name for name in names if not traces(name)]
        assert len(clean) > 3
        if outcome.mode != "plain":
            assert clean == names
        for name in clean[:10]:
            given = {"campaign": name, "period": "all"}
            document = await http.get("/api/campaign", params=given)
            assert document.status_code == 200
            assert document.json()["recent"]
            kept = outcome.mode == "plain"
            assert not traces(named(without_ids(document.json()) if kept else document.json()))
            for one in document.json()["machines"][:3]:
                verdict = {"event_type": one["event_type"], "actor": one["actor"],
                           "reason": one["actor_reason"],
                           "certainty": one["actor_certainty"]}  # fmt: skip
                examples = await http.get("/api/examples", params={**given, **verdict})
                assert examples.json()["examples"]
                assert kept or not traces(examples.text)
            tables = ["bounces", "recent", "machines", "mailboxes", *([] if kept else ["links"])]
            for table in tables:
                answer = await http.get(f"/csv/campaign/{table}.csv", params=given)
                assert (answer.status_code, traces(answer.text)) in ((200, []), (400, []))
        pipeline = await http.get("/api/pipeline?period=all")
        assert pipeline.json()["dead_letters"]
        assert not traces(pipeline.text)
    query.close()


def test_logs_hold_no_canary() -> None:
    """In fields, nested ones, messages, arguments of other libraries' and exceptions."""
    stream = io.StringIO()
    configure(Settings(log_format="json"), "ingest", stream)
    log = structlog.get_logger()
    for address in ADDRESSES:
        for name, coding in CODINGS.items():
            text = coding(address)
            log.warning("refused", url=text, more={"a": [text]}, coding=name)
            logging.getLogger("aiokafka").error("of %s", text)
            try:
                raise ValueError(text)
            except ValueError:
                log.exception(text)
    lines = stream.getvalue().splitlines()
    assert len(lines) > 2 * len(ADDRESSES) * len(CODINGS)
    for line in lines:
        assert not traces(line)


@pytest.mark.parametrize("mode", MODES)
async def test_the_front_door_logs_and_counts_no_canary(mode: str) -> None:
    """Its log and its metrics, whatever was posted where."""
    settings: Any = {"recipients": mode, "recipient_hash_key": KEY}
    stream = io.StringIO()
    configure(Settings(log_format="json"), "ingest", stream)
    async with front_door(log=MemoryLog(), **settings) as door:
        for name, coding in CODINGS.items():
            text = coding(ADDRESSES[0])
            item = {"id": f"m-{name}", "to": text, "said": text, "metadata": {text: text}}
            assert (await door.post([item, {"to": text}])).status_code == 200
            await door.post(text.encode())
            await door.post([item], headers={"user-agent": "x", "x-note": "y"}, key="wrong")
        metrics = (await door.client.get("/metrics")).text
    assert not traces(metrics)
    assert stream.getvalue()
    assert not traces(stream.getvalue())
