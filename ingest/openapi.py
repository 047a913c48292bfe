"""The OpenAPI 3.1 document of the front door.

Invariant: it is complete. A test drives the app by it (schemathesis) and fails on undocumented
answers.
"""

from typing import Any

from ingest.problems import DETAILS

_PROBLEM = {"$ref": "#/components/schemas/Problem"}
_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "schema": {"type": "integer", "minimum": 1},
    }
}
_RATE_HEADERS = {
    name: {"description": "draft-ietf-httpapi-ratelimit-headers", "schema": {"type": "string"}}
    for name in ("RateLimit", "RateLimit-Policy")
}

_REFUSALS: dict[str, tuple[str, dict[str, Any]]] = {
    "400": ("The body does not fit its headers.", {}),
    "401": ("Not verified as the provider's. The answer is the same whatever is wrong.", {}),
    "403": ("Not over HTTPS, or from an address that the source does not allow.", {}),
    "404": ("No such source, or its provider makes no such call.", {}),
    "408": ("The body did not arrive in time.", {}),
    "413": ("Over a limit: bytes, decompressed bytes, nesting, values, events.", {}),
    "415": ("A Content-Encoding that is not supported, or more than one.", {}),
    "429": (
        "Over a rate limit, or overloaded and this provider retries only after a 429.",
        _RETRY_AFTER | _RATE_HEADERS,
    ),
    "503": ("Not stored: send it again later.", _RETRY_AFTER),
}


def _refusals(*statuses: str) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for status in statuses:
        description, headers = _REFUSALS[status]
        answers[status] = {
            "description": description,
            "content": {"application/problem+json": {"schema": _PROBLEM}},
        }
        if headers:
            answers[status]["headers"] = headers
    return answers


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(properties),
        "additionalProperties": False,
        "properties": properties,
    }


_SOURCE = {
    "name": "source",
    "in": "path",
    "required": True,
    "description": "Name of a source in mailpulse.toml.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
}


def _hook() -> dict[str, Any]:
    count = {"type": "integer", "minimum": 0}
    probe = {
        "200": _json("The provider's set-up call is answered.", {"type": "object"}),
        **_refusals("403", "404", "429"),
    }
    head = {
        status: {key: value for key, value in answer.items() if key != "content"}
        for status, answer in probe.items()
    }
    return {
        "parameters": [_SOURCE],
        "post": {
            "operationId": "postEvents",
            "summary": "A provider's webhook",
            "description": "The body and its signature are those of the source's provider. "
            "200 means that every event is stored.",
            "requestBody": {
                "required": False,
                "content": {"application/json": {"schema": {}}},
            },
            "responses": {
                "200": _json(
                    "Stored. Items that can't be made events are rejected: stored as dead letters.",
                    _object(accepted=count, rejected=count),
                ),
                **_refusals(*_REFUSALS),
            },
        },
        "get": {"operationId": "probe", "summary": "A set-up call", "responses": probe},
        "head": {"operationId": "probeHead", "summary": "A set-up call", "responses": head},
    }


def document(version: str) -> dict[str, Any]:
    """The document as a value; ``version`` is the program's."""
    readiness = _object(
        ready={"type": "boolean"},
        kafka={"type": "boolean"},
        spooled_bytes={"type": "integer", "minimum": 0},
    )
    text = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mailpulse ingress",
            "version": version,
            "description": "Receives email providers' webhooks and stores them.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/hooks/{source}": _hook(),
            "/livez": {
                "get": {
                    "operationId": "live",
                    "summary": "Whether the process runs",
                    "responses": {"200": _json("It does.", _object(live={"const": True}))},
                }
            },
            "/readyz": {
                "get": {
                    "operationId": "ready",
                    "summary": "Whether events can be stored right now",
                    "responses": {
                        "200": _json("They can.", readiness),
                        "503": _json("They can't.", readiness),
                    },
                }
            },
            "/metrics": {
                "get": {
                    "operationId": "metrics",
                    "summary": "Metrics for Prometheus",
                    "responses": {
                        "200": {"description": "Text format.", "content": text},
                        **_refusals("404"),
                    },
                }
            },
            "/openapi.json": {
                "get": {
                    "operationId": "openapi",
                    "summary": "This document",
                    "responses": {"200": _json("OpenAPI 3.1.", {"type": "object"})},
                }
            },
        },
        "components": {
            "schemas": {
                "Problem": {
                    "description": "RFC 9457.",
                    **_object(
                        type={"type": "string", "format": "uri-reference"},
                        title={"type": "string"},
                        status={"type": "integer", "minimum": 400, "maximum": 599},
                        detail={"type": "string"},
                        code={"type": "string", "enum": sorted(DETAILS)},
                    ),
                }
            }
        },
    }
