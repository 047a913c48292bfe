"""``schemas/webhooks.yaml``: the requests of ``mailpulse deliver`` as an OpenAPI document.

``python -m tests.webhooks_openapi`` writes it; ``tests/schemas/test_webhooks_openapi.py`` fails if
it is stale. OpenAPI 3.1, field ``webhooks``: who receives them generates server code from it.
"""

from pathlib import Path
from typing import Any

import yaml

from schemas.topics import BY_NAME, Topic
from streams.deliver.bodies import KINDS
from tests import webhook_schemas
from tests.asyncapi import STANDARD_WEBHOOKS, name_of

PATH = Path(__file__).parent.parent / "schemas" / "webhooks.yaml"
_ANSWERS = {
    "2XX": "Taken. Everything else is a failure: it is tried again for 72 hours.",
    "410": "Nobody is here any more: the destination is only probed until it works.",
    "429": "Later: Retry-After says when.",
}


def _headers() -> list[dict[str, Any]]:
    wanted = STANDARD_WEBHOOKS["required"]
    return [
        {
            "name": name,
            "in": "header",
            "required": name in wanted,
            "description": schema["description"],
            "schema": {"type": "string"},
        }
        for name, schema in STANDARD_WEBHOOKS["properties"].items()
    ]


def _webhook(topic: Topic) -> dict[str, Any]:
    one = webhook_schemas.body(topic.name)
    return {
        "post": {
            "operationId": f"receive_{name_of(topic)}",
            "summary": f"What mailpulse deliver sends of {topic.name}.",
            "parameters": _headers(),
            "requestBody": {"required": True, "content": {"application/json": {"schema": one}}},
            "responses": {status: {"description": text} for status, text in _ANSWERS.items()},
        }
    }


def document() -> dict[str, Any]:
    """The whole document."""
    topics = [BY_NAME[name] for name in KINDS]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mailpulse webhooks",
            "version": "1.0.0",
            "description": STANDARD_WEBHOOKS["description"],
            "license": {"name": "Apache-2.0"},
        },
        "paths": {},
        "webhooks": {name_of(topic): _webhook(topic) for topic in topics},
    }


def rendered() -> str:
    """The document as YAML."""
    head = "# Made by `python -m tests.webhooks_openapi` from the schemas of what deliver sends.\n"
    return head + yaml.safe_dump(document(), sort_keys=False, allow_unicode=True, width=100)


if __name__ == "__main__":
    PATH.write_text(rendered(), encoding="utf-8")
