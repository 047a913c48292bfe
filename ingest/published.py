"""Addresses that providers publish as those they post from: ``allow_ips = "published"``.

They are dated data in ``published.toml``, read from each provider's page by hand. Whatever their
age, the same addresses are let in; ``mailpulse doctor`` tells an old list, so that it is neither
trusted in silence nor refuses in silence.

Invariant: only ``shipped`` reads a file.
"""

import ipaddress
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from schemas.settings import Source

PUBLISHED = "published"
"""Entry of ``Source.allow_ips`` that stands for the provider's own list."""
OLD_DAYS = 180
"""Age in days from which a list has to be compared with its page."""


@dataclass(frozen=True, slots=True)
class Published:
    """A provider's list.

    Attributes:
        networks: addresses and networks.
        read: the day the page was read.
        page: where the provider publishes it.
    """

    networks: tuple[str, ...]
    read: date
    page: str

    def age_days(self, now: float) -> int:
        """Days since the page was read, at ``now`` (seconds since 1970)."""
        return (datetime.fromtimestamp(now, UTC).date() - self.read).days


@cache
def _read() -> dict[str, dict[str, Any]]:
    return tomllib.loads((files("ingest") / "published.toml").read_text(encoding="utf-8"))


@cache
def shipped() -> Mapping[str, Published]:
    """Provider -> its list, as far as one was found."""
    return {
        name: Published(tuple(one["networks"]), one["read"], one["page"])
        for name, one in _read().items()
        if "networks" in one
    }


def told(provider: str) -> str:
    """What is known of the addresses that a provider posts from, in one line."""
    one = _read().get(provider)
    if one is None:
        return f"Addresses: none published by {provider} are known; allow_ips takes networks"
    if "networks" in one:
        page, read = one["page"], one["read"]
        return f'Addresses: allow_ips = "published" lets in those of {page}, read {read}'
    return f"Addresses: published as {one['told']} ({one['page']}); allow_ips takes networks"


def networks_of(source: Source) -> tuple[str, ...]:
    """The networks of a source's ``allow_ips``, with the provider's own in place of its name."""
    networks: list[str] = []
    for item in source.allow_ips:
        if item == PUBLISHED:
            networks += shipped()[source.provider].networks
        else:
            networks.append(item)
    return tuple(networks)


def problems_of(source: Source) -> list[str]:
    """One line if the source asks for a list that there is not."""
    if PUBLISHED not in source.allow_ips or source.provider in shipped():
        return []
    known = ", ".join(sorted(shipped()))
    return [
        f"sources.{source.name}.allow_ips: no published addresses of {source.provider} are known "
        f"(known: {known}); give networks"
    ]


def asked_for(sources: Mapping[str, Source]) -> dict[str, Published]:
    """The lists that sources ask for, by provider."""
    asked = {source.provider for source in sources.values() if PUBLISHED in source.allow_ips}
    return {name: one for name, one in shipped().items() if name in asked}


def ages(
    sources: Mapping[str, Source], now: float, seen: Mapping[str, date] = MappingProxyType({})
) -> dict[str, tuple[int, str]]:
    """Provider -> age of its list in days, and its page; of those that a source asks for.

    Args:
        now: seconds since 1970.
        seen: days on which the pages still had every address, see ``confirmed``.
    """
    found = {}
    for name, one in asked_for(sources).items():
        newest = replace(one, read=max(one.read, seen.get(name, one.read)))
        found[name] = (newest.age_days(now), one.page)
    return found


# --- comparing with the page ---------------------------------------------------------------------

CONFIRMED_FILE = "published.json"
"""In the data directory: provider -> the day on which its page still had every address."""
_ADDRESS = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?:/\d{1,2})?(?![\d.])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Compared:
    """A list beside its page.

    Attributes:
        gone: of the list, no longer on the page.
        further: on the page, not in the list. A page may name addresses for other purposes too, so
            these are for a person to judge.
    """

    gone: tuple[str, ...]
    further: tuple[str, ...]


def compare(published: Published, text: str) -> Compared:
    """What differs between a list and the text of its page; further ones are told of IPv4 only."""
    there = set(_ADDRESS.findall(text))
    ours = set(published.networks)
    there |= {one for one in ours if ":" in one and one in text.lower()}
    public = {one for one in there - ours if _is_public(one)}
    return Compared(tuple(sorted(ours - there)), tuple(sorted(public)))


def _is_public(text: str) -> bool:
    try:
        return ipaddress.ip_network(text).is_global
    except ValueError:
        return False


def confirmed(text: str | bytes) -> dict[str, date]:
    """The days in a ``CONFIRMED_FILE``; what can't be read counts as not confirmed."""
    try:
        found = json.loads(text)
        return {str(name): date.fromisoformat(day) for name, day in found.items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}
