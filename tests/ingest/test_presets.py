"""Senders that are data files: what a file must have, and what each name in it becomes."""

import tomllib
from dataclasses import replace
from typing import Any

import pytest

from ingest.intake import Intake
from ingest.providers import REGISTRY, fields, preset, shaping
from ingest.providers.mapping import read_mapping
from ingest.providers.preset import PRESETS, Preset
from schemas.codec import Codec
from schemas.errors import ConfigError
from schemas.event import BounceClass
from schemas.settings import Settings
from schemas.sources import PRESET
from tests.ingest.cases import all_cases
from tests.ingest.keys import example
from tests.ingest.provider_suite import NOW, RECEIVED_AT, accepted

LISTED = [(one, native) for one in PRESETS for native in one.mapping["events"]]


@pytest.mark.parametrize(("one", "native"), LISTED, ids=lambda it: getattr(it, "name", it))
def test_every_listed_name_becomes_what_the_file_says(one: Preset, native: str) -> None:
    """Through body, paths and joined names, as the sender would send it."""
    mapping = read_mapping(one.mapping)[0]
    request = shaping.made(mapping, NOW, 1, native)
    [event] = one.parse(request, example(one.name).source, RECEIVED_AT).events
    verdict = mapping.events[native]
    assert (event["native_type"], event["event_type"]) == (native, verdict.event_type)
    assert event["bounce_class"] == verdict.bounce_class
    assert (event["recipient"], event["time_suspect"]) == ("reader1@example.com", False)


@pytest.mark.parametrize("one", PRESETS, ids=lambda it: it.name)
def test_a_preset_is_careful(one: Preset) -> None:
    """A file says what is unverified; no address is a hard bounce by a name that may be soft."""
    assert one.unverified
    assert any(case.provider == one.name for case in all_cases())
    for native, verdict in read_mapping(one.mapping)[0].events.items():
        if verdict.bounce_class == BounceClass.HARD:
            assert verdict.event_type == "bounced", native


def raw(**changed: Any) -> dict[str, Any]:
    """The data of a good preset with some entries changed; ``None`` takes one out."""
    content = tomllib.loads(preset.shipped()["lettermint"]) | changed
    return {key: value for key, value in content.items() if value is not None}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"title": ""}, "title: a text is expected"),
        ({"unverified": None}, "unverified: a text is expected"),
        ({"where": 5}, "where: a text is expected"),
        ({"colour": "red"}, "colour: no such entry"),
        ({"signs": "most"}, "signs: one of raw body, token only, nothing"),
        ({"required": []}, "required: a list of texts"),
        ({"required": ["passport"]}, "required: a source has no passport"),
        ({"sources": []}, "sources: a list of texts"),
        ({"documented": "yesterday"}, "documented: a day"),
        ({"tolerance_s": "5"}, "tolerance_s: a number of seconds"),
        ({"mapping": {}}, "mapping: a table with a table events"),
        ({"mapping": {"events": {"a": "exploded"}}}, "mapping.events.a: no such type"),
        ({"mapping": {"events": {}, "signature": {"key": "x"}}}, "mapping.signature.key: one of"),
    ],
)
def test_a_problem_of_a_file_is_named(changed: dict[str, Any], words: str) -> None:
    """With the file, the key and what is expected."""
    assert preset.problems_of("acme", raw()) == []
    [problem] = preset.problems_of("acme", raw(**changed))
    assert problem.startswith("presets/acme.toml: ")
    assert words in problem


def test_all_problems_of_all_files_come_at_once() -> None:
    """Nothing starts with a file that can't be read."""
    with pytest.raises(ConfigError) as caught:
        preset.load({"a": "x = [", "b": "title = ''"})
    said = str(caught.value)
    assert "presets/a.toml: " in said
    assert "presets/b.toml: title" in said


def test_a_source_can_say_it_otherwise() -> None:
    """Its own mapping wins, entry by entry; the rest stays the preset's."""
    own = {"token": "header:X-Key", "events": {"email_spam": "complained"}}
    one = example("preset:scaleway", mapping=own)
    provider = REGISTRY["preset:scaleway"]
    assert provider.check(one.source) == []
    request = provider.sample(one.source, NOW, 1)
    assert request.header("x-key")
    assert accepted(provider, request, one)
    mapping = read_mapping(provider.mapping_of(one.source))[0]  # type: ignore[attr-defined]
    assert mapping.verdict("email_spam").event_type == "complained"
    assert mapping.verdict("email_dropped").event_type == "bounced"


def test_readers_of_events_see_the_name_alone() -> None:
    """In events, ids of campaigns and dead letters; and no module has a preset's name."""
    modules = {name for name in REGISTRY if ":" not in name}
    for one in PRESETS:
        name = one.name.removeprefix(PRESET)
        assert name not in modules
        made = example(one.name)
        request = one.sample(made.source, NOW, 1, made.signing_key)
        [event] = one.parse(request, made.source, RECEIVED_AT).events
        assert event["provider"] == name == made.source.sender
        assert fields.own_campaign(made.source, "7") == f"{name}:7"
        taken = Intake(Settings(), Codec()).take(
            one, made.source, replace(request, body=b"?"), RECEIVED_AT
        )
        letter = Codec().decode(taken.parcel.dead_letters[0][1], "dead_letter")
        assert letter["provider"] == name
