"""No process of ours imports a module from its working directory.

``python -m`` and ``python -c`` put the working directory first on ``sys.path``; ``-P`` (or ``-I``)
omits it. The live tests of ``up`` and ``demo`` run in such a folder as well.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.embedded.child import python
from tests.compose import OURS, ROOT
from tests.hostile import TELLS, fill
from tests.readme import PAGES
from tests.test_style import python_files

SCRIPT = str(Path(sys.executable).with_name("mailpulse"))
ROLES = sorted({"warehouse", *(one["command"][0] for one in OURS.values() if "healthcheck" in one)})
FROM_A_CHECKOUT = "tests."
"""Tools of the repository are meant to be found in the working directory."""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file for every module there is."""
    return fill(tmp_path_factory.mktemp("hostile"))


def said(argv: tuple[str, ...], folder: Path) -> str:
    """The output of a command started in ``folder``."""
    ran = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    return ran.stdout + ran.stderr


def test_the_folder_is_hostile(hostile: Path) -> None:
    """Without the flag, Python imports the files there."""
    assert TELLS in said((sys.executable, "-c", "import random"), hostile)
    assert TELLS in said((sys.executable, "-m", "streams.cli", "--help"), hostile)


@pytest.mark.parametrize("argv", [*map(python, ROLES), (SCRIPT, "up")], ids=" ".join)
def test_a_command_starts_in_any_folder(argv: tuple[str, ...], hostile: Path) -> None:
    """As a child of the supervisor, and by the command that pip installed."""
    text = said((*argv, "--help"), hostile)
    assert TELLS not in text
    assert "Usage: " in text, text


def test_health_checks_work_in_any_folder(hostile: Path) -> None:
    """They run in the working directory of the role."""
    checks = {tuple(one["healthcheck"]["test"]) for one in OURS.values() if "healthcheck" in one}
    assert len(checks) >= 3
    for kind, interpreter, *words in checks:
        assert (kind, interpreter) == ("CMD", "python")
        assert TELLS not in said((sys.executable, *words), hostile)


def unsafe(tree: ast.AST) -> Iterator[int]:
    """Commands that start this interpreter with the working directory on its path."""
    for node in ast.walk(tree):
        if isinstance(node, ast.List | ast.Tuple):
            words = [ast.unparse(one) for one in node.elts]
            for first, second, third in zip(words, words[1:], [*words[2:], ""], strict=False):
                in_checkout = FROM_A_CHECKOUT in third or "pytest" in third
                if first == "sys.executable" and second in ("'-m'", "'-c'") and not in_checkout:
                    yield node.lineno


def test_every_start_of_a_python_is_safe() -> None:
    """In the packages and in the tests; found by a search, so new ones are checked too."""
    assert list(unsafe(ast.parse("run([sys.executable, '-m', 'streams.cli'])"))) == [1]
    found = {}
    for name, text in python_files().items():
        lines = list(unsafe(ast.parse(text)))
        if lines and not name.endswith(Path(__file__).name):
            found[name] = lines
    assert found == {}


def test_texts_and_images_start_python_safely() -> None:
    """In texts that people copy, and in the commands of containers."""
    texts = [*PAGES, ROOT / "docker-compose.yml", ROOT / "Dockerfile"]
    texts += (ROOT / "streams" / "deploy").glob("*.yaml")
    for path in texts:
        for words in re.findall(r"python3?\"?,? \"?(-[cm]\"?,? \S+)", path.read_text("utf-8")):
            assert re.match(r"-m (venv|pip|compileall|tests\.)", words), f"{path.name}: {words}"
    assert "PYTHONSAFEPATH=1" in (ROOT / "Dockerfile").read_text("utf-8")
