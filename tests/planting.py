"""Requests of every provider with a canary address planted in one field, for tests of privacy."""

import copy
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import cycle, islice
from typing import Any
from urllib.parse import parse_qsl, urlencode

import orjson

from ingest.intake import Intake, Taken
from ingest.providers import REGISTRY
from ingest.providers.base import Request
from schemas.codec import Codec
from schemas.settings import Settings
from tests.ingest.cases import Case, all_cases
from tests.ingest.keys import example
from tests.ingest.provider_suite import RECEIVED_AT
from tests.spellings import ADDRESSES, CODINGS

KEY = "a key of this test"
Set = Callable[[Any], Any]


@dataclass(frozen=True)
class Planted:
    """A request, and where something was planted in it.

    Attributes:
        field: path of the field.
        coding: how the canary is spelled there.
        address: the canary.
        known: whether it is also the recipient.
    """

    case: Case
    request: Request
    field: str
    coding: str
    address: str
    known: bool

    def __str__(self) -> str:
        return f"{self.case} {self.field}: {self.address} as {self.coding}"

    def taken(self, intake: Intake) -> Taken:
        """What ingress makes of it."""
        given = self.case.expected.get("source", {})
        source = example(self.case.provider, **given).source
        return intake.take(REGISTRY[self.case.provider], source, self.request, RECEIVED_AT)


@cache
def intake(mode: str) -> Intake:
    """Ingress with recipients kept, hashed or dropped; it has no state."""
    settings: Any = {"recipients": mode, "recipient_hash_key": KEY}
    return Intake(Settings(**settings), Codec())


def fields(document: Any, path: str = "") -> Iterator[tuple[str, Callable[[str], Any]]]:
    """Each text of a document, names included, with a function that gives the document changed.

    Texts that are JSON themselves are entered.
    """
    if isinstance(document, dict):
        for name, value in document.items():
            for inner, change in fields(value, f"{path}.{name}"):
                yield inner, _in_dict(document, name, change)
        yield f"{path}.+", lambda text: {**document, text: "x"}
    elif isinstance(document, list):
        for index, value in enumerate(document):
            for inner, change in fields(value, f"{path}[{index}]"):
                yield inner, _in_list(document, index, change)
    elif isinstance(document, str):
        yield path, lambda text: text
        yield f"{path} +", lambda text: f"{document} {text}"
        if document[:1] in ("{", "["):
            try:
                nested = json.loads(document)
            except ValueError:
                return
            for inner, change in fields(nested, f"{path}!"):
                yield inner, _then(change, json.dumps)


def _then(change: Set, dump: Callable[[Any], Any]) -> Set:
    return lambda text: dump(change(text))


def _in_dict(document: dict[str, Any], name: str, change: Set) -> Set:
    return lambda text: {**document, name: change(text)}


def _in_list(document: list[Any], index: int, change: Set) -> Set:
    def changed(text: str) -> list[Any]:
        made = copy.copy(document)
        made[index] = change(text)
        return made

    return changed


def plantings(first: int, step: int) -> Iterator[Planted]:
    """One request for each field of each payload; codings, addresses and ``known`` take turns.

    Args:
        first: which of them comes first.
        step: every so many of them.
    """
    spellings = [(name, address) for address in ADDRESSES for name in CODINGS]
    turns = islice(cycle(spellings), 7 * first, None)
    places = ((case, *place) for case in all_cases() for place in _changed(case))
    for number, (case, place, body, query) in enumerate(places):
        if number % step == first:
            coding, address = next(turns)
            yield _planted(case, place, body, query, coding, address, number // step % 2 == 0)


def every_coding(first: int, step: int) -> Iterator[Planted]:
    """A request for each coding and each field of each provider; arguments as of ``plantings``.

    A field that several payloads of a provider have is taken from the first of them, and the items
    of a list are one field.
    """
    places: dict[tuple[str, str], tuple[Case, str, _Made, _Made]] = {}
    for case in all_cases():
        for place, body, query in _changed(case):
            field = case.provider, re.sub(r"\[[0-9]+\]", "[]", place)
            places.setdefault(field, (case, place, body, query))
    for number, place_of in enumerate(islice(places.values(), first, None, step)):
        for turn, coding in enumerate(CODINGS, number):
            address = ADDRESSES[turn // 2 % len(ADDRESSES)]
            yield _planted(*place_of, coding, address, turn % 2 == 0)


def _planted(
    case: Case, place: str, body: "_Made", query: "_Made", coding: str, address: str, known: bool
) -> Planted:
    recipient = address if known else "someone@mailbox.example"
    text = CODINGS[coding](address)
    headers = tuple(case.expected.get("headers", {}).items())
    request = Request("POST", query(text, recipient), headers, body(text, recipient), "")
    return Planted(case, request, place, coding, address, known)


_Made = Callable[[str, str], Any]


def _changed(case: Case) -> Iterator[tuple[str, _Made, _Made]]:
    """Where a text can be planted; functions of text and recipient that give body and query."""
    raw = case.path.read_bytes()
    asked = str(case.expected.get("query", ""))
    recipients = {event.get("recipient") for event in case.expected.get("events", [])} - {None}

    def made_of(change: Set, dump: Callable[[Any], Any]) -> _Made:
        def made(text: str, recipient: str) -> Any:
            def addressed(one: str) -> str:
                if one != text:
                    for given in recipients:
                        one = one.replace(given, recipient)
                return one

            return dump(_all(change(text), addressed))

        return made

    for place, change in fields(dict(parse_qsl(asked))):
        yield f"query {place}", lambda text, recipient: raw, made_of(change, urlencode)
    for place, change, dump in _of_body(case, raw):
        yield place, made_of(change, dump), lambda text, recipient: asked


def _all(document: Any, change: Callable[[str], str]) -> Any:
    if isinstance(document, dict):
        return {name: _all(value, change) for name, value in document.items()}
    if isinstance(document, list):
        return [_all(value, change) for value in document]
    return change(document) if isinstance(document, str) else document


def _of_body(case: Case, raw: bytes) -> Iterator[tuple[str, Set, Callable[[Any], bytes]]]:
    if case.path.suffix == ".form":
        pairs = dict(parse_qsl(raw.decode(), keep_blank_values=True))
        for place, change in fields(pairs):
            yield place, change, lambda made: urlencode(made).encode()
    elif case.path.suffix == ".jsonl":
        lines = [_read(line) for line in raw.splitlines()]
        for place, change in fields([line for line in lines if line is not None]):
            yield place, change, lambda made: b"\n".join(map(orjson.dumps, made))
    elif case.path.suffix == ".json":
        for place, change in fields(_read(raw)):
            yield place, change, _json


def _read(text: bytes) -> Any:
    """A document; of a payload that can't be read, none."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _json(document: Any) -> bytes:
    """Of lone surrogates too, which one payload has."""
    try:
        return orjson.dumps(document)
    except TypeError:
        return json.dumps(document).encode()
