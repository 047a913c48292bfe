"""A dashboard on a real engine, in a thread of its own, that can be stopped and restarted."""

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.applications import Starlette

from analytics.client import reader
from analytics.dashboard import create_app
from analytics.dashboard.app import PipelineRead, Samples, SendTest
from analytics.dashboard.asking import ClickHouseQuery, Parameters, Rows
from analytics.dashboard.documents import AlertLines
from analytics.dashboard.serve import limits
from schemas.glossary import COUNTER_NAMES
from schemas.serving.server import bind, port_of, serving
from schemas.settings import Settings
from tests.warehouses import migrated_warehouse


class CountingQuery:
    """``Query`` that records the queries, and can be made to fail, or to hang while ``held``."""

    def __init__(self, settings: Settings) -> None:
        self.clickhouse = ClickHouseQuery(lambda: reader(settings))
        self.asked: list[str] = []
        self.failure: Exception | None = None
        self.held = False

    async def __call__(self, sql: str, parameters: Parameters) -> Rows:
        self.asked.append(sql)
        while self.held:  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.05)
        if self.failure is not None:
            raise self.failure
        return await self.clickhouse(sql, parameters)


class Stage:
    """A migrated database and a dashboard over it.

    Attributes:
        client: writes to the database.
        query: through which the dashboard queries it.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        self._opened = migrated_warehouse(folder)
        warehouse, self.client = self._opened.__enter__()
        changed = {"dashboard_interval_ms": 500, **settings}
        self.settings = warehouse.reader_settings.model_copy(update=changed)
        self.query = CountingQuery(self.settings)
        self.port = 0

    @property
    def url(self) -> str:
        """Address of the dashboard."""
        return f"http://127.0.0.1:{self.port}"

    def app(
        self, sources: Mapping[str, str], parts: Mapping[str, Any], **changed: Any
    ) -> Starlette:
        """A dashboard with some settings changed, and with the given ``parts``."""
        settings = self.settings.model_copy(update=changed)
        return create_app(settings, self.query, wall=time.time, sources=sources, **parts)

    @contextmanager
    def running(
        self,
        sources: Mapping[str, str] | None = None,
        pipeline: PipelineRead | None = None,
        lines: AlertLines | None = None,
        send_test: SendTest | None = None,
        samples: Samples | None = None,
        **changed: Any,
    ) -> Iterator[Starlette]:
        """Serves during the block; the next time on the same port."""
        opened = threading.Event()
        closing: list[Callable[[], object]] = []
        given = {"pipeline": pipeline, "lines": lines, "send_test": send_test,
                 "samples": samples}  # fmt: skip
        parts = {name: part for name, part in given.items() if part is not None}
        app = self.app(sources or {}, parts, **changed)
        sock = bind("127.0.0.1", self.port)
        self.port = port_of(sock)

        async def run() -> None:
            stop = asyncio.Event()
            loop = app.state.loop = asyncio.get_running_loop()
            closing.append(lambda: loop.call_soon_threadsafe(stop.set))
            async with serving(app, sock, name="dashboard", limits=limits(self.settings)):
                opened.set()
                await stop.wait()
                await app.state.hub.close()

        thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
        thread.start()
        assert opened.wait(30), "the dashboard did not start"
        try:
            yield app
        finally:
            closing[0]()
            thread.join(30)

    def add_minutes(self, campaign: str, at_s: float, offset: int = 0, **counts: int) -> None:
        """One minute of a campaign; a higher offset replaces the counts of a lower one."""
        minute = datetime.fromtimestamp(at_s // 60 * 60, UTC)
        row = {name: counts.get(name, 0) for name in COUNTER_NAMES}
        row["events"] = row["events"] or max(1, sum(row.values()))
        self.client.insert(
            "campaign_minutes",
            [[campaign, "gmail", minute, "log", 0, offset, *row.values()]],
            column_names=[
                "campaign_id", "mailbox_provider", "minute", "log_id", "partition", "offset", *row
            ],
        )  # fmt: skip

    def add_event(self, campaign: str, at_s: float, **fields: Any) -> None:
        """One event of a campaign."""
        at = datetime.fromtimestamp(at_s, UTC)
        row: dict[str, Any] = {
            "campaign_id": campaign, "message_key": uuid.uuid4(), "event_id": uuid.uuid4(),
            "event_time": at, "occurred_at": at, "received_at": at, "event_type": "delivered",
            "source": "news", "provider": "sendgrid", **fields,
        }  # fmt: skip
        self.client.insert("events", [list(row.values())], column_names=list(row))

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a query, without the dashboard."""
        return [dict(row) for row in self.client.query(sql).named_results()]

    def empty(self) -> None:
        """Deletes all rows."""
        for table in (
            "events",
            "campaign_minutes",
            "campaigns",
            "incident_changes",
            "dead_letters",
            "source_newest",
        ):
            self.client.command(f"TRUNCATE TABLE {table}")

    def add_history(self, campaigns: int, days: int) -> None:
        """Campaigns with minutes over days, and events of each of the first three."""
        here = Path(__file__).parent
        minutes = (here / "history_minutes.sql").read_text(encoding="utf-8")
        self.client.command(minutes.format(campaigns=campaigns, days=days))
        self.client.command((here / "history_events.sql").read_text(encoding="utf-8"))

    def close(self) -> None:
        """Closes the database."""
        self.query.clickhouse.close()
        self._opened.__exit__(None, None, None)
