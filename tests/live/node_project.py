"""The recipes in TypeScript: checked by the compiler, then run by Node, with pinned packages."""

import shutil
import subprocess
from pathlib import Path

import pytest

LOCKED = Path(__file__).parent / "node"
"""``package.json`` and the lock, with a hash of each package."""
COMPILER_OPTIONS = (
    "--strict", "--types", "node", "--target", "es2022", "--module", "nodenext", "--skipLibCheck",
)  # fmt: skip
NODE_22 = """\
Promise.withResolvers ??= () => {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
};"""
"""What the Kafka client needs of Node 22, for Node 20."""
PATIENCE_S = 180


def compiled(folder: Path, name: str, source: str) -> list[str]:
    """The command that runs a program in TypeScript, once the compiler has found no fault.

    Skips the test where Node or npm is missing, or npm can't get its packages.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("no node or npm on PATH")
    for file in ("package.json", "package-lock.json"):
        shutil.copy(LOCKED / file, folder)
    got = subprocess.run(
        [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip
    if got.returncode:
        pytest.skip(f"npm can't get the packages: {got.stderr[-500:]}")
    (folder / f"{name}.ts").write_text(source, encoding="utf-8")
    compiler = folder / "node_modules" / "typescript" / "bin" / "tsc"
    found = subprocess.run(
        [node, str(compiler), *COMPILER_OPTIONS, f"{name}.ts"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout
    (folder / "node-22.mjs").write_text(NODE_22, encoding="utf-8")
    return [node, "--import", "./node-22.mjs", f"{name}.js"]
