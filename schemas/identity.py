"""The identity of an email address: equal for every spelling of one mailbox.

Invariants:
1. Pure, and idempotent: the identity of an identity is itself.
2. Of an ordinary ASCII address it is the address in lower case.
3. It depends on the ``idna`` library's version and on Unicode ``UNICODE``, not on the Python that
   runs: characters that later versions of Unicode added stay as they are.
4. It is a key, for comparing addresses. Mail is sent to the spelling that the sender knows.

Providers do not agree on case, on international domains or on quotes: one reports a delivery to
``u@müller.example``, another a bounce of ``U@xn--mller-kva.example``. RFC 5321 (2.4) leaves the
case of a local part to the receiving host; none in use tells mailboxes apart by it.

Sources: RFC 5321 (addresses), RFC 5322 (3.2.4, quoted strings), RFC 6531 (international addresses),
RFC 5890 to 5892 (IDNA 2008), UTS 46 (mapping of domains before IDNA), UAX 15 (normalisation).
"""

import ipaddress
import re
import unicodedata
from contextlib import suppress
from functools import lru_cache

import idna

UNICODE = "14.0"
"""Version of Unicode for local parts, that of the oldest Python that mailpulse runs on."""
DOMAINS_CACHED_MAX = 16_384

_SIGNS = "@\uff20\ufe6b"
"""What may stand for the sign between local part and domain: the @ itself, else one of its
compatibility forms, which input methods write with full-width letters and dots."""
_DOTS = re.compile("[.\u3002\uff0e\uff61]")
"""The characters that separate labels (UTS 46, section 2.3)."""
_AT_END = re.compile(r"[\s.]+\Z")
_ORDINARY = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~@-]*")
_ATOM = (
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~\u00a1-\u167f\u1681-\u1fff\u200b-\u2027\u202a-\u202e\u2030-\u205e"
    r"\u2060-\u2fff\u3001-\ufe6a\ufe6c-\uff1f\uff21-\U0010ffff-]"
)
_ATOMS_AND_DOTS = re.compile(f"{_ATOM}+")
"""What may stand without quotes: no white space, no sign. By RFC 5322 dots at the ends or side by
side need them, but the Japanese mailboxes that have such names (``a..b@docomo.ne.jp``) are mostly
spelled without."""
_QUOTED_TEXT = r'"(?:[^"\\]|\\.)*"'
_QUOTED = re.compile(_QUOTED_TEXT, re.DOTALL)
_WORDS = re.compile(
    rf"(?:{_ATOM}*\.)?{_QUOTED_TEXT}(?:\.(?:{_ATOM}*\.)?{_QUOTED_TEXT})*(?:\.{_ATOM}*)?", re.DOTALL
)
"""Words with dots between them, at least one of them quoted (RFC 5322, 4.4: ``obs-local-part``)."""
_PIECE = re.compile(rf"{_QUOTED_TEXT}|\[[^\[\]]*\]|\\.|[()\s]|[^\"\[\\()\s]+|.", re.DOTALL)
_PARTING = f".{_SIGNS}\u3002\uff0e\uff61"
"""Beside these there may be comments and white space (RFC 5322, 3.2.3, 3.4.1 and 4.4)."""
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f"
    "\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef]+"
)
"""Characters that show nothing and come along when an address is copied: soft hyphens, spaces of no
width, marks of direction, variation selectors. UTS 46 ignores most of them in domains, and PRECIS
(RFC 8264, 9.13) has none of them in names."""
_JOINED = (
    r"\u00a1-\u167f\u1681-\u1fff\u2070-\u2fff\u3003-\ufe6a\ufe6c-\uff0d\uff0f-\uff1f\uff21-\uff60"
    r"\uff62-\U0010ffff"
)
"""All beyond ASCII but white space, punctuation without a script, and forms of @ and dot."""
_JOINERS = re.compile(rf"(?<![{_JOINED}])[\u200c\u200d]+|[\u200c\u200d]+(?![{_JOINED}])")
"""Joiners that join nothing. Between letters beyond ASCII the spelling of Persian and of Indian
languages needs them (RFC 5892, A.1 and A.2)."""
_FOLDED = str.maketrans(
    "\u00b5\u017f\u0345\u03c2\u03d0\u03d1\u03d5\u03d6\u03f0\u03f1\u03f5\u1e9b\u1fbe"
    "\u1c80\u1c81\u1c82\u1c83\u1c84\u1c85\u1c86\u1c87\u1c88",
    "\u03bcs\u03b9\u03c3\u03b2\u03b8\u03c6\u03c0\u03ba\u03c1\u03b5\u1e61\u03b9"
    "\u0432\u0434\u043e\u0441\u0442\u0442\u044a\u0463\ua64b",
)
"""Small letters that share their capital with another one, such as the final sigma, and that one:
the simple case folding of Unicode 14.0 (``CaseFolding.txt``, C and S)."""
_LATER = re.compile(
    "(["
    "\u05c8\u05c9\u0897\u1acf-\u1af0\u1c89\ua7cb\ua7cc\ua7ce\ua7d2\ua7d4\ua7da\ua7dc\ua7dd\ua7e2"
    "\uab6c\uab6d\U000105c9\U000105e4\U00010d50-\U00010d65\U00010d69-\U00010d6d"
    "\U00010ecb-\U00010ecf\U00010ef0-\U00010efb\U00010efd-\U00010eff\U00011383-\U00011391"
    "\U000113b8-\U000113d0\U00011f41\U00011f42\U00016121-\U0001612f\U00016d67-\U00016d6a"
    "\U00016ea0-\U00016eb8\U0001d127\U0001d128\U0001d250-\U0001d281\U0001df40-\U0001df7e"
    "\U0001e08f\U0001e4ec-\U0001e4ef\U0001e5ee\U0001e5ef\U0001e6e3-\U0001e6f5"
    "]+)"
)
"""Characters added by Unicode 15.0 to 18.0 that have a lower case or are changed by normalisation,
or that stand between such characters."""


def address_identity(address: str) -> str:
    """The identity of an address as a provider spells it; '' of an empty one.

    The domain is mapped by UTS 46 and encoded by IDNA 2008, without the dots at its end. A domain
    that these refuse stays in lower case, and so do address literals; a text without an @ is taken
    as a local part. The local part is in lower case and in normalisation form C, without quotes
    where they change nothing. Comments, white space around dots and signs, and characters that show
    nothing are left out.
    """
    plain = address.strip()
    if _ORDINARY.fullmatch(plain):
        plain = plain.lower()
        return plain.rstrip(".") if "@" in plain else plain
    plain = _JOINERS.sub("", _UNSEEN.sub("", plain)).strip()
    local, at, domain = _split(_without_comments(plain))
    if not at:
        return _local_part(domain)
    return f"{_local_part(local)}@{domain_identity(domain)}"


def _split(address: str) -> tuple[str, str, str]:
    """Local part, sign and domain; without a sign the last alone, as of ``str.rpartition``."""
    unquoted = _QUOTED.sub(lambda quoted: "x" * len(quoted[0]), address)
    for sign in _SIGNS:
        at = unquoted.rfind(sign)
        if at >= 0:
            return address[:at], sign, address[at + 1 :]
    return address.rpartition("@")


def _without_comments(address: str) -> str:
    """The address without comments and white space between its words; else unchanged.

    What is no address stays too: text without a sign, and words with only a gap between them.
    """
    kept: list[str] = []
    depth, gap = 0, False
    for piece in _PIECE.findall(address):
        if piece in ("(", ")"):
            depth += 1 if piece == "(" else -1
            if depth < 0:
                return address
        elif not depth and not piece.isspace():
            if gap and kept and not (kept[-1][-1] in _PARTING or piece[0] in _PARTING):
                return address
            kept.append(piece)
            gap = False
            continue
        gap = True
    found = "".join(kept)
    return address if depth or not any(sign in found for sign in _SIGNS) else found


@lru_cache(maxsize=DOMAINS_CACHED_MAX)
def domain_identity(domain: str) -> str:
    """The domain in A-labels and lower case, or as an address literal."""
    if domain.startswith("[") and domain.endswith("]"):
        return _literal(domain[1:-1])
    while (made := _JOINERS.sub("", _a_labels(domain))) != domain:
        domain = made
    return domain


def _a_labels(domain: str) -> str:
    domain = _AT_END.sub("", _DOTS.sub(".", domain.strip()))
    if domain.isascii():
        return domain.lower()
    with suppress(UnicodeError):  # what idna raises is one
        return idna.encode(domain, uts46=True, std3_rules=False).decode("ascii")
    return _lower(domain)


def is_marked(identity: str) -> bool:
    """Whether IDNA refused the domain of an identity: then its spelling alone identifies it."""
    return not identity.rpartition("@")[2].isascii()


def _literal(text: str) -> str:
    """An address literal (RFC 5321, 4.1.3), in the usual form of its IP address."""
    tag, colon, rest = text.partition(":")
    six = bool(colon) and tag.lower() == "ipv6"
    with suppress(ValueError):
        ip = ipaddress.ip_address(rest if six else text)
        if six == (ip.version == 6):
            return f"[ipv6:{ip.compressed}]" if six else f"[{ip.compressed}]"
    return f"[{_lower(text)}]"


def _local_part(text: str) -> str:
    if _WORDS.fullmatch(text) is None:
        return _folded(text)
    content = _folded(_QUOTED.sub(_content, text))
    if _ATOMS_AND_DOTS.fullmatch(content):
        return content
    return '"' + re.sub(r'(["\\])', r"\\\1", content) + '"'


def _content(quoted: re.Match[str]) -> str:
    return re.sub(r"\\(.)", r"\1", quoted[0][1:-1], flags=re.DOTALL)


def _folded(text: str) -> str:
    """Lower case in form C, one of the small letters that share a capital, no loose joiners."""
    if text.isascii():
        return text.lower()
    while (made := _JOINERS.sub("", _lower(text).translate(_FOLDED))) != text:
        text = made  # without a joiner more may be composed
    return text


def _lower(text: str) -> str:
    """Lower case in form C. Characters of ``_LATER`` stay, and nothing composes with them."""
    if text.isascii():
        return text.lower()
    parts = _LATER.split(text)
    parts[::2] = [_lower_of_known(part) for part in parts[::2]]
    return "".join(parts)


def _lower_of_known(text: str) -> str:
    normal = unicodedata.normalize("NFC", text)
    while True:  # lower case may be composed, and what is composed may have a lower case
        lower = unicodedata.normalize("NFC", normal.lower())
        if lower == normal:
            return lower
        normal = lower
