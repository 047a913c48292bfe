"""Every command, with hostile peers: its output is always safe on a terminal.

Kafka is replaced where commands read it; ClickHouse and ingress are real servers on a socket that
answer everything with hostile text.
"""

import io
import json
import re
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import typer

from schemas.errors import BadInput, Unavailable
from streams.cli import context, dlq, figures, load, reprocess, tail
from streams.cli.main import app, main
from streams.enrich.epochs import Epoch
from streams.kafka import admin
from streams.reprocess.plan import PartProgress
from streams.simulation import load as loading
from streams.terminal.output import pass_on
from tests.streams.test_visible import HOSTILE as WORST
from tests.streams.test_visible import is_harmless

TEXT_COLUMNS = ("campaign_id", "reason", "since", "until", "evidence_event_id", "provider")
HOSTILE = WORST.replace("\0", "").replace("\ud800", "")
"""What passes through UTF-8, environments and arguments."""
SGR = re.compile(r"\x1b\[[0-9;]*m")
"""Colours, which are rich's own on a terminal; none is in ``HOSTILE``."""


class World(BaseHTTPRequestHandler):
    """ClickHouse and ingress in one."""

    refuses = False

    def do_POST(self) -> None:
        """Answers in the format that was asked for."""
        self.rfile.read(int(self.headers.get("content-length", 0)))
        asked = parse_qs(urlsplit(self.path).query)
        fmt = asked.get("default_format", ["TabSeparated"])[0]
        value = HOSTILE
        if fmt == "JSONCompact":
            meta = [{"name": name, "type": "String"} for name in (*TEXT_COLUMNS, value)]
            body = json.dumps({"meta": meta, "data": [[value] * len(meta)]}, ensure_ascii=False)
        elif fmt.startswith(("CSV", "Vertical")):
            body = f'"{value}"\n'
        else:  # as ClickHouse escapes line ends, and nothing else
            body = value.replace("\n", "\\n") + "\n"
        self.send_response(400 if self.refuses else 200)
        self.send_header("X-ClickHouse-Format", fmt)
        self.send_header("X-ClickHouse-Query-Id", "1")
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        """Logs nothing."""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[World]]:
    """Commands run in a directory of their own, and all their peers are hostile."""
    monkeypatch.chdir(tmp_path)
    for name in context.environ():
        if name.startswith("MAILPULSE_"):
            monkeypatch.delenv(name)
    handler: type[World] = type("Hostile", (World,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    port = server.server_address[1]
    monkeypatch.setenv("MAILPULSE_CLICKHOUSE_DSN", f"http://127.0.0.1:{port}/mailpulse")
    monkeypatch.setenv("MAILPULSE_INGEST_PORT", str(port))
    monkeypatch.setenv("MAILPULSE_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("MAILPULSE_KAFKA_SASL_USERNAME", HOSTILE)
    monkeypatch.setenv("CRM", "s3cret")
    (tmp_path / "mailpulse.toml").write_text(
        '[sources.crm]\nprovider = "generic"\nsecret = "env:CRM"\n', encoding="utf-8"
    )
    event = {"event": "delivered", "id": HOSTILE, "recipient": HOSTILE, "campaign_id": HOSTILE}
    (tmp_path / "body").write_text(json.dumps(event), encoding="utf-8")
    _stand_in_for_kafka(monkeypatch)
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


def _stand_in_for_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    class Record:
        timestamp, partition, offset = 0, 0, 0
        key, value = HOSTILE.encode(), b""

    letter = {
        "dead_letter_id": HOSTILE, "stage": HOSTILE, "reason": HOSTILE, "topic": None,
        "partition": 3, "key": b"k", "content": HOSTILE.encode(),
        "occurred_at": 5_000, "source": HOSTILE, "detail": HOSTILE, "headers": {HOSTILE: HOSTILE},
    }  # fmt: skip
    event = {"event_type": HOSTILE, "campaign_id": HOSTILE, "recipient": HOSTILE, "kind": HOSTILE}

    async def records(*_: Any) -> AsyncGenerator[tuple[Any, Any], None]:
        for decoded in (event, {"event": event, "enrichment": event}, letter, None,
                        BadInput(HOSTILE, HOSTILE)):  # fmt: skip
            yield Record, decoded

    async def some_letters(*_: Any) -> AsyncGenerator[dict[str, Any], None]:
        yield dict(letter)

    async def topics_show(_settings: Any) -> admin.Cluster:
        state = admin.TopicState(HOSTILE, HOSTILE, 1, 1, 1, {HOSTILE: HOSTILE})
        return admin.Cluster(1, {"email.events.raw.v1": state})

    async def topics_apply(_settings: Any) -> admin.TopicsReport:
        return admin.TopicsReport((HOSTILE,), (HOSTILE,), (HOSTILE,))

    async def lag(*_: Any) -> list[admin.Lag]:
        return [admin.Lag(HOSTILE, HOSTILE, 0, None, 1, 1)]

    async def produce(*_: Any) -> None:
        return None

    async def log_id(*_: Any) -> str:
        raise Unavailable(HOSTILE)

    class Planner:
        epoch = Epoch(1, HOSTILE, 0, 0, 3, HOSTILE, ())

        async def by_partition(self) -> Any:
            return self.epoch, [PartProgress(0, HOSTILE, 0, 1, 2)]

        async def abort(self) -> Epoch:
            return self.epoch

    @asynccontextmanager
    async def planner() -> AsyncGenerator[tuple[Any, None], None]:
        yield Planner(), None

    monkeypatch.setattr(reprocess, "_planner", planner)
    monkeypatch.setattr(reprocess, "RATE_S", 0.001)
    monkeypatch.setattr(tail, "records", records)
    monkeypatch.setattr(dlq, "letters", some_letters)
    monkeypatch.setattr(admin, "topics_show", topics_show)
    monkeypatch.setattr(admin, "topics_apply", topics_apply)
    monkeypatch.setattr(admin, "lag", lag)
    monkeypatch.setattr(admin, "log_id", log_id)
    monkeypatch.setattr(figures, "_produce", produce)
    sent = loading.Sent(1, 1, 1, 1, {HOSTILE: 1}, (HOSTILE,))
    monkeypatch.setattr(load, "run_until_stopped", lambda _main: sent)


ASKED: dict[str, list[tuple[str, ...]]] = {
    "query": [("SELECT 1",), ("SELECT 1", "--json"), ("SELECT 1", "--format", "JSONEachRow")],
    "export": [("events",), ("events", "--format", "jsonl"), (HOSTILE, "--format", HOSTILE)],
    "alerts ls": [(), ("--json",)],
    "alerts show": [(HOSTILE,), (HOSTILE, "--json")],
    "alerts try": [(), ("--line", HOSTILE), ("--line", f"{HOSTILE}=0.1"), ("--json",)],
    "migrate": [("--plan",)],
    "lag": [(), ("--json",), ("--partitions",), ("--group", HOSTILE)],
    "tail": [("raw",), ("raw", "--json"), ("raw", "--unmasked"), (HOSTILE,)],
    "trace": [("a@b.example",), (HOSTILE, "--unmasked"), ("a@b.example", "--json")],
    "workers remove": [(HOSTILE,), (HOSTILE, "--json")],
    "why": [(HOSTILE,), (HOSTILE, "--examples", "0", "--json")],
    "report": [("--to", HOSTILE), ("--to", "a.html", "--period", HOSTILE),
               ("--to", "a.html", "--zone", HOSTILE)],
    "reprocess": [("--from", "1d")],
    "rules propose": [(), ("--json", "--output", HOSTILE)],
    "rules accept": [(HOSTILE,), ("mailpulse.toml", "--from", HOSTILE)],
    "rules ls": [(), ("--json",)],
    "rules refresh": [(), ("--json", "--output", HOSTILE)],
    "reprocess status": [(), ("--json",)],
    "reprocess abort": [()],
    "forget": [(HOSTILE, "--yes"), ("a@b.example", "--yes"), ("a@b.example", "--yes", "--json")],
    "export-person": [("a@b.example",), (HOSTILE,)],
    "backup": [(HOSTILE,), ("place", "--clickhouse", HOSTILE), ("place", "--json")],
    "restore": [(HOSTILE,), ("place", "--name", HOSTILE), ("place", "--list"),
                (HOSTILE, "--list", "--json"), (f"s3://{HOSTILE}", "--verify")],
    "repair": [(), ("--json",), ("--yes", "--from", HOSTILE)],
    "check": [("crm", "--body", "body", "-H", f"x: {HOSTILE}"), ("crm", "--body", HOSTILE[:20]),
              (HOSTILE, "--body", "body")],
    "send-test": [("crm",), ("crm", "--json")],
    "doctor": [(), ("--json",)],
    "load": [("--init",), (), ("--json",)],
    "capacity": [("1000",), (HOSTILE,)],
    "status": [(), ("--json",)],
    "campaigns ls": [(), ("--json",)],
    "campaigns show": [(HOSTILE,), (HOSTILE, "--json")],
    "campaigns set": [(HOSTILE, "--name", HOSTILE)],
    "suppressions export": [(), ("--format", "jsonl")],
    "suppressions check": [(HOSTILE,), (HOSTILE, "--json")],
    "suppressions add": [(HOSTILE,), ("a@b.example", "--reason", HOSTILE, "--json")],
    "suppressions lift": [(HOSTILE,), ("a@b.example", "--reason", HOSTILE)],
    "suppressions import": [(HOSTILE,), (HOSTILE, "--json")],
    "topics apply": [(), ("--json",)],
    "topics show": [(), ("--json",)],
    "topics acls": [("--principal", f"{HOSTILE}{{role}}", "--bootstrap", HOSTILE), ("--json",)],
    "dlq ls": [(), ("--json",)],
    "dlq show": [("a",), ("a", "--json"), ("a", "--unmasked"), (f"{HOSTILE}x",)],
    "dlq resend": [(), ("--json",)],
    "sources ls": [(), ("--json",)],
    "sources refresh": [()],
    "sources add": [(HOSTILE,), ("generic", "--name", HOSTILE)],
    "backfill": [(), ("--json",), (HOSTILE, "--from", "1d"), ("crm", "--from", HOSTILE)],
    "import": [(HOSTILE, "a"), ("crm", HOSTILE), ("crm", HOSTILE, "--write", "--until", HOSTILE),
               ("crm", "mailpulse.toml", "--json")],
    "capture": [(HOSTILE,), (HOSTILE, "--config", HOSTILE)],
    "config show": [(), ("--json",)],
    "config init": [()],
    "config secrets": [("--clickhouse-host", HOSTILE)],
    "bench": [("--only", HOSTILE)],
    "kafka install": [("--list",)],
    "deliver ls": [(), ("--json",)],
    "deliver pause": [(HOSTILE,)],
    "deliver resume": [(HOSTILE,)],
    "deliver resend": [(HOSTILE, "--from", "1h"), ("crm", "--from", HOSTILE)],
    "deliver test": [(HOSTILE,), (HOSTILE, "--json")],
    "deliver diff": [(HOSTILE,), (HOSTILE, "--json", "--addresses")],
}  # fmt: skip
ELSEWHERE = {
    # a pipeline's own words, shown by ``say``; the demo's screen is tested in test_visible
    "up", "demo", "dev",
    # logs, tested in test_visible
    "ingest", "worker", "sink", "dashboard", "warehouse", "deliver",
}  # fmt: skip


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """The names of all commands."""
    if not hasattr(command, "commands") or (path and command.invoke_without_command):
        yield " ".join(path)
    if not hasattr(command, "commands"):
        return
    for name, part in command.commands.items():
        if not part.deprecated:  # an earlier name of another one
            yield from commands(part, (*path, name))


def test_every_command_is_asked() -> None:
    """A new one must be added to the table."""
    assert set(commands(typer.main.get_command(app))) == set(ASKED) | ELSEWHERE


def outcome(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The output of a command, on both streams."""
    with pytest.raises(SystemExit):
        main(list(arguments))
    written = capsys.readouterr()
    return written.out + written.err


CASES = [(name, given) for name, all_given in ASKED.items() for given in all_given]


@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
@pytest.mark.parametrize("refuses", [False, True], ids=["answers", "refuses"])
@pytest.mark.parametrize(("name", "given"), CASES, ids=[f"{n}-{len(g)}" for n, g in CASES])
def test_no_command_writes_a_control_character(
    world: type[World], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    name: str, given: tuple[str, ...], refuses: bool, terminal: bool,
) -> None:  # fmt: skip
    """Nor a forged line, nor markup or an emoji made from hostile text."""
    if "--init" not in given and name == "load":
        outcome(capsys, "load", "--init")
    world.refuses = refuses
    if terminal:
        monkeypatch.setenv("TERM", "xterm")
        for stream in (sys.stdout, sys.stderr):
            monkeypatch.setattr(stream, "isatty", lambda: True)
    text = outcome(capsys, *name.split(), *given)
    bare = SGR.sub("", text) if terminal else text
    assert is_harmless(bare), repr(bare)
    if "CSV" not in text and name not in ("export", "suppressions export"):
        assert not any(line.lstrip("│ ").startswith("FORGED") for line in bare.splitlines())
    assert "\N{WARNING SIGN}" not in bare


class Stream(io.TextIOWrapper):
    """A stdout that is a terminal, or not."""

    terminal = False

    def isatty(self) -> bool:
        """As it was told."""
        return self.terminal


def passed(fmt: str, pieces: list[bytes], *, raw: bool, terminal: bool = False) -> bytes:
    """What is written to stdout."""
    out = Stream(io.BytesIO(), encoding="utf-8", newline="")
    out.terminal = terminal
    before, sys.stdout = sys.stdout, out
    try:
        pass_on(fmt, pieces, raw=raw)
        out.flush()
        return out.buffer.getvalue()  # type: ignore[attr-defined, no-any-return]
    finally:
        sys.stdout = before


def test_raw_bytes_go_into_pipes_when_asked_for() -> None:
    """Otherwise text is escaped; binary formats are never changed."""
    content = "a\x1b[2J\tb\u202ec\n".encode() + b"\xff\n"
    for cut in range(len(content)):
        pieces = [content[:cut], content[cut:]]
        assert passed("CSV", pieces, raw=True) == content
        assert passed("Parquet", pieces, raw=False) == content
        shown = b"a\\u001b[2J\tb\\u202ec\n\\xff\n"
        assert passed("CSV", pieces, raw=False) == shown
    assert passed("PrettyCompact", [content], raw=False, terminal=True) == shown


@pytest.mark.parametrize(
    ("fmt", "raw"),
    [("TSV", True), ("Parquet", False), ("Native", False), ("RowBinary", False), ("RawBLOB", False),
     ("Vertical", False), ("CSVWithNames", False), ("TSVRaw", False), ("LineAsString", False)],
)  # fmt: skip
def test_what_is_not_for_a_terminal_is_refused_there(fmt: str, raw: bool) -> None:
    """Before anything is written."""
    with pytest.raises(BadInput):
        passed(fmt, [b"x"], raw=raw, terminal=True)


def test_the_flag_reaches_the_output(
    world: type[World], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Of ``query``, ``export`` and ``suppressions export``."""
    asked: list[Callable[[], tuple[str, ...]]] = [
        lambda: ("query", "SELECT 1"), lambda: ("export", "x"), lambda: ("suppressions", "export"),
    ]  # fmt: skip
    for words in asked:
        for flag in ((), ("--raw",)):
            with pytest.raises(SystemExit):
                main([*words(), *flag])
            assert (b"\x1b[2J" in capfdbinary.readouterr().out) == bool(flag)
    assert world.refuses is False
