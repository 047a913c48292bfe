"""Internals of other packages: what is missing is named at start, with what to install."""

import re
from importlib.metadata import version

import pytest

from schemas.internals import InternalsMissing, check_internals, missing
from schemas.serving import internals
from tests.test_dependencies import PROJECT


class Car:
    """Something with a method, and an attribute of its instances."""

    def __init__(self) -> None:
        self.wheels = 4

    def drive(self) -> None:
        """Does nothing."""


def test_methods_and_what_an_initialiser_sets_are_there() -> None:
    """Anything else is missing."""
    assert missing([(Car, "drive wheels wings"), (re, "compile fly")]) == ["Car.wings", "re.fly"]


def test_a_missing_internal_is_named_with_the_version_that_has_it() -> None:
    """What is installed, and what to install."""
    with pytest.raises(InternalsMissing) as raised:
        check_internals([(Car, "wings")], {"uvicorn": "0.1"}, "A listener")
    assert str(raised.value) == (
        f"uvicorn {version('uvicorn')}: no Car.wings. A listener relies on internals; "
        "install uvicorn==0.1"
    )


def test_listeners_run_on_the_uvicorn_that_is_pinned() -> None:
    """Its internals are there, and ``pyproject.toml`` pins the versions that they were read in."""
    internals.check_internals()
    asked = PROJECT["project"]["dependencies"]
    assert {f"{name}=={number}" for name, number in internals.PINNED.items()} <= set(asked)
