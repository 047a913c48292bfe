"""Logs of every role: JSON lines when nobody watches, colours on a terminal.

Invariants:
1. One call, ``configure``, at the start of a process; modules log through the standard library's
   ``logging`` or through ``structlog.get_logger()`` and both come out alike, on stderr. structlog's
   lines do not take the way through ``logging``: ingress writes one per request, and it took a
   quarter of a request's time.
2. No secret and no recipient's address reaches a log line: values of secret-like names are
   replaced, addresses in texts are masked, whatever library wrote the line.
3. A log line is for an operator: event, role, then figures with their unit in the name.
4. No value forges a line or moves a cursor: control characters are escaped
   (``streams.terminal.visible``).
"""

import json
import logging
import re
import sys
import time
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO

import orjson
import structlog

from schemas.serving.sparing import PAUSE_S, Sparing
from schemas.settings import Settings
from streams.terminal.visible import visible

SECRET_NAMES = re.compile(
    r"(?i)(secret|password|passwd|token|api_?key|signing_?key|authorization|cookie|credential"
    r"|private_?key|hash_?key)"
)
"""A field with such a name is never printed."""
_ADDRESS = re.compile(r"([A-Za-z0-9._%+\-]{1,64})@([A-Za-z0-9\-]+(?:\.[A-Za-z0-9\-]+)+)")
_URL_PASSWORD = re.compile(r"(?i)\b([a-z][a-z0-9+.\-]*://[^\s:/@]*):[^\s@/]+@")
HIDDEN = "[hidden]"

_NOISY = ("aiokafka", "kafka", "faust", "mode", "asyncio", "httpx", "httpcore", "uvicorn.access")
"""Libraries whose INFO says nothing to an operator; their warnings stay."""
_SILENT = ("flufl.bounce",)
"""Libraries that write a stack trace for each odd mail, which is what they are asked about."""
_CAUSED_FROM_OUTSIDE = ("uvicorn", "asyncio")
"""Libraries whose warnings any caller can bring about, by bad requests or too many connections:
told apart by their texts before figures are put in."""
_REPEATING = ("aiokafka",)
"""Libraries that repeat a warning for as long as a broker is away: told apart by broker."""


def mask_address(text: str) -> str:
    """``text`` with every mail address cut to its first letter and domain: ``a***@example.com``."""
    if "@" not in text:
        return text
    return _ADDRESS.sub(lambda found: f"{found[1][:1]}***@{found[2]}", text)


def redact_text(text: str) -> str:
    """``text`` without passwords in URLs and without full mail addresses."""
    if "@" not in text:  # both have one
        return text
    return mask_address(_URL_PASSWORD.sub(rf"\1:{HIDDEN}@", text))


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    """Whether a field of that name is never printed."""
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
        if name in ("_record", "_from_structlog", "exc_info"):
            continue
        fields[name] = HIDDEN if _is_secret(name) else _redact(value)
    return fields


class _Chatter(logging.Filter):
    """Drops what Faust's service framework says about starting and stopping its parts."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or not str(record.msg).startswith("[")


class _Sparingly(logging.Filter):
    """One record of each text a minute, of libraries that write one for whatever a caller does, or
    again and again while a broker is away."""

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
    """A line of JSON; what orjson does not take (whole numbers beyond 64 bits) json does."""
    try:
        line = orjson.dumps(fields, default=default, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        line = json.dumps(fields, default=default)
    # JSON has every control character escaped but DEL, and those beyond ASCII.
    return line if line.isascii() and "\x7f" not in line else visible(line, None)


def _visible(
    _logger: Any, _method: str, fields: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """structlog processor for lines that people read: invariant 4.

    Messages of several lines and tracebacks keep them, set in, so that none looks like a line of
    the log.
    """
    for name, value in fields.items():
        if name in ("event", "exception", "stack") and isinstance(value, str):
            fields[name] = _set_in(value)
        elif isinstance(value, (str, dict, list, tuple)):
            fields[name] = visible(value if isinstance(value, str) else repr(value))
    return fields


def _set_in(text: str) -> str:
    return "\n    ".join(visible(line) for line in text.rstrip().split("\n"))


def _stamped(role: str) -> Callable[[Any, str, MutableMapping[str, Any]], Any]:
    """structlog processor: level, role and time, as ``before`` in ``configure`` adds them.

    One for three of structlog's, at a third of their cost.
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
"""Of the methods that are not called as their level."""


def wants_json(log_format: str, stream: TextIO) -> bool:
    """Whether lines are JSON: as the setting says, by default when ``stream`` is no terminal."""
    if log_format == "auto":
        return not stream.isatty()
    return log_format == "json"


def configure(settings: Settings, role: str, stream: TextIO | None = None) -> None:
    """Routes ``logging`` and structlog to one handler on ``stream`` (default: stderr).

    Args:
        role: name of the process, put on every line.
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
            structlog.processors.format_exc_info,  # not rich's, which shows local variables
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
    if settings.log_level != "DEBUG":
        handler.addFilter(_Chatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name in _NOISY:
        level = logging.DEBUG if settings.log_level == "DEBUG" else logging.WARNING
        logging.getLogger(name).setLevel(level)
    for name in _SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    structlog.configure(
        processors=[_stamped(role), *last],
        logger_factory=structlog.WriteLoggerFactory(stream),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(root.level)),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(role=role)
