"""The command line without a pipeline: help, exit codes, files, messages instead of tracebacks."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import typer

from ingest.verify import hmac_hex
from schemas.errors import BadInput, ConfigError, Unavailable
from schemas.settings import Settings
from streams.cli import context, tail
from streams.cli.dlq import Resend, plan_of
from streams.cli.main import BY_USE, PRIVATE, ROLES, app
from streams.cli.sources import CONFIG_EXAMPLE
from streams.embedded.data_dir import Endpoints
from streams.terminal import output
from tests.streams.commands import run, set_apart

COMMANDS = (
    "demo", "up", "dev", "ingest", "worker", "sink", "deliver", "dashboard", "topics", "migrate",
    "doctor", "status", "lag", "tail", "query", "export", "dlq", "send-test", "check", "capture",
    "config", "sources", "backfill", "campaigns", "suppressions", "alerts", "rules", "bench",
    "forget", "export-person", "workers", "report", "import",
    "backup", "restore", "repair",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has its own directory and environment; nothing listens on port 1."""
    set_apart(tmp_path, monkeypatch)


def test_every_promised_command_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    """Each has a help text."""
    assert run("--help") == 0
    shown = capsys.readouterr().out
    for command in COMMANDS:
        assert command in shown
        assert run(command, "--help") == 0
        assert "Usage" in capsys.readouterr().out


def test_help_lists_each_command_once_and_by_use(capsys: pytest.CaptureFixture[str]) -> None:
    """What is needed first comes first, roles last; no command is missing from the order."""
    named = {*BY_USE, *ROLES}
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert {name for name, one in commands.items() if not one.deprecated} == named
    assert run("--help") == 0
    shown = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line[:2] == "│ "]
    listed = [word for word in shown if word in named]
    assert listed[:3] == ["demo", "up", "status"]
    assert listed[-6:] == ["ingest", "worker", "sink", "warehouse", "dashboard", "deliver"]


def test_help_is_quick() -> None:
    """Help imports neither Faust, nor a database engine, nor a web server."""
    code = (
        "import sys; from streams import cli; "
        "print([m for m in ('faust','aiokafka','chdb','clickhouse_connect','uvicorn','starlette')"
        " if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """For bug reports."""
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("mailpulse ")


@pytest.mark.parametrize(
    "arguments",
    [("nonsense",), ("tail", "nonsense"), ("tail", "raw", "--since", "soon"), ("query",)],
)
def test_wrong_usage_is_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """With a message, not a traceback."""
    assert run(*arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [("topics", "show"), ("topics", "apply"), ("lag",), ("tail", "raw"), ("query", "SELECT 1"),
     ("dlq", "ls"), ("deliver", "ls"), ("campaigns", "ls"), ("alerts", "ls"), ("alerts", "try"),
     ("campaigns", "set", "spring"), ("forget", "a@b.example", "--yes"),
     ("workers", "remove", "worker-2"), ("forget", "a@b.example", "--verify"),
     ("export-person", "a@b.example")],
)  # fmt: skip
def test_absent_peer_is_4(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Every command that needs a peer names the address that it tried."""
    assert run(*arguments) == 4
    shown = capsys.readouterr().err
    assert "127.0.0.1:1" in shown
    assert "Traceback" not in shown


def test_wrong_settings_are_3_and_all_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An operator can correct all of them at once."""
    monkeypatch.setenv("MAILPULSE_PARTITIONS", "many")
    monkeypatch.setenv("MAILPULSE_INGEST_PORT", "99999")
    monkeypatch.setenv("MAILPULSE_NONSENSE", "1")
    assert run("worker") == 3
    shown = capsys.readouterr().err
    for name in ("MAILPULSE_PARTITIONS", "MAILPULSE_INGEST_PORT", "MAILPULSE_NONSENSE"):
        assert name in shown


def test_role_without_sources_file_is_3(capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the command that writes one."""
    assert run("ingest") == 3
    assert "mailpulse config init" in capsys.readouterr().err


def test_unknown_provider_and_missing_secret_are_named_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each problem with its place in the file."""
    (tmp_path / "mailpulse.toml").write_text(
        '[sources.a]\nprovider = "nobody"\n[sources.b]\nprovider = "generic"\n', encoding="utf-8"
    )
    assert run("ingest") == 3
    shown = capsys.readouterr().err
    assert "sources.a.provider" in shown
    assert "sources.b" in shown
    assert "secret" in shown


def test_doctor_says_how_to_solve_each_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing runs: every failure has a remedy, and the exit code is 1."""
    monkeypatch.setenv("MAILPULSE_SCHEMA_REGISTRY_URL", "http://ada:hunter2@127.0.0.1:1")
    assert run("doctor", "--json") == 1
    findings = {one["what"]: one for one in orjson.loads(capsys.readouterr().out)}
    for what in ("kafka", "registry", "clickhouse", "sources"):
        assert not findings[what]["ok"]
        assert findings[what]["mend"]
    assert "hunter2" not in findings["registry"]["detail"]
    assert findings["disk"]["detail"]


def test_doctor_shows_what_kafka_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Records of a topic that Kafka on this machine no longer knows."""
    aside = tmp_path / "d" / "kafka" / "data" / f"email.events.raw.v1-0.{'0f' * 16}-stray"
    aside.mkdir(parents=True)
    (aside / "00000000000000000000.log").write_bytes(b"records")
    monkeypatch.setenv("MAILPULSE_DATA_DIR", str(tmp_path / "d"))
    run("doctor", "--json")
    findings = {one["what"]: one for one in orjson.loads(capsys.readouterr().out)}
    assert not findings["kafka's data"]["ok"]
    assert "email.events.raw.v1-0" in findings["kafka's data"]["detail"]


def test_doctor_looks_at_the_sources_that_up_would_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--config``, as for ``up``."""
    monkeypatch.setenv("KEY", "s3cret")
    (tmp_path / "a.toml").write_text('[sources.a]\nprovider = "generic"\nsecret = "env:KEY"\n')
    run("doctor", "--config", str(tmp_path / "a.toml"))
    assert "ok   sources: a" in capsys.readouterr().err


def test_doctor_names_a_source_that_is_off(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what to do; one that works is named beside it."""
    path = tmp_path / "a.toml"
    path.write_text(
        '[sources.on]\nprovider = "generic"\nsecret = "env:MAILPULSE_SECRET_ON"\n'
        '[sources.off]\nprovider = "generic"\nsecret = "env:MAILPULSE_SECRET_OFF"\n',
        encoding="utf-8",
    )
    monkeypatch.setenv("MAILPULSE_SECRET_ON", "x")
    run("doctor", "--config", str(path), "--json")
    found = [one for one in json.loads(capsys.readouterr().out) if one["what"] == "sources"]
    assert [(one["ok"], one["detail"]) for one in found] == [
        (True, "on"),
        (False, "off is off: sources.off.secret: environment variable MAILPULSE_SECRET_OFF"
                " is not set"),
    ]  # fmt: skip
    monkeypatch.delenv("MAILPULSE_SECRET_ON")
    assert run("ingest") == 3  # with no source at all it could accept nothing


def test_doctor_looks_at_destinations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether each has its secret, and where its host lies; nobody is connected to."""
    path = tmp_path / "a.toml"
    local = '[destinations.{}]\nurl = "https://127.0.0.1/{}"\ntopics = "alerts"\n'
    allowed = 'allow_networks = ["127.0.0.1"]\n'
    nowhere = '[destinations.lost]\nurl = "https://no-such-host.invalid/"\ntopics = "alerts"\n'
    path.write_text(local.format("mine", 1) + allowed + local.format("not", 2) + nowhere)
    run("doctor", "--config", str(path))
    shown = capsys.readouterr().err
    assert "ok   destinations: mine: webhook, 127.0.0.1" in shown
    assert "FAIL destinations: not: 127.0.0.1 is 127.0.0.1, which is not public" in shown
    assert "allow_networks" in shown
    assert "FAIL destinations: lost: no-such-host.invalid is not found" in shown
    path.write_text(local.format("mine", 1) + 'secret = "env:NOT_SET"\n')
    run("doctor", "--config", str(path))
    assert "NOT_SET" in capsys.readouterr().err


# --- config and sources ---------------------------------------------------------------------------


def test_config_init_writes_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An existing file is never replaced by accident."""
    assert run("config", "init") == 0
    path = tmp_path / "mailpulse.toml"
    assert path.read_text(encoding="utf-8") == CONFIG_EXAMPLE
    path.write_text("# mine\n", encoding="utf-8")
    assert run("config", "init") == 3
    assert path.read_text(encoding="utf-8") == "# mine\n"
    assert run("config", "init", "--force") == 0
    capsys.readouterr()


@pytest.fixture
def private_umask() -> Iterator[None]:
    """The umask that commands run under."""
    before = os.umask(PRIVATE)
    yield
    os.umask(before)


@pytest.mark.usefixtures("private_umask")
def test_the_users_file_is_readable_by_containers(tmp_path: Path) -> None:
    """Compose mounts it as it is, and its containers run under other users; it has no secrets."""
    path = tmp_path / "mailpulse.toml"
    assert run("config", "init") == 0
    assert path.stat().st_mode & 0o777 == 0o644
    path.unlink()
    assert run("sources", "add", "mailgun", "--name", "a") == 0
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.usefixtures("private_umask")
def test_secret_files_are_readable_by_containers(tmp_path: Path) -> None:
    """All that compose mounts of the folder; nobody else gets into it."""
    assert run("config", "secrets") == 0
    folder = tmp_path / "secrets"
    assert folder.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes.pop("sources") == 0o755
    assert set(modes.values()) == {0o644}


def test_example_file_is_valid_when_its_comments_are_taken_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example, uncommented, gives sources that load."""
    lines = CONFIG_EXAMPLE.splitlines()[4:]
    for name in ("POSTMARK_USER", "POSTMARK_PASSWORD", "CRM"):
        monkeypatch.setenv(f"MAILPULSE_SECRET_{name}", "x")
    text = "\n".join(line.removeprefix("# ") for line in lines)
    (tmp_path / "mailpulse.toml").write_text(text, encoding="utf-8")
    assert run("sources", "ls", "--json") == 3  # the example's public key is cut short
    assert capsys.readouterr().err.count("\n") == 1


def test_config_show_hides_secrets_and_names_origins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The origin of each value, and no password."""
    secret_file = tmp_path / "secret"
    secret_file.write_text("hunter3\n", encoding="utf-8")
    monkeypatch.setenv("MAILPULSE_KAFKA_SASL_PASSWORD", "hunter2")
    monkeypatch.setenv("MAILPULSE_RECIPIENT_HASH_KEY_FILE", str(secret_file))
    monkeypatch.setenv("MAILPULSE_CLICKHOUSE_DSN", "http://ada:hunter4@db.example/x")
    assert run("config", "show", "--json") == 0
    out = capsys.readouterr().out
    for secret in ("hunter2", "hunter3", "hunter4"):
        assert secret not in out
    rows = {row["setting"]: row for row in json.loads(out)}
    assert rows["MAILPULSE_KAFKA_SASL_PASSWORD"]["origin"] == "environment"
    assert rows["MAILPULSE_RECIPIENT_HASH_KEY"]["origin"] == f"file {secret_file}"
    assert rows["MAILPULSE_PARTITIONS"]["origin"] == "default"
    assert "ada" in rows["MAILPULSE_CLICKHOUSE_DSN"]["value"]


# --- check ----------------------------------------------------------------------------------------


@pytest.fixture
def _crm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A generic source with a secret, and a captured body."""
    monkeypatch.setenv("CRM", "s3cret")
    (tmp_path / "mailpulse.toml").write_text(
        '[sources.crm]\nprovider = "generic"\nsecret = "env:CRM"\n', encoding="utf-8"
    )
    (tmp_path / "body").write_bytes(
        b'{"event": "delivered", "id": "1", "recipient": "a@b.example"}'
    )


@pytest.mark.usefixtures("_crm")
def test_check_accepts_a_good_request_and_refuses_a_forged_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit codes 0 and 1; the operator is told what is wrong."""
    body = (tmp_path / "body").read_bytes()
    signature = hmac_hex("s3cret", body, "sha256")
    check = ("check", "crm", "--body", "body", "--json", "-H")
    assert run(*check, f"X-Webhook-Signature: {signature}") == 0
    accepted = orjson.loads(capsys.readouterr().out)
    assert accepted["events"][0]["event_type"] == "delivered"
    assert run(*check, "X-Webhook-Signature: 00") == 1
    refused = orjson.loads(capsys.readouterr().out)
    assert (refused["accepted"], refused["status"]) == (False, 401)


@pytest.mark.usefixtures("_crm")
def test_check_explains_and_takes_another_file_of_sources(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--config`` as for ``up``; a refusal says what was expected, and no secret."""
    (tmp_path / "mailpulse.toml").rename(tmp_path / "other.toml")
    check = ("check", "crm", "--config", "other.toml", "--body", "body", "-H")
    assert run(*check, "X-Webhook-Signature: 00") == 1
    said = capsys.readouterr().err
    assert "the key of another webhook" in said
    assert "s3cret" not in said


@pytest.mark.usefixtures("_crm")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("check", "crm", "--body", "body", "--certificate", "missing"), 1),
        (("check", "crm", "--body", "missing"), 1),
        (("check", "nobody", "--body", "body"), 3),
        (("check", "crm", "--body", "body", "-H", "no colon"), 2),
        (("check", "crm", "--body", "body", "--now", "then"), 2),
    ],
)
def test_check_says_what_it_cannot_do(
    arguments: tuple[str, ...], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing file, an unknown source, a header without a colon, an invalid time."""
    assert run(*arguments) == code
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.usefixtures("_crm")
def test_send_test_without_an_ingress_is_4(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing listens there."""
    assert run("send-test", "crm", "--url", "http://127.0.0.1:1") == 4
    assert "no answer from http://127.0.0.1:1" in capsys.readouterr().err


# --- parts ----------------------------------------------------------------------------------------


def test_commands_follow_a_running_pipeline_unless_told_otherwise() -> None:
    """The environment takes precedence over the pipeline on the data directory."""
    found = Endpoints(1, "127.0.0.1:5", 7, "http://i", "http://127.0.0.1:6/x", "http://w")
    plain = Settings()
    followed = context.attached(plain, {}, found)
    assert (followed.kafka_bootstrap, followed.partitions) == ("127.0.0.1:5", 7)
    assert followed.clickhouse_dsn.get_secret_value() == "http://127.0.0.1:6/x"
    given = {"MAILPULSE_KAFKA_BOOTSTRAP": "k:1", "MAILPULSE_CLICKHOUSE_DSN_FILE": "f"}
    assert context.attached(plain, given, found) == plain
    assert context.attached(plain, {}, None) == plain


@pytest.mark.parametrize(
    ("error", "code"),
    [(ConfigError(["a", "b"]), 3), (Unavailable("x"), 4), (BadInput("r", "d"), 1)],
)
def test_errors_have_documented_codes(error: BadInput, code: int) -> None:
    """Each with at least one line of text."""
    assert context.exit_code(error) == code
    assert context.explain(error)


@pytest.mark.parametrize(
    ("text", "at"),
    [("10m", 400.0), ("2h", -6200.0), ("1.5s", 998.5), ("1970-01-01T00:01:00", 60.0),
     ("1970-01-01T01:00:00+01:00", 0.0)],
)  # fmt: skip
def test_times_are_read_as_people_write_them(text: str, at: float) -> None:
    """A duration ago, or ISO 8601, UTC by default."""
    assert tail.moment(text, 1000.0) == at


def test_filters_look_at_raw_and_enriched_records_alike() -> None:
    """The enrichment's campaign takes precedence over the event's."""
    raw = {"event_type": "opened", "campaign_id": None, "recipient": "a@b.c"}
    enriched = {"event": raw, "enrichment": {"campaign_id": "spring"}}
    topic = tail.topic_named("enriched")
    assert tail.Wanted(topic, campaign="spring", event_type="opened").takes(enriched)
    assert not tail.Wanted(topic, campaign="spring").takes(raw)
    assert not tail.Wanted(topic, event_type="clicked").takes(enriched)
    assert tail.Wanted(topic, recipient="a@b.c").takes(raw)


def test_records_are_shown_with_times_and_without_addresses() -> None:
    """Nested records too; of bytes only the number."""
    shown = tail.readable(
        {"event": {"occurred_at": 0, "recipient": "ada@example.com",
                   "message_id": "m1@sender.example",
                   "click_url": "https://shop.example/?to=ada%40example.com"},
         "content": b"abc", "minute": 60_000, "tags": ["a", "for ada@example.com"]},
    )  # fmt: skip
    assert shown == {
        "event": {
            "occurred_at": "1970-01-01T00:00:00+00:00", "recipient": "a***@example.com",
            "message_id": "m1@sender.example",
            "click_url": "https://shop.example/?to=a***%40example.com",
        },
        "content": "3 bytes",
        "minute": "1970-01-01T00:01:00+00:00",
        "tags": ["a", "for a***@example.com"],
    }  # fmt: skip


def test_cells_never_carry_control_characters() -> None:
    """A campaign with an attacker's name can't move the reader's cursor."""
    assert output.cell_text("a\x1b[31mb\n") == "a\\u001b[31mb\\n"
    assert (output.cell_text(None), output.cell_text(12345), output.cell_text(True)) == (
        "–", "12,345", "yes",
    )  # fmt: skip


def letter(**overrides: object) -> dict[str, object]:
    """A dead letter of the sink."""
    values: dict[str, object] = {
        "dead_letter_id": "1", "stage": "sink", "reason": "broken_avro", "topic": None,
        "partition": 3, "key": b"k", "content": b"v", "occurred_at": 5_000, "source": None,
        "headers": {},
    }  # fmt: skip
    return {**values, **overrides}


def test_resend_sends_records_back_where_they_were() -> None:
    """Same topic, partition and bytes; a topic that is not ours is left alone."""
    plan = Resend()
    plan_of(letter(topic="email.events.enriched.v1"), {}, None, plan)
    plan_of(letter(topic="other"), {}, None, plan)
    plan_of(letter(stage="ingest", source="gone"), {}, None, plan)
    assert plan.out == [("email.events.enriched.v1", 3, b"k", b"v", 5)]
    assert dict(plan.still_bad) == {"no_topic": 1, "source_not_configured": 1}
    assert plan.tried == 3


def test_topic_names_and_short_names_are_known() -> None:
    """Both work; anything else is wrong usage."""
    for short, full in tail.ALIASES.items():
        assert tail.topic_named(short) == tail.topic_named(full)
    with pytest.raises(typer.BadParameter):
        tail.topic_named("nope")
