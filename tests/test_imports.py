"""Import contracts, and the purity of pure modules.

The contracts are in ``pyproject.toml`` (import-linter). What imports can't show is checked here on
the syntax tree: a clock read through ``datetime.now``, a file opened by a builtin.
"""

import ast
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from tests.test_style import PACKAGES, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONTRACTS = {item["name"]: item for item in PROJECT["tool"]["importlinter"]["contracts"]}
PURE: list[str] = CONTRACTS["pure modules do no I/O"]["source_modules"]

IMPURE_CALLS = {"breakpoint", "eval", "exec", "input", "open", "print"}
CLOCKS = {"now", "today", "utcnow"}
IMPURE_MODULES = {
    "glob", "http.client", "http.server", "httpx", "logging", "multiprocessing",
    "prometheus_client", "rocksdict", "secrets", "shutil", "signal", "socket", "sqlite3",
    "structlog", "subprocess", "tempfile", "threading", "urllib.request", "uuid", "uvicorn",
}  # fmt: skip
"""On top of what the contract forbids: no pure module has a use for these."""
PURE_NAMES = {"uuid.UUID"}
"""Parts of such a module that only hold a value."""


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_the_products_own(package: str) -> None:
    """``tests/ingest`` must not shadow ``ingest``: then the tests would test themselves."""
    found = import_module(package).__file__
    assert found is not None
    assert Path(found).parent == ROOT / package


def test_import_contracts_are_kept() -> None:
    """Every contract of import-linter holds."""
    linter = Path(sys.executable).with_name("lint-imports")
    answer = subprocess.run(
        [linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def sources(module: str) -> list[Path]:
    """The files of a module or package."""
    path = ROOT.joinpath(*module.split("."))
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def impurities(tree: ast.AST) -> list[str]:
    """Calls in a module that do I/O."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if is_impure(alias.name)]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [
                f"{node.module}.{alias.name}"
                for alias in node.names
                if is_impure(node.module) or is_impure(f"{node.module}.{alias.name}")
                if f"{node.module}.{alias.name}" not in PURE_NAMES
            ]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found += [f"{node.func.id}()"] if node.func.id in IMPURE_CALLS else []
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found += [f"….{node.func.attr}()"] if node.func.attr in CLOCKS else []
    return found


def is_impure(module: str) -> bool:
    """Whether a module, or a package around it, does I/O."""
    parts = module.split(".")
    return any(".".join(parts[: end + 1]) in IMPURE_MODULES for end in range(len(parts)))


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_reach_out_nowhere(module: str) -> None:
    """No clock, file, socket or log: time and look-ups are arguments, effects are return values."""
    for path in sources(module):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert impurities(tree) == [], path.name


@pytest.mark.parametrize(
    "text",
    [
        "import datetime\ndatetime.datetime.now()",
        "from datetime import date\ndate.today()",
        "print(1)",
        "open('x')",
        "from urllib import request",
        "import urllib.request as r",
        "import uuid",
        "from uuid import uuid4",
        "from http.client import HTTPConnection",
    ],
)
def test_the_check_for_purity_can_fail(text: str) -> None:
    """Each of these would be found in a pure module."""
    assert impurities(ast.parse(text))


def test_runtime_needs_no_development_package() -> None:
    """What the product imports is in ``dependencies``, or in an extra whose absence it handles."""
    development = {"pytest", "hypothesis", "confluent_kafka", "playwright", "psutil", "sqlglot"}
    for package in PACKAGES:
        for path in sources(package):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom):
                    names = [node.module or ""]
                tops = {name.split(".")[0] for name in names}
                assert not tops & (development | {"tests"}), path
