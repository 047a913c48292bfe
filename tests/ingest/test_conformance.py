"""The conformance table says what the code does, for every provider."""

import contextlib
from dataclasses import fields as dataclass_fields
from typing import Any

import orjson
import pytest

from ingest.providers import REGISTRY, items
from ingest.providers.base import Parsed
from ingest.providers.conformance import HEAD, table
from ingest.verify import NeedsCertificate
from schemas.settings import Source
from schemas.sources import PRESET
from tests.ingest.keys import example

NOW = 1_790_000_000.0
ISSUE_5 = {
    "sendgrid", "mailgun", "ses", "postmark", "mandrill", "sparkpost", "mailjet", "brevo",
    "mailersend", "mailtrap", "postal", "resend", "unisender_go", "loops", "customer_io",
    "klaviyo", "iterable", "elastic_email", "standard_webhooks", "generic",
}  # fmt: skip


ISSUE_19 = {
    "azure", "smtp2go", "zeptomail", "scaleway", "mailchimp", "infobip", "socketlabs",
    "forwardemail", "lettermint", "mailpace", "ahasend", "sweego", "mailomat", "plunk",
}  # fmt: skip


def test_every_provider_of_the_issue_is_there() -> None:
    """And under its own name."""
    assert {name for name in REGISTRY if not name.startswith(PRESET)} == ISSUE_5
    assert {name.removeprefix(PRESET) for name in REGISTRY if ":" in name} == ISSUE_19
    assert [provider.name for provider in REGISTRY.values()] == list(REGISTRY)


def test_the_table_has_a_full_row_per_provider() -> None:
    """No cell is empty, and none breaks the table."""
    rows = [line.strip("| ").split(" | ") for line in table().splitlines()]
    assert len(rows) == len(REGISTRY) + 2
    assert all(len(row) == len(HEAD) and all(row) for row in rows)


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_what_a_provider_says_of_itself_is_well_formed(name: str) -> None:
    """Answers, coverage and required fields are of the known ones; other secrets are not taken."""
    provider = REGISTRY[name]
    assert provider.overload_status in (429, 503)
    assert provider.signs in ("raw body", "fields", "token only", "nothing")
    assert provider.tolerance_s >= 0
    wanted = {one for group in provider.required for one in group.split("|")}
    assert wanted
    assert wanted <= set(Source.model_fields)


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_only_who_says_so_reads_the_body_to_prove_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are asked before anything has looked at how deep or how full a body is."""
    provider, one = REGISTRY[name], example(name)
    request = provider.sample(one.source, NOW, 1, one.signing_key)
    read: list[bytes] = []

    def read_json(body: bytes) -> Any:
        read.append(body)
        return orjson.loads(body)

    monkeypatch.setattr(items, "read_json", read_json)
    with contextlib.suppress(NeedsCertificate):
        provider.verify(request, one.source, NOW, {})
    assert not read or provider.reads_body


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_a_source_without_its_fields_is_told_each_of_them(name: str) -> None:
    """Every required field is named, all at once."""
    provider = REGISTRY[name]
    problems = provider.check(Source(name="empty", provider=name))
    assert len(problems) >= len(provider.required)
    for group in provider.required:
        assert any(group.split("|")[0] in problem for problem in problems)
    assert provider.check(example(name).source) == []


def test_parsed_defaults_say_nothing_happened() -> None:
    """A provider fills in only what there is."""
    empty = Parsed()
    values = [getattr(empty, one.name) for one in dataclass_fields(Parsed)]
    assert values == [[], [], None, "", b"", []]
    assert empty.count == 0
