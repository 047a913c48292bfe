"""The outer fence of the door: what passes, what does not, and that nothing hides."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.door.guard import Denied, check, format_of, without_format
from analytics.sql import Kind, statements, tokens

ALLOWED = [
    "SELECT 1",
    "select 1;",
    " \n -- a comment; with a semicolon\nSELECT 1",
    "/* drop table x */ SELECT 1",
    "(SELECT 1) UNION ALL (SELECT 2)",
    "WITH x AS (SELECT 1) SELECT * FROM x",
    "SHOW TABLES",
    "DESCRIBE events",
    "EXISTS TABLE events",
    "EXPLAIN SELECT 1",
    "SELECT 'DROP TABLE x; file(''/etc/passwd'')'",
    "SELECT '\\'; drop table x'",
    "SELECT * FROM numbers(3)",
    "SELECT format('{}', 1)",
    "SELECT file FROM t",
    "SELECT $$; file('x')$$",
    "SELECT 'zoë'",
]
DENIED = [
    ("INSERT INTO t VALUES (1)", 164),
    ("/* SELECT */ DROP TABLE t", 164),
    ("-- SELECT 1\nTRUNCATE TABLE t", 164),
    ("SET readonly = 0", 164),
    ("SYSTEM SHUTDOWN", 164),
    ("KILL QUERY WHERE 1", 164),
    ("SELEC 1", 62),
    ("", 62),
    (";", 62),
    ("SELECT 1; DROP TABLE t", 62),
    ("SELECT 1 /* ; */ ; /* */ SELECT 2", 62),
    ("SELECT 'never ends", 62),
    ("SELECT /* never ends", 62),
    ("SELECT 1 INTO OUTFILE 'x'", 497),
    ("SELECT file('/etc/passwd')", 497),
    ("SELECT FILE ('/etc/passwd')", 497),
    ("SELECT `file`('/etc/passwd')", 497),
    ("SELECT \"file\" /* x */ ('/etc/passwd')", 497),
    ("SELECT `f\\x69le`('/etc/passwd')", 62),
    ("WITH file('/etc/passwd') AS x SELECT x", 497),
    ("SELECT * FROM url('http://x')", 497),
    ("DESCRIBE TABLE url('http://x')", 497),
    ("DESCRIBE s3('http://x/y')", 497),
    ("SELECT * FROM remote('host', system.one)", 497),
    ("SELECT * FROM mysql('h', 'd', 't', 'u', 'p')", 497),
    ("SELECT * FROM executable('ls', 'TSV', 'a String')", 497),
    ("SELECT * FROM python(x)", 497),
    ("SELECT (SELECT * FROM file('x'))", 497),
    ("EXPLAIN SELECT * FROM file('x')", 497),
    ("SELECT dictGet('d', 'a', 1)", 497),
    ("SELECT aiGenerate('x')", 497),
    ("SELECT * FROM default.`/etc/passwd`", 497),
    ("SELECT * FROM `default` . `/etc/passwd`", 497),
    # look-alikes that ClickHouse may read as white space, dashes or quotes
    ("SELECT file\u200b('x')", 62),
    ("SELECT 1 \u2212\u2212 file('x')", 62),
    ("SELECT \u201cfile\u201d('x')", 62),
    ("SELECT 1\x00", 62),
]


@pytest.mark.parametrize("sql", ALLOWED)
def test_reading_queries_pass(sql: str) -> None:
    """What an analyst writes is let through, whatever its strings and comments say."""
    check(sql)


@pytest.mark.parametrize(("sql", "code"), DENIED)
def test_everything_else_is_refused_with_clickhouse_code(sql: str, code: int) -> None:
    """Writing, several statements, and functions that reach out: each has ClickHouse's number."""
    with pytest.raises(Denied) as denied:
        check(sql)
    assert denied.value.code == code


@pytest.mark.parametrize(("sql", "code"), [pair for pair in DENIED if pair[1] == 497])
@pytest.mark.parametrize("wrap", ["/* a */ {}", "-- x\n{}", "\n\t{}\n", "{} -- ;", "{} /* ; */"])
def test_comments_hide_nothing(sql: str, code: int, wrap: str) -> None:
    """The same refusal with comments and white space around."""
    with pytest.raises(Denied) as denied:
        check(wrap.format(sql))
    assert denied.value.code == code


@given(st.text(), st.text())
def test_any_text_passes_or_is_denied(before: str, after: str) -> None:
    """No text makes the guard fail in another way, and a call in plain sight never passes."""
    for sql in (before, f"{before} file('/etc/passwd') {after}"):
        try:
            check(sql)
        except Denied:
            continue
        # it passed, so the call must lie inside a string or a comment
        visible = tokens(sql)
        assert not any(
            token.word == "file" and following.kind is Kind.OPEN
            for token, following in pairwise(visible)
        )


@given(st.text(alphabet="ab;'\"`\\-/*\n $#(", max_size=40))
def test_tokens_never_overlap_and_cover_what_is_not_blank(sql: str) -> None:
    """Between tokens lie only blanks and comments."""
    at = 0
    for token in tokens(sql):
        assert token.start >= at
        assert token.end > token.start
        at = token.end


def test_format_clause_is_found_and_cut() -> None:
    """Only the query's own clause counts, not the function or a name in a bracket."""
    assert format_of("SELECT 1 FORMAT JSON") == "JSON"
    assert format_of("SELECT 1 FORMAT JSON SETTINGS a = 1") == "JSON"
    assert format_of("SELECT format('{}', 1)") is None
    assert format_of("SELECT 'FORMAT JSON'") is None
    assert without_format("SELECT 1 FORMAT JSON") == "SELECT 1 "
    assert without_format("SELECT 1;") == "SELECT 1"


def test_scripts_are_cut_at_their_own_semicolons() -> None:
    """Semicolons in strings and comments cut nothing; the comment stays with its statement."""
    script = "-- one; really\nSELECT ';';\n\n/* two; */ SELECT 2;\n-- nothing follows\n"
    assert statements(script) == ["-- one; really\nSELECT ';'", "/* two; */ SELECT 2"]
    with pytest.raises(ValueError, match="never ends"):
        statements("SELECT 'x")
