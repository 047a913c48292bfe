"""The rules about links, parsed from TOML: which unsubscribe, and which of them are one link.

Invariants:
1. Only the tables shipped with the package are read here; texts of other files are arguments.
2. A key that a file does not have keeps its shipped list; one that it has replaces it.
3. Invalid rules are refused with the name of the key.
4. The rules are immutable and compared by identity, so that caches keyed by them stay cheap.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from importlib.resources import files
from typing import Any, NamedTuple
from unicodedata import combining, normalize
from urllib.parse import unquote

_PAGE = re.compile(r"\.(?:html?|php\d?|aspx?|jsp|cgi|cfm|do|action)$")


def plain_word(segment: str) -> str:
    """A path's segment, host's label or parameter's name as it is compared with the lists.

    Percent-encoding is undone; a file's ending, accents, case, and all but letters and digits are
    left out, so that ``Opt-Out.html``, ``opt_out`` and ``optout`` are one word.
    """
    text = segment.partition(";")[0]
    if "%" in text:
        text = unquote(text)
    text = _PAGE.sub("", text.casefold())
    if not text.isascii():
        text = "".join(c for c in normalize("NFKD", text) if not combining(c)).casefold()
    return text if text.isalnum() else "".join(c for c in text if c.isalnum())


class Wrapper(NamedTuple):
    """A redirect that holds its target in a parameter.

    Attributes:
        host: with its subdomains.
        parameter: name of the parameter.
    """

    host: str
    parameter: str


class Page(NamedTuple):
    """A provider's unsubscribe page.

    Attributes:
        host: with its subdomains; empty for any, as providers' links are often under the sender's
            own host.
        path: matches the whole path, lower case, without slashes at its ends.
        parameters: names, or ``name=value``, one of which the link must have; empty: none needed.
    """

    host: str
    path: re.Pattern[str]
    parameters: frozenset[str]


@dataclass(frozen=True, slots=True, eq=False)
class UnsubscribeRules:
    """Which links unsubscribe. Words are as ``plain_word`` makes them.

    Attributes:
        words: each means unsubscribing from mail.
        words_with_mail: mean it only beside one of ``mail_words``.
        mail_words: say that a path or host is about mail.
        commands: parameters that name an action, whose value is compared too.
        not_with: path segments beside which nothing means it: articles and documentation.
        pages: first segment of the path -> providers' pages; ``""`` for the empty path.
    """

    words: frozenset[str]
    words_with_mail: frozenset[str]
    mail_words: frozenset[str]
    commands: frozenset[str]
    not_with: frozenset[str]
    pages: Mapping[str, tuple[Page, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class LinkRules:
    """Which links are one group.

    Attributes:
        drop: names of parameters in lower case that say who clicked, not where to.
        drop_starts: the same, beginnings of names.
        wrappers: redirects to look into.
    """

    drop: frozenset[str]
    drop_starts: tuple[str, ...]
    wrappers: tuple[Wrapper, ...] = field(default=())

    def drops(self, name: str) -> bool:
        """Whether a parameter is left out."""
        lower = name.lower()
        return lower in self.drop or lower.startswith(self.drop_starts)


_SHIPPED: dict[str, Any] = tomllib.loads(
    files("streams.classify.tables").joinpath("links.toml").read_text("utf-8")
)


def unsubscribe_rules(document: Mapping[str, Any]) -> UnsubscribeRules:
    """The rules in the table ``unsubscribe`` of a rules file.

    Raises:
        ValueError: a value is wrong, or a key is unknown; the message names it.
    """
    table = _table(document, "unsubscribe")

    def words(key: str) -> frozenset[str]:
        return frozenset(map(plain_word, _texts(table[key], f"unsubscribe.{key}")))

    return UnsubscribeRules(
        words("words"), words("words_with_mail"), words("mail_words"), words("commands"),
        words("not_with"), _pages(_tables(table["pages"], "unsubscribe.pages")),
    )  # fmt: skip


def link_rules(document: Mapping[str, Any]) -> LinkRules:
    """The rules in the table ``links`` of a rules file.

    Raises:
        ValueError: a value is wrong, or a key is unknown; the message names it.
    """
    table = _table(document, "links")
    names = [name.lower() for name in _texts(table["drop"], "links.drop")]
    wrappers = _tables(table["wrappers"], "links.wrappers")
    return LinkRules(
        frozenset(name for name in names if not name.endswith("*")),
        tuple(name[:-1] for name in names if name.endswith("*")),
        tuple(
            Wrapper(
                _text(one, "host", "links.wrappers").lower(),
                _text(one, "parameter", "links.wrappers"),
            )
            for one in wrappers
        ),
    )


def _table(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The table with what it lacks taken from the shipped one."""
    shipped, given = _SHIPPED[name], document.get(name, {})
    if not isinstance(given, dict):
        raise ValueError(f"{name}: must be a table")
    for key in given:
        if key not in shipped:
            raise ValueError(f"{name}.{key}: no such key (known: {', '.join(shipped)})")
    return {**shipped, **given}


def _texts(value: object, key: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise ValueError(f"{key}: must be a list of texts, none of them empty")
    return value


def _tables(value: object, key: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ValueError(f"{key}: must be a list of tables")
    return value


def _text(table: Mapping[str, Any], key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where}.{key}: must be a text, not empty")
    return value


def _pages(tables: Iterable[Mapping[str, Any]]) -> dict[str, tuple[Page, ...]]:
    found: dict[str, tuple[Page, ...]] = {}
    for table in tables:
        host, path = table.get("host", ""), table.get("path", "")
        if not isinstance(host, str) or not isinstance(path, str) or not (host or path):
            raise ValueError("unsubscribe.pages: host and path must be texts, one of them given")
        start = path.partition("/")[0].lower()
        if "*" in start:
            raise ValueError(f"unsubscribe.pages.path: {path!r} must begin with a plain segment")
        needed = _texts(table.get("parameters", []), "unsubscribe.pages.parameters")
        page = Page(host.lower(), re.compile(translate(path.lower())), frozenset(needed))
        found[start] = (*found.get(start, ()), page)
    return found


SHIPPED_UNSUBSCRIBE = unsubscribe_rules({})
"""The rules about unsubscribing that ship with mailpulse."""
SHIPPED_LINKS = link_rules({})
"""The rules about groups of links that ship with mailpulse."""
