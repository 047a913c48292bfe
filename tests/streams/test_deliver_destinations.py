"""Destinations of ``mailpulse.toml``, what passes their filters, and the bodies that go there."""

import asyncio
import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from schemas import topics
from schemas.codec import Codec
from schemas.errors import ConfigError, DecodeError
from schemas.scopes import scoped_key
from streams.deliver import bodies
from streams.deliver.destinations import Destination, load_destinations, load_tables
from streams.deliver.filters import passes
from streams.deliver.letters import Letters
from streams.deliver.resending import body_of
from streams.deliver.tables import FILTERS
from tests import builders
from tests.webhook_schemas import body as schema_of

KEY = base64.b64encode(b"k" * 32).decode()
ENVIRON = {"KEY": f"whsec_{KEY}", "OLD": KEY, "TOKEN": "t0ken", "URL": "https://hooks.example/s3cr",
           "FEED": "t0ken\r\nx: y"}  # fmt: skip
GOOD = """
[destinations.crm]
url = "https://crm.example/hooks?x=1"
topics = ["engagement", "events"]
campaigns = "news-*"
events = ["clicked"]
secret = ["env:KEY", "env:OLD"]
bearer = "env:TOKEN"
rate_per_s = 10
[destinations.chat]
url = "env:URL"
topics = "alerts"
"""


def nothing(path: Path) -> str:
    raise FileNotFoundError(2, "No such file or directory")


def problems(text: str) -> list[str]:
    """What is wrong with a file."""
    with pytest.raises(ConfigError) as raised:
        load_destinations(text, ENVIRON, nothing)
    return list(raised.value.problems)


def one(**options: Any) -> Destination:
    """A destination with defaults."""
    given = {"name": "crm", "url": "https://crm.example/", "topics": "engagement"}
    return Destination.model_validate({**given, **options})


def test_a_good_file() -> None:
    """Secrets are resolved, single values are lists of one."""
    found = load_destinations(GOOD, ENVIRON, nothing)
    crm, chat = found["crm"], found["chat"]
    assert isinstance(crm, Destination)
    assert crm.topic_names == (topics.ENGAGEMENT, topics.ENRICHED)
    assert crm.campaigns == ("news-*",)
    assert [key.get_secret_value() for key in crm.secret] == [f"whsec_{KEY}", KEY]
    assert (crm.host, chat.host) == ("crm.example", "hooks.example")
    assert crm.limits.rate_per_s == 10
    assert load_destinations("[sources]", {}, nothing) == {}


BAD = {
    "url missing": ("topics = 'alerts'", "url: Field required"),
    "no topics": ("topics = []", "topics: Tuple should have at least 1 item"),
    "no such topic": ("topics = ['raw']", "topics.0: Input should be 'engagement'"),
    "unknown field": ("uri = 'x'", "uri: Extra inputs are not permitted"),
    "plain secret": ("secret = 's3cret'", 'secret: a secret is "env:NAME" or "file:PATH"'),
    "missing secret": ("secret = 'env:NONE'", "secret: environment variable NONE is not set"),
    "missing file": ("secret = 'file:x'", "secret: cannot read x: No such file"),
    "short secret": ("secret = 'env:TOKEN'", "secret: must be whsec_ and base64 of 24 to 64"),
    "filter": (
        "topics = ['engagement', 'alerts']\nsources = ['a']\nevents = 'opened'",
        "engagement can't be filtered by sources; alerts can't be filtered by events; "
        "alerts can't be filtered by sources",
    ),
    "half of mTLS": ("client_cert_file = 'x'", "client_cert_file and client_key_file are set"),
    "network": ("allow_networks = '10.0.0.0/99'", "allow_networks: must be addresses or"),
    "no TLS": ("url = 'http://crm.example/'", "url may be http:// only to addresses that"),
    "no host": ("url = 'https:///x'", "url: must be https://HOST/PATH"),
    "other scheme": ("url = 'ftp://crm.example/'", "url: must be https://HOST/PATH"),
    "password": ("url = 'https://u:s3cret@crm.example/'", "url: must be https://HOST/PATH"),
    "port": ("url = 'https://crm.example:99999/'", "url: must be https://HOST/PATH"),
    "line feed": ('url = "https://crm.example/\\n"', "url: must have no spaces"),
    "odd address": ("url = 'https://2130706433/'", "url: must have four decimal numbers"),
    "short address": ("url = 'https://127.1/'", "url: must have four decimal numbers"),
    "hex address": ("url = 'https://0x7f.1/'", "url: must have four decimal numbers"),
    "hex number": ("url = 'https://x.0x7f000001/'", "url: must have four decimal numbers"),
    "empty label": ("url = 'https://a..b/'", "url: must have the name or address of a host"),
    "long label": (f"url = 'https://{'a' * 64}.b/'", "url: must have the name or address"),
    "long name": (f"url = 'https://{'a.' * 150}b/'", "url: must have the name or address"),
    "dots of Unicode": ('url = "https://\\u2025/"', "url: must have the name or address"),
    "backslash": ("url = 'https://a\\b/'", "url: must have the name or address of a host"),
    "percent": ("url = 'https://%6c.example/'", "url: must have the name or address of a host"),
    "urls": ("url = ['https://a.example/', 'https://b.example/']", "url: must be one"),
    "tokens": ("bearer = ['env:TOKEN', 'env:OLD']", "bearer: must be one, not a list"),
    "line feed in the token": ("bearer = 'env:FEED'", "bearer: must be printable ASCII"),
    "its own name": ("name = 'other'", "name: its name is that of its table"),
    "events that never come": (
        "events = 'bounced'",
        "engagement has none of these events, only clicked, opened",
    ),
    "no number": ("rate_per_s = nan", "rate_per_s: Input should be greater"),
    "a rate of never": ("rate_per_s = 1e-300", "rate_per_s: Input should be greater"),
    "concurrency": ("concurrency = 0", "concurrency: Input should be greater than or equal to 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_problems_are_named_and_repeat_no_secret(case: str) -> None:
    """Each names the destination and the setting."""
    text, expected = BAD[case]
    whole = {"url": "url = 'https://crm.example/'", "topics": "topics = 'engagement'"}
    given = [line for name, line in whole.items() if name not in text and case != "url missing"]
    found = problems("\n".join(["[destinations.crm]", *given, text]))
    assert any(expected in line for line in found), found
    assert all(re.match(r"destinations\.crm(\.\w+)*: \w", line) for line in found), found
    assert "s3cret" not in str(found)


def test_every_problem_is_reported_at_once() -> None:
    """Of all destinations, and names too."""
    found = problems("[destinations.'a b']\n[destinations.x]\n[destinations.y]\nurl = 'env:NO'\n")
    assert len(found) == 5
    assert problems("destinations = 3") == ["destinations: a table of tables, as in "
                                            "[destinations.crm]"]  # fmt: skip
    assert problems("[")[0].startswith("mailpulse.toml: ")


VALUES = st.recursive(
    st.none().map(lambda _: "") | st.booleans() | st.integers() | st.floats() | st.text("a:/.*é "),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=2),
    max_leaves=4,
)


@given(st.sampled_from(sorted(Destination.model_fields)), VALUES)
def test_any_value_is_a_destination_or_a_named_problem(name: str, value: Any) -> None:
    """Whatever is written: the file is read, or the setting at fault is said."""
    table = {"url": "https://crm.example/", "topics": "engagement", name: value}
    found, said = {}, tuple[str, ...]()
    try:
        found = load_tables({"crm": table}, ENVIRON, nothing)
    except ConfigError as error:
        said = error.problems
    assert found or any(name in line for line in said), said


@pytest.mark.parametrize(
    "url", ["HTTPS://crm.example/", "https://bücher.example/", "https://a_b.example./x?y=%20",
            "https://[2606:2800:220:1::1]:8443/", "https://93.184.216.34/", "https://4.a/"],
)  # fmt: skip
def test_urls_of_every_form(url: str) -> None:
    """Those that requests can go to."""
    assert one(url=url).is_tls


# --- filters ---

ENGAGED = {
    "event_id": "e" * 32, "kind": "click", "occurred_at": 1_800_000_000_123_456, "message_id": "m",
    "recipient": "ada@example.com", "campaign_id": "news-7", "click_url": "https://x.example/",
    "seconds_since_delivery": 9.5, "provider": "sendgrid", "withdrawn": False, "log_id": "l",
    "partition": 1, "offset": 7,
}  # fmt: skip
SUPPRESSED = {
    "recipient": "ada@example.com", "reason": "complaint", "scope": None,
    "since": 1_800_000_000_000_000, "until": None, "evidence_event_id": "e" * 32,
    "provider": "sendgrid", "source": "news", "campaign_id": "news-7", "mailbox_provider": "gmail",
    "diagnostic": None, "log_id": "l", "partition": 1, "offset": 7,
}  # fmt: skip


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, True),
        ({"campaigns": "news-*"}, True),
        ({"campaigns": "news-?"}, True),
        ({"campaigns": ["x", "news-7"]}, True),
        ({"campaigns": "news"}, False),
        ({"campaigns": "n[e]ws-*"}, False),
        ({"events": "clicked"}, True),
        ({"events": ["opened", "bounced"]}, False),
        ({"campaigns": "news-*", "events": "opened"}, False),
    ],
)
def test_filters_of_engagement(options: dict[str, Any], expected: bool) -> None:
    """A withdrawn one passes exactly if the one that it takes back did."""
    check = passes(one(**options), topics.ENGAGEMENT)
    assert check(ENGAGED) is expected
    assert check({**ENGAGED, "withdrawn": True}) is expected
    assert not passes(one(campaigns="x"), topics.ENGAGEMENT)({**ENGAGED, "campaign_id": None})


def test_filters_of_the_other_topics() -> None:
    """Each by what its records have."""
    check = passes(one(topics="suppressions", sources="news", mailbox_providers="gmail"),
                   topics.SUPPRESSIONS)  # fmt: skip
    assert check(SUPPRESSED)
    assert not check({**SUPPRESSED, "source": "other"})
    enriched = {
        "event": {"event_type": "bounced", "source": "news"},
        "enrichment": {"campaign_id": "c", "mailbox_provider": "gmail"},
    }
    every = {"campaigns": "c", "events": "bounced", "sources": "news", "mailbox_providers": "gmail"}
    assert set(every) == FILTERS["events"]
    assert passes(one(topics="events", **every), topics.ENRICHED)(enriched)
    for name in every:
        other = "opened" if name == "events" else "x"
        assert not passes(one(topics="events", **{**every, name: other}), topics.ENRICHED)(enriched)


# --- bodies ---


def test_the_body_of_a_click() -> None:
    """The record as it is, its time as text."""
    body = bodies.of_record(topics.ENGAGEMENT, "id-1", ENGAGED)
    assert json.loads(body.json) == {
        "id": "id-1", "type": "engagement.clicked", "timestamp": "2027-01-15T08:00:00.123456Z",
        "data": {**ENGAGED, "occurred_at": "2027-01-15T08:00:00.123456Z"},
    }  # fmt: skip
    withdrawn = bodies.of_record(topics.ENGAGEMENT, "id-2", {**ENGAGED, "withdrawn": True})
    assert json.loads(withdrawn.json)["type"] == "engagement.withdrawn"


def test_the_bodies_of_suppressions() -> None:
    """Set and lifted name the same address, or the same list of a source."""
    put = json.loads(bodies.of_record(topics.SUPPRESSIONS, "a", SUPPRESSED).json)
    assert (put["type"], put["data"]["until"]) == ("suppression.set", None)
    key = scoped_key("ada@example.com", "news", "group:7").encode()
    lifted = json.loads(bodies.of_lifted("b", key, 1_800_000_000_000).json)
    assert lifted == {
        "id": "b", "type": "suppression.lifted", "timestamp": "2027-01-15T08:00:00Z",
        "data": {"recipient": "ada@example.com", "source": "news", "scope": "group:7"},
    }  # fmt: skip
    whole = json.loads(bodies.of_lifted("b", b"ada@example.com", 0).json)["data"]
    assert whole == {"recipient": "ada@example.com", "source": "", "scope": None}


RECORDS: dict[str, dict[str, Any]] = {
    topics.ENGAGEMENT: ENGAGED,
    topics.SUPPRESSIONS: SUPPRESSED,
    topics.SCOPED_SUPPRESSIONS: SUPPRESSED,
    topics.ALERTS: builders.record("alert", state="escalated"),
    topics.SOURCE_ALERTS: builders.record("source_alert", state="closed", resumed_at=1),
    topics.RATES: builders.record("campaign_rates"),
    topics.ENRICHED: {
        "event": builders.event(tags=["a"]), "enrichment": builders.enrichment(),
    },
}  # fmt: skip


@pytest.mark.parametrize("topic", bodies.KINDS)
def test_bodies_are_as_documented(topic: str) -> None:
    """Through the codec, as it comes from Kafka; every time is text."""
    name = bodies.KINDS[topic].schema
    codec = Codec()
    record = codec.decode(codec.encode(name, RECORDS[topic]), name)
    document = json.loads(bodies.of_record(topic, "id-1", record).json)
    jsonschema.validate(document, schema_of(topic))
    if name == "suppression":
        lifted = json.loads(bodies.of_lifted("id-2", b"ada@example.com", 0).json)
        jsonschema.validate(lifted, schema_of(topic))


@given(st.binary(max_size=60) | st.none(), st.binary(max_size=9), st.binary(max_size=9))
def test_ids_fit_a_header_and_a_signature(ce_id: bytes, key: bytes, value: bytes) -> None:
    """And never have an address in them."""
    made = bodies.identity(ce_id, topics.SUPPRESSIONS, key, value)
    assert made.isascii()
    assert "." not in made
    assert made.replace("-", "").replace("_", "").isalnum()
    assert made == bodies.identity(ce_id, topics.SUPPRESSIONS, key, value)


def test_ids_are_the_records_own_where_they_can_be() -> None:
    """Else a hash that differs by topic, key and id."""
    own = f"{'e' * 32}-7"
    assert bodies.identity(own.encode(), topics.ENGAGEMENT, b"k", b"v") == own
    lifted = b"ada@example.com-lifted-7"
    hashed = {
        bodies.identity(lifted, topics.SUPPRESSIONS, b"k", None),
        bodies.identity(lifted, topics.SCOPED_SUPPRESSIONS, b"k", None),
        bodies.identity(lifted, topics.SUPPRESSIONS, b"l", None),
        bodies.identity(b"-complaint-7", topics.SUPPRESSIONS, b"k", None),
    }
    assert len(hashed) == 4
    assert all(len(one) == 32 for one in hashed)


def with_times(value: Any, micros: int) -> Any:
    """The record with every whole number replaced, times among them."""
    if isinstance(value, dict):
        return {name: with_times(inner, micros) for name, inner in value.items()}
    if isinstance(value, list):
        return [with_times(inner, micros) for inner in value]
    return micros if isinstance(value, int) and not isinstance(value, bool) else value


@pytest.mark.parametrize("topic", bodies.KINDS)
@pytest.mark.parametrize("micros", [-(2**63), -(10**17), -1, 0, 2**63 - 1])
def test_a_record_with_any_time_has_a_body_or_a_reason(topic: str, micros: int) -> None:
    """Else one record would end the role, again after each restart."""
    record = with_times(RECORDS[topic], micros)
    makers: list[Callable[[], bodies.Body]] = [
        lambda: bodies.of_record(topic, "id-1", record),
        lambda: bodies.of_lifted("id-1", b"\xff", micros // 1000),
    ]
    for make in makers:
        try:
            assert json.loads(make().json)["timestamp"].endswith("Z")
        except DecodeError as error:
            reason = error.reason
            assert (reason, abs(micros) >= 10**17) == ("time_out_of_range", True)


class Producer:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.values: list[bytes] = []

    async def send_and_wait(self, _topic: str, value: bytes, *_: Any, **__: Any) -> None:
        self.values.append(value)


@given(
    st.none() | st.binary(max_size=40) | st.just(b"x" * 2_000_000),
    st.none() | st.binary(max_size=9), st.booleans(),
)  # fmt: skip
def test_a_letter_is_sent_again_with_the_id_that_its_record_had(
    ce_id: bytes | None, key: bytes | None, lifted: bool
) -> None:
    """Whatever its headers and its key are; and the letter fits a broker's default limit."""
    value = None if lifted else Codec().encode("suppression", SUPPRESSED)
    record = SimpleNamespace(
        topic=topics.SUPPRESSIONS, partition=1, offset=2, key=key, value=value,
        timestamp=1_800_000_000_000, headers=[("a", None), ("ce_id", ce_id)],
    )  # fmt: skip
    producer, codec = Producer(), Codec()
    asyncio.run(Letters(producer, codec).write("crm", record, "not_delivered", "x" * 500))
    [written] = producer.values
    assert len(written) < 1_000_000
    letter = codec.decode(written, "dead_letter")
    sent_id = bodies.identity(ce_id, topics.SUPPRESSIONS, key, value)
    assert body_of(letter, codec).id == sent_id


def test_a_batch_has_an_id_of_its_own_that_stays() -> None:
    """The same for the same records, of one alone its own."""
    some = [bodies.Body(str(n), b'{"id":"%d"}' % n, n) for n in range(3)]
    batch = bodies.together(some)
    assert batch == bodies.together(some)
    assert batch.id != bodies.together(some[:2]).id
    assert bodies.together(some[:1]) == some[0]
    document = json.loads(batch.json)
    assert (document["id"], document["type"]) == (batch.id, "batch")
    assert document["data"] == [{"id": "0"}, {"id": "1"}, {"id": "2"}]


VECTORS = json.loads(Path(__file__).with_name("deliver_vectors.json").read_text("utf-8"))
"""Requests as they went over a socket on 2026-11-28. The libraries ``standardwebhooks`` of npm
1.1.1 and of Go v0.0.1 verified each by each secret, and refused each with a byte more."""


@pytest.mark.parametrize("number", range(len(VECTORS["requests"])))
def test_signatures_are_those_that_other_libraries_verified(number: int) -> None:
    """Byte by byte."""
    sent = VECTORS["requests"][number]
    headers = sent["headers"]
    body = bodies.Body(headers["webhook-id"], sent["body"].encode(), 0)
    hooks = [Webhook(secret) for secret in VECTORS["secrets"]]
    assert bodies.signed_headers(body, hooks, float(headers["webhook-timestamp"])) == headers


def test_signatures_by_hand() -> None:
    """HMAC-SHA256 of id, time and body, by each key, in order."""
    body = bodies.Body("id-1", '{"x":"é"}'.encode(), 0)
    keys = [b"a" * 24, b"b" * 64]
    hooks = [Webhook("whsec_" + base64.b64encode(key).decode()) for key in keys]
    headers = bodies.signed_headers(body, hooks, 1_800_000_000.9)
    expected = [
        "v1," + base64.b64encode(
            hmac.digest(key, b"id-1.1800000000." + body.json, hashlib.sha256)).decode()
        for key in keys
    ]  # fmt: skip
    assert headers == {
        "webhook-id": "id-1", "webhook-timestamp": "1800000000",
        "webhook-signature": " ".join(expected),
    }  # fmt: skip
    assert "webhook-signature" not in bodies.signed_headers(body, [], 0.0)
