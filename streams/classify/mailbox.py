"""Who hosts a recipient's mailbox, from the domain of the address alone.

Invariants:
1. Pure: no DNS. Hosted domains (a company at Google or Microsoft) show only through a rules file
   that the operator gives; without it they stand under their own registrable domain.
2. Never raises on outside input; what is no domain gives ``""``.
3. Answers are cached, and the cache is bounded.
4. Registrable domains come from the Public Suffix List (the ``publicsuffixlist`` package), both
   its ICANN and its private part.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from functools import lru_cache

from publicsuffixlist import PublicSuffixList

from streams.classify.tables.mailboxes import BRANDS, DOMAINS, MX_SUFFIXES

DOMAINS_CACHED_MAX = 65_536
"""Distinct domains remembered per process; about 150 bytes each."""
DOMAIN_CHARS_MAX = 253
"""Longest host name (RFC 1035, 2.3.4, without the root dot)."""

_suffixes = PublicSuffixList()
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?\Z")


def _normal(domain: str) -> str:
    """The domain in lower case and ASCII, ``""`` when it can't be a host name."""
    name = domain.strip().rstrip(".").lower()
    if len(name) > DOMAIN_CHARS_MAX:
        return ""
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError:
            return ""
    # a name without a dot takes no mail (RFC 7085 measured hardly any), and each would be a group
    return name if "." in name and ".." not in name and _HOST.match(name) else ""


def _provider(name: str) -> str:
    for suffix in _suffixes_of(name):
        known = DOMAINS.get(suffix)
        if known is not None:
            return known
    registrable: str | None = _suffixes.privatesuffix(name)
    if registrable is None:
        return name  # a bare suffix
    return BRANDS.get(registrable.partition(".")[0], registrable)


@lru_cache(maxsize=DOMAINS_CACHED_MAX)
def mailbox_provider(domain: str) -> str:
    """The mailbox provider's name, else the registrable domain.

    Args:
        domain: right side of an address, in any case.

    Returns:
        A name such as ``gmail``, ``microsoft``, ``yahoo``, ``apple``; the registrable domain in
        ASCII for everybody else, so a dot tells the two apart; ``""`` for an empty or impossible
        domain.
    """
    name = _normal(domain)
    return _provider(name) if name else ""


def load_rules(text: str) -> dict[str, str]:
    """Reads a rules file for hosted domains.

    The file is TOML with two optional tables, keys quoted: ``[domains]`` gives domain suffix =
    provider; ``[mx]`` gives domain suffix = its MX host as the operator looked it up, which a
    built-in table of MX suffixes turns into a provider (an MX nobody knows is left out).

    Raises:
        ValueError: not TOML, or not of this form. The message names the key.
    """
    document = tomllib.loads(text)
    unknown = sorted(set(document) - {"domains", "mx"})
    if unknown:
        raise ValueError(f"{unknown[0]}: only the tables domains and mx are known")
    rules: dict[str, str] = {}
    for table in ("mx", "domains"):  # a named provider wins over one derived from the MX
        entries = document.get(table, {})
        if not isinstance(entries, dict):
            raise ValueError(f"{table}: must be a table")
        for suffix, value in entries.items():
            name = _normal(suffix)
            if not name or not isinstance(value, str) or not value:
                raise ValueError(f"{table}.{suffix}: must be a domain with a text")
            provider = value if table == "domains" else _by_mx(value)
            if provider:
                rules[name] = provider
    return rules


def _by_mx(host: str) -> str:
    name = _normal(host)
    return next((MX_SUFFIXES[suffix] for suffix in _suffixes_of(name) if suffix in MX_SUFFIXES), "")


def _suffixes_of(name: str) -> list[str]:
    """The name and its parents, longest first."""
    labels = name.split(".")
    return [".".join(labels[start:]) for start in range(len(labels))]


def with_rules(mx_rules: Mapping[str, str]) -> Callable[[str], str]:
    """A ``mailbox_provider`` that asks these rules first.

    Args:
        mx_rules: domain suffix -> provider, as ``load_rules`` gives; the longest suffix wins.

    Returns:
        A function of the same form, with a bounded cache of its own.
    """
    rules = dict(mx_rules)
    if not rules:
        return mailbox_provider

    @lru_cache(maxsize=DOMAINS_CACHED_MAX)
    def provider(domain: str) -> str:
        name = _normal(domain)
        for suffix in _suffixes_of(name):
            hosted = rules.get(suffix)
            if hosted is not None:
                return hosted
        return _provider(name) if name else ""

    return provider
