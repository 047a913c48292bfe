"""Logs of roles in files: bounded, and lines of interest told at the terminal.

Invariants:
1. A file is copied aside and emptied beyond ``BYTES_MAX``; one older file is kept. Roles append
   (``O_APPEND``), so they go on at its begin. Lines that are written between the two steps are
   lost, as with logrotate's ``copytruncate``.
2. Told are warnings and errors, what ingress refused or could not read, and the first events of
   each source; the same once a minute at most, with how often it came.
3. What is told was masked by the role that wrote it (``streams.cli.logs``); control characters are
   escaped by whoever prints it.
"""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from schemas.serving.sparing import Sparing

BYTES_MAX = 16 << 20
READ_BYTES_MAX = 1 << 20
"""Read at once; what is behind is skipped over: a role that logs so much is told by its first."""
VALUE_CHARS_MAX = 200
UNPROVEN = 401
FIRST = " first"
"""End of a kind that is told once."""
_TOLD = ("warning", "error", "critical")
_NOT_SHOWN = frozenset({"at", "event", "level", "role", "logger", "exception", "stack"})


class LogFile:
    """The log of one role, read as it grows.

    Args:
        role: its name.
        path: of the file; it need not exist.
    """

    def __init__(self, role: str, path: Path) -> None:
        self._role = role
        self._path = path
        self._at = path.stat().st_size if path.exists() else 0
        self._sparing = Sparing()
        self._begun: set[str] = set()
        """Kinds that are told once."""

    def news(self, now_s: float) -> list[str]:
        """Lines to tell of what was written since the last call; also bounds the file.

        Args:
            now_s: of a steady clock.
        """
        told = []
        with suppress(OSError):  # deleted, or the disk is full: the roles go on
            for line in self._new_lines():
                found = of_interest(self._role, line)
                if found is not None:
                    told += self._told(*found, now_s)
            self._bound()
        return told

    def _told(self, kind: str, text: str, now_s: float) -> list[str]:
        if kind.endswith(FIRST):
            if kind in self._begun:
                return []
            self._begun.add(kind)
            return [text]
        count = self._sparing.happened(kind, now_s)
        return [] if count is None else [f"{text} ({count} times)" if count > 1 else text]

    def _new_lines(self) -> list[bytes]:
        size = self._path.stat().st_size
        if size < self._at:
            self._at = 0
        begin = max(self._at, size - READ_BYTES_MAX)
        with self._path.open("rb") as file:
            file.seek(begin)
            found = file.read(READ_BYTES_MAX)
        whole, newline, _ = found.rpartition(b"\n")
        self._at = begin + len(whole) + len(newline)
        return whole.split(b"\n") if newline else []

    def _bound(self) -> None:
        if self._path.stat().st_size > BYTES_MAX:
            shutil.copyfile(self._path, self._path.with_name(f"{self._path.name}.1"))
            with self._path.open("r+b") as file:
                file.truncate(0)
            self._at = 0


def of_interest(role: str, line: bytes) -> tuple[str, str] | None:
    """A line of a role's log: its kind, and how it is told; ``None``: it is not."""
    try:
        fields = orjson.loads(line)
    except ValueError:
        return None
    if not isinstance(fields, dict):
        return None
    if fields.get("event") == "hook":
        return _at_hook(fields)
    if fields.get("level") not in _TOLD:
        return None
    said = str(fields.get("event", ""))
    rest = " ".join(
        f"{name}={_short(value)}" for name, value in fields.items() if name not in _NOT_SHOWN
    )
    return f"{role} {said}", f"{role}: {said}{f' · {rest}' if rest else ''}"


def _at_hook(fields: dict[str, Any]) -> tuple[str, str] | None:
    """What ingress says of a request."""
    source, result = fields.get("source") or "(no such source)", fields.get("result")
    if result == "probe":
        return None
    if result == "accepted":
        if fields.get("rejected"):
            return f"{source} rejected", f"{source}: dead letters, see 'mailpulse dlq ls'"
        return (f"{source}{FIRST}", f"{source}: first events") if fields.get("events") else None
    why = fields.get("reason") or result
    advice = ": 'mailpulse check' says why" if fields.get("status") == UNPROVEN else ""
    return f"{source} {why}", f"{source}: request refused, {fields.get('status')} {why}{advice}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= VALUE_CHARS_MAX else f"{text[:VALUE_CHARS_MAX]}…"
