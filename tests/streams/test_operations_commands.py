"""The commands for sizing, loading and securing a pipeline, as an operator uses them."""

import json
import stat
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from schemas.settings import load_sources
from schemas.topics import BY_NAME
from streams.cli.topics import by_topic
from streams.kafka.acl import ROLES, table
from streams.kafka.admin import Lag


def mailpulse(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "streams.cli", *words],
        cwd=cwd, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_load_makes_accounts_that_an_ingress_can_be_told_of(tmp_path: Path) -> None:
    """The key file is readable by its owner only; its sources load; nothing is overwritten."""
    made = mailpulse("load", "--init", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    keys = tmp_path / "load-accounts.json"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    exports = [line for line in made.stdout.splitlines() if line.startswith("export ")]
    toml = made.stdout.split("export ")[0]
    environ = dict(line.removeprefix("export ").split("=", 1) for line in exports)
    sources = load_sources(toml, environ, lambda path: "")
    assert len(sources) >= 4
    again = mailpulse("load", "--init", cwd=tmp_path)
    assert again.returncode == 1
    assert "exists already" in again.stderr


def test_load_without_accounts_says_how_to_make_them(tmp_path: Path) -> None:
    """The message names the command."""
    done = mailpulse("load", "--seconds", "1", cwd=tmp_path)
    assert done.returncode == 1
    assert "mailpulse load --init" in done.stderr


def test_load_on_no_ingress_keeps_books_of_doubt(tmp_path: Path) -> None:
    """Unanswered requests are in the ledger with status 0, and the command ends."""
    mailpulse("load", "--init", cwd=tmp_path)
    done = mailpulse(
        "load", "--seconds", "1", "--rate", "50", "--url", "http://127.0.0.1:1", "--json",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    sent = json.loads(done.stdout)
    assert sent["accepted"] == 0
    lines = [json.loads(line) for line in (tmp_path / "load-ledger.jsonl").open()]
    assert {line["status"] for line in lines} == {0}
    assert len({line["native_id"] for line in lines}) == sent["unsure"] > 0


def test_capacity_is_told_for_people_and_programs(tmp_path: Path) -> None:
    """The table names the setting; the JSON has the same number."""
    words = ("capacity", "100M")
    shown = mailpulse(*words, cwd=tmp_path)
    found = json.loads(mailpulse(*words, "--json", cwd=tmp_path).stdout)
    assert "MAILPULSE_PARTITIONS" in shown.stdout
    assert f" {found['partitions']:,} " in shown.stdout
    assert found["bottleneck"] in shown.stderr.replace("\n", " ")


def test_acls_are_commands_and_data(tmp_path: Path) -> None:
    """One command per grant, for the principal asked for; nothing on a wildcard."""
    words = ("topics", "acls", "--principal", "User:CN={role}")
    lines = mailpulse(*words, cwd=tmp_path).stdout.splitlines()
    found = json.loads(mailpulse(*words, "--json", cwd=tmp_path).stdout)
    assert len(lines) == len(found) > 20
    assert all("'User:CN=" in line and "--add" in line for line in lines)
    assert {rule["role"] for rule in found} == set(ROLES)
    topics = {rule["name"] for rule in found if rule["resource"] == "topic"}
    assert topics == set(BY_NAME)
    # who may write raw events: the ingress, and the admin to resend
    writers = {
        rule["role"] for rule in found
        if rule["name"] == "email.events.raw.v1" and "Write" in rule["operations"]
    }  # fmt: skip
    assert writers == {"ingest", "admin"}
    assert table().count("\n") > 8


def test_config_secrets_writes_and_leaves_alone(tmp_path: Path) -> None:
    """The first run makes files, the second none."""
    first = mailpulse("config", "secrets", cwd=tmp_path)
    assert "clickhouse_dsn" in first.stderr
    assert (tmp_path / "secrets" / "clickhouse_dsn").read_text("utf-8").startswith("http://")
    assert "made" not in mailpulse("config", "secrets", cwd=tmp_path).stderr


@given(st.lists(st.builds(
    Lag, st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(0, 9), st.just(0), st.just(0),
    st.integers(0, 10**6),
)))  # fmt: skip
def test_lag_by_topic_adds_up(rows: list[Lag]) -> None:
    """Every record to read is in one line; the worst comes first."""
    lines = by_topic(rows)
    assert sum(line[4] for line in lines) == sum(row.lag for row in rows)
    assert sum(line[2] for line in lines) == len(rows)
    assert [line[4] for line in lines] == sorted((line[4] for line in lines), reverse=True)
    for group, topic, _, worst, _ in lines:
        assert worst == max(r.lag for r in rows if (r.group, r.topic) == (group, topic))
