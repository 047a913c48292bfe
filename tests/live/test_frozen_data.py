"""The frozen data directory: opened by this version with the same figures, and gone on with.

See ``tests/frozen/make.py``. Kafka may remove records whose time is over meanwhile; nothing here
needs them.
"""

import json
import tarfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.frozen.make import DATA, ENVIRON, FIGURES, figures
from tests.live import story
from tests.live.up import Up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    """A pipeline on a copy of the directory."""
    with tarfile.open(DATA) as archive:
        archive.extractall(tmp_path, filter="data")
    one = Up(tmp_path, tmp_path / "up.log", ENVIRON)
    yield one
    with suppress(psutil.NoSuchProcess, AttributeError):
        one.kill()


def counts(found: dict[str, Any]) -> int:
    """Events stored."""
    return sum(int(row["count()"]) for row in found["events"])


def test_an_earlier_days_data_is_opened_with_the_same_figures(up: Up) -> None:
    """At once, after further events, and after a restart; nothing is counted again."""
    then = json.loads(FIGURES.read_text("utf-8"))
    where = up.start()
    assert figures(where) == then
    again = {"event": "delivered", "id": "d1", "message_id": "m-new", "campaign_id": "later",
             "recipient": story.address("new")}  # fmt: skip
    answer = story.post(where.ingest_url, json.dumps([again]).encode(), source="crm")
    assert answer.status_code == 200
    while counts(figures(where)) == counts(then):
        time.sleep(0.5)
    assert counts(figures(where)) == counts(then) + 1
    up.stop()
    where = up.start()
    now = figures(where)
    assert [row for row in now["summary"] if row["campaign_id"] != "later"] == then["summary"]
    assert (now["suppressions"], now["scoped"]) == (then["suppressions"], then["scoped"])
    up.stop()
