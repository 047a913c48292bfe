"""Finds out who hosts a recipient's mailbox, from the domain of the address alone.

Invariants:
1. Pure: no DNS. Domains hosted elsewhere (a company at Google or Microsoft) are recognised only if
   the operator's rules file names them; otherwise the result is their registrable domain.
2. Never raises on input from outside; anything but a domain gives ``""``.
3. Results are cached, and the cache is bounded.
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
"""Distinct domains cached per process; about 150 bytes each."""
DOMAIN_CHARS_MAX = 253
"""Longest host name (RFC 1035, 2.3.4, without the root dot)."""

_suffixes = PublicSuffixList()
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?\Z")


def _normal(domain: str) -> str:
    """The domain in lower case and ASCII; ``""`` if it is not a valid host name."""
    name = domain.strip().rstrip(".").lower()
    if len(name) > DOMAIN_CHARS_MAX:
        return ""
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError:
            return ""
    # hardly any name without a dot accepts mail (RFC 7085), and each would be a group of its own
    return name if "." in name and ".." not in name and _HOST.match(name) else ""


def _provider(name: str) -> str:
    if known := _by_suffix(DOMAINS, name):
        return known
    registrable: str | None = _suffixes.privatesuffix(name)
    if registrable is None:
        return name  # itself a public suffix
    return BRANDS.get(registrable.partition(".")[0], registrable)


@lru_cache(maxsize=DOMAINS_CACHED_MAX)
def mailbox_provider(domain: str) -> str:
    """The mailbox provider's name, or else the registrable domain.

    Args:
        domain: right side of an address, in any case.

    Returns:
        A name such as ``gmail``, ``microsoft``, ``yahoo``, ``apple``; for any other provider the
        registrable domain in ASCII (names have no dot); ``""`` for an empty or invalid domain.
    """
    name = _normal(domain)
    return _provider(name) if name else ""


_DOMAIN_OF = {provider: domain for domain, provider in reversed(DOMAINS.items())}


def domain_of(provider: str) -> str:
    """A domain that belongs to a provider known by name; ``""`` for any other text."""
    return _DOMAIN_OF.get(provider, "")


def load_rules(text: str) -> dict[str, str]:
    """Reads a rules file for hosted domains.

    The file is TOML with two optional tables, keys quoted: ``[domains]`` maps a domain suffix to a
    provider; ``[mx]`` maps a domain suffix to its MX host as the operator looked it up, which a
    built-in table turns into a provider (an unknown MX host is ignored).

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
            provider = value if table == "domains" else _by_suffix(MX_SUFFIXES, _normal(value))
            if provider:
                rules[name] = provider
    return rules


def _by_suffix(providers: Mapping[str, str], name: str) -> str:
    """The provider of the longest suffix of ``name`` that is known; ``""`` if none is."""
    labels = name.split(".")
    suffixes = (".".join(labels[start:]) for start in range(len(labels)))
    return next((providers[suffix] for suffix in suffixes if suffix in providers), "")


def with_rules(mx_rules: Mapping[str, str]) -> Callable[[str], str]:
    """A ``mailbox_provider`` that looks at these rules first.

    Args:
        mx_rules: domain suffix -> provider, from ``load_rules``; the longest suffix wins.

    Returns:
        A function with the same signature and a bounded cache of its own.
    """
    rules = dict(mx_rules)
    if not rules:
        return mailbox_provider

    @lru_cache(maxsize=DOMAINS_CACHED_MAX)
    def provider(domain: str) -> str:
        return _by_suffix(rules, _normal(domain)) or mailbox_provider(domain)

    return provider
