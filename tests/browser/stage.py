"""A dashboard on a real engine, in a thread of its own, that can be stopped and started again."""

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.client import Client
from pydantic import SecretStr
from starlette.applications import Starlette

from analytics import migrate
from analytics.client import connect
from analytics.dashboard import create_app
from analytics.dashboard.app import PipelineRead
from analytics.dashboard.asking import ClickHouseQuery, Parameters, Rows
from analytics.serving import bind, port_of, serving
from schemas.glossary import COUNTER_NAMES
from schemas.settings import Settings


class CountingQuery:
    """``Query`` that remembers what it was asked, and can be told to fail."""

    def __init__(self, settings: Settings) -> None:
        self.clickhouse = ClickHouseQuery(lambda: connect(settings), {})
        self.asked: list[str] = []
        self.failure: Exception | None = None

    async def __call__(self, sql: str, parameters: Parameters) -> Rows:
        self.asked.append(sql)
        if self.failure is not None:
            raise self.failure
        return await self.clickhouse(sql, parameters)


class Stage:
    """A migrated database and a dashboard over it.

    Attributes:
        client: writes to the database.
        query: what the dashboard asks with.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        dsn = SecretStr(f"chdb://{folder}/ch")
        self.settings = Settings(
            clickhouse_dsn=dsn, data_dir=folder, dashboard_interval_ms=500, **settings
        )
        self.client: Client = connect(self.settings)
        migrate.apply(self.client, self.settings)
        self.query = CountingQuery(self.settings)
        self.port = 0

    @property
    def url(self) -> str:
        """Address of the dashboard."""
        return f"http://127.0.0.1:{self.port}"

    def app(self, sources: Mapping[str, str], pipeline: PipelineRead | None) -> Starlette:
        """A dashboard."""
        extra: dict[str, Any] = {} if pipeline is None else {"pipeline": pipeline}
        return create_app(self.settings, self.query, wall=time.time, sources=sources, **extra)

    @contextmanager
    def running(
        self, sources: Mapping[str, str] | None = None, pipeline: PipelineRead | None = None
    ) -> Iterator[Starlette]:
        """Serves until the block is left; the next time on the same port."""
        opened, closing = threading.Event(), asyncio.Event()
        app = self.app(sources or {}, pipeline)
        sock = bind("127.0.0.1", self.port)
        self.port = port_of(sock)
        loop = asyncio.new_event_loop()

        async def run() -> None:
            async with serving(app, sock):
                opened.set()
                await closing.wait()
                await app.state.hub.close()

        thread = threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True)
        thread.start()
        assert opened.wait(30), "the dashboard did not start"
        try:
            yield app
        finally:
            loop.call_soon_threadsafe(closing.set)
            thread.join(30)
            loop.close()

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

    def add_history(self, campaigns: int, days: int) -> None:
        """Campaigns with minutes over days, and events of each of the first three."""
        here = Path(__file__).parent
        minutes = (here / "history_minutes.sql").read_text(encoding="utf-8")
        self.client.command(minutes.format(campaigns=campaigns, days=days))
        self.client.command((here / "history_events.sql").read_text(encoding="utf-8"))

    def close(self) -> None:
        """Lets go of the database."""
        self.query.clickhouse.close()
        self.client.close()
