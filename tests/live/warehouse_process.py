"""The role ``warehouse`` as users run it, in a process that can be killed and restarted."""

import json
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from schemas.settings import PREFIX
from tests.live.addresses import Addresses
from tests.live.process import Process
from tests.live.roles import clean_environ

UNJUDGED = Path(__file__).with_name("unjudged_warehouse.py")


class WarehouseProcess(Process):
    """A warehouse on ``folder/clickhouse``; a context manager, ready inside the block.

    Args:
        folder: data directory.
        settings: more settings, names without prefix.
        judged: whether analysts' queries are judged, as they always are but in tests of what holds
            without.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, str] | None = None, *, judged: bool = True
    ) -> None:
        program = ["-m", "streams.cli", "warehouse"] if judged else [str(UNJUDGED)]
        self.at = Addresses()
        told = {"DATA_DIR": str(folder), **self.at.own_settings(), **(settings or {})}
        super().__init__(
            "warehouse",
            [sys.executable, "-P", *program],
            folder / "warehouse.log",
            env={**clean_environ(), **{PREFIX + name: value for name, value in told.items()}},
            cwd=folder,
            death_signal="TERM",
        )

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.at.health}/readyz", timeout=2):
                return True
        except OSError:
            return False

    def begin(self) -> Self:
        """Starts it; returns when it answers.

        Raises:
            ProcessFailed: it ended, or did not answer in time.
        """
        self.start()
        self.wait_until(self.ready, "ready")
        return self

    def ask(self, sql: str, *, all_rights: bool = False) -> list[list[Any]]:
        """Rows of an analyst's query, or of one with all rights.

        Raises:
            OSError: nobody answers, or the query fails.
        """
        at, headers = urlsplit(self.at.dsn()) if all_rights else urlsplit(self.at.url), {}
        if at.password is not None:
            headers["X-ClickHouse-Key"] = at.password
        url = f"http://{at.hostname}:{at.port}/?database=mailpulse"
        request = urllib.request.Request(
            f"{url}&default_format=JSONCompactEachRow", data=sql.encode(), headers=headers
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return [json.loads(line) for line in answer.read().splitlines()]

    def __enter__(self) -> Self:
        try:
            return self.begin()
        except BaseException:
            self.kill()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
