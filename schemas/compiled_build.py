"""Finds the compiled build of the pure modules, where there is one: same sources, made by mypyc.

``make compiled`` (``.ci/compile.py``) makes it for one virtual environment, beside its packages.
Importing ``schemas`` puts a finder in front of Python's own for the modules of the build.

Invariants:
1. A build is used as a whole, or not at all: it was made from exactly the sources that are
   installed (``SOURCES``, by SHA-256), and for this Python.
2. A build that does not fit is not used, and ``state`` says why. Plain Python gives the same
   results at a higher cost, so a worker that was upgraded at night starts, and says what it lacks.
3. Without a build nothing is done but to look for one file.
"""

import json
import sys
from collections.abc import Sequence
from hashlib import sha256
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

SOURCES = ("schemas", "streams/classify", "streams/enrich")
"""Packages that compiled modules are made from; whatever these import of ours is among them."""
FOLDER = "mailpulse-compiled"
"""Of a build, in the folder of a virtual environment (``sys.prefix``)."""
MANIFEST = "manifest.json"
"""``suffix`` of this Python's extension modules, ``compiler``, ``sources`` (path -> SHA-256) and
``modules`` (name -> path in the build)."""
ROOT = Path(__file__).parents[1]
ANEW = "make it anew with 'make compiled'"


class State(NamedTuple):
    """Whether the compiled build is used.

    Attributes:
        compiled: it is.
        problem: why not, where there is one; else empty.
    """

    compiled: bool
    problem: str = ""

    def __str__(self) -> str:
        """In words, for people."""
        if self.compiled:
            return "compiled"
        return f"plain Python; {self.problem}" if self.problem else "plain Python"


_states = [State(False)]


def state() -> State:
    """Whether this process uses the compiled build."""
    return _states[-1]


def hashes(root: Path) -> dict[str, str]:
    """Path from ``root`` -> SHA-256, of every file of ``SOURCES``."""
    paths = [path for package in SOURCES for path in sorted((root / package).rglob("*.py"))]
    return {str(path.relative_to(root)): sha256(path.read_bytes()).hexdigest() for path in paths}


def problem_of(manifest: dict[str, Any], root: Path) -> str:
    """Why a build can't be used with the sources under ``root``; empty: it can."""
    if manifest["suffix"] != EXTENSION_SUFFIXES[0]:
        return f"the compiled build is for another Python ({manifest['suffix']}): {ANEW}"
    built, now = manifest["sources"], hashes(root)
    differing = sorted(path for path in built.keys() | now if built.get(path) != now.get(path))
    if differing:
        which = differing[0] + (f" and {len(differing) - 1} more" if differing[1:] else "")
        return f"the compiled build is out of date ({which} changed since): {ANEW}"
    return ""


class Finder(MetaPathFinder):
    """Finds the modules of a build.

    Args:
        modules: name -> file.
    """

    def __init__(self, modules: dict[str, Path]) -> None:
        self._modules = modules

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The compiled module, if it is of the build."""
        file = self._modules.get(name)
        if file is None:
            return None
        return spec_from_file_location(name, file, loader=ExtensionFileLoader(name, str(file)))


def install(prefix: Path, root: Path = ROOT) -> None:
    """Uses the build of the virtual environment ``prefix``, if it has one that fits."""
    folder = prefix / FOLDER
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        problem = problem_of(manifest, root)
        modules = {name: folder / file for name, file in manifest["modules"].items()}
    except FileNotFoundError:
        return
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        _states.append(State(False, f"the compiled build is damaged ({error!r}): {ANEW}"))
        return
    problem = problem or _unusable(modules)
    if not problem:
        sys.meta_path.insert(0, Finder(modules))
    _states.append(State(not problem, problem))


def _unusable(modules: dict[str, Path]) -> str:
    """Why files of a build can't be used; empty: they can."""
    missing = [file.name for file in modules.values() if not file.is_file()]
    if missing:
        return f"the compiled build is damaged ({missing[0]} is missing): {ANEW}"
    loaded = sorted(name for name in modules if name in sys.modules)
    return f"{loaded[0]} was imported before the compiled build was looked for" if loaded else ""
