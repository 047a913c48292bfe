"""The list of dependencies is that of the constraints, and what they say of themselves is fine."""

import importlib.util
import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.test_style import ROOT

ROWS = re.findall(
    r"^\| ([a-z0-9-]+) \| (\d\S*) \| (\d{4}-\d\d|–) \| (.+) \|$",
    (ROOT / ".ci" / "dependencies.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """``.ci/dependencies.py``, which makes the list."""
    spec = importlib.util.spec_from_file_location("dependencies", ROOT / ".ci" / "dependencies.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_list_is_of_the_constraints(script: ModuleType) -> None:
    """Every pinned package once, in its version, with nothing besides."""
    assert {name: number for name, number, _, _ in ROWS} == script.pinned()
    assert len(ROWS) == len(script.pinned()) > 100


def test_licences_are_what_the_packages_say_and_permissive(script: ModuleType) -> None:
    """None is unknown, none is copyleft beyond its own files (MPL-2.0 is not)."""
    for name, number, _, licence in ROWS:
        assert licence != script.UNKNOWN, name
        assert not re.search(r"GPL|SSPL|BUSL|Commons Clause", licence), f"{name}: {licence}"
        try:
            installed = version(name)
        except PackageNotFoundError:
            continue  # of an extra that is not installed here
        if installed == number:
            assert script.licence_of(name) == licence, name


def test_what_the_project_asks_for_is_pinned_and_dated(script: ModuleType) -> None:
    """Each direct dependency has a version that fits, and a quarter of all at most has no month."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        asked += extra
    pinned = script.pinned()
    for requirement in map(Requirement, asked):
        name = canonicalize_name(requirement.name)
        assert requirement.specifier.contains(pinned[name], prereleases=True), name
    undated = [name for name, _, month, _ in ROWS if month == script.UNKNOWN]
    assert len(undated) < len(ROWS) / 4, undated
