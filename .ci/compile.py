"""Compiles the pure step by mypyc, for one virtual environment (``make compiled``).

``python .ci/compile.py PREFIX [ROOT]``, by an interpreter that has ``.ci/lock/compiler.txt`` and is
of the same version as that of the virtual environment ``PREFIX``. ``ROOT`` is the folder that holds
the packages, as installed there; by default this checkout.

Invariants:
1. The sources are compiled as they are. Nothing is written but ``PREFIX/mailpulse-compiled``, which
   is put in place as a whole; processes that run go on with the build that they began with.
2. A build that is up to date is left as it is.
3. Whatever fails ends with exit code 1 and says what is needed; a build that was there stays.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import version
from pathlib import Path

MODULES = (
    "schemas.codec",
    "schemas.primitives",
    "schemas.raw_head",
    "streams.classify.actor_rules",
    "streams.classify.actors",
    "streams.classify.certainty",
    "streams.classify.links",
    "streams.enrich.admission",
    "streams.enrich.aliases",
    "streams.enrich.assess",
    "streams.enrich.contributions",
    "streams.enrich.derive",
    "streams.enrich.effects",
    "streams.enrich.evidence",
    "streams.enrich.joining",
    "streams.enrich.message",
    "streams.enrich.message_bytes",
    "streams.enrich.minute_counts",
    "streams.enrich.revisions",
    "streams.enrich.shard",
    "streams.enrich.step",
    "streams.enrich.suppressions",
    "streams.enrich.telling",
    "streams.enrich.vectors",
)
"""What folds, judges and decodes an event. Measured as a whole, in three steps."""
GROUP = "mailpulse"
"""All modules are one library, ``mailpulse__mypyc``, so that they call each other directly."""
CHECKOUT = Path(__file__).parents[1]


def needed() -> str:
    """What is missing to compile; empty: nothing."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return (
            f"there is no C compiler ({compiler}): install gcc (Debian: apt install gcc libc6-dev),"
            " or name another one in CC"
        )
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.is_file():
        return f"{header} is missing: install your Python's headers (Debian: python3-dev)"
    return ""


def copied(root: Path, to: Path, packages: tuple[str, ...]) -> None:
    """The sources alone: where they are installed, mypyc would look at other packages too."""
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            place = to / path.relative_to(root)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
    shutil.copyfile(root / "streams" / "__init__.py", to / "streams" / "__init__.py")


def build(sources: Path, out: Path) -> None:
    """Compiles ``MODULES`` of the tree ``sources`` into ``out``.

    Raises:
        SystemExit: mypy or the C compiler found an error.
    """
    from mypyc.build import mypycify
    from setuptools import setup

    os.chdir(sources)
    files = [f"{module.replace('.', '/')}.py" for module in MODULES]
    options = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
    extensions = mypycify(
        [*options, *files], opt_level="3", debug_level="0", multi_file=True, group_name=GROUP
    )
    setup(
        name="mailpulse-compiled", packages=[], ext_modules=extensions,
        script_args=["--quiet", "build_ext", "--build-lib", str(out), "--build-temp", "objects"],
    )  # fmt: skip


def compiled(root: Path, prefix: Path) -> None:
    """Puts the build of the sources under ``root`` into ``prefix``."""
    sys.path.insert(0, str(root))
    from schemas import compiled_build as ours

    place = prefix / ours.FOLDER
    manifest = {
        "suffix": EXTENSION_SUFFIXES[0], "compiler": f"mypyc {version('mypy')}",
        "sources": ours.hashes(root),
    }  # fmt: skip
    if (place / ours.MANIFEST).is_file():
        known = json.loads((place / ours.MANIFEST).read_text(encoding="utf-8"))
        same = {name: known.get(name) for name in manifest} == manifest
        if same and set(known["modules"]) == {*MODULES, f"{GROUP}__mypyc"}:
            print(f"up to date: {len(MODULES)} modules, {manifest['compiler']}")
            return
    with tempfile.TemporaryDirectory(dir=prefix) as folder:
        sources, out = Path(folder, "sources"), Path(folder, "out")
        copied(root, sources, ours.SOURCES)
        command = [sys.executable, __file__, "--build", str(sources), str(out)]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode:
            sys.exit(f"mailpulse could not be compiled:\n{answer.stdout}{answer.stderr}")
        files = [file.relative_to(out) for file in sorted(out.rglob(f"*{manifest['suffix']}"))]
        names = {str(file).removesuffix(manifest["suffix"]).replace("/", "."): file
                 for file in files}  # fmt: skip
        lacking = set(MODULES) - set(names)
        if lacking:
            sys.exit(f"mailpulse could not be compiled: no file came of {sorted(lacking)}")
        manifest["modules"] = {name: str(file) for name, file in names.items()}
        (out / ours.MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        out.rename(place)
    print(f"compiled: {len(MODULES)} modules, {manifest['compiler']}")


def main(arguments: list[str]) -> None:
    """Compiles what the command line says."""
    if arguments[:1] == ["--build"]:
        build(Path(arguments[1]), Path(arguments[2]))
        return
    problem = needed()
    if problem:
        sys.exit(f"mailpulse can't be compiled: {problem}. It runs without, in plain Python.")
    root = Path(arguments[1]) if len(arguments) > 1 else CHECKOUT
    compiled(root.resolve(), Path(arguments[0]).resolve())


if __name__ == "__main__":
    main(sys.argv[1:])
