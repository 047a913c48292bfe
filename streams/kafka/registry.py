"""Registers schemas in a Confluent-compatible registry when a role starts, and takes its ids.

Invariants:
1. Registering is idempotent: every role does it at its start, in any order, at the same time.
2. A subject's compatibility is set before its first schema, so that the registry itself refuses a
   change that ``tests/schemas/test_compat.py`` would refuse.
3. A registry that does not answer is ``Unavailable``, and the role tries again. One that refuses a
   schema is a ``ConfigError``: only another release of ours, or another registry, can help.
4. No message contains the registry's URL: there may be a password in it.

Sources: Confluent Schema Registry API reference (subjects, config, schemas); ids are global per
registry, not per subject. Tried against Apicurio Registry 3.3 (``tests/live/test_registry.py``).
"""

import json
import time
from collections.abc import Mapping
from typing import Any, Self

import httpx

from schemas.codec import FIXED_IDS, schema_json
from schemas.errors import ConfigError, Unavailable
from schemas.topics import TOPICS

TIMEOUT_S = 10.0
ATTEMPTS_MAX = 5
"""Tries of one call while the registry is away or answers with a 5xx."""
BACKOFF_S = 0.5
"""First wait between tries; doubles each time."""


class RegistryClient:
    """The requests that mailpulse makes. A context manager; not thread-safe.

    Args:
        url: base of the Confluent API, ``http(s)://user:password@host:port/path``.
        timeout_s: longest wait for one answer.
        backoff_s: first wait between tries.
        attempts: tries of one call.
    """

    def __init__(
        self, url: str, *, timeout_s: float = TIMEOUT_S, backoff_s: float = BACKOFF_S,
        attempts: int = ATTEMPTS_MAX,
    ) -> None:  # fmt: skip
        self._http = httpx.Client(base_url=url, timeout=timeout_s)
        self._backoff_s = backoff_s
        self._attempts = attempts

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def set_compatibility(self, subject: str, level: str) -> None:
        """Sets how schemas of ``subject`` may change, such as ``FULL_TRANSITIVE``.

        Raises:
            Unavailable: the registry does not answer.
            ConfigError: it refuses.
        """
        self._call("PUT", f"/config/{subject}", {"compatibility": level})

    def register(self, subject: str, document: Mapping[str, Any]) -> int:
        """Registers an Avro schema under ``subject``, unless it is there, and returns its id.

        Raises:
            Unavailable: the registry does not answer.
            ConfigError: it refuses, usually because of an incompatible change.
        """
        answer = self._call(
            "POST",
            f"/subjects/{subject}/versions",
            {"schema": json.dumps(document), "schemaType": "AVRO"},
        )
        return int(answer["id"])

    def schema(self, schema_id: int) -> dict[str, Any]:
        """The Avro schema with that id.

        Raises:
            Unavailable: the registry does not answer.
            ConfigError: it has no such schema.
        """
        document: dict[str, Any] = json.loads(
            self._call("GET", f"/schemas/ids/{schema_id}")["schema"]
        )
        return document

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        wait_s = self._backoff_s
        for attempt in range(1, self._attempts + 1):
            try:
                answer = self._http.request(method, path, json=body)
            except httpx.TransportError as error:
                reason = type(error).__name__
            else:
                if answer.status_code < 500:
                    return _content(answer, path)
                reason = f"status {answer.status_code}"
            if attempt < self._attempts:
                time.sleep(wait_s)
                wait_s *= 2
        raise Unavailable(f"schema registry: {method} {path}: {reason}")


def _content(answer: httpx.Response, path: str) -> Any:
    """The JSON of an answer below 500.

    Raises:
        ConfigError: a 4xx, or an answer that is not a registry's.
    """
    try:
        content = answer.json()
    except ValueError:
        content = None
    if answer.is_success and isinstance(content, dict):
        return content
    said = content.get("message", "") if isinstance(content, dict) else "not a registry's answer"
    raise ConfigError([f"MAILPULSE_SCHEMA_REGISTRY_URL: {path}: {answer.status_code} {said}"])


def register_all(
    url: str, *, timeout_s: float = TIMEOUT_S, backoff_s: float = BACKOFF_S,
    attempts: int = ATTEMPTS_MAX,
) -> dict[str, int]:  # fmt: skip
    """Registers every released schema version, oldest first.

    Returns:
        ``name.version`` -> id, for ``schemas.codec.Codec(ids)``.

    Raises:
        Unavailable: the registry does not answer; calling again is safe.
        ConfigError: it refuses a schema.
    """
    ids: dict[str, int] = {}
    with RegistryClient(
        url, timeout_s=timeout_s, backoff_s=backoff_s, attempts=attempts
    ) as registry:
        for topic in TOPICS:
            registry.set_compatibility(topic.subject, topic.compatibility)
            for full in FIXED_IDS:
                if full.rsplit(".", 1)[0] == topic.schema:
                    ids[full] = registry.register(topic.subject, schema_json(full))
    return ids
