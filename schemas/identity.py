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

_DOTS = re.compile("[.\u3002\uff0e\uff61]")
"""The characters that separate labels (UTS 46, section 2.3)."""
_ATOMS_AND_DOTS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+")
"""What may stand without quotes. By RFC 5322 dots at the ends or side by side need them, but the
Japanese mailboxes that have such names (``a..b@docomo.ne.jp``) are mostly spelled without."""
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
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

    The domain is mapped by UTS 46 and encoded by IDNA 2008, without the dot at its end. A domain
    that these refuse stays in lower case, and so do address literals; a text without an @ is taken
    as a local part. The local part is in lower case and in normalisation form C, without quotes
    where they change nothing.
    """
    if address.isascii() and '"' not in address:
        plain = address.strip().lower()
        if "]" not in plain:
            return plain.rstrip(".") if "@" in plain else plain
    local, at, domain = address.strip().rpartition("@")
    if not at:
        return _local_part(domain)
    return f"{_local_part(local)}@{domain_identity(domain)}"


@lru_cache(maxsize=DOMAINS_CACHED_MAX)
def domain_identity(domain: str) -> str:
    """The domain in A-labels and lower case, or as an address literal."""
    if domain.startswith("[") and domain.endswith("]"):
        return _literal(domain[1:-1])
    domain = _DOTS.sub(".", domain.strip()).rstrip(".")
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
    quoted = _QUOTED.fullmatch(text)
    if quoted is None:
        return _lower(text)
    content = _lower(re.sub(r"\\(.)", r"\1", quoted.group(1), flags=re.DOTALL))
    if _ATOMS_AND_DOTS.fullmatch(content):
        return content
    return '"' + re.sub(r'(["\\])', r"\\\1", content) + '"'


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
