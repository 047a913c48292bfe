"""What may come through the analysts' door.

Laws of this file:
1. Pure: a query in, ``None`` or ``Denied`` out. It is the outer fence; the inner one is the
   engine's own ``readonly = 1``, under which every query runs.
2. The engine's read-only mode is not enough (tried on 26.9): ``INTO OUTFILE`` still writes a file,
   ``file('…')`` still reads one, ``DESCRIBE url(…)`` still opens a connection, and a text of two
   statements runs both. These are what this file is for.
3. One statement, starting with a word on the list; whatever the lexer is unsure of is refused.
4. Functions are judged by name wherever a name stands before a bracket, quoted or not, so it
   does not matter where in a statement, or behind which comment, the call hides.
"""

from collections.abc import Collection

from analytics.sql import Kind, Token, tokens

ALLOWED_FIRST: frozenset[str] = frozenset(
    {"select", "with", "show", "describe", "desc", "exists", "explain", "from", "values"}
)
WRITING_FIRST: frozenset[str] = frozenset(
    {
        "alter", "attach", "backup", "begin", "check", "commit", "copy", "create", "delete",
        "detach", "drop", "exchange", "execute", "grant", "insert", "kill", "move", "optimize",
        "rename", "replace", "restore", "revoke", "rollback", "set", "system", "truncate",
        "undrop", "update", "use", "watch",
    }
)  # fmt: skip
"""Statements of ClickHouse that change something: refused as its read-only mode refuses them."""
SAFE_TABLE_FUNCTIONS: frozenset[str] = frozenset(
    {
        "numbers", "numbers_mt", "zeros", "zeros_mt", "generate_series", "generateseries",
        "generaterandom", "values", "view", "viewifpermitted", "null", "primes", "format",
    }
)  # fmt: skip
"""Table functions that make their rows out of nothing, or of a query that is judged as well."""
KNOWN_TABLE_FUNCTIONS: frozenset[str] = frozenset(
    {
        "arrowstream", "azureblobstorage", "bigquery", "cluster", "clusterallreplicas", "cosn",
        "deltalake", "dictionary", "eval", "executable", "file", "filecluster", "filesystem",
        "fuzzjson", "fuzzquery", "gcs", "hdfs", "hdfscluster", "hudi", "iceberg", "input", "jdbc",
        "loop", "merge", "mergetreeindex", "mongodb", "mysql", "odbc", "oss", "paimon",
        "postgresql", "prometheusquery", "python", "redis", "remote", "remotesecure", "s3",
        "s3cluster", "sqlite", "url", "urlcluster", "ytsaurus",
    }
)  # fmt: skip
"""Held when the engine's own list is not at hand; the door adds ``system.table_functions``."""
DENIED_FUNCTIONS: frozenset[str] = frozenset(
    {
        "file",
        "catboostevaluate",
        "getclienthttpheader",
        "hascolumnintable",
        "joinget",
        "joingetornull",
        "addresstoline",
        "addresstosymbol",
        "demangle",
    }
)
DENIED_PREFIXES = ("ai", "dictget")
"""``ai…`` functions call a service; ``dictGet…`` may load a dictionary from elsewhere."""
DENIED_WORDS: frozenset[str] = frozenset({"outfile", "infile"})

SYNTAX_ERROR = (62, "SYNTAX_ERROR")
ACCESS_DENIED = (497, "ACCESS_DENIED")
READONLY = (164, "READONLY")


class Denied(Exception):
    """A query that may not run.

    Attributes:
        code: ClickHouse's number for it.
        name: ClickHouse's name for it.
        text: why, for the analyst.
    """

    def __init__(self, kind: tuple[int, str], text: str) -> None:
        super().__init__(text)
        self.code, self.name = kind
        self.text = text


def check(sql: str, table_functions: Collection[str] = KNOWN_TABLE_FUNCTIONS) -> None:
    """Lets a query pass.

    Args:
        sql: as it came.
        table_functions: every table function that the engine knows, in lower case.

    Raises:
        Denied: with ClickHouse's code for the same refusal.
    """
    found = tokens(sql)
    while found and found[-1].kind is Kind.SEMICOLON:
        found.pop()
    if not found:
        raise Denied(SYNTAX_ERROR, "Syntax error: Empty query")
    for token in found:
        if token.kind is Kind.ERROR:
            raise Denied(SYNTAX_ERROR, f"Syntax error: failed at position {token.start + 1}")
        if token.kind is Kind.SEMICOLON:
            raise Denied(
                SYNTAX_ERROR,
                f"Syntax error (Multi-statements are not allowed): failed at position "
                f"{token.end + 1} (end of query)",
            )
    first = next((token for token in found if token.kind is not Kind.OPEN), found[0])
    if first.word in WRITING_FIRST:
        raise Denied(READONLY, "Cannot execute query in readonly mode.")
    if first.word not in ALLOWED_FIRST:
        raise Denied(
            SYNTAX_ERROR,
            f"Syntax error: failed at position {first.start + 1} ({first.text}). Expected one of: "
            + ", ".join(sorted(word.upper() for word in ALLOWED_FIRST)),
        )
    _check_names(found, frozenset(table_functions) - SAFE_TABLE_FUNCTIONS)


def _check_names(found: list[Token], denied_tables: frozenset[str]) -> None:
    for at, token in enumerate(found):
        following = found[at + 1] if at + 1 < len(found) else None
        if token.word in DENIED_WORDS:
            raise Denied(ACCESS_DENIED, f"{token.text.upper()} is not allowed here")
        if token.kind not in (Kind.WORD, Kind.QUOTED_NAME) or following is None:
            continue
        name = token.text.lower()
        if following.kind is Kind.OPEN and (
            name in denied_tables or name in DENIED_FUNCTIONS or name.startswith(DENIED_PREFIXES)
        ):
            raise Denied(ACCESS_DENIED, f"Function {token.text} is not allowed here")
        # the embedded engine's database 'default' turns names of files into tables
        if name == "default" and following.text == ".":
            raise Denied(ACCESS_DENIED, "Database default is not allowed here")


def format_of(sql: str) -> str | None:
    """The format that the query itself asks for, in its last ``FORMAT`` clause; ``None``: none."""
    found = _format_clause(sql)
    return found[1].text if found else None


def without_format(sql: str) -> str:
    """The query in front of its last ``FORMAT`` clause, and without its closing semicolon."""
    found = _format_clause(sql)
    return sql[: found[0].start] if found else sql.rstrip().removesuffix(";")


def _format_clause(sql: str) -> tuple[Token, Token] | None:
    found = tokens(sql)
    depth = 0
    for at in range(len(found) - 1, 0, -1):
        token = found[at]
        depth += (token.kind is Kind.CLOSE) - (token.kind is Kind.OPEN)
        if depth == 0 and found[at - 1].word == "format" and token.kind is Kind.WORD:
            return found[at - 1], token
    return None
