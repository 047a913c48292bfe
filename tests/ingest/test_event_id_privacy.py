"""Event ids where recipients are not kept: they confirm no guess, and are as exact as before."""

from typing import Any

import pytest

from ingest.intake import Intake
from ingest.providers import REGISTRY
from ingest.providers.base import Request
from schemas.codec import Codec
from schemas.errors import ConfigError
from schemas.event import Event
from schemas.settings import PREFIX, Settings, load_settings
from tests.ingest.cases import Case, all_cases
from tests.ingest.keys import example
from tests.ingest.provider_suite import RECEIVED_AT

CODEC = Codec()
MODES = ("hashed", "dropped")
CASES = [case for case in all_cases() if case.outcome().get("events")]


def intake(mode: str, key: str = "a key of this test") -> Intake:
    """Ingress with recipients kept, hashed or dropped."""
    settings: Any = {"recipients": mode, "recipient_hash_key": key}
    return Intake(Settings(**settings), CODEC)


def taken(case: Case, front: Intake) -> list[Event]:
    """The events that are kept of a request."""
    headers = tuple(case.expected.get("headers", {}).items())
    query = str(case.expected.get("query", ""))
    request = Request("POST", query, headers, case.path.read_bytes(), "")
    source = example(case.provider, **case.expected.get("source", {})).source
    pairs = front.take(REGISTRY[case.provider], source, request, RECEIVED_AT).parcel.events
    return [CODEC.decode(value, "raw_event") for _, value in pairs]  # type: ignore[misc]


def ids(events: list[Event]) -> list[str]:
    return [event["event_id"] for event in events]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_id_of_a_guessed_event_confirms_nothing(case: Case) -> None:
    """Who knows all of a request but the key finds no id of it in the topic."""
    guessed = {*ids(taken(case, intake("plain"))), *ids(taken(case, intake("dropped", "guessed")))}
    for mode in MODES:
        assert not guessed & set(ids(taken(case, intake(mode))))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_retry_has_the_same_ids_and_different_events_have_different_ones(case: Case) -> None:
    """As without a key: also in another process of the same installation."""
    plain = ids(taken(case, intake("plain")))
    for mode in MODES:
        kept = ids(taken(case, intake(mode)))
        assert kept == ids(taken(case, intake(mode)))
        pairs = set(zip(plain, kept, strict=True))
        assert len(pairs) == len(set(plain)) == len(set(kept))
        assert {len(one) for one in kept} <= {32}


@pytest.mark.parametrize("mode", MODES)
def test_a_key_is_needed(mode: str) -> None:
    """Without one, everybody would have it."""
    with pytest.raises(ConfigError, match="RECIPIENT_HASH_KEY"):
        load_settings({f"{PREFIX}RECIPIENTS": mode}, lambda path: "")
