"""Prints ``.ci/constraints.txt``: the exact versions of everything that mailpulse pulls in.

Run by the interpreter of a virtual environment in which CI passed:
``.venv/bin/python .ci/freeze.py > .ci/constraints.txt``. Unlike ``pip freeze`` it leaves out what
merely lies around there, and it never prints a URL or a path.
"""

from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("embedded", "geo", "redis", "otel", "dev", "bench")


def needed_by(name: str, extras: set[str]) -> list[Requirement]:
    """What an installed distribution needs here, with those extras; nothing if it is not there."""
    try:
        lines = distribution(name).requires or []
    except PackageNotFoundError:
        return []  # of an extra that was not asked for here
    requirements = map(Requirement, lines)
    return [
        one
        for one in requirements
        if one.marker is None
        or any(one.marker.evaluate({"extra": extra}) for extra in {"", *extras})
    ]


def versions() -> dict[str, str]:
    """Name -> version of every installed distribution that mailpulse needs, itself left out."""
    open_ends: list[tuple[str, set[str]]] = [("mailpulse", set(EXTRAS))]
    seen: set[tuple[str, frozenset[str]]] = set()
    found: dict[str, str] = {}
    while open_ends:
        name, extras = open_ends.pop()
        if (name, frozenset(extras)) in seen:
            continue
        seen.add((name, frozenset(extras)))
        for requirement in needed_by(name, extras):
            needed = canonicalize_name(requirement.name)
            open_ends.append((needed, set(requirement.extras)))
            try:
                found[needed] = distribution(needed).version
            except PackageNotFoundError:
                continue
    return found


if __name__ == "__main__":
    print("# Versions that .ci/run passed with; made by .ci/freeze.py.")
    for package, version in sorted(versions().items()):
        print(f"{package}=={version}")
