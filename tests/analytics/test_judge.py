"""The judge and its lexer, without a listener: what they accept and refuse, and what they cost."""

import sys
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import chdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.door.canonical import HEREDOCS_MAX, canonical, is_canonical
from analytics.door.denied import Denied
from analytics.door.judge import check_setting, judge
from analytics.door.lexer import Kind, Unreadable, tokens, unquoted
from analytics.door.surroundings import Surroundings

AROUND = Surroundings(
    "mailpulse",
    databases=frozenset({"default", "mailpulse", "other", "system"}),
    functions=frozenset({"file", "sleep", "length", "upper"}),
    keywords=frozenset({"DROP", "FROM", "INTO", "OUTFILE", "PARALLEL", "SELECT", "STREAM", "WITH"}),
)
BYTES_MAX = 1 << 18
_connect: Callable[[str], Any] = chdb.connect  # its type hints are incomplete


@cache
def _engine() -> Any:
    return _connect(":memory:")


@pytest.fixture(scope="module", autouse=True)
def _closes_the_engine() -> Iterator[None]:
    """Closes the engine: a process can open only one directory of chDB at a time, also in
    memory."""
    yield
    _engine().close()
    _engine.cache_clear()


def ask(sql: str, parameters: dict[str, str]) -> bytes:
    """The installed engine."""
    return bytes(_engine().query(sql, "RawBLOB", params=parameters).bytes() or b"")


def told(text: str) -> str:
    """A statement as the engine formats it."""
    return canonical(text, ask, BYTES_MAX)


@given(st.one_of(st.text(max_size=60), st.text("ab.;'\"`\\-/*\n $#(){}[]:<>=!1e+", max_size=40)))
def test_tokens_cover_the_text_or_it_is_unreadable(text: str) -> None:
    """Between tokens there is only white space, and no two of them could be read as one."""
    try:
        found = tokens(text)
    except Unreadable:
        return
    rest = list(text)
    for token in found:
        assert text[token.start : token.end] == token.text
        rest[token.start : token.end] = " " * len(token.text)
    assert set(rest) <= {" "}
    for one, other in pairwise(found):
        if one.end == other.start:
            assert Kind.SIGN in (one.kind, other.kind) or Kind.PARAMETER in (one.kind, other.kind)


@pytest.mark.parametrize(
    "text",
    ["'a", "`a", "'a''b'", "`a``b`", "x'41'", "1e5a", "0x1F", "a$b", "$$", "SELECT;", "--", "1 --2",
     "/* a */", "# a", '"a"', "a\nb", "é", "\x00", "@@x", "{x}", "{x:}y{", "a\tb", "'\\'"],
)  # fmt: skip
def test_what_the_formatter_does_not_write_is_unreadable(text: str) -> None:
    """Anything that would need ClickHouse's own lexer to be understood is refused."""
    with pytest.raises(Unreadable):
        tokens(text)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_texts_and_names_come_back_as_they_were(text: str) -> None:
    """Through the engine's parameters, its parser, its formatter and the lexer."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\0")
    found = tokens(told(f"SELECT '{escaped}' /* ' */ AS x"))
    literals = [token for token in found if token.kind == Kind.STRING]
    assert [unquoted(each.text) for each in literals] == [text]
    assert ask("SELECT " + literals[0].text, {}) == text.encode()


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_a_name_is_one_token_whatever_it_holds(text: str) -> None:
    """No name ends its quotes early, whatever it contains."""
    escaped = text.replace("\\", "\\\\").replace("`", "\\`").replace("\0", "\\0")
    found = tokens(told(f"SELECT 1 AS `{escaped}`"))
    assert [token.text for token in found[:3]] == ["SELECT", "1", "AS"]
    assert len(found) == 4
    assert unquoted(f"'{found[3].name}'") == text


@given(st.text(max_size=50))
def test_any_text_is_a_statement_or_is_denied(text: str) -> None:
    """No text makes the judge fail in another way, canonical or not."""
    for each in (text, f"SELECT {text}", f"SELECT 1 FORMAT {text}", f"SHOW TABLES {text}"):
        try:
            statement = judge(each, AROUND)
        except Denied:
            continue
        assert each.startswith(statement.sql)


@given(st.text("ab('x.,) `", max_size=30), st.text("ab('x.,) `", max_size=30))
def test_a_call_in_plain_sight_never_passes(before: str, after: str) -> None:
    """In any context, unless the call is inside quotes."""
    sql = f"SELECT {before} file('x') {after}"
    try:
        judge(sql, AROUND)
    except Denied:
        return
    assert "file" not in [token.name for token in tokens(sql)]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1 FORMAT CSV", ("SELECT 1", "CSV", {})),
        ("SELECT 1 FORMAT csv SETTINGS max_threads = 1", ("SELECT 1", "CSV", {"max_threads": "1"})),
        ("SELECT 1 SETTINGS session_timezone = 'Europe/Vienna', limit = 3 FORMAT JSON",
         ("SELECT 1", "JSON", {"session_timezone": "Europe/Vienna", "limit": "3"})),
        ("SELECT FORMAT('{}', 1)", ("SELECT FORMAT('{}', 1)", None, {})),
        ("SELECT settings, format FROM t", ("SELECT settings, format FROM t", None, {})),
        ("SHOW SETTINGS LIKE 'x'", ("SHOW SETTINGS LIKE 'x'", None, {})),
    ],
)  # fmt: skip
def test_format_and_settings_are_taken_off_the_end(
    sql: str, expected: tuple[str, str | None, dict[str, str]]
) -> None:
    """The rest is run, and both are passed to the engine separately."""
    statement = judge(sql, AROUND)
    assert (statement.sql, statement.format, dict(statement.settings)) == expected


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT file FROM t", "SELECT arrayMap(file, [1])", "SELECT 1 AS AS", "SELECT AS, 1",
        "SELECT t.FROM", "SELECT 1 AS WHERE", "SELECT (FROM -> 1)", "SELECT 1 STREAM",
        "SELECT 1 FROM a, other.t", "SELECT x IN (other.t)", "SELECT 1 FROM `a/b`",
        "SELECT 1 FROM t JOIN `a b` ON 1", "SELECT f(x) AS y", "SELECT x AS f(y)",
        "SELECT CAST(x, y)", "SELECT CAST(x, 'AggregateFunction(sum, UInt8)')", "SELECT CAST(x)",
        "SELECT 1 FORMAT", "SELECT 1 SETTINGS", "SELECT 1 SETTINGS limit =", "SELECT (1",
        "SELECT 1)", "SELECT ]1[", "SELECT (1]", "SELECT 1 SETTINGS limit = 1 x", "EXPLAIN",
        "EXPLAIN x = 1",
        "SHOW TABLES FROM `a.b`", "EXISTS DATABASE other", "", "(", "(((",
    ],
)  # fmt: skip
def test_shapes_that_are_refused(sql: str) -> None:
    """Each for its own reason, whether or not the formatter would ever produce it."""
    with pytest.raises(Denied):
        judge(sql, AROUND)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("max_threads", ("1", "0"), ("-1", "1.5", "x", "", "1e9", "²", "9" * 30)),
        ("join_use_nulls", ("1", "true", "False"), ("2", "yes", "")),
        ("session_timezone", ("UTC", "Europe/Vienna", "Etc/GMT+3"), ("", "../x", "/etc", "a b")),
        ("format_csv_delimiter", (";", "\t", "ü"), ("", ";;", "\n", "\0")),
        ("max_block_size", ("1", "65536"), ("0", "65537")),
        ("date_time_output_format", ("iso",), ("ISO", "iso ", "")),
    ],
)
def test_settings_are_checked_by_value(
    name: str, good: tuple[str, ...], bad: tuple[str, ...]
) -> None:
    """A name on the list is not enough."""
    for value in good:
        check_setting(name, value)
    for value in bad:
        with pytest.raises(Denied):
            check_setting(name, value)


def test_a_query_is_bounded_before_the_engine_sees_it() -> None:
    """In bytes, and in here-documents: ClickHouse's lexer searches for the end of each
    separately."""
    asked: list[str] = []

    def never(sql: str, parameters: dict[str, str]) -> bytes:
        asked.append(sql)
        return b""

    for text in ("", " \n", "x" * 1001, "é" * 501, "$a$ $b$ " * HEREDOCS_MAX, "$" * 100):
        with pytest.raises(Denied):
            canonical(text, never, 1000)
    assert asked == []


def test_a_text_that_the_engine_reads_in_two_ways_is_refused() -> None:
    """So is one that grew beyond its limit, or that is not UTF-8."""
    for answers in ([b"SELECT 1", b"SELECT 2"], [b"x" * 4001], [b"SELECT '\xff'"] * 2):
        pending = iter(answers)

        def next_one(_sql: str, _parameters: dict[str, str], left: Any = pending) -> bytes:
            return bytes(next(left))

        with pytest.raises(Denied):
            canonical("SELECT 1", next_one, 1000)
    assert is_canonical(b"SELECT 1", ask)
    assert not is_canonical(b"select 1", ask)


CHAINS = {
    "once": ("SELECT x FROM {0}", 90, True),
    "joined": ("SELECT l.x FROM {0} AS l INNER JOIN {0} AS r ON l.x = r.x", 6, True),
    "joined too often": ("SELECT l.x FROM {0} AS l INNER JOIN {0} AS r ON l.x = r.x", 7, False),
    "added": ("SELECT x FROM {0} UNION ALL SELECT x FROM {0}", 30, False),
    "asked for": ("SELECT 1 IN ({0}) AND 2 IN ({0})", 10, False),
    "within": ("SELECT x FROM {0} WHERE x IN (SELECT x FROM {0})", 10, False),
    "under one name": ("WITH {0} AS (SELECT 1) SELECT 1 FROM {0} CROSS JOIN {0} AS r", 9, False),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_named_subqueries_are_counted_each_time(chain: str) -> None:
    """A few lines may amount to more tables than ClickHouse can plan."""
    text, length, allowed = CHAINS[chain]
    named = ["c0 AS (SELECT 1 AS x)"]
    named += [f"c{at + 1} AS ({text.format(f'c{at}')})" for at in range(length)]
    sql = f"WITH {', '.join(named)} SELECT count() FROM c{length}"
    if allowed:
        judge(sql, AROUND)
        return
    with pytest.raises(Denied, match="tables"):
        judge(sql, AROUND)


def test_a_name_for_two_subqueries_counts_as_the_larger() -> None:
    """A small one in an inner query does not make the outer one small."""
    many = " UNION ALL ".join(["SELECT 1 FROM t"] * 60)
    inner = "b AS (WITH a AS (SELECT 1 FROM t) SELECT 1 FROM a)"
    judge(f"WITH a AS ({many}), {inner} SELECT 1 FROM a", AROUND)
    with pytest.raises(Denied, match="tables"):
        judge(f"WITH a AS ({many}), {inner} SELECT 1 FROM a UNION ALL SELECT 1 FROM a", AROUND)


SHAPES: dict[str, Callable[[int], str]] = {
    "brackets": lambda n: "SELECT " + "(" * n + "1" + ")" * n,
    "calls": lambda n: "SELECT " + "length(" * n + "1" + ")" * n,
    "casts": lambda n: "SELECT " + "CAST(" * n + "1" + ", 'UInt8')" * n,
    "columns": lambda n: "SELECT " + ", ".join(f"c{at}" for at in range(n)),
    "chain": lambda n: "SELECT " + "a." * n + "b",
    "tables": lambda n: "SELECT 1 FROM " + ", ".join(f"mailpulse.t{at}" for at in range(n)),
    "joins": lambda n: "SELECT 1 FROM a" + " INNER JOIN b ON a.x = b.x" * n,
    "in": lambda n: "SELECT " + "1 IN (a) AND " * n + "1",
    "in chains": lambda n: "SELECT 1 IN (" + "a." * n + "b)",
    "in lists": lambda n: "SELECT 1 IN (" + "1, " * n + "1)",
    "aliases": lambda n: "SELECT " + "1 AS a, " * n + "1",
    "texts": lambda n: "SELECT " + "'a', " * n + "1",
    "parameters": lambda n: "SELECT " + "{a:String}, " * n + "1",
    "combinators": lambda n: "SELECT sum" + "IfOrNull" * n + "(1)",
    "settings": lambda n: "SELECT 1 SETTINGS " + "limit = 1, " * n + "offset = 1",
    "unions": lambda n: "SELECT 1" + " UNION ALL SELECT 1" * n,
    "types": lambda n: "SELECT CAST(1, '" + "Array(" * n + "UInt8" + ")" * n + "')",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_judging_is_linear(shape: str) -> None:
    """Twice the text makes at most twice the steps, counted as calls of functions."""

    def steps(length: int) -> int:
        sql, count = SHAPES[shape](length), 0

        def counted(_frame: object, _event: str, _argument: object) -> None:
            nonlocal count
            count += 1

        sys.setprofile(counted)
        try:
            judge(sql, AROUND)
        except Denied:
            pass
        finally:
            sys.setprofile(None)
        return count

    short, long = steps(500), steps(1000)
    assert long <= 2 * short + 100
