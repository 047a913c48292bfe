"""Senders that need no module: ``provider = "preset:NAME"`` is a data file for ``generic``.

A file ``presets/NAME.toml`` has a title, how requests are proven (``verification``, ``signs``,
``required``), where its console takes the URL (``where``), the row of the conformance table, and a
``mapping`` as in ``mailpulse.toml``. ``sources`` are the pages it was written by, ``documented`` is
the day they were read, and ``unverified`` says what they did not tell; it may not be empty.

Invariants:
1. Files are read when this module is imported. Every problem is reported at once, each with file
   and key; with one, nothing starts.
2. A source's own ``mapping`` wins, entry by entry of each table.
3. Whoever reads events sees the NAME alone. No module has that name: a sender that gets a module
   later keeps its own, and its events the same ids.
"""

import re
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, ClassVar

from ingest.providers.generic import Generic
from ingest.providers.mapping import read_mapping
from ingest.providers.signing import read_signing
from schemas.errors import ConfigError
from schemas.settings import Source
from schemas.sources import PRESET

_TEXTS = ("title", "verification", "signs", "batch", "identity", "bounces", "where", "unverified")
"""Entries that must be a text with something in it."""
_OPTIONAL = {"machine": "none", "other_calls": "none known", "documented": "", "tolerance_s": 0}
_SIGNS = ("raw body", "token only", "nothing")
_DAY = re.compile(r"|[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Preset(Generic):
    """A sender described by a data file; its tables are set by ``make``."""

    mapping: ClassVar[Mapping[str, Any]]
    where: ClassVar[str]
    """Where to enter the URL in the sender's console."""
    unverified: ClassVar[str]
    """What the pages did not tell."""

    def mapping_of(self, source: Source) -> Mapping[str, Any]:
        """See ``Generic.mapping_of``; invariant 2."""
        if not source.mapping:
            return self.mapping
        merged = dict(self.mapping)
        for key, value in source.mapping.items():
            ours = merged.get(key)
            if isinstance(ours, dict) and isinstance(value, dict):
                merged[key] = {**ours, **value}
            else:
                merged[key] = value
        return merged


def problems_of(name: str, raw: Mapping[str, Any]) -> list[str]:
    """Every problem of a preset's data, one line each, with file and key."""
    found = [f"{key}: a text is expected" for key in _TEXTS if not _is_text(raw.get(key))]
    known = {*_TEXTS, *_OPTIONAL, "required", "sources", "mapping"}
    found += [f"{key}: no such entry" for key in raw if key not in known]
    if raw.get("signs") not in _SIGNS:
        found.append(f"signs: one of {', '.join(_SIGNS)} is expected")
    for key, fits in (("required", True), ("sources", bool(raw.get("documented")))):
        value = raw.get(key)
        if not isinstance(value, list) or not all(map(_is_text, value)) or (fits and not value):
            found.append(f"{key}: a list of texts is expected")
    unknown = set(map(str, raw.get("required") or ())) - set(Source.model_fields)
    found += [f"required: a source has no {one}" for one in sorted(unknown)]
    if not isinstance(raw.get("tolerance_s", 0), int):
        found.append("tolerance_s: a number of seconds is expected")
    if not _DAY.fullmatch(str(raw.get("documented", ""))):
        found.append('documented: a day such as "2026-11-27", or "" is expected')
    mapping = raw.get("mapping")
    if not isinstance(mapping, dict) or not isinstance(mapping.get("events"), dict):
        found.append("mapping: a table with a table events is expected")
    else:
        lines = read_mapping(mapping)[1] + read_signing(mapping.get("signature"))[1]
        found += [f"mapping.{line}" for line in lines]
    return [f"presets/{name}.toml: {line}" for line in found]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def make(name: str, raw: Mapping[str, Any]) -> Preset:
    """The provider of a preset's data, which has no problems."""
    given = {**_OPTIONAL, **raw}
    listed = given["mapping"]["events"]
    verdicts = read_mapping(given["mapping"])[0]
    table = {
        "__doc__": f"{given['title']}, by presets/{name}.toml.",
        "name": f"{PRESET}{name}",
        "title": given["title"],
        "required": tuple(given["required"]),
        "tolerance_s": given["tolerance_s"],
        "events": {native: verdicts.verdict(native).event_type for native in listed},
        "id_recipe": given["identity"],
        "verification": given["verification"],
        "signs": given["signs"],
        "batch": given["batch"],
        "other_calls": given["other_calls"],
        "bounces": given["bounces"],
        "machine": given["machine"],
        "campaign": "sender's: by mapping",
        "mapping": given["mapping"],
        "token_at": str(given["mapping"].get("token", "")),
        "where": given["where"],
        "unverified": given["unverified"],
    }
    kind: type[Preset] = type("Preset", (Preset,), table)
    return kind()


def load(texts: Mapping[str, str]) -> tuple[Preset, ...]:
    """The presets of some data files, by name.

    Args:
        texts: name -> content of its file.

    Raises:
        ConfigError: with every problem of every file.
    """
    presets, problems = [], []
    for name, text in sorted(texts.items()):
        try:
            raw = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            problems.append(f"presets/{name}.toml: {error}")
            continue
        found = problems_of(name, raw)
        problems += found
        if not found:
            presets.append(make(name, raw))
    if problems:
        raise ConfigError(problems)
    return tuple(presets)


def shipped() -> dict[str, str]:
    """Name -> content of the data files that come with mailpulse."""
    folder = files("ingest.providers.presets")
    return {
        file.name.removesuffix(".toml"): file.read_text(encoding="utf-8")
        for file in folder.iterdir()
        if file.name.endswith(".toml")
    }


PRESETS = load(shipped())
