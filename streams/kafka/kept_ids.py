"""The registry's ids, kept on disk, so that a role starts while the registry is away.

Invariants:
1. A registry that answers decides: its ids are taken, and replace what is kept.
2. Kept ids are used only if they are of the same registry and cover every schema of this release.
   Right after an upgrade that brings a schema the registry has to be there.
3. The file holds no password. A disk that can't be written costs only this help.
"""

import hashlib
import json
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from schemas.codec import FIXED_IDS
from schemas.errors import Unavailable
from streams.kafka.registry import ATTEMPTS_MAX, TIMEOUT_S, register_all

log = structlog.get_logger("mailpulse.registry")

FILE = "schema-ids.json"
"""In the data directory."""
QUICK_S = 3.0
"""Longest wait for an answer of the registry where there are kept ids to go on with."""


def registered_or_kept(url: str, data_dir: Path) -> dict[str, int]:
    """The ids of every released schema version: the registry's, or those kept while it is away.

    Returns:
        ``name.version`` -> id, for ``schemas.codec.Codec(ids)``.

    Raises:
        Unavailable: the registry does not answer, and nothing is kept of it.
        ConfigError: it refuses a schema.
    """
    path, registry = data_dir / FILE, _digest(url)
    kept = _read(path, registry)
    try:
        ids = register_all(
            url,
            timeout_s=TIMEOUT_S if kept is None else QUICK_S,
            attempts=ATTEMPTS_MAX if kept is None else 1,
        )
    except Unavailable as error:
        if kept is None:
            raise
        log.warning("the schema registry is away: its kept ids are used", error=str(error))
        return kept
    if ids != kept:
        _write(path, registry, ids)
    return ids


def _digest(url: str) -> str:
    """Names a registry without its user and password, which change."""
    parts = urlsplit(url)
    place = f"{parts.scheme}://{parts.hostname}:{parts.port}{parts.path.rstrip('/')}"
    return hashlib.sha256(place.encode()).hexdigest()


def _read(path: Path, registry: str) -> dict[str, int] | None:
    try:
        document = json.loads(path.read_bytes())
        ids = {str(name): int(number) for name, number in document["ids"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    fits = document["registry"] == registry and ids.keys() >= FIXED_IDS.keys()
    return {name: ids[name] for name in FIXED_IDS} if fits else None


def _write(path: Path, registry: str, ids: dict[str, int]) -> None:
    unfinished = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps({"registry": registry, "ids": ids}), "utf-8")
        unfinished.replace(path)
    except OSError as error:
        log.warning("the registry's ids can't be kept", path=str(path), error=error.strerror)
