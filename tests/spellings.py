"""Addresses as they occur in links, tags, diagnostics and bodies: over forty codings of each.

A canary is an address whose local part has ``CANARY`` in it, so that it can be looked for in what
comes out, decoded by other code than that which is tested (``traces``).
"""

import base64
import html
import json
import quopri
import re
from collections.abc import Callable
from urllib.parse import quote, unquote

CANARY = "kanarie"
"""Part of each canary's local part; base64 and every script leave it readable once decoded."""


def _percent(text: str, lower: bool = False) -> str:
    made = "".join(f"%{byte:02x}" if lower else f"%{byte:02X}" for byte in text.encode())
    return made


def _entities(text: str, form: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else form.format(ord(c)) for c in text)


def _json(text: str, escape: str = "\\u") -> str:
    return "".join(c if c.isalnum() and c.isascii() else f"{escape}{ord(c):04x}" for c in text)


def _base64(text: str, url: bool = False, padded: bool = True) -> str:
    made = (base64.urlsafe_b64encode if url else base64.b64encode)(text.encode()).decode()
    return made if padded else made.rstrip("=")


CODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "upper case": str.upper,
    "title": str.title,
    "in brackets": "<{}>".format,
    "with a name": "Some Body <{}>".format,
    "mailto": "mailto:{}".format,
    "quoted by apostrophes": "'{}'".format,
    "in a sentence": "550 5.1.1 {}: no such user".format,
    "percent": lambda a: quote(a, safe=""),
    "percent, lower case": lambda a: re.sub("%..", lambda m: m[0].lower(), quote(a, safe="")),
    "percent, dots too": lambda a: quote(a, safe="").replace(".", "%2E"),
    "percent, every byte": _percent,
    "percent, every byte, lower case": lambda a: _percent(a, lower=True),
    "percent, only the sign": lambda a: a.replace("@", "%40"),
    "percent, twice": lambda a: quote(quote(a, safe=""), safe=""),
    "percent, three times": lambda a: quote(quote(quote(a, safe=""), safe=""), safe=""),
    "percent, six times": lambda a: a.replace("@", "%252525252540"),
    "a link's parameter": lambda a: f"https://shop.example/?to={quote(a, safe='')}&n=1",
    "a link's path": lambda a: f"https://shop.example/u/{quote(a, safe='')}/edit",
    "a link's fragment": lambda a: f"https://shop.example/#to={quote(a, safe='')}",
    "a link in a link": lambda a: (
        "https://r.example/?u="
        + quote(f"https://shop.example/?to={quote(a, safe='')}&n=1", safe="")
    ),
    "a link in HTML": lambda a: html.escape(f"https://shop.example/?n=1&to={quote(a, safe='')}"),
    "entities": lambda a: _entities(a, "&#{};"),
    "hexadecimal entities": lambda a: _entities(a, "&#x{:X};"),
    "entities with zeros": lambda a: _entities(a, "&#000{};"),
    "entities without semicolon": lambda a: a.replace("@", "&#64"),
    "named entities": lambda a: a.replace("@", "&commat;").replace(".", "&period;"),
    "entities, twice": lambda a: _entities(a, "&amp;#{};"),
    "JSON": _json,
    "JSON in JSON": lambda a: _json(a, "\\\\u"),
    "JavaScript": lambda a: a.replace("@", "\\x40").replace(".", "\\x2e"),
    "Markdown": lambda a: a.replace("@", "\\@").replace(".", "\\."),
    "with a break": lambda a: a.replace("@", "\u200b@"),
    "with two signs": lambda a: a.replace("@", "@@"),
    "old JavaScript": lambda a: a.replace("@", "%u0040"),
    "quoted-printable": lambda a: quopri.encodestring(a.encode(), quotetabs=True)
    .decode().replace("@", "=40").replace(".", "=2E").replace("=\n", ""),
    "encoded word of base64": lambda a: f"=?utf-8?B?{_base64(a)}?=",
    "base64": _base64,
    "base64url without padding": lambda a: _base64(a, url=True, padded=False),
    "base64 in a path": lambda a: f"https://shop.example/r/{_base64(a, url=True, padded=False)}/x",
    "base64 of JSON": lambda a: _base64(json.dumps({"n": 1, "to": a}, ensure_ascii=False)),
    "base64 of a link": lambda a: _base64(f"https://shop.example/?to={quote(a, safe='')}"),
    "percent-encoded base64": lambda a: quote(_base64(f"<{a}>"), safe=""),
}  # fmt: skip

ADDRESSES = (
    f"{CANARY}@mailbox.example",
    f"{CANARY}.b+news@mailbox.example",
    f"o'{CANARY}@mailbox.example",
    f"{CANARY}@b\u00fccher.example",
    f"{CANARY}@xn--bcher-kva.example",
    f"\u7528{CANARY}\u6237@\u4f8b\u5b50.\u5e7f\u544a",
    f"{CANARY}@[192.0.2.1]",
    f"{CANARY}\uff20mailbox\uff0eexample",
)
"""Canaries of every kind that is found without being known."""
KNOWN_ONLY = (
    f'"{CANARY} b"@mailbox.example',
    f"x/{CANARY}@mailbox.example",
    f"{CANARY}@mailbox",
    f"{CANARY}=b&c@mailbox.example",
)
"""Canaries that need not be found in every coding unless they are the known recipient's."""


def traces(text: str) -> list[str]:
    """Places where a canary can be read in ``text``, once it is decoded in every way."""
    seen: set[str] = set()
    queue, found = [text], []
    while queue:
        one = queue.pop()
        if one in seen or len(seen) > 400:
            continue
        seen.add(one)
        places = [match.start() for match in re.finditer(CANARY, one, re.IGNORECASE)]
        found += [one[max(0, at - 30) : at + 40] for at in places]
        queue += [unquote(one), html.unescape(one), _unescaped(one)]
        queue += list(_from_base64(one))
    return found


def _unescaped(text: str) -> str:
    text = re.sub(r"\\+(?:u|x)([0-9a-fA-F]{4}|[0-9a-fA-F]{2})", lambda m: chr(int(m[1], 16)), text)
    text = re.sub(r"%u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), text)
    return re.sub(r"=([0-9A-F]{2})", lambda m: chr(int(m[1], 16)), text)


def _from_base64(text: str) -> list[str]:
    made = []
    for stretch in re.findall(r"[A-Za-z0-9+/_-]{8,}", text):
        for skipped in range(4):
            part = stretch[skipped:].translate(str.maketrans("-_", "+/"))
            part = part[: len(part) // 4 * 4]
            content = base64.b64decode(part).decode("latin-1")
            if CANARY in content.lower():
                made.append(content)
    return made
