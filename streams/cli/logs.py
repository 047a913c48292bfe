"""Logs of every role: JSON lines, or coloured text on a terminal.

Invariants:
1. A process calls ``configure`` once, at start; modules log through ``logging`` or
   ``structlog.get_logger()``, and both give the same lines, on stderr. structlog bypasses
   ``logging``, which would take a quarter of the time of a request at ingress.
2. No secret and no recipient's address reaches a log line, whatever library wrote it: values of
   fields with secret-like names are replaced, addresses in text are masked.
3. Figures have their unit in the name.
4. No value can forge a line or move the cursor: control characters are escaped
   (``streams.terminal.visible``).
5. A line that can't be written, on a full disk or into a pipe that nobody reads, is dropped: no
   caller sees an error. An exception from a log line once ended a task that everything waited for.
"""

import contextlib
import json
import logging
import re
import sys
import time
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO, cast

import orjson
import structlog

from schemas.masking import masked
from schemas.serving.sparing import PAUSE_S, Sparing
from schemas.settings import Settings
from streams.terminal.visible import visible

SECRET_NAMES = re.compile(
    r"(?i)(secret|password|passwd|token|api_?key|signing_?key|authorization|cookie|credential"
    r"|private_?key|hash_?key)"
)
"""The value of a field with such a name is never logged."""
_URL_PASSWORD = re.compile(r"(?i)\b([a-z][a-z0-9+.\-]{0,31}://[^\s:/@]*):[^\s@/]+@")
HIDDEN = "[hidden]"
_OPERATOR = "operator"
"""Field that says who of the sender's own people did something: never a recipient."""
_STAMPED = ("at", "level", _OPERATOR)
"""Fields that are not masked: those that are set here, whatever a caller gives, and this one."""

_NOISY = ("aiokafka", "kafka", "faust", "mode", "asyncio", "httpx", "httpcore", "uvicorn.access")
"""Libraries whose INFO lines are useless to an operator; their warnings are kept."""
_SILENT = ("flufl.bounce",)
"""Libraries that log a stack trace for each malformed mail, which is their ordinary input."""
_CAUSED_FROM_OUTSIDE = ("uvicorn", "asyncio")
"""Libraries whose warnings any client can cause, by bad requests or too many connections: limited
by message before its arguments are filled in."""
_REPEATING = ("aiokafka",)
"""Libraries that repeat a warning while a broker is unavailable: limited by complete message."""


def redact_text(text: str) -> str:
    """``text`` without passwords in URLs and without full mail addresses."""
    if "://" in text and "@" in text:
        text = _URL_PASSWORD.sub(rf"\1:{HIDDEN}@", text)
    return masked(text)


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    """Whether the value of a field of that name is never logged."""
    return SECRET_NAMES.search(name) is not None


def _redact(value: Any, depth: int = 4) -> Any:
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, (int, float)) or value is None:
        return value
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if depth and isinstance(value, dict):
        return {
            key: HIDDEN if _is_secret(str(key)) else _redact(item, depth - 1)
            for key, item in value.items()
        }
    if depth and isinstance(value, (list, tuple)):
        return [_redact(item, depth - 1) for item in value]
    return redact_text(str(value))


def redact(
    _logger: Any, _method: str, fields: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """structlog processor: invariant 2 for every field of a line."""
    for name, value in fields.items():
        if name not in _STAMPED:
            fields[name] = HIDDEN if _is_secret(name) else _redact(value)
    return fields


class _Chatter(logging.Filter):
    """Drops messages of Faust's service framework about starting and stopping its parts.

    Not at the level DEBUG.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        is_chatter = record.levelno < logging.WARNING and str(record.msg).startswith("[")
        return not is_chatter or logging.getLogger().level == logging.DEBUG


class _Sparingly(logging.Filter):
    """Limits warnings of some libraries to one per minute and text."""

    def __init__(self) -> None:
        super().__init__()
        self._sparing = Sparing()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        if record.name.startswith(_CAUSED_FROM_OUTSIDE):
            text = str(record.msg)
        elif record.name.startswith(_REPEATING):
            text = record.getMessage()
        else:
            return True
        count = self._sparing.happened(f"{record.name} {text}", time.monotonic())
        if count is not None and count > 1:
            record.suppressed, record.period_s = count - 1, PAUSE_S
        return count is not None


def _json(fields: Any, default: Any) -> str:
    """A line of JSON; by ``json`` if orjson can't (integers beyond 64 bits)."""
    try:
        line = orjson.dumps(fields, default=default, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        line = json.dumps(fields, default=default)
    # JSON escapes control characters, except DEL and those outside ASCII
    return line if line.isascii() and "\x7f" not in line else visible(line, None)


def _visible(
    _logger: Any, _method: str, fields: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """structlog processor for lines that people read: invariant 4.

    Messages of several lines and tracebacks are indented, so that none looks like a line of the
    log.
    """
    for name, value in fields.items():
        if name in ("event", "exception", "stack") and isinstance(value, str):
            fields[name] = _indented(value)
        elif isinstance(value, (str, dict, list, tuple)):
            fields[name] = visible(value if isinstance(value, str) else repr(value))
    return fields


def _indented(text: str) -> str:
    return "\n    ".join(visible(line) for line in text.rstrip().split("\n"))


def _stamped(role: str) -> Callable[[Any, str, MutableMapping[str, Any]], Any]:
    """structlog processor: adds level, role and time, as ``before`` in ``configure`` does.

    It replaces three of structlog's processors at a third of their cost.
    """

    def stamp(
        _logger: Any, method: str, fields: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        fields["level"] = _LEVELS.get(method, method)
        fields["role"] = role
        fields["at"] = datetime.now(UTC).isoformat()[:-6] + "Z"
        return fields

    return stamp


_LEVELS = {"exception": "error", "warn": "warning"}
"""Levels of the methods that are named differently."""


class _Lenient:
    """``stream`` as structlog writes to it, without its errors: invariant 5."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: the stream is closed
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def wants_json(log_format: str, stream: TextIO) -> bool:
    """Whether lines are JSON; with ``auto``, unless ``stream`` is a terminal."""
    if log_format == "auto":
        return not stream.isatty()
    return log_format == "json"


def configure(settings: Settings, role: str, stream: TextIO | None = None) -> None:
    """Routes ``logging`` and structlog to one handler on ``stream`` (default: stderr).

    Args:
        role: name of the process, added to every line.
    """
    stream = stream or sys.stderr
    before: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    if wants_json(settings.log_format, stream):
        last: list[Any] = [
            structlog.processors.format_exc_info,
            redact,
            structlog.processors.JSONRenderer(serializer=_json),
        ]
    else:
        last = [
            structlog.processors.format_exc_info,  # rich's would show local variables
            redact,
            _visible,
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=before,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    handler.addFilter(_Sparingly())
    handler.addFilter(_Chatter())
    logging.getLogger().handlers[:] = [handler]
    for name in _SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    structlog.configure(
        processors=[_stamped(role), *last],
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Lenient(stream))),
        cache_logger_on_first_use=False,
    )
    set_level(settings.log_level)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(role=role)


def set_level(level: str) -> None:
    """Sets from which level on lines are written, also while the process runs; from any thread.

    Args:
        level: as in the settings. DEBUG includes what is otherwise left out of ``_NOISY``.
    """
    logging.getLogger().setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel("DEBUG" if level == "DEBUG" else "WARNING")
    number = logging.getLevelNamesMapping()[level]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(number))
