"""From a provider's content to its events, and to what the streams judge of them."""

from typing import Any

import orjson

from ingest.providers import REGISTRY
from ingest.providers.base import post
from schemas.event import Event
from streams.classify.bounce import classify_bounce
from tests.ingest.cases import Case, all_cases
from tests.ingest.keys import example
from tests.ingest.provider_suite import RECEIVED_AT


def parsed(name: str, content: Any, *headers: tuple[str, str], **given: Any) -> list[Event]:
    """The events of a JSON body; ``given`` are fields of the source."""
    source = example(name, **given).source
    return REGISTRY[name].parse(post(orjson.dumps(content), *headers), source, RECEIVED_AT).events


def case_of(path: str) -> Case:
    """A payload file, given as ``PROVIDER/CASE``."""
    name, _, stem = path.partition("/")
    return next(one for one in all_cases() if one.provider == name and one.path.stem == stem)


def payload(path: str) -> Any:
    """The JSON of a payload file."""
    return orjson.loads(case_of(path).path.read_bytes())


def strict_json(case: Case) -> Any:
    """A payload that is strict JSON, else ``None``."""
    try:
        return orjson.loads(case.path.read_bytes())
    except ValueError:
        return None


def events_of(case: Case, body: bytes | None = None) -> list[Event]:
    """The events of a payload file, or of another body with the rest of its request."""
    headers = tuple(case.expected.get("headers", {}).items())
    source = example(case.provider, **case.expected.get("source", {})).source
    content = case.path.read_bytes() if body is None else body
    request = post(content, *headers, query=case.expected.get("query", ""))
    return REGISTRY[case.provider].parse(request, source, RECEIVED_AT).events


def judged(event: Event) -> tuple[str, str]:
    """Class and reason, as the streams find them."""
    return classify_bounce(
        event["event_type"], event["bounce_class"], event["bounce_reason"],
        event["enhanced_status"], event["smtp_code"], event["diagnostic"],
    )  # fmt: skip
