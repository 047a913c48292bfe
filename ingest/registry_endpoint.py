"""A read-only schema registry for standard clients, served by the ingress at ``/registry``.

Invariants:
1. It answers as Confluent Schema Registry does, paths, error codes and content type included, so
   that ``confluent-kafka``, Java's and every other client can decode our topics.
2. It never changes anything: registering is refused as by a registry in READONLY mode (error
   42205); looking up whether a schema is registered is allowed.
3. All answers are made at start from ``schemas``; a request does no I/O.

Source: Confluent Schema Registry API reference (subjects, schemas, mode, config; error codes).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from schemas.codec import FIXED_IDS, schema_json
from schemas.topics import TOPICS

_LOOKUP_BYTES_MAX = 200_000
"""Ours have 10,000; anybody may post here, and parsing blocks the event loop."""


class _Answer(JSONResponse):
    media_type = "application/vnd.schemaregistry.v1+json"


def _problem(status: int, code: int, message: str) -> Response:
    return _Answer({"error_code": code, "message": message}, status_code=status)


def _no_subject(request: Request) -> Response:
    return _problem(404, 40401, f"Subject '{request.path_params['subject']}' not found.")


@dataclass(frozen=True, slots=True)
class _Version:
    """One version of a subject's schema."""

    subject: str
    version: int
    id: int
    schema: str


class _Endpoint:
    """Answers about all subjects and their versions, oldest first."""

    def __init__(self, ids: Mapping[str, int]) -> None:
        self._subjects: dict[str, list[_Version]] = {}
        self._compatibility = {topic.subject: topic.compatibility for topic in TOPICS}
        for topic in TOPICS:
            names = [full for full in ids if full.rsplit(".", 1)[0] == topic.schema]
            self._subjects[topic.subject] = [
                _Version(topic.subject, number, ids[full], json.dumps(schema_json(full)))
                for number, full in enumerate(names, start=1)
            ]
        self._by_id = {item.id: item for items in self._subjects.values() for item in items}

    async def types(self, _: Request) -> Response:
        return _Answer(["AVRO"])

    async def mode(self, _: Request) -> Response:
        return _Answer({"mode": "READONLY"})

    async def config(self, request: Request) -> Response:
        subject = request.path_params.get("subject", "")
        return _Answer({"compatibilityLevel": self._compatibility.get(subject, "FULL_TRANSITIVE")})

    async def schema(self, request: Request) -> Response:
        found = self._by_id.get(request.path_params["id"])
        if found is None:
            return _problem(404, 40403, f"Schema {request.path_params['id']} not found.")
        return _Answer({"schema": found.schema})

    async def schema_versions(self, request: Request) -> Response:
        found = self._by_id.get(request.path_params["id"])
        if found is None:
            return _problem(404, 40403, f"Schema {request.path_params['id']} not found.")
        return _Answer([{"subject": found.subject, "version": found.version}])

    async def subjects(self, request: Request) -> Response:
        prefix = request.query_params.get("subjectPrefix", "")
        return _Answer([name for name in sorted(self._subjects) if name.startswith(prefix)])

    async def versions(self, request: Request) -> Response:
        if request.method == "POST":
            return _problem(422, 42205, "This registry is read-only.")
        found = self._subjects.get(request.path_params["subject"])
        if found is None:
            return _no_subject(request)
        return _Answer([item.version for item in found])

    async def version(self, request: Request) -> Response:
        found = self._subjects.get(request.path_params["subject"])
        if found is None:
            return _no_subject(request)
        wanted = request.path_params["version"]
        if wanted in ("latest", "-1"):
            return _Answer(asdict(found[-1]))
        if not re.fullmatch(r"[1-9][0-9]{0,9}", wanted):
            return _problem(422, 42202, "The specified version is not a valid version id.")
        if int(wanted) > len(found):
            return _problem(404, 40402, f"Version {wanted} not found.")
        return _Answer(asdict(found[int(wanted) - 1]))

    async def look_up(self, request: Request) -> Response:
        """Whether a schema is registered under a subject, compared as JSON documents."""
        found = self._subjects.get(request.path_params["subject"])
        if found is None:
            return _no_subject(request)
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _LOOKUP_BYTES_MAX:
                return _problem(413, 42201, "The schema is too long.")
        try:
            wanted = json.loads(json.loads(body)["schema"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return _problem(422, 42201, "Invalid schema.")
        for item in found:
            if json.loads(item.schema) == wanted:
                return _Answer(asdict(item))
        return _problem(404, 40403, "Schema not found.")


def registry_routes(ids: Mapping[str, int] = FIXED_IDS) -> Mount:
    """The endpoint, as a mount at ``/registry``.

    Args:
        ids: ``name.version`` -> schema id, as the codec uses them.
    """
    endpoint = _Endpoint(ids)
    return Mount(
        "/registry",
        routes=[
            Route("/schemas/types", endpoint.types),
            Route("/schemas/ids/{id:int}", endpoint.schema),
            Route("/schemas/ids/{id:int}/versions", endpoint.schema_versions),
            Route("/subjects", endpoint.subjects),
            Route("/subjects/{subject}", endpoint.look_up, methods=["POST"]),
            Route("/subjects/{subject}/versions", endpoint.versions, methods=["GET", "POST"]),
            Route("/subjects/{subject}/versions/{version}", endpoint.version),
            Route("/config", endpoint.config),
            Route("/config/{subject}", endpoint.config),
            Route("/mode", endpoint.mode),
        ],
    )
