"""The queries of ``attacks.yaml`` and ``honest.yaml``, as parameters of tests."""

from pathlib import Path
from typing import Any

import chdb
import pytest
import yaml

ENGINE = tuple(int(part) for part in str(chdb.engine_version).split(".")[:2])
"""Major and minor version of the engine that runs here."""


def corpus(name: str) -> list[Any]:
    """The entries of a file that apply to this engine, each a mapping with its query."""
    kinds: dict[str, list[Any]] = yaml.safe_load(Path(__file__).with_name(name).read_text("utf-8"))
    found = [
        pytest.param(each if isinstance(each, dict) else {"query": each}, id=f"{kind}-{at}")
        for kind, entries in kinds.items()
        for at, each in enumerate(entries)
    ]
    return [each for each in found if _since(each.values[0]) <= ENGINE]


def _since(entry: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in str(entry.get("since", "0.0")).split("."))
