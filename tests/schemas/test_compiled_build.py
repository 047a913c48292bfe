"""The compiled build: it is used if it fits, not used if it does not, and either is said.

Builds of these tests have one module, whose «compiled» file is another extension module of Python's
own library, copied: what is tested is the finder, not mypyc.
"""

import json
import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import pytest

from schemas import compiled_build
from schemas.compiled_build import FOLDER, MANIFEST, ROOT, SOURCES, Finder, State, hashes
from tests.test_dependencies import loaded

SUFFIX = EXTENSION_SUFFIXES[0]
WANTED = os.environ.get("MAILPULSE_TEST_BUILD", "")


def test_these_tests_run_on_the_build_that_was_asked_for() -> None:
    """``make test-compiled`` would otherwise pass on plain Python."""
    from streams.enrich import step

    assert compiled_build.state() == State(WANTED == "compiled")
    assert step.__file__.endswith(SUFFIX) == (WANTED == "compiled")


def test_every_compiled_module_is_loaded_from_the_build() -> None:
    """All of the list of ``.ci/compile.py``, and from no other file."""
    modules = loaded("compile").MODULES
    for name in modules:
        __import__(name)
    files = {name: str(sys.modules[name].__file__) for name in modules}
    plain = {name for name, file in files.items() if file.endswith(".py")}
    assert plain == (set() if WANTED == "compiled" else set(modules))


def test_compiled_modules_are_among_the_sources_that_are_compared() -> None:
    """And so is everything of ours that they import."""
    known = hashes(ROOT)
    for name in loaded("compile").MODULES:
        assert f"{name.replace('.', '/')}.py" in known
    code = (
        "import sys, streams.enrich.step, streams.enrich.epochs\n"
        "print(*(m.__name__ for m in sys.modules.values()"
        " if m.__name__.partition('.')[0] in ('schemas', 'streams', 'ingest', 'analytics')))"
    )
    said = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    packages = {package.replace("/", ".") for package in SOURCES}
    imported = set(said.stdout.split()) - {"streams"}
    assert len(imported) > 30
    assert {name for name in imported if not any(name.startswith(one) for one in packages)} == set()


def built(prefix: Path, **changes: Any) -> dict[str, Any]:
    """Lays a build of one module, ``mailpulse_probe``, into an environment."""
    import _json  # any extension module

    folder = prefix / FOLDER
    folder.mkdir(parents=True)
    if getattr(_json, "__file__", None):
        (folder / f"mailpulse_probe{SUFFIX}").write_bytes(Path(_json.__file__).read_bytes())
    manifest = {
        "suffix": SUFFIX, "compiler": "none", "sources": hashes(ROOT),
        "modules": {"mailpulse_probe": f"mailpulse_probe{SUFFIX}"}, **changes,
    }  # fmt: skip
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return manifest


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test installs is gone after it."""
    monkeypatch.setattr(compiled_build, "_states", [State(False)])
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])


def finders() -> list[Finder]:
    """Those that look into a build, beside that of this environment."""
    return [one for one in sys.meta_path if isinstance(one, Finder)][: -1 if WANTED else None]


@pytest.mark.usefixtures("states")
def test_a_build_that_fits_is_used(tmp_path: Path) -> None:
    """Its modules are found in it, and no other."""
    built(tmp_path)
    compiled_build.install(tmp_path)
    assert compiled_build.state() == State(True)
    assert str(compiled_build.state()) == "compiled"
    [finder] = finders()
    spec = finder.find_spec("mailpulse_probe", None)
    assert spec is not None
    assert spec.origin == str(tmp_path / FOLDER / f"mailpulse_probe{SUFFIX}")
    assert finder.find_spec("json", None) is None


@pytest.mark.usefixtures("states")
def test_without_a_build_nothing_is_said(tmp_path: Path) -> None:
    """Plain Python is the default."""
    compiled_build.install(tmp_path)
    assert compiled_build.state() == State(False)
    assert str(compiled_build.state()) == "plain Python"


def other_sources(change: str) -> dict[str, str]:
    """Hashes of a tree in which one file was changed, is new or is gone since."""
    found = hashes(ROOT)
    match change:
        case "changed":
            found["streams/enrich/step.py"] = "0" * 64
        case "new":
            del found["streams/enrich/step.py"]
        case "gone":
            found["streams/enrich/was_here.py"] = "0" * 64
    return found


@pytest.mark.usefixtures("states")
@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"sources": other_sources("changed")}, "out of date (streams/enrich/step.py"),
        ({"sources": other_sources("new")}, "out of date (streams/enrich/step.py"),
        ({"sources": other_sources("gone")}, "out of date (streams/enrich/was_here.py"),
        ({"sources": {}}, "more changed since"),
        ({"suffix": ".cpython-27-vax.so"}, "for another Python (.cpython-27-vax.so)"),
        ({"modules": {"mailpulse_probe": "gone.so"}}, "damaged (gone.so is missing)"),
        ({"modules": {"json": f"mailpulse_probe{SUFFIX}"}}, "json was imported before"),
    ],
)
def test_a_build_that_does_not_fit_is_not_used(
    changes: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    """No module of it: half of a build would be another program. The reason is said."""
    built(tmp_path, **changes)
    compiled_build.install(tmp_path)
    state = compiled_build.state()
    assert not state.compiled
    assert problem in state.problem
    assert str(state).startswith("plain Python; ")
    assert finders() == []


@pytest.mark.usefixtures("states")
@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"suffix": 3}'])
def test_a_broken_manifest_is_said(text: str, tmp_path: Path) -> None:
    """Mailpulse starts, in plain Python."""
    built(tmp_path)
    (tmp_path / FOLDER / MANIFEST).write_text(text)
    compiled_build.install(tmp_path)
    assert not compiled_build.state().compiled
    assert compiled_build.state().problem
    assert finders() == []


def test_without_a_compiler_it_says_what_to_install(tmp_path: Path) -> None:
    """And that mailpulse runs all the same."""
    answer = subprocess.run(
        [sys.executable, ROOT / ".ci" / "compile.py", tmp_path],
        env={**os.environ, "CC": "no-such-compiler"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 1
    assert "there is no C compiler (no-such-compiler)" in answer.stderr
    assert "plain Python" in answer.stderr
    assert list(tmp_path.iterdir()) == []
