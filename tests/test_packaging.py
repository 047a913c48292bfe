"""The wheel: four packages, their data files, and nothing else."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.test_style import PACKAGES, ROOT, tracked


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this work tree."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-P", "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    (built,) = folder.glob("*.whl")
    return built


def names_in(wheel: Path) -> set[str]:
    """The files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def test_wheel_holds_the_four_packages_and_nothing_else(wheel: Path) -> None:
    """No tests, no tools, no data of a run."""
    tops = {name.split("/")[0] for name in names_in(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_wheel_holds_every_tracked_file_of_the_packages(wheel: Path) -> None:
    """Schemas, migrations, queries, rules and pages are there, not only Python."""
    expected = {
        str(path.relative_to(ROOT))
        for path in tracked()
        if path.relative_to(ROOT).parts[0] in PACKAGES
    }
    assert expected - names_in(wheel) == set()
    assert any(name.endswith(".avsc") for name in expected)


@pytest.mark.parametrize("package", PACKAGES)
def test_wheel_is_marked_as_typed(wheel: Path, package: str) -> None:
    """Type checkers use our annotations in code that imports us (PEP 561)."""
    assert f"{package}/py.typed" in names_in(wheel)


def test_schemas_load_from_the_wheel_itself(wheel: Path, tmp_path: Path) -> None:
    """Data files are read as package resources, so a zipped install works too."""
    program = "import schemas.codec as c; print(c.__file__, len(c.FIXED_IDS))"
    answer = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(wheel) in answer.stdout


def test_command_is_mailpulse(wheel: Path) -> None:
    """One console command."""
    with zipfile.ZipFile(wheel) as archive:
        (entry_points,) = [n for n in archive.namelist() if n.endswith("entry_points.txt")]
        lines = archive.read(entry_points).decode().split("\n")
    assert [line for line in lines if "=" in line] == ["mailpulse = streams.cli.entry:main"]
