"""``.ci/lock`` as tests read it, and what packages require."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.test_style import ROOT

FOLDER = ROOT / ".ci" / "lock"
_LINE = re.compile(r"(?P<requirement>\S.*?)(?P<hashes>(?: +--hash=sha256:[0-9a-f]{64})+)")


@dataclass(frozen=True, slots=True)
class Locked:
    """One package of a lock file.

    Attributes:
        version: the only one.
        requirement: with its marker.
        hashes: SHA-256 of each file that may be installed, hexadecimal.
    """

    version: str
    requirement: Requirement
    hashes: tuple[str, ...]


def packages(*layers: str) -> dict[str, Locked]:
    """Name -> what is locked, of some files.

    Raises:
        ValueError: a line is anything but a package in one version with hashes.
    """
    found: dict[str, Locked] = {}
    for layer in layers:
        text = (FOLDER / f"{layer}.txt").read_text("utf-8").replace("\\\n", " ")
        for line in text.splitlines():
            if line.startswith("#"):
                continue
            matched = _LINE.fullmatch(line)
            if matched is None:
                raise ValueError(f"{layer}: {line[:80]}")
            requirement = Requirement(matched["requirement"])
            [pin] = requirement.specifier
            if pin.operator != "==" or "*" in pin.version:
                raise ValueError(f"{layer}: {requirement}")
            hashes = tuple(re.findall(r"[0-9a-f]{64}", matched["hashes"]))
            found[canonicalize_name(requirement.name)] = Locked(pin.version, requirement, hashes)
    return found


@cache
def _asked(name: str) -> tuple[Requirement, ...]:
    """What an installed package asks for; nothing of one that is not."""
    try:
        return tuple(map(Requirement, distribution(name).requires or ()))
    except PackageNotFoundError:
        return ()


def needed(extras: Iterable[str], environment: Mapping[str, str]) -> set[str]:
    """What mailpulse with some extras requires in an environment, according to installed packages.

    Packages that are not installed here are named, but not what they require.
    """
    open_ends: list[tuple[str, frozenset[str]]] = [("mailpulse", frozenset(extras))]
    seen = set()
    while open_ends:
        name, wanted = one = open_ends.pop()
        if one in seen:
            continue
        seen.add(one)
        for requirement in _asked(name):
            marker = requirement.marker
            if marker is None or any(
                marker.evaluate({**environment, "extra": extra}) for extra in {"", *wanted}
            ):
                child = canonicalize_name(requirement.name)
                open_ends.append((child, frozenset(requirement.extras)))
    return {name for name, _ in seen} - {"mailpulse"}
