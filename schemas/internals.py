"""Whether the internals of other packages that ours rely on are there, asked once at start."""

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

ReliedOn = Iterable[tuple[Any, str]]
"""Owners and names of their attributes, separated by blanks."""


class InternalsMissing(RuntimeError):
    """A package has changed: ours can't work with it."""


def missing(relied_on: ReliedOn) -> list[str]:
    """Names that are not there; attributes that ``__init__`` sets are."""
    absent = []
    for owner, names in relied_on:
        code = getattr(getattr(owner, "__init__", None), "__code__", None)
        set_by_init = getattr(code, "co_names", ())
        label = getattr(owner, "__name__", type(owner).__name__)
        absent += [
            f"{label}.{name}"
            for name in names.split()
            if not hasattr(owner, name) and name not in set_by_init
        ]
    return absent


def check_internals(relied_on: ReliedOn, pinned: Mapping[str, str], what: str) -> None:
    """Looks for everything that is relied on.

    Args:
        pinned: package -> the version that ours was written and tested for.
        what: of ours relies on it, for the error's text.

    Raises:
        InternalsMissing: naming what is missing, what is installed and what is needed.
    """
    absent = missing(relied_on)
    if absent:
        installed = ", ".join(f"{name} {version(name)}" for name in pinned)
        needed = ", ".join(f"{name}=={number}" for name, number in pinned.items())
        raise InternalsMissing(
            f"{installed}: no {', '.join(absent)}. {what} relies on internals; install {needed}"
        )
