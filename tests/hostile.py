"""A folder whose files have the names of modules, as a user's own may.

``random.py``, ``schemas/``, ``logging.py``: a process that imports from the working directory ends
with a message instead of importing what it should.
"""

import sys
from importlib.metadata import packages_distributions
from pathlib import Path

TELLS = "imported from the working directory"
OURS = ("schemas", "ingest", "streams", "analytics", "tests")


def names() -> set[str]:
    """Every module that could be imported here: ours, Python's own, and everything installed."""
    installed = {name.partition(".")[0] for name in packages_distributions()}
    return {one for one in installed | sys.stdlib_module_names | {*OURS} if one.isidentifier()}


def fill(folder: Path) -> Path:
    """Puts a file, and for our own packages a folder, with each of these names into ``folder``."""
    for name in names():
        program = f"raise SystemExit('{name}: {TELLS}')\n"
        if name in OURS:
            (folder / name).mkdir(exist_ok=True)
            (folder / name / "__init__.py").write_text(program, "utf-8")
        else:
            (folder / f"{name}.py").write_text(program, "utf-8")
    return folder
