"""This run tests the engine that it is meant to test.

``make test-pinned`` runs these folders on the engine of the ClickHouse that ``docker-compose.yml``
pins; every other run, on the newest in the lock.
"""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import chdb
import yaml

_query: Any = chdb.query  # its type hints are incomplete
ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
PINNED = COMPOSE["services"]["clickhouse"]["image"].rpartition(":")[2]


def test_the_engine_is_the_one_that_was_asked_for() -> None:
    """Of compose's major and minor version under ``make test-pinned``, else of chDB's package."""
    told = str(_query("SELECT version()", "TabSeparated")).strip()
    asked = os.environ.get("MAILPULSE_TEST_ENGINE", "newest")
    wanted = {"pinned": PINNED, "newest": version("chdb-core").rpartition(".")[0]}[asked]
    assert told.startswith(f"{wanted}.")


def test_a_child_process_gets_the_same_engine() -> None:
    """Child processes of these tests have the engine of the interpreter that runs them."""
    code = "import chdb; print(chdb.__file__)"
    told = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == chdb.__file__
