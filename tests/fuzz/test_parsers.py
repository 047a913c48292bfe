"""Every parser of input from outside, with damaged valid input.

Each parser's own tests use arbitrary bytes; here valid input is truncated, flipped, spliced and
repeated, which reaches much deeper; for webhooks, every payload of ``tests/ingest/payloads``.
``make fuzz`` runs it for long; failing examples are kept and tried first (``tests/fuzz/kept.py``).
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import parcel, spool_frames
from ingest.body import BodyLimits, Refused, check_shape, content_coding, decode_content
from ingest.problems import DETAILS
from ingest.providers import REGISTRY
from ingest.verify import NeedsCertificate, SignatureError
from schemas.codec import LATEST, Codec
from schemas.errors import BadInput, ConfigError, DecodeError
from schemas.sources import load_sources
from tests.fuzz.kept import kept
from tests.ingest.cases import all_cases
from tests.ingest.keys import example
from tests.strategies import records

NOW = 1_795_521_600
CODEC = Codec()
PAYLOADS: dict[str, list[bytes]] = {}
for case in all_cases():
    PAYLOADS.setdefault(case.provider, []).append(case.path.read_bytes())


Value = TypeVar("Value")
Promised = TypeVar("Promised", bound=Exception)


def outcome(call: Callable[[], Value], promised: type[Promised]) -> Value | Promised:
    """What a call returns, or the error that it may raise; any other error fails the test."""
    try:
        return call()
    except promised as error:
        return error


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """``good`` after some damage: bits flipped, parts removed, doubled, replaced."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        end = min(len(data), at + draw(st.integers(1, 40)))
        match draw(st.sampled_from(("flip", "cut", "double", "junk", "number", "end"))):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at:end]
            case "double":
                data[at:at] = data[at:end] * draw(st.integers(1, 3))
            case "junk":
                data[at:end] = draw(st.binary(max_size=12))
            case "number":
                data[at:end] = draw(
                    st.sampled_from((b"1e999", b"-1", b"NaN", b"99999999999999999999", b"null",
                                     b'"\\ud800"', b"[[[[", b"\xff\xfe", b"\x00"))
                )  # fmt: skip
            case _:
                del data[at:]
    return bytes(data)


@pytest.mark.parametrize("name", sorted(REGISTRY))
@kept
@given(data=st.data())
def test_a_damaged_webhook_is_refused_or_read(name: str, data: st.DataObject) -> None:
    """parse and verify raise nothing but what they promise; what is read is whole events."""
    provider, one = REGISTRY[name], example(name)
    good = provider.sample(one.source, NOW, 1, one.signing_key)
    body = data.draw(st.sampled_from([good.body, *PAYLOADS.get(name, ())]))
    request = replace(good, body=data.draw(damaged(body)))
    try:
        provider.verify(request, one.source, NOW, one.certificates)
        provider.verify_content(request, one.source)
    except (SignatureError, NeedsCertificate):
        pass
    parsed = outcome(lambda: provider.parse(request, one.source, NOW * 1_000_000), BadInput)
    if isinstance(parsed, BadInput):
        assert parsed.reason
        return
    for event in parsed.events:
        CODEC.encode("raw_event", event)  # what ingress does next


@pytest.mark.parametrize("schema", sorted(LATEST))
@kept
@given(data=st.data())
def test_a_damaged_record_is_a_decode_error_or_a_record(schema: str, data: st.DataObject) -> None:
    """No other exception, and never more time than its size explains."""
    good = CODEC.encode(schema, data.draw(records(schema)))
    value = data.draw(damaged(good))
    began = time.process_time()
    for result in (
        outcome(lambda: CODEC.decode(value, schema), DecodeError),
        outcome(lambda: CODEC.raw_head(value), DecodeError),
    ):
        assert isinstance(result, dict) or result.reason
    assert time.process_time() - began < 10, "a few bytes must not make a long list"


@kept
@given(payloads=st.lists(st.binary(max_size=60), min_size=1, max_size=4), data=st.data())
def test_a_damaged_spool_gives_frames_that_were_written(
    payloads: list[bytes], data: st.DataObject
) -> None:
    """Whatever is read is a payload that was written, and a parcel is one or is refused."""
    segment = data.draw(damaged(b"".join(map(spool_frames.frame, payloads))))
    at = 0
    while at < len(segment):
        found = spool_frames.read_frames(segment[at:])
        assert set(found.payloads) <= set(payloads) | {b""}
        at += max(1, found.end or spool_frames.next_frame(segment[at:]))
    for payload in payloads:
        try:
            parcel.from_bytes(payload)
        except (ValueError, BadInput):
            pass


@kept
@given(
    body=st.binary(max_size=400),
    coding=st.sampled_from([None, "gzip", "deflate", "br", "utf-8", "gzip, gzip", "x"]),
)
def test_any_body_is_decoded_within_limits_or_refused(body: bytes, coding: str | None) -> None:
    """A decompressed body is never larger than the limit, and a refusal has a code."""
    limits = BodyLimits(20_000, 50, 16, 500)
    decoded = outcome(lambda: decode_content(body, content_coding(coding), limits), Refused)
    if isinstance(decoded, Refused):
        assert decoded.code in DETAILS
        return
    assert len(decoded) <= 20_000
    refused = outcome(lambda: check_shape(decoded, limits), Refused)
    assert refused is None or refused.code in DETAILS


TOML = b"""
[sources.news]
provider = "sendgrid"
public_key = "AAAA"
allow_ips = ["203.0.113.0/24"]
[sources.crm]
provider = "generic"
secret = "env:CRM"
rate_per_s = 5
"""


@kept
@given(text=damaged(TOML))
def test_a_damaged_config_is_told_in_words(text: bytes) -> None:
    """mailpulse.toml is read, or every problem is named; no message contains the secret."""
    toml = text.decode("utf-8", "replace")
    read = outcome(lambda: load_sources(toml, {"CRM": "canary"}, lambda path: ""), ConfigError)
    if isinstance(read, ConfigError):
        assert read.problems
        assert "canary" not in str(read)


def test_numbers_that_json_can_write_and_avro_can_not() -> None:
    """NaN, infinity and integers beyond 64 bits in a verified body never raise anything new."""
    for name in sorted(REGISTRY):
        provider, one = REGISTRY[name], example(name)
        good = provider.sample(one.source, NOW, 1, one.signing_key)
        for number in (b"NaN", b"1e400", b"9" * 30, b"-0", b"1.5"):
            body = good.body.replace(str(NOW).encode(), number)
            try:
                parsed = provider.parse(replace(good, body=body), one.source, NOW * 1_000_000)
            except BadInput:
                continue
            for event in parsed.events:
                CODEC.encode("raw_event", event)
    assert orjson.loads(b"1.5") == 1.5
