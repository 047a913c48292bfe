"""Rules of style that no linter has, as tests.

They look at the files that git tracks, so unfinished work fails only once it is added.
"""

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("schemas", "ingest", "streams", "analytics")
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 500

LONGER_FILES: dict[str, str] = {}
"""Path -> why it can't be shorter."""
LONGER_FUNCTIONS: dict[str, str] = {}
"""``path::name`` -> why it can't be shorter."""

DRAWERS = {"common", "helpers", "lib", "misc", "util", "utils"}
"""Module names that say nothing about what is inside."""

# Put together from parts, so that this file does not break its own rule.
REGISTRY_HOSTS = [
    "pypi" + ".org",
    "pythonhosted" + ".org",
    "repo1?\\.maven(\\.apache)?" + "\\.org",
    "registry\\.npmjs" + "\\.org",
    "registry\\.yarnpkg" + "\\.com",
    "static\\.crates" + "\\.io",
    "proxy\\.golang" + "\\.org",
    "deb\\.debian" + "\\.org",
]
MACHINE_PATHS = ["/" + "root/", "/" + "work/", "/" + "home/[a-z]", "/" + "opt/wheels"]


@cache
def tracked() -> tuple[Path, ...]:
    """Files that git tracks and that exist."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return tuple(path for path in paths if path.is_file())


@cache
def python_files() -> dict[str, str]:
    """Path from the root -> text, of every Python file."""
    return {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for path in tracked()
        if path.suffix == ".py"
    }


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(text: str) -> list[Function]:
    """Every function and method of a module."""
    return [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_there_is_something_to_look_at() -> None:
    """Otherwise the other tests here would pass on an empty list."""
    assert {name.split("/")[0] for name in python_files()} >= {*PACKAGES, "tests"}


def test_functions_are_short() -> None:
    """No function is longer than 70 lines, docstring included."""
    long = {
        f"{name}::{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for name, text in python_files().items()
        for node in functions(text)
        if (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES_MAX
    }
    assert long.keys() == LONGER_FUNCTIONS.keys(), long


def test_files_are_short() -> None:
    """No Python file is longer than 500 lines: one subject each."""
    long = {
        name: text.count("\n")
        for name, text in python_files().items()
        if text.count("\n") > FILE_LINES_MAX
    }
    assert long.keys() == LONGER_FILES.keys(), long


def test_modules_say_what_lives_in_them() -> None:
    """Every module begins with its invariants or purpose; an empty ``__init__`` may have none."""
    silent = [
        name
        for name, text in python_files().items()
        if text.strip() and not ast.get_docstring(ast.parse(text))
    ]
    assert silent == []


def needs_docstring(node: ast.stmt) -> bool:
    """Whether a definition is public, and not a method of a Protocol whose class explains it."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return False
    outline = ast.unparse(node.body[-1]) == "..."
    return not node.name.startswith("_") and not outline and not ast.get_docstring(node)


def test_public_things_have_docstrings() -> None:
    """Every public class, function and method of the product says what it does."""
    silent = []
    for name, text in python_files().items():
        if name.split("/")[0] not in PACKAGES:
            continue
        tree = ast.parse(text)
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        owners = [tree.body, *(node.body for node in classes if not node.name.startswith("_"))]
        silent += [
            f"{name}::{getattr(node, 'name', '')}"
            for body in owners
            for node in body
            if needs_docstring(node)
        ]
    assert silent == []


def test_tests_say_what_they_hold() -> None:
    """Every test has one sentence that describes the behaviour."""
    silent = [
        f"{name}::{node.name}"
        for name, text in python_files().items()
        if name.startswith("tests/")
        for node in functions(text)
        if node.name.startswith("test_") and not ast.get_docstring(node)
    ]
    assert silent == []


def test_no_module_is_a_drawer() -> None:
    """A module's name says what it contains; ``utils`` says nothing."""
    found = [name for name in python_files() if DRAWERS & set(re.split(r"[/.]", name))]
    assert found == []


def test_tests_use_no_mocks() -> None:
    """Fakes and real software instead: a mock agrees with whatever the test assumes."""
    found = [
        name
        for name, text in python_files().items()
        for node in ast.walk(ast.parse(text))
        if (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("unittest"))
        or (isinstance(node, ast.Import) and any(a.name.startswith("unittest") for a in node.names))
    ]
    assert found == []


@pytest.mark.parametrize("pattern", REGISTRY_HOSTS + MACHINE_PATHS)
def test_nothing_ties_the_repository_to_a_machine(pattern: str) -> None:
    """No tracked file names a registry's host or a path of one machine."""
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture or the like
        if re.search(pattern, text):
            found.append(str(path.relative_to(ROOT)))
    assert found == []
