"""Every value of every payload, and every header, replaced by values that break parsers.

Exhaustive where ``test_parsers.py`` is random: distant dates with offsets, numbers beyond every
type, texts that are almost numbers. Only the promised errors may be raised, and no item may fail in
a way that its provider's module did not foresee, as anyone could then fill the log with tracebacks.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest

from ingest.providers import REGISTRY
from ingest.providers.base import Request, post
from ingest.verify import NeedsCertificate, SignatureError
from schemas.codec import Codec
from schemas.errors import BadInput
from tests.ingest.cases import Case, all_cases
from tests.ingest.keys import Example, example
from tests.ingest.provider_suite import NOW, RECEIVED_AT, with_header
from tests.ingest.test_providers import _json_of, wrapped

TIMES: tuple[str, ...] = (
    "0001-01-01T00:00:00+23:59", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999-23:59",
    "9999-12-31 23:59:59", "0000-00-00 00:00:00", "99999-01-01T00:00:00Z", "-0001-01-01T00:00:00Z",
    "2026-11-24T25:61:61Z", "2026-11-24T10:00:00+99:99", "2026-W48-2", "20261124T100000Z",
    "Mon, 01 Jan 0001 00:00:00 +2359", "Fri, 31 Dec 9999 23:59:59 -2359",
    "Mon, 01 Jan 2024 00:00:00 +99999999", "Mon, 01 Jan 99999999999 00:00:00 +0000",
    "Mon, 01 Jan 2024 99999999999999999999:00:00 GMT", "Mon, 01 Jan 2024 00:00:00",
    "01/01/0001 00:00:00", "12/31/9999 11:59:59 PM", "13/13/2026 10:00:00", "24:00",
)  # fmt: skip
NUMBERS: tuple[str, ...] = (
    "9" * 15, "9" * 16, "9" * 19, "9" * 20, "9" * 400, "-" + "9" * 400, "0", "-0", "-1", "1e400",
    "-1.797693134862316e302", "1.7e308", "5e-324", "NaN", "Infinity", "-Infinity", "1_000", "+1",
    " 1 ", "0x10", "١٢٣", "²", "1" * 4_301,
)  # fmt: skip
TEXTS = (
    *TIMES,
    *NUMBERS,
    "",
    "\0",
    "\ud800",
    "\udfff" * 3,
    "a@",
    "@",
    "<>",
    "%",
    "=" * 50,
    "é" * 3,
)
VALUES: tuple[Any, ...] = (
    *TEXTS, None, True, [], {}, [[]], {"": None}, 10**15, 10**16, 10**19, 10**30, -(10**30), 2**63,
    -(2**63), -1, 1e300, -1e300, 1e-300, -0.0, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
PROVIDERS = sorted(REGISTRY)
CODEC = Codec()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all values in a JSON value that hold no others."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from places(one, (*path, key))
    elif isinstance(value, list):
        for number, one in enumerate(value[:3]):
            yield from places(one, (*path, number))
    else:
        yield path


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """``value`` with ``new`` at a path."""
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


def bodies(name: str) -> Iterator[tuple[Case, bytes]]:
    """Each place of the provider's payloads once, with each value."""
    seen = set()
    for case in all_cases():
        content = _json_of(case) if case.provider == name else None
        if content is None:
            continue
        for path in places(content):
            kind = tuple("" if isinstance(step, int) else step for step in path)
            if kind in seen:
                continue
            seen.add(kind)
            for new in VALUES:
                text = json.dumps(replaced(content, path, new))
                yield case, wrapped(name, text.encode())


def assert_foreseen(name: str, request: Request, one: Example) -> None:
    """Results are events that can be stored, and rejects with a reason."""
    try:
        parsed = REGISTRY[name].parse(request, one.source, RECEIVED_AT)
    except BadInput:
        return
    assert [reject.reason for reject in parsed.rejects if reject.reason == "unforeseen"] == []
    for event in parsed.events:
        CODEC.encode("raw_event", event)


@pytest.mark.parametrize("name", PROVIDERS)
def test_no_value_in_a_body_is_unforeseen(name: str) -> None:
    """Each place that a payload has, with each value."""
    one = example(name)
    sources: dict[str, Example] = {}
    for case, body in bodies(name):
        given = case.expected
        of_case = sources.setdefault(str(case), example(name, **given.get("source", {})))
        headers = tuple(given.get("headers", {}).items())
        assert_foreseen(name, post(body, *headers), of_case)
        if REGISTRY[name].reads_body:
            assert_refused_or_proven(name, post(body, *headers), one)


def assert_refused_or_proven(name: str, request: Request, one: Example) -> None:
    """``verify`` raises nothing but what it promises."""
    try:
        REGISTRY[name].verify(request, one.source, NOW, one.certificates)
        REGISTRY[name].verify_content(request, one.source)
    except (SignatureError, NeedsCertificate):
        pass


@pytest.mark.parametrize("name", PROVIDERS)
def test_no_header_is_unforeseen(name: str) -> None:
    """Each header of a sample with each text, and with each byte that a header can hold."""
    one = example(name)
    provider = REGISTRY[name]
    good = provider.sample(one.source, NOW, 1, one.signing_key)
    for header, value in good.headers:
        for new in (*TEXTS, *map(chr, range(256)), value + " ", value * 50, value[:-1]):
            assert_refused_or_proven(name, with_header(good, header, new), one)
        doubled = replace(good, headers=(*good.headers, (header, value)))
        assert_refused_or_proven(name, doubled, one)


@pytest.mark.parametrize("text", TEXTS)
def test_no_parameter_of_a_query_is_unforeseen(text: str) -> None:
    """Elastic Email's way to send events."""
    one = example("elastic_email")
    good = {"status": "Clicked", "to": "a@b.example", "date": "1/1/2026 1:01:01 AM", "target": "x"}
    for name in good:
        changed = {**good, name: text.encode("utf-8", "surrogatepass")}
        query = urlencode({**changed, "token": "x"})
        request = Request("GET", query, (), b"", "")
        assert_refused_or_proven("elastic_email", request, one)
        assert_foreseen("elastic_email", request, one)
