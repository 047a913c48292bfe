"""``/docs``: the topics for whoever writes a consumer, from the schemas that the roles use.

Invariants: it needs no network, no database and no JavaScript; every text is escaped. The machine's
form, AsyncAPI, is beside it, with an Avro schema per topic.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from analytics.dashboard import html
from schemas.codec import LATEST, schema_json
from schemas.samples import sample
from schemas.topics import TOPICS, Topic

PATH = "/docs"
_DAY_MS = 86_400_000


class Docs:
    """The endpoints.

    Args:
        can_sign_out: whether pages have a button for it.
    """

    def __init__(self, can_sign_out: bool) -> None:
        self._can_sign_out = can_sign_out

    def routes(self) -> list[Route]:
        """Where the endpoints are."""
        return [
            Route(PATH, self.page),
            Route(f"{PATH}/asyncapi.yaml", self.asyncapi),
            Route(f"{PATH}/{{topic}}.avsc", self.schema),
            Route(f"{PATH}/{{topic}}.sample.json", self.sample),
        ]

    async def page(self, _request: Request) -> Response:
        """Every topic with its fields and a sample."""
        return HTMLResponse(
            html.document("Topics · mailpulse", _content(), self._can_sign_out, "docs")
        )

    async def asyncapi(self, _request: Request) -> Response:
        """The AsyncAPI document."""
        return Response(_asyncapi(), media_type="application/yaml")

    async def schema(self, request: Request) -> Response:
        """The Avro schema of a topic's values."""
        topic = _named(request)
        if topic is None:
            return Response("no such topic\n", 404, media_type="text/plain")
        return Response(orjson.dumps(schema_json(LATEST[topic.schema])), media_type=_JSON)

    async def sample(self, request: Request) -> Response:
        """A sample record of a topic."""
        topic = _named(request)
        if topic is None:
            return Response("no such topic\n", 404, media_type="text/plain")
        return Response(_sample(topic), media_type=_JSON)


_JSON = "application/json"


def _named(request: Request) -> Topic | None:
    name = request.path_params["topic"]
    return next((topic for topic in TOPICS if topic.name == name), None)


@cache
def _asyncapi() -> bytes:
    return files("schemas").joinpath("asyncapi.yaml").read_bytes()


def _sample(topic: Topic) -> bytes:
    """A sample as JSON; bytes as text."""
    return orjson.dumps(
        sample(topic.name), option=orjson.OPT_INDENT_2, default=lambda value: value.decode()
    )


@cache
def _content() -> str:
    links = "".join(
        f'<li><a href="#{escape(topic.name)}">{escape(topic.name)}</a></li>' for topic in TOPICS
    )
    return f"""\
<section class="panel"><h1>Topics</h1>
<p>Values are Avro in Confluent framing. A record may come again after a crash, with the same
coordinates (<code>log_id</code>, <code>partition</code>, <code>offset</code>) and the same
CloudEvents id: act once per coordinate. Of a compacted topic the newest record of a key holds, and
one without a value lifts it. Times are microseconds since 1970, unless a field says
milliseconds.</p>
<p><a href="{PATH}/asyncapi.yaml" download>AsyncAPI 3.0</a> for generators of code. Schemas are also
in the registry, at <code>/registry</code> of ingress.</p>
<ul>{links}</ul></section>
{"".join(map(_topic, TOPICS))}"""


def _topic(topic: Topic) -> str:
    document = schema_json(LATEST[topic.schema])
    kept = (
        "newest of each key"
        if topic.retention_ms is None
        else f"{topic.retention_ms // _DAY_MS} days"
    )
    rows = "".join(
        f'<tr><th scope="row"><code>{escape(name)}</code></th><td>{escape(kind)}</td>'
        f"<td>{escape(doc)}</td></tr>"
        for name, kind, doc in _fields(document)
    )
    name = escape(topic.name)
    return f"""\
<section class="panel" id="{name}" aria-label="{name}"><h2>{name}</h2>
<p>{escape(document.get("doc", ""))}</p>
<p class="sub">Key: {escape(topic.key)}. Kept: {escape(kept)}. Written by:
{escape(", ".join(topic.writers) or "operators")}.
<a href="{PATH}/{name}.avsc">Avro schema</a> · <a href="{PATH}/{name}.sample.json">sample</a></p>
<details><summary>Fields</summary><div class="scroll" tabindex="0" role="region"
 aria-label="Fields of {name}"><table><thead><tr><th scope="col">Field</th><th scope="col">Type</th>
<th scope="col">Meaning</th></tr></thead><tbody>{rows}</tbody></table></div></details>
<details><summary>A sample record</summary><pre tabindex="0">{escape(_sample(topic).decode())}</pre>
</details></section>
"""


def _fields(node: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str, str]]:
    """Name, type and meaning of each field; those of records inside have their path."""
    for field in node["fields"]:
        kind, inner = _type(field["type"])
        yield f"{before}{field['name']}", kind, str(field.get("doc", ""))
        if inner is not None:
            yield from _fields(inner, f"{before}{field['name']}.")


def _type(node: Any) -> tuple[str, Mapping[str, Any] | None]:
    """A type in words, and the record in it."""
    if isinstance(node, str):
        return node, None
    if isinstance(node, list):
        kinds = [_type(one) for one in node]
        inner = next((one for _, one in kinds if one is not None), None)
        return " or ".join(kind for kind, _ in kinds), inner
    if node["type"] == "record":
        return str(node["name"]), node
    if node["type"] == "enum":
        return "one of " + ", ".join(node["symbols"]), None
    if node["type"] in ("array", "map"):
        kind, inner = _type(node.get("items", node.get("values")))
        return f"{node['type']} of {kind}", inner
    return str(node.get("logicalType", node["type"])), None
