"""A record of a topic as one line for people, or in a format of the caller's.

Invariants:
1. Pure. Values arrive as ``streams.cli.tail.readable`` gives them: masked, times as text.
2. A format names fields only; it can call and reach nothing. Its own tabs and line ends are kept,
   those in values are escaped: no record can forge a column or a line.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
import typer

from schemas.glossary import COUNTER_NAMES
from streams.terminal.output import pair, percent
from streams.terminal.visible import visible

PLACES = ("at", "topic", "partition", "offset", "key", "value")
"""Names that a format has besides the record's fields; ``value`` is the whole record as JSON."""
RATES_SHOWN = ("open_rate", "click_rate", "bounce_rate", "complaint_rate")
WINDOW_SHOWN = "1h"
"""Of a campaign's windows the one whose figures stand on the line; --json has all."""
_FIELD = re.compile(r"\{\{|\}\}|\{(\w+)\}")
_ESCAPES = {r"\t": "\t", r"\n": "\n"}


def figures(record: Mapping[str, Any]) -> list[str]:
    """What a record of counts or rates says, as pairs; none for other records."""
    if "windows" in record:
        return _of_rates(record["windows"])
    if "cohort_opened" in record:
        return [pair(name, record[name]) for name in COUNTER_NAMES if record.get(name)]
    return []


def _of_rates(windows: Iterable[Mapping[str, Any]]) -> list[str]:
    for window in windows:
        if window["window"] == WINDOW_SHOWN:
            counts, found = window["counts"], {rate["name"]: rate for rate in window["rates"]}
            told = [pair(name, counts[name]) for name in ("delivered", "opened", "clicked")]
            for name in RATES_SHOWN:
                rate = found.get(name)
                if rate and rate["denominator"]:
                    share = percent(rate["numerator"] / rate["denominator"])
                    told.append(f"{name}={share} ({rate['numerator']}/{rate['denominator']})")
            return [pair("window", WINDOW_SHOWN), *told]
    return []


def checked(template: str, fields: Iterable[str]) -> str:
    r"""A format of ``--format``: names in braces; ``\t`` and ``\n`` as in a shell's ``$'…'``.

    Args:
        fields: names that records of the topic have.

    Raises:
        typer.BadParameter: a name that is none of them, or braces that name nothing.
    """
    for written, character in _ESCAPES.items():
        template = template.replace(written, character)
    known = {*fields, *PLACES}
    for found in _FIELD.finditer(template):
        if found[1] is not None and found[1] not in known:
            names = ", ".join((*PLACES, *sorted(known - set(PLACES))))
            raise typer.BadParameter(f"--format: no field {found[1]!r}; one of {names}")
    if set("{}") & set(_FIELD.sub("", template)):
        raise typer.BadParameter("--format: write {{ and }} for braces that name no field")
    return template


def filled(template: str, places: Mapping[str, Any], record: Any) -> str:
    """A line of a record by a format that was checked; what a record lacks is empty."""
    merged: dict[str, Any] = {}
    if isinstance(record, Mapping):
        event = record.get("event")
        merged = {**record, **event} if isinstance(event, Mapping) else dict(record)
        merged |= record.get("enrichment") or {}
    whole = {"value": record} | merged | dict(places)

    def value(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0][0]
        value = whole.get(found[1])
        if value is None:
            return ""
        text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
        return visible(text, None)

    return _FIELD.sub(value, template)
