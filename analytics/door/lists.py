"""What the door allows, by name: the files of ``allowed``, one name a line.

Invariants:
1. What is not on a list is refused, also what a newer engine brings
   (``tests/analytics/test_door_lists.py`` prints what the installed one has beyond them).
2. Nothing on these lists reads or writes outside the warehouse, or takes a statement, the name of a
   function or the name of a table as text. A function that can run long inside one block,
   where the engine does not look for a kill, is left off if analysts can do without it. A regular
   expression over a text of a megabyte still can; then the watchdog acts
   (``analytics.warehouse.watching``).
3. Names are compared in lower case where ClickHouse has some without regard to case: functions,
   table functions, formats and types. No two of its names differ in case alone with one of them
   allowed (tested).
"""

import re
from collections.abc import Callable, Mapping
from importlib.resources import files

_ALLOWED = files("analytics.door") / "allowed"


def _lines(name: str) -> tuple[str, ...]:
    return tuple((_ALLOWED / f"{name}.txt").read_text("utf-8").split("\n")[:-1])


def _lower(name: str) -> frozenset[str]:
    return frozenset(line.lower() for line in _lines(name))


STATEMENTS = frozenset(tuple(line.split(" ")) for line in _lines("statements"))
"""Words that a statement may begin with."""
KEYWORDS = frozenset(_lines("keywords"))
EXPLAIN_SETTINGS = frozenset(_lines("explain_settings"))
FUNCTIONS = _lower("functions")
AGGREGATES = _lower("aggregates")
COMBINATORS = _lines("combinators")
TABLE_FUNCTIONS = _lower("table_functions")
ZONES: Mapping[str, tuple[int, ...]] = {
    name.lower(): tuple(map(int, places.split(",")))
    for name, places in (line.split(" ") for line in _lines("zones"))
}
"""Functions that take a time zone, and as which arguments: ``file:…`` would open that file."""
SCANS = _lower("scans")
"""Functions that go through a constant argument again for each row: as far as the engine was found
to take more than a second a block with constants of a million elements."""
MAKERS = _lower("makers")
"""Functions whose result is as large as a number among their arguments says."""
GROWERS = _lower("growers")
"""Functions whose result may be many times as long as all their arguments."""
_COLLECTORS = _lower("collectors")
VIEWS = frozenset(_lines("views"))
"""Views of ours that take arguments, which makes them look like functions."""
FORMATS = {line.lower(): line for line in _lines("formats")}
TYPES = _lower("types")
SYSTEM_TABLES = frozenset(_lines("system_tables"))
INFORMATION_SCHEMA = frozenset(_lines("information_schema"))


def is_function(name: str) -> bool:
    """Whether a name is of an allowed function, aggregate, or aggregate with combinators."""
    return name.lower() in FUNCTIONS or is_aggregate(name)


def is_aggregate(name: str) -> bool:
    """Whether a name is of an allowed aggregate, with any number of allowed combinators behind it.

    ``sumIf``, ``uniqExactIfOrNull``; ClickHouse's documentation, «Aggregate function combinators».
    """
    return _is_among(name, AGGREGATES)


def is_collector(name: str) -> bool:
    """Whether a name is of an aggregate whose result holds many of the values that it is given."""
    return _is_among(name, _COLLECTORS) or ("ForEach" in name and is_aggregate(name))


def _is_among(name: str, bases: frozenset[str]) -> bool:
    if len(name) > _NAME_MAX:
        return False
    pending, seen = [name], {name}
    while pending:
        base = pending.pop()
        if base.lower() in bases:
            return True
        shorter = {base.removesuffix(each) for each in COMBINATORS if base.endswith(each)} - seen
        seen |= shorter
        pending += shorter
    return False


_NAME_MAX = 128
_NUMBER_MAX = 1 << 63
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+\-]*(?:/[A-Za-z0-9_+\-]+)*")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def _number(value: str, low: int, high: int) -> bool:
    return value.isascii() and value.isdecimal() and len(value) < 20 and low <= int(value) <= high


_CHECKS: dict[str, Callable[[str], bool]] = {
    "bool": lambda value: value.lower() in ("0", "1", "true", "false"),
    "number": lambda value: _number(value, 0, _NUMBER_MAX - 1),
    "character": lambda value: (len(value) == 1 and value.isprintable()) or value == "\t",
    "text": lambda value: len(value) <= 64 and value.isprintable(),
    "zone": lambda value: is_zone(value),
}


def is_zone(text: str) -> bool:
    """Whether a text looks like a time zone's name, such as ``Europe/Vienna``."""
    return len(text) <= 64 and _ZONE.fullmatch(text) is not None


def _check(rule: str) -> Callable[[str], bool]:
    """The check that a line of the list of settings names."""
    if rule in _CHECKS:
        return _CHECKS[rule]
    found = _RANGE.fullmatch(rule)
    if found:
        low, high = int(found[1]), int(found[2])
        return lambda value: _number(value, low, high)
    words = rule.split("|")
    return lambda value: value in words


SETTINGS: Mapping[str, Callable[[str], bool]] = {
    name: _check(rule) for name, rule in (line.split(" ") for line in _lines("settings"))
}
"""Settings that a caller may give, in the address or behind ``SETTINGS``; each with its check."""
SETTING_RULES: Mapping[str, str] = dict(line.split(" ") for line in _lines("settings"))
