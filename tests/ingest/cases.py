"""Payload files: ``payloads/<provider>/<case>.<kind>`` beside ``<case>.expected.json``.

A preset's folder is ``preset-NAME``.

``kind`` is ``json``, ``jsonl``, ``txt`` or ``form``: the raw body, as it came. The expected file:

    {"headers": {…}, "query": "…", "source": {…},          what else the request and source have
     "note": "…", "confirm": "url",
     "rejects": ["reason", …], "bad_input": "reason",
     "events": [{…}]}                                       only what differs from a bare event

``python -m tests.ingest.cases PROVIDER [CASE]`` prints what the code makes of a payload, to be
read and checked by a person against the provider's documentation; ``--keep`` then writes it down.
``python -m tests.ingest.cases --adopt 0001.request.json CASE`` takes a request of ``mailpulse
capture``: its body becomes a payload, the rest its expected file, without events yet.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from ingest.capture_files import load
from ingest.capture_keys import SECRETS
from ingest.capture_record import plain
from ingest.providers import REGISTRY
from ingest.providers.base import Request
from schemas.errors import BadInput
from schemas.event import Event, new_event
from tests.ingest.keys import example
from tests.ingest.provider_suite import RECEIVED_AT

ROOT = Path(__file__).parent / "payloads"
KINDS = (".json", ".jsonl", ".txt", ".form")


@dataclass(frozen=True)
class Case:
    """One payload and what is expected of it."""

    provider: str
    path: Path

    def __str__(self) -> str:
        return f"{self.provider}/{self.path.name}"

    @property
    def expected_path(self) -> Path:
        return self.path.with_name(self.path.stem + ".expected.json")

    @property
    def expected(self) -> dict[str, Any]:
        """The expected file; empty when there is none yet."""
        if not self.expected_path.exists():
            return {}
        content: dict[str, Any] = orjson.loads(self.expected_path.read_bytes())
        return content

    def outcome(self) -> dict[str, Any]:
        """What the code makes of the payload, in the form of the expected file."""
        given = {k: v for k, v in self.expected.items() if k in ("headers", "query", "source")}
        headers = tuple(given.get("headers", {}).items())
        request = Request(
            "POST", given.get("query", ""), headers, self.path.read_bytes(), "192.0.2.1"
        )
        source = example(self.provider, **given.get("source", {})).source
        try:
            parsed = REGISTRY[self.provider].parse(request, source, RECEIVED_AT)
        except BadInput as error:
            return {**given, "bad_input": error.reason}
        result: dict[str, Any] = {**given, "events": [condensed(one) for one in parsed.events]}
        if parsed.rejects:
            result["rejects"] = [reject.reason for reject in parsed.rejects]
        if parsed.note:
            result["note"] = parsed.note
        if parsed.confirm:
            result["confirm"] = parsed.confirm.url
        return result


def condensed(event: Event) -> dict[str, Any]:
    """An event without the fields that are at their default or the same in every case."""
    bare: dict[str, Any] = dict(
        new_event(
            event_id="", event_type="", occurred_at=0, received_at=RECEIVED_AT, provider="",
            native_type="",
        )
    )  # fmt: skip
    for constant in ("provider", "source"):
        bare[constant] = event[constant]
    return {name: value for name, value in event.items() if value != bare[name]}


def all_cases() -> list[Case]:
    """Every payload file, in a fixed order."""
    return [
        Case(folder.name.replace("preset-", "preset:"), path)
        for folder in sorted(ROOT.iterdir())
        for path in sorted(folder.iterdir())
        if path.suffix in KINDS and not path.name.endswith(".expected.json")
    ]


NOT_TAKEN = ("name", "provider", *SECRETS)
"""Fields of a captured source that a case does not need: its keys are those of ``keys``."""


def adopt(path: Path, name: str, root: Path = ROOT) -> Case:
    """A captured request as a case, without what is expected of it."""
    request, keys, _, document = load(path)
    provider = keys.source.provider
    kind = Path(document["body"]).suffix
    case = Case(provider, root / provider.replace(":", "-") / f"{name}{kind}")
    case.path.parent.mkdir(exist_ok=True)
    case.path.write_bytes(request.body)
    source = {key: value for key, value in plain(keys.source).items() if key not in NOT_TAKEN}
    given = {"headers": dict(request.headers), "query": request.query, "source": source}
    text = json.dumps({key: value for key, value in given.items() if value}, indent=1)
    case.expected_path.write_text(text + "\n", encoding="utf-8")
    return case


def main(arguments: list[str]) -> None:
    """See the module."""
    if arguments[:1] == ["--adopt"]:
        print(adopt(Path(arguments[1]), arguments[2]).path)
        return
    keep = "--keep" in arguments
    provider, *wanted = [one for one in arguments if one != "--keep"]
    for case in all_cases():
        if case.provider == provider and (not wanted or case.path.stem in wanted):
            outcome = json.dumps(case.outcome(), indent=1, ensure_ascii=False)
            if keep:
                case.expected_path.write_text(outcome + "\n", encoding="utf-8")
            else:
                print(f"=== {case}\n{outcome}")


if __name__ == "__main__":
    main(sys.argv[1:])
