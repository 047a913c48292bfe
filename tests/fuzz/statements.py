"""Statements made by grammar, honest and not, in every disguise that ClickHouse's lexer takes off.

Everything is text, and much of it is no SQL: what matters is that whatever the door lets through is
harmless. Names that must not be reached stand beside names that may be, in the same places. A plain
random generator makes them, since Hypothesis' own strategies are a hundred times as slow here.
"""

from pathlib import Path
from random import Random

import yaml

_PIECES: dict[str, list[str]] = yaml.safe_load(
    Path(__file__).with_name("pieces.yaml").read_text("utf-8")
)
GAPS = tuple(_PIECES["gaps"])
SAFE_FUNCTIONS = tuple(_PIECES["safe functions"])
BAD_FUNCTIONS = tuple(_PIECES["bad functions"])
SAFE_TABLES = tuple(_PIECES["safe tables"])
BAD_TABLES = tuple(_PIECES["bad tables"])
SAFE_NAMES = tuple(_PIECES["safe names"])
BAD_NAMES = tuple(_PIECES["bad names"])
STRINGS = tuple(_PIECES["strings"])
NUMBERS = tuple(_PIECES["numbers"])
OPERATORS = tuple(_PIECES["operators"])
SAFE_TYPES = tuple(_PIECES["safe types"])
BAD_TYPES = tuple(_PIECES["bad types"])
SAFE_SETTINGS = tuple(_PIECES["safe settings"])
BAD_SETTINGS = tuple(_PIECES["bad settings"])


class Maker:
    """Makes statements.

    Args:
        random: where chance comes from.
        wicked: share of places where a name or a piece is taken that must not get through.
        dressed: share of gaps that are no plain blank.
    """

    def __init__(self, random: Random, wicked: float, dressed: float) -> None:
        self._random = random
        self._wicked = wicked
        self._dressed = dressed

    def _gap(self) -> str:
        return self._random.choice(GAPS) if self._random.random() < self._dressed else " "

    def _join(self, *parts: str) -> str:
        return "".join(part + self._gap() for part in parts if part)

    def _one(self, safe: tuple[str, ...], bad: tuple[str, ...] = ()) -> str:
        wicked = bad and self._random.random() < self._wicked
        return self._random.choice(bad if wicked else safe)

    def _bad(self, *texts: str) -> str:
        """One of these, or mostly nothing."""
        return self._one(("",), texts)

    def _maybe(self, *parts: str) -> str:
        return self._join(*parts) if self._random.random() < 0.25 else ""

    def _name(self) -> str:
        return self._one(SAFE_NAMES, BAD_NAMES)

    def _function(self) -> str:
        return self._one(SAFE_FUNCTIONS, BAD_FUNCTIONS)

    def _table(self) -> str:
        return self._one(SAFE_TABLES, BAD_TABLES)

    def _list(self, depth: int) -> str:
        return ",".join(self.expression(depth) for _ in range(self._random.randint(1, 3)))

    def expression(self, depth: int) -> str:
        """An expression, at most ``depth`` others inside one another."""
        one, join = self._one, self._join
        if depth <= 0 or self._random.random() < 0.2:
            return one((self._name(), one(STRINGS), one(NUMBERS), "{p:String}"))

        def inner() -> str:
            return self.expression(depth - 1)

        kind = self._random.randrange(24)
        made = {
            0: lambda: join(self._function(), "(", self._list(depth - 1), ")"),
            1: lambda: join("quantile(0.5)(", inner(), ")"),
            2: lambda: join(
                one(("arrayMap", "arrayFilter", "arraySort", "mapFilter")), "(",
                one(("v -> v", "(v, w) -> v", "upper", "negate"), BAD_NAMES + BAD_FUNCTIONS), ",",
                inner(), ")"),
            3: lambda: join(inner(), one(OPERATORS), inner()),
            4: lambda: join(inner(), "IN", self._table()),
            5: lambda: join(inner(), "NOT IN (", self._table(), ")"),
            6: lambda: join(inner(), "GLOBAL IN (", self.select(depth - 1), ")"),
            7: lambda: join("CAST(", inner(), "AS", one(SAFE_TYPES, BAD_TYPES), ")"),
            8: lambda: join(inner(), "::", one(SAFE_TYPES, BAD_TYPES)),
            9: lambda: join("{p:", one(SAFE_TYPES, BAD_TYPES), "}"),
            10: lambda: join("(", self.select(depth - 1), ")"),
            11: lambda: join("(", self._list(depth - 1), ")"),
            12: lambda: join("[", self._list(depth - 1), "]"),
            13: lambda: join("CASE", inner(), "WHEN", inner(), "THEN", inner(), "END"),
            14: lambda: join(inner(), one(("AS", "")), one(("y", "z", "`day of`"), BAD_NAMES)),
            15: lambda: join("EXISTS(", self.select(depth - 1), ")"),
            16: lambda: join(one(("sum", "rank"), BAD_FUNCTIONS), "(", inner(), ") OVER (ORDER BY",
                             inner(), ")"),
            17: lambda: join("count() FILTER (WHERE", inner(), ")"),
            18: lambda: join("* APPLY", one(("toString", "sum", "(v -> v)", "quantile(0.5)"),
                                            ("(file)", "file", "(v -> file(v))", "sleep"))),
            19: lambda: join("* REPLACE (", inner(), "AS x)"),
            20: lambda: join("* EXCEPT (", self._name(), ")"),
            21: lambda: join(one(("DATE", "TIMESTAMP")), one(STRINGS)),
            22: lambda: join("INTERVAL", inner(), "DAY"),
            23: lambda: join(self._bad("@@version", "@@file") or inner()),
        }  # fmt: skip
        return made[kind]()

    def _source(self, depth: int) -> str:
        one, join = self._one, self._join
        kind = self._random.randrange(6) if depth > 0 else 0
        made = {
            0: lambda: join(self._table()),
            1: lambda: join(self._table(), "AS", one(("e", "f"), BAD_NAMES)),
            2: lambda: join("(", self.select(depth - 1), ")", one(("", "AS q"), ("AS q(a, b)",))),
            3: lambda: join("view(", self.select(depth - 1), ")"),
            4: lambda: join(
                self._table(), one((",", "CROSS JOIN", "LEFT JOIN")), self._table(),
                one(("", "ON 1", "USING (x)", "ON t.x = e.y"))),
            5: lambda: join(
                self._table(), one(("ARRAY JOIN", "FINAL PREWHERE", "SAMPLE 1/2 OFFSET 1/3 WHERE")),
                self.expression(depth - 1)),
        }  # fmt: skip
        return made[kind]()

    def select(self, depth: int) -> str:
        """A query, at most ``depth`` others inside one another."""
        one, join = self._one, self._join
        return join(
            self._maybe("WITH", one(("c", "c(a, b)"), ("`FROM`", "file")), "AS (",
                        self.select(depth - 1) if depth > 0 else "SELECT 1", ")")
            or self._maybe("WITH", self.expression(depth - 1), "AS", one(("u",), BAD_NAMES)),
            one(("SELECT", "select", "SELECT DISTINCT", "SELECT TOP 1")),
            self._list(depth - 1),
            self._maybe("FROM", self._source(depth)),
            self._maybe("WHERE", self.expression(depth - 1)),
            self._maybe("GROUP BY", self.expression(depth - 1), one(("", "WITH TOTALS"))),
            self._maybe("HAVING", self.expression(depth - 1)),
            self._maybe("ORDER BY", self.expression(depth - 1), one(("", "", "WITH FILL"))),
            self._maybe("LIMIT 1", one(("", "BY x, t.y", "WITH TIES"))),
            self._bad("SETTINGS readonly = 0", "SETTINGS max_threads = 9", "FORMAT CSV")
            if depth < 3 else "",
            self._maybe(one(("UNION ALL", "EXCEPT", "INTERSECT")), self.select(depth - 1))
            if depth > 0 else "",
        )  # fmt: skip

    def _tail(self) -> str:
        one, join = self._one, self._join
        return join(
            self._maybe("SETTINGS", one(SAFE_SETTINGS, BAD_SETTINGS)),
            self._maybe("FORMAT", one(("CSV", "Null", "JSON"), ("Protobuf", "Template", "`CSV`"))),
            self._bad(
                "INTO OUTFILE 'TARGET'", "INTO OUTFILE $$TARGET$$ TRUNCATE", "--'", "*/", "$$",
                "; SELECT file('CANARY')", "PARALLEL WITH DROP TABLE t", "PARALLEL WITH SELECT 1",
                ")", "'", "PARALLEL WITH INSERT INTO FUNCTION file('TARGET') SELECT 1",
            ),
            one(("", "", ";")),
        )  # fmt: skip

    def statement(self) -> str:
        """A statement of any kind, mostly a query."""
        one, join = self._one, self._join
        if self._random.random() < 0.75:
            return join(self.select(3), self._tail())
        kind = self._random.randrange(4)
        made = {
            0: lambda: join("EXPLAIN", one(("", "AST", "SYNTAX", "QUERY TREE", "actions = 1")),
                            one((self.select(2),), ("DROP TABLE t", "SET readonly = 0"))),
            1: lambda: join(one(("DESCRIBE", "DESC TABLE")), self._source(1)),
            2: lambda: join(one(("EXISTS", "EXISTS VIEW", "SHOW CREATE TABLE", "EXISTS DATABASE")),
                            self._table()),
            3: lambda: join(
                "SHOW", one(("TABLES", "COLUMNS", "INDEX", "DATABASES"), ("PROCESSLIST", "USERS")),
                one(("", "FROM mailpulse", "FROM events", "FROM t FROM mailpulse"),
                    ("FROM default", "FROM t FROM system", "FROM default.`CANARY`")),
                one(("", "LIKE 'a'", "LIMIT 1"), ("WHERE file('CANARY') = ''",))),
        }  # fmt: skip
        return join(made[kind](), self._tail())
