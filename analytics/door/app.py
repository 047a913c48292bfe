"""The analysts' door: ClickHouse's HTTP interface in front of the embedded engine, read-only.

Invariants:
1. Queries read the warehouse and nothing else: ``analytics.door.judge`` judges ClickHouse's
   canonical text of each query, and that text is what the engine runs, with a reader's rights and
   within limits (``analytics.warehouse``).
2. With a token set, it is needed as the password (``analytics.door.access``). Without one, user
   names, passwords and sessions are accepted and ignored: whoever reaches the door may read.
"""

from collections.abc import Mapping
from typing import ClassVar

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from analytics.door import access
from analytics.door.canonical import text_of
from analytics.door.denied import UNKNOWN_DATABASE, Denied
from analytics.door.judge import check_setting, listed_format
from analytics.warehouse.engine import Engine, Job
from analytics.warehouse.metrics import WarehouseMetrics
from analytics.warehouse.protocol import (
    Interface,
    asked_format,
    body_of,
    greeting,
    named_database,
    packing_of,
    pieces,
    query_parameters,
    settings_among,
    unless_gone,
)
from schemas.serving.places import Limits
from schemas.serving.protocol import is_proven
from schemas.serving.sites import Sites
from schemas.settings import PREFIX, Settings

HOSTS_SETTING = f"{PREFIX}DOOR_HOSTS"
OWN_NAMES = Sites(setting=HOSTS_SETTING)


def limits(settings: Settings) -> Limits:
    """What the door's listener takes: queries that wait for a place count as requests."""
    connections = settings.door_connections_max
    return Limits(
        connections_max=connections,
        requests_max=connections * 3 // 4,
        body_bytes_max=settings.door_query_bytes_max,
        write_timeout_s=settings.door_query_s_max,
    )


def door_of(settings: Settings, engine: Engine, metrics: WarehouseMetrics) -> "Door":
    """The door by its settings."""
    sites = Sites.of_listener(settings.door_host, settings.door_hosts, setting=HOSTS_SETTING)
    return Door(engine, metrics, sites=sites, token=settings.door_token.get_secret_value())


class Door(Interface):
    """The ASGI application of the analysts' listener.

    Args:
        engine: what answers.
        metrics: to count queries in.
        sites: names that it answers to.
        token: that callers need, if any (invariant 2).
    """

    headers: ClassVar[Mapping[str, str]] = {access.DOOR_HEADER: access.DOOR_VALUE}

    def __init__(
        self,
        engine: Engine,
        metrics: WarehouseMetrics,
        *,
        sites: Sites = OWN_NAMES,
        token: str = "",
    ) -> None:
        super().__init__(engine, metrics.queries, metrics.query_seconds, sites)
        self._token = token

    async def answer(
        self, request: Request, parameters: Mapping[str, str], query_id: str
    ) -> Response:
        """See ``Interface``."""
        if self._token and not is_proven(request.scope):
            raise access.refusal(request.headers)
        body = await body_of(request, self.engine.limits.query_bytes_max)
        if "query" not in parameters and not body:
            return greeting()
        query, text = parameters.get("query", ""), text_of(body)
        settings = settings_among(parameters)
        for name, value in settings.items():
            check_setting(name, value)
        statement = await self.engine.judged(
            f"{query}\n{text}" if query and text else query or text
        )
        wanted = statement.format or listed_format(asked_format(request, parameters))
        packing = packing_of(request, parameters, wanted)
        job = Job(
            statement.sql,
            wanted,
            database=self._database(named_database(request, parameters)),
            parameters=query_parameters(parameters),
            settings={**settings, **statement.settings},
            query_id=query_id,
            packing=packing.steps,
        )
        result = await unless_gone(request, job, self.engine.query)
        return pieces(result, wanted, packing)

    def proves(self, headers: list[tuple[bytes, bytes]]) -> bool:
        """Whether a request brings the token, for its listener to ask once a request."""
        return access.proves(self._token, Headers(raw=headers))

    def _database(self, name: str) -> str:
        if name in ("", self.engine.database):
            return self.engine.database
        raise Denied(
            UNKNOWN_DATABASE,
            f"Database {name[:80]} is not served by this name: leave it out, and write"
            " system.tables and the like in full",
        )
