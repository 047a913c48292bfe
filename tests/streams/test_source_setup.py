"""``mailpulse sources add``: what it says, asks, refuses and writes."""

import json
import re
from base64 import b64encode
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ingest.providers import REGISTRY
from streams.cli.context import settings_of
from streams.cli.doctor import _sources
from streams.cli.source_setup import WHERE
from streams.cli.sources import CONFIG_EXAMPLE
from tests.streams.commands import run, set_apart


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has its own directory and environment."""
    set_apart(tmp_path, monkeypatch)


def public_key(provider: str) -> str:
    """A public key in the form of the provider's console."""
    if provider == "preset:mailpace":
        return b64encode(bytes(32)).decode()
    key = (
        rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
        if provider == "postal" else ec.generate_private_key(ec.SECP256R1())
    )  # fmt: skip
    made = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return b64encode(made).decode()


@pytest.mark.parametrize("provider", sorted(REGISTRY))
def test_sources_add_asks_for_what_each_provider_needs(
    provider: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where to go comes first; with the named variables set, the source is complete."""
    given = ["--url", "https://events.example.com"]
    topic = "arn:aws:sns:eu-west-1:123456789012:t"
    for field, content in (("public_key", public_key(provider)), ("topic_arns", topic)):
        if field in "|".join(REGISTRY[provider].required).split("|")[:1]:
            given += ["--set", f"{field}={content}"]
    assert run("sources", "add", provider, "--name", "mine", *given) == 0
    shown = capsys.readouterr().err
    assert re.search(r"https://(USER:PASSWORD@)?events\.example\.com/hooks/mine", shown)
    assert shown.startswith("1. At ")
    assert "mailpulse send-test mine" in shown
    for variable in re.findall(r"export (\w+)=…", shown):
        base64 = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"
        monkeypatch.setenv(variable, base64 if ":" in provider else f"whsec_{base64}")
    assert run("sources", "ls", "--json") == 0, capsys.readouterr().err
    assert run("sources", "add", provider, "--name", "mine", *given) == 3


def test_where_to_go_is_told_for_every_provider() -> None:
    """A preset brings its own words."""
    assert set(WHERE) == {name for name in REGISTRY if not name.startswith("preset:")}


@pytest.mark.parametrize(("provider", "field", "content"), [
    ("sendgrid", "public_key", "hello"), ("postal", "public_key", "MFkw"),
    ("ses", "topic_arns", "events"), ("ses", "topic_arns", "arn:aws:sns:eu-west-1:1:t"),
    ("mandrill", "public_url", "events.example.com/hooks/x"), ("generic", "allow_ips", "300.1.1.1"),
    ("generic", "secret", "hunter2"), ("generic", "colour", "red"), ("generic", "name", "x"),
    ("generic", "unset", "x"),
])  # fmt: skip
def test_sources_add_writes_nothing_that_the_provider_would_not_take(
    provider: str, field: str, content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no key, no topic, no field; and no secret on the command line."""
    assert run("sources", "add", provider, "--set", f"{field}={content}") in (2, 3)
    said = capsys.readouterr().err
    assert field in said
    assert "hunter2" not in said
    assert not (tmp_path / "mailpulse.toml").exists()


@pytest.mark.parametrize("url", ["events.example.com", "ftp://a", "https://", "https://a/hooks/x",
                                 "https://[::1", "https://a?b=c"])  # fmt: skip
def test_an_address_that_no_provider_can_reach_is_refused(url: str, tmp_path: Path) -> None:
    """Before anything is written."""
    assert run("sources", "add", "generic", "--url", url) == 2
    assert not (tmp_path / "mailpulse.toml").exists()


def test_without_an_address_it_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    """No host that belongs to somebody else."""
    assert run("sources", "add", "generic") == 0
    said = capsys.readouterr().err
    assert "https://YOUR-HOST/hooks/generic" in said
    assert "--url" in said


def test_a_sender_of_ones_own_has_no_console(capsys: pytest.CaptureFixture[str]) -> None:
    """Its secret is chosen, and what it must send is said at once."""
    assert run("sources", "add", "generic") == 0
    said = capsys.readouterr().err
    assert "1. At your own sender: " in said
    assert "X-Webhook-Signature" in said
    assert "a secret that you choose" in said
    assert "console" not in said


def test_a_source_without_its_secret_is_listed_as_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It hides no other; and doctor says which variable to set, also if it is the only one."""
    assert run("sources", "add", "generic", "--name", "shop") == 0
    for others in ((), ("mailgun",)):
        for other in others:
            assert run("sources", "add", other) == 0
            monkeypatch.setenv("MAILPULSE_SECRET_MAILGUN_SIGNING_KEY", "key-of-a-test-account")
        capsys.readouterr()
        assert run("sources", "ls", "--json") == 0
        rows = {row["source"]: row["state"] for row in json.loads(capsys.readouterr().out)}
        assert rows.keys() == {"shop", *others}
        assert rows.pop("shop").startswith("off: sources.shop.secret: ")
        assert set(rows.values()) <= {"on"}
    [finding] = [one for one in _sources(settings_of()) if not one.ok]
    assert "MAILPULSE_SECRET_SHOP_SECRET" in finding.detail
    assert finding.mend.startswith("set it here and for ingress")


def test_what_is_typed_is_asked_again_until_it_is_right(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """On a terminal: the address, then the key."""
    key = public_key("sendgrid")
    answers = iter(["nowhere", "https://e.example/", "hello", key])
    asked: list[str] = []

    def prompt(question: str, **_: object) -> str:
        asked.append(question)
        return next(answers)

    monkeypatch.setattr("typer.prompt", prompt)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    assert run("sources", "add", "sendgrid") == 0
    assert len(asked) == 4
    said = capsys.readouterr().err
    assert "is no key" in said
    assert said.index("1. At ") < said.index("is no key")
    assert "https://e.example/hooks/sendgrid" in said
    assert key in (tmp_path / "mailpulse.toml").read_text(encoding="utf-8")


def test_sources_add_keeps_the_file_and_refuses_odd_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sources in comments are ignored; only real tables count."""
    run("config", "init")
    assert run("sources", "add", "generic", "--name", "crm") == 0
    assert run("sources", "add", "generic", "--name", "a b") == 2
    assert run("sources", "add", "nobody") == 2
    text = (tmp_path / "mailpulse.toml").read_text(encoding="utf-8")
    assert text.startswith(CONFIG_EXAMPLE)
    capsys.readouterr()
