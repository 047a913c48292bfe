"""Tables of destinations ``suppress:PROVIDER``: what they may say, and what they mean."""

from pathlib import Path

import pytest

from schemas.errors import ConfigError
from streams.deliver.destinations import load_destinations
from streams.deliver.suppress.accounts import Account, problems_with
from streams.deliver.suppress.changes import Suppressed
from streams.deliver.suppress.exchange import read, write
from streams.deliver.suppress.providers import PROVIDERS

ENVIRON = {"KEY": "s3cret-key", "ID": "AKIDEXAMPLE", "BROKEN": "two words"}
NEEDED = {"sendgrid": "", "mailgun": 'domains = "mg.example"', "postmark": 'streams = ["news"]',
          "sparkpost": "", "ses": 'region = "eu-north-1"\nkey_id = "env:ID"'}  # fmt: skip


def nothing(path: Path) -> str:
    raise FileNotFoundError(2, "No such file or directory")


def account(provider: str, more: str = "") -> Account:
    text = f'[destinations.x]\nkind = "suppress:{provider}"\nkey = "env:KEY"\n'
    found = load_destinations(f"{text}{NEEDED[provider]}\n{more}", ENVIRON, nothing)["x"]
    assert isinstance(found, Account)
    return found


def problems(provider: str, more: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        account(provider, more)
    return list(error.value.problems)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_nothing_is_written_unless_that_is_said(provider: str) -> None:
    """And the end of a dry run begins where the topics begin: it has another group."""
    dry, wet = account(provider), account(provider, "dry_run = false")
    assert dry.dry_run
    assert not wet.dry_run
    assert (dry.dry_run_only, wet.dry_run_only) == (True, False)
    assert (dry.group_names, wet.group_names) == (("x.dry-run", "x"), ("x", "x.dry-run"))
    assert dry.begin == "earliest"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_key_goes_into_a_header_and_nowhere_else(provider: str) -> None:
    """Neither its text nor its problems show it."""
    one = account(provider)
    headers = one.headers(read("/x"), 1_700_000_000.0)
    assert headers
    assert "s3cret-key" not in repr(one) + str(one.model_dump())
    assert one.secrets[0] == "s3cret-key"
    assert one.base_url == f"https://{one.host}"
    text = f"kind = 'suppress:{provider}'\nkey = 'env:BROKEN'\n{NEEDED[provider]}"
    with pytest.raises(ConfigError) as error:
        load_destinations(f"[destinations.x]\n{text}", ENVIRON, nothing)
    assert list(error.value.problems) == [
        "destinations.x.key: must be printable ASCII without spaces"
    ]


@pytest.mark.parametrize(
    ("provider", "more", "problem"),
    [
        ("sendgrid", "scopes.mg = { 'tag:n' = 'list:1' }", "must be a group, as in group:ID"),
        ("sendgrid", "scopes.mg = { 'tag:n' = 'group:news' }", "mg, tag:n: must be a group"),
        ("sendgrid", "scopes.mg = { 'tag:n' = '' }", "must be a group"),
        ("sendgrid", "scopes.'a b' = { 'tag:n' = 'group:1' }", "must be tables named by sources"),
        ("sendgrid", "lists.hard_bounce = 'bounces'", "sendgrid has these lists: unsubscribes"),
        ("ses", "lists.unsubscribe = 'UNSUBSCRIBE'", "ses has these lists: BOUNCE, COMPLAINT"),
        ("sendgrid", "lists.soft_bounces = 'unsubscribes'", "lists.soft_bounces.[key]"),
        ("sendgrid", "reasons = 'soft_bounces'", "reasons.0: Input should be 'hard_bounce'"),
        ("sendgrid", "topics = 'alerts'", "topics.0: Input should be 'suppressions'"),
        ("sendgrid", "source = 'a b'", "source: must be the name of a source"),
        ("sendgrid", "url = 'http://x.example'", "only to addresses that allow_networks names"),
        ("sendgrid", "url = 'https://x.example/v3'", "url: must be https://HOST, without a path"),
        ("mailgun", "scopes.sg = { 'group:1' = 'domain:../x' }", "must be a domain"),
        ("mailgun", "allow_networks = 'x'", "allow_networks: must be addresses or networks"),
        ("ses", "session_token = 'plain'", 'session_token: a secret is "env:NAME"'),
        ("ses", "tenant = 'a/b'", "tenant: String should match"),
    ],
)
def test_a_problem_names_its_setting(provider: str, more: str, problem: str) -> None:
    """Places, lists, reasons, addresses and secrets that can't be."""
    assert any(problem in one for one in problems(provider, more)), problems(provider, more)


@pytest.mark.parametrize(("provider", "setting", "bad"), [
    ("mailgun", "domains", "[]"), ("mailgun", "domains", "'a/b'"), ("mailgun", "domains", "'..'"),
    ("mailgun", "domains", "['a.example', 'a.example']"), ("postmark", "streams", "'x y'"),
    ("ses", "region", "'eu/north'"),
])  # fmt: skip
def test_what_stands_in_paths_and_hosts_is_checked(provider: str, setting: str, bad: str) -> None:
    """Nothing of the file can lead a call to another path or host."""
    text = f"kind = 'suppress:{provider}'\nkey = 'env:KEY'\n{setting} = {bad}"
    more = "\nkey_id = 'env:ID'" if provider == "ses" else ""
    with pytest.raises(ConfigError) as error:
        load_destinations(f"[destinations.x]\n{text}{more}", ENVIRON, nothing)
    assert error.value.problems[0].startswith(f"destinations.x.{setting}: ")


def test_an_unknown_kind_is_told_with_all_there_are() -> None:
    """Whoever mistypes one sees the others."""
    with pytest.raises(ConfigError) as error:
        load_destinations("[destinations.x]\nkind = 'suppress:brevo'", {}, nothing)
    assert "suppress:sendgrid" in error.value.problems[0]


def test_what_a_provider_can_not_hold_goes_where_lists_says() -> None:
    """By default nowhere."""
    bounce = Suppressed("ada@x.example", "other", "", "hard_bounce")
    assert not account("sendgrid").rules.of(bounce).changes
    told = account("sendgrid", "lists.hard_bounce = 'unsubscribes'").rules.of(bounce)
    assert [str(one.target) for one in told.changes] == ["unsubscribes"]
    leaves = Suppressed("ada@x.example", "other", "", "unsubscribe")
    assert not account("ses").rules.of(leaves).changes
    told = account("ses", "lists.unsubscribe = 'COMPLAINT'").rules.of(leaves)
    assert [str(one.target) for one in told.changes] == ["COMPLAINT"]


def test_by_default_nothing_comes_off_sendgrid_as_nothing_shows_who_put_it_there() -> None:
    """Of the others what they show comes off."""
    lifted = Suppressed("ada@x.example")
    assert not account("sendgrid").rules.of(lifted).changes
    assert account("sendgrid", "lifts = 'all'").rules.of(lifted).changes
    assert account("mailgun").rules.of(lifted).changes
    assert not account("mailgun", "lifts = 'none'").rules.of(lifted).changes


def test_sparkposts_reads_name_the_primary_account_and_subaccounts_every_call() -> None:
    """A search that names none is one of all subaccounts, and late."""
    primary, sub = account("sparkpost"), account("sparkpost", "subaccount = 7")
    assert primary.headers(read("/x"), 0.0)["x-msys-subaccount"] == "0"
    assert "x-msys-subaccount" not in primary.headers(write("PUT", "/x"), 0.0)
    assert sub.headers(read("/x"), 0.0)["x-msys-subaccount"] == "7"
    assert sub.headers(write("PUT", "/x"), 0.0)["x-msys-subaccount"] == "7"


@pytest.mark.parametrize("recipients", ["hashed", "dropped"])
def test_hashed_addresses_can_not_be_written(recipients: str) -> None:
    """Other destinations take them."""
    found = load_destinations(
        "[destinations.crm]\nurl = 'https://x.example'\ntopics = 'suppressions'", {}, nothing
    )
    assert problems_with(recipients, found) == []
    assert problems_with("plain", {"x": account("ses")}) == []
    assert problems_with(recipients, {"x": account("ses")}) == [
        f"destinations.x: addresses are stored {recipients}, and a provider's list needs them plain"
    ]
