"""Escaping of text, and that everything for people is escaped."""

import ast
import io
import json
import logging
import re
import unicodedata

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from schemas.settings import Settings
from streams.cli import logs
from streams.simulation import screen
from streams.simulation.ledger import Ledger
from streams.terminal.output import Terminal, pair
from streams.terminal.visible import MARKS_MAX, visible, visible_lines
from tests.test_style import PACKAGES, python_files

HOSTILE = (
    "a\nFORGED ok\r\x1b[2J\x1b]52;c;ZXZpbA==\x07\x9b2J\x85b\u2028c\u202egnp.exe\u2066x\u200b\u200d"
    "\ufeff\u3164\u034f\U000e0041\x00\x7f\x08[red]m[/red] "
    "[link=https://evil.example]l[/link] :warning: \ud800 \ue000 e" + "\u0301" * 30
)
"""What events, headers and servers can bring in, all at once."""


def is_harmless(text: str, *, kept: str = "\n") -> bool:
    """Whether it is safe on a terminal."""
    return all(
        char in kept or (char.isprintable() and char not in "\u3164\u034f\u2800") for char in text
    )


def test_the_hostile_text_is_hostile() -> None:
    """Otherwise nothing here could fail."""
    assert not is_harmless(HOSTILE)
    categories = {unicodedata.category(char) for char in HOSTILE}
    assert {"Cc", "Cf", "Zl", "Cs", "Co", "Mn"} <= categories


@given(st.text() | st.text(st.characters(categories=["C", "Z", "M"])))
def test_any_text_becomes_one_harmless_line(text: str) -> None:
    """Escaping it again changes nothing; printable text is unchanged."""
    shown = visible(text, None)
    assert is_harmless(shown, kept="")
    assert visible(shown, None) == shown
    assert is_harmless(visible_lines(text), kept="\n\t")
    assert visible_lines(text).count("\n") == text.count("\n")
    assert visible_lines(visible_lines(text)) == visible_lines(text)


@given(st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters="\u2800\u3164")))
def test_text_of_any_language_is_left_alone(text: str) -> None:
    """Letters, digits, signs."""
    if not re.search("[\u115f\u1160\u3164\uffa0]", text):
        assert visible(text, None) == text


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_escaped_json_is_the_same_json(document: object) -> None:
    """A program that parses it gets the original text."""
    for ascii_only in (True, False):
        text = json.dumps(document, ensure_ascii=ascii_only)
        assert json.loads(visible(text, None)) == document


def test_long_values_are_cut_and_say_so() -> None:
    """With their full length."""
    assert visible("x" * 10, 4) == "xxxx… (10 characters)"
    assert visible("\n" * 10, 2) == "\\n\\n… (10 characters)"
    assert visible("x" * 10, 10) == "x" * 10


def test_piles_of_marks_are_cut_down() -> None:
    """They would cover the lines above and below."""
    assert visible("e" + "\u0301" * MARKS_MAX) == "e" + "\u0301" * MARKS_MAX
    assert visible("e" + "\u0301" * 9).count("\u0301") == MARKS_MAX


def test_a_value_is_not_taken_for_another_pair() -> None:
    """``campaign_id=a recipient=b`` could be one campaign's name."""
    assert pair("campaign_id", "spring") == "campaign_id=spring"
    assert pair("campaign_id", "a recipient=b") == 'campaign_id="a recipient=b"'
    assert pair("campaign_id", "a\nb") == "campaign_id=a\\nb"


def test_the_terminal_lets_no_control_character_through() -> None:
    """Whatever is printed: text, cells, titles, or a library's markup."""
    out = io.StringIO()
    terminal = Terminal(file=out, width=100)
    table = Table(title=Text(HOSTILE))
    table.add_column(Text(HOSTILE))
    table.add_row(Text(HOSTILE))
    for shown in (HOSTILE, Text(HOSTILE), table):
        terminal.print(shown, markup=False)
    assert is_harmless(out.getvalue())


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_log_lines_are_harmless(log_format: str) -> None:
    """A field, an event, an exception, a library's message: one line, or indented lines."""
    out = io.StringIO()
    settings = Settings(log_format=log_format, log_level="INFO")
    logs.configure(settings, "tested", out)
    try:
        structlog.get_logger().warning("refused", campaign=HOSTILE, nested={"a": [HOSTILE]})
        structlog.get_logger().warning(HOSTILE)
        logging.getLogger("library").warning("odd: %s", HOSTILE)
        try:
            raise ValueError(HOSTILE)
        except ValueError:
            structlog.get_logger().exception("failed")
            logging.getLogger("library").exception("failed")
    finally:
        logging.getLogger().handlers[:] = []
    text = out.getvalue()
    assert is_harmless(text)
    assert "FORGED" in text
    assert not any(line.startswith("FORGED") for line in text.splitlines())
    if log_format == "json":
        assert all(json.loads(line)["role"] == "tested" for line in text.splitlines()[:2])


def test_the_demos_screen_is_harmless() -> None:
    """Campaigns, incidents, refusals and troubles come from outside."""
    row = {"campaign_id": HOSTILE, "delivered": 1, "sent": 1, "hard_bounce_rate": 0.1}
    row |= dict.fromkeys(("bounce_rate", "open_rate", "open_rate_at_most", "click_rate"))
    incident = {"campaign_id": HOSTILE, "mailbox_provider": HOSTILE, "rate": HOSTILE, "value": 0.1,
             "numerator": 1, "denominator": 2, "level": HOSTILE, "state": HOSTILE}  # fmt: skip
    view = screen.View(
        Ledger(), campaigns=[row], incidents=[incident], refusal=HOSTILE, dashboard_url="http://x",
        trouble={HOSTILE: 1},
    )  # fmt: skip
    out = io.StringIO()
    terminal = Terminal(file=out, width=200)
    terminal.print(screen.picture(view))
    terminal.print(screen.closing(view))
    for line in screen.plain_lines(view, set()):
        terminal.print(Text(visible(line)))
    assert is_harmless(out.getvalue())
    assert not any(line.startswith("FORGED") for line in out.getvalue().splitlines())


WRITERS = {"echo", "secho", "print_exception", "excepthook"}
MAY_WRITE = {
    "streams/terminal/output.py",  # the one that does
    "streams/cli/logs.py",  # to the stream of the log, through ``visible``
}


def writes_around(text: str) -> list[str]:
    """Calls and names by which text reaches a terminal without ``streams.terminal``."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
            own = isinstance(called, ast.Name)
            if (own and name in ("print", "Console", "rprint")) or name in WRITERS | {"Console"}:
                found.append(f"{node.lineno}: {name}()")
        if isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr", "__stdout__"):
            if isinstance(node.value, ast.Name) and node.value.id == "sys":
                found.append(f"{node.lineno}: sys.{node.attr}")
        if isinstance(node, ast.ImportFrom) and node.module == "rich" and node.names:
            found += [
                f"{node.lineno}: rich.{one.name}" for one in node.names if one.name == "print"
            ]
    return found


LOOKS_ONLY = re.compile(r"sys\.(stdout|stderr)\.(isatty|fileno|flush)\(\)")


def test_nothing_is_written_around_the_terminal() -> None:
    """No print, echo, console or stream of its own; asking whether it is a terminal is allowed."""
    found = {
        name: writes_around(LOOKS_ONLY.sub("None", text))
        for name, text in python_files().items()
        if name.split("/")[0] in PACKAGES and name not in MAY_WRITE
    }
    assert {name: uses for name, uses in found.items() if uses} == {}
    for bad in ("print(1)", "typer.echo(x)", "Console().print(x)", "sys.stdout.write(x)"):
        assert writes_around(bad)
