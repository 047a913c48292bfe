"""Stand-ins for words of a captured request: the same word gives the same one, in the same shape.

Invariants:
1. Pure: the key of the stand-ins is an argument. Without it nobody can tell a word from its
   stand-in; whoever throws it away can't either.
2. What is not known to be harmless is replaced: kept are the words that providers' interfaces and
   this program use (``kept``), times, small numbers, and, in texts that programs write (replies of
   mail servers, user agents), ordinary words. A word that was replaced anywhere is replaced in
   these too.
3. Of an address every word is replaced, whatever it is; its domain stays only if it is one of the
   large mailbox providers, else it ends in ``.example`` (RFC 2606), as every host does. Addresses
   of the network become documentation addresses (RFC 5737, RFC 3849).
4. A stand-in has the length of its word, digits for digits, capitals for capitals, hexadecimal for
   hexadecimal: so what is cut, compared or decoded by its form behaves as before.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Collection, Mapping
from enum import Enum, auto
from types import MappingProxyType
from urllib.parse import quote, unquote

from ingest.providers import fields
from ingest.providers.sns import region_of
from schemas.address_search import Found, find

YEARS_NEAR_S = 10 * 366 * 86_400
"""A number is taken for a time if it is one within so many seconds of the capture."""
SMALL = 1_000
"""Numbers below it are counts and codes."""
BASE64_CHARS_MIN = 40
"""From here on what is base64 in its canonical spelling stays so: signatures are judged by it."""
_DRAWS_MAX = 50
_NO_TEXT = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Halves of a character that only an escape can write: no coding of a body has them."""
_WORD = re.compile(r"[^\W_]+")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?", re.ASCII)
_KNOWN_BEFORE_DIGITS = re.compile(r"([A-Za-z]+)([0-9]+)", re.ASCII)
"""As in ``filter0001``, which providers look for."""
_HEX = re.compile(r"(?=.*[0-9])[0-9a-f]{8,}")
_BASE64 = re.compile(r"(?=.*[+/=])[A-Za-z0-9+/]+={0,2}", re.ASCII)
_URL = re.compile(r"https?://[^\s\"'<>\\]+", re.IGNORECASE)
_HOST = re.compile(
    r"(?<![A-Za-z0-9_-])(?:[A-Za-z0-9_-]{1,63}\.){1,20}[A-Za-z]{2,24}(?![\w-])", re.ASCII
)
"""Bounded, as every pattern here: a request is a stranger's, and time must grow with its length."""
_JSON_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
DECIMALS_MAX = 3
"""A small number with more decimals may be a place on the map, and gets other digits."""
_IP4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])", re.ASCII)
_IP6 = re.compile(r"(?<![\w:])(?=[0-9A-Fa-f:]*:[0-9A-Fa-f:]*:)[0-9A-Fa-f:]{3,45}(?![\w:])")
_CLEAR_TEXT = re.compile(r"[A-Za-z]+", re.ASCII)
_SENTENCE = re.compile(r"(?:^|[.:;!?()\[\]<\-]|\d)[\s\-\"']*$")
_ACCENTED = "àáâãäåæçèéêëìíîïñòóôõöøùúûüý"
MAILBOXES = frozenset(
    "gmail.com googlemail.com outlook.com hotmail.com live.com msn.com yahoo.com ymail.com aol.com "
    "icloud.com me.com mac.com gmx.de gmx.net web.de t-online.de mail.ru yandex.ru orange.fr "
    "free.fr laposte.net libero.it comcast.net proton.me protonmail.com qq.com 163.com".split()
)
"""Domains with so many mailboxes that they tell nobody apart."""


class Mode(Enum):
    """How a text is treated, by the name of its field."""

    HIDE = auto()
    """Every word is replaced but those that are kept."""
    FORCE = auto()
    """Every word is replaced: names, subjects, secrets."""
    SYMBOL = auto()
    """A name of an event or a category: words stay."""
    TEXT = auto()
    """Written by a program: words stay, hosts and what has digits do not."""
    AGENT = auto()
    """A user agent: words and versions stay; without a version in it, only words that are kept:
    the name of a client or a device may be a person's."""


_SYMBOLS = re.compile(
    r"(?:record|event|bounce|message|complaint|sub|notification|native|machine|actor|delivery|object)*"
    r"(?:type|event|kind|class|category|severity|state|status|action|code|classification|metric|topic|"
    r"object)(?:name|code|id)?s?"
)
_TEXTS = re.compile(
    r"(?:raw|smtp|remote|server|destination|bounce|error|dsn|mta|full|diagnostic|delivery|last)*"
    r"(?:response|reply|diagnostic|diagnostics|diagnosticcode|message|messages|description|detail|"
    r"details|error|output|explanation|status|code)s?|"
    r"(?:raw|smtp|remote|server|destination|bounce|error|dsn|mta|diagnostic|delivery|status)+"
    r"(?:comment|text|info)s?|.*reasons?"
)
_AGENTS = re.compile(
    r"(?:raw|http|parsed)*(?:useragent|ua|agent|browser|os|osfamily|agentfamily|platform|device|"
    r"devicefamily|devicetype|devicebrand|clientname|clientos|clienttype|clientfamily|client)"
    r"(?:name|version|family|string)?"
)
_FORCED = re.compile(
    r".*(?:email|address|recipient|subject|phone|mobile|city|street|zip|postal|region|"
    r"latitude|longitude|coordinates?|location|latlng|birth[a-z]*|dob|company|organi[sz]ation|password|secret|token|apikey|authorization|cookie|"
    r"signature|username|firstname|lastname|fullname|displayname|nickname|surname)"
    r"|name|[fl]name|to|from|cc|bcc|sender|user|login|auth|sig|sign|lat|lon|lng|geo|key|title|body|"
    r"content"
)


_TIMES = re.compile(
    r".*(?:date|time|timestamp|datetime)|.*_(?:at|ts|on)|[a-z]*[a-z](?:At|On)|ts|at"
)
_WRITTEN_TIME = re.compile(
    r"[0-9][0-9/:.,+TZ -]{5,36}(?:[AaPp]\.?[Mm]\.?)?(?: ?[A-Z]{3})?", re.ASCII
)
_FIELD_NAMES = frozenset(
    "date from to cc bcc sender reply-to subject message-id in-reply-to references return-path "
    "received list-unsubscribe list-unsubscribe-post list-id mime-version content-type "
    "content-transfer-encoding dkim-signature feedback-id x-ses-configuration-set".split()
)
"""Names of fields of a mail's header, which are also values in lists of them."""


def is_written_time(field: str, text: str) -> bool:
    """Whether the text of a field is a time in some way of writing it."""
    if mode_of(field) is Mode.FORCE:  # a date of birth
        return False
    return bool(_TIMES.fullmatch(field)) and bool(_WRITTEN_TIME.fullmatch(text))


def mode_of(field: str) -> Mode:
    """How the texts of a field are treated, by its name."""
    name = re.sub(r"[^a-z]", "", field.lower())
    for pattern, mode in (
        (_SYMBOLS, Mode.SYMBOL), (_AGENTS, Mode.AGENT), (_TEXTS, Mode.TEXT), (_FORCED, Mode.FORCE)
    ):  # fmt: skip
        if pattern.fullmatch(name):
            return mode
    return Mode.HIDE


def _is_small(digits: str) -> bool:
    """Whether a whole number is below ``SMALL``, however many zeros it begins with.

    ``int`` refuses texts of more than 4,300 digits, so it is given short ones alone.
    """
    significant = digits.lstrip("0")
    return len(significant) <= len(str(SMALL)) and int(significant or "0") < SMALL


class Renamer:
    """The stand-ins of one capture.

    Args:
        key: random, kept nowhere.
        kept: words in lower case that are harmless.
        whole: texts that are harmless as a whole, such as names of events.
        now: seconds since 1970, for telling times from other numbers.
        modes: field -> mode, where the operator's own mapping says what the field is.
    """

    def __init__(
        self,
        key: bytes,
        kept: Collection[str],
        whole: Collection[str],
        now: float,
        modes: Mapping[str, Mode] = MappingProxyType({}),
    ) -> None:
        self._key = key
        self._kept = kept
        self._whole = whole
        self._now = now
        self._modes = modes
        self._known: dict[str, str] = {}
        self._taken: set[str] = set()
        self._secret: set[str] = set()
        self._networks: dict[str, str] = {}

    def hide(self, text: str) -> None:
        """Replaces the words of ``text`` from now on wherever they stand, kept or not."""
        self._secret |= {word.lower() for word in _WORD.findall(text) if len(word) > 2}

    def mode(self, field: str) -> Mode:
        """How the texts of a field are treated."""
        found = self._modes.get(field)
        return mode_of(field) if found is None else found

    # --- texts -----------------------------------------------------------------------------------

    def text(self, text: str, mode: Mode = Mode.HIDE, *, hosts: bool = True) -> str:
        """A text with what it says of people replaced.

        Args:
            hosts: whether words with dots between them are hosts; not in the path of a link.
        """
        if mode is Mode.AGENT and "/" not in text:
            mode = Mode.HIDE
        harmless = text in self._whole or text.lower() in _FIELD_NAMES
        if not text or (harmless and not self._has_secret(text)):
            return text
        if mode is not Mode.FORCE and self._is_time(text):
            return text
        if len(text) >= BASE64_CHARS_MIN and _BASE64.fullmatch(text) and len(text) % 4 == 0:
            size = len(base64.b64decode(text))
            return base64.b64encode(self._stream(text, size)).decode()
        return self._replaced(text, mode, hosts)

    def _replaced(self, text: str, mode: Mode, hosts: bool) -> str:
        parts: list[str] = []
        done = 0
        for begin, end, instead in self._special(text, mode, hosts):
            parts += (self._words(text, done, begin, mode), instead)
            done = end
        return "".join(parts) + self._words(text, done, len(text), mode)

    def _special(self, text: str, mode: Mode, hosts: bool) -> list[tuple[int, int, str]]:
        """What is replaced as a whole: links, addresses, hosts; in order, none overlapping."""
        found: list[tuple[int, int, str]] = []
        taken = bytearray(len(text))

        def add(begin: int, end: int, make: Callable[[], str]) -> None:
            if taken.find(1, begin, end) < 0:
                taken[begin:end] = b"\1" * (end - begin)
                found.append((begin, end, make()))

        for link in _URL.finditer(text):
            add(link.start(), link.end(), lambda link=link: self.link(link.group()))  # type: ignore[misc]
        for one in find(text):
            add(one.begin, one.end, lambda one=one: self._address(one))  # type: ignore[misc]
        for pattern in (_IP4, _IP6):
            for match in pattern.finditer(text):
                add(match.start(), match.end(), lambda m=match: self.network(m.group()))  # type: ignore[misc]
        if hosts and mode is not Mode.SYMBOL:
            for host in _HOST.finditer(text):
                if mode is Mode.FORCE or not self._all_kept(host.group()):
                    add(host.start(), host.end(), lambda h=host: self.domain(h.group()))  # type: ignore[misc]
        return sorted(found)

    def _words(self, text: str, begin: int, end: int, mode: Mode) -> str:
        """A part of a text with its words replaced."""

        def one(match: re.Match[str]) -> str:
            word = match.group()
            at = begin + match.start()
            before = text[max(0, at - 8) : at]
            if self._stays(word, mode, before):
                return word
            known = _KNOWN_BEFORE_DIGITS.fullmatch(word) if mode is not Mode.FORCE else None
            if known and known[1].lower() in self._kept and word.lower() not in self._secret:
                return known[1] + self.word(known[2])
            return self.word(word)

        return _WORD.sub(one, text[begin:end])

    def _stays(self, word: str, mode: Mode, before: str) -> bool:
        low = word.lower()
        if low in self._secret or mode is Mode.FORCE:
            return False
        if low in self._kept:
            return True
        if word.isascii() and word.isdigit():
            return _is_small(word) or (mode is not Mode.TEXT and self._is_near(float(word)))
        if mode is Mode.HIDE or low in self._known or not _CLEAR_TEXT.fullmatch(word):
            return mode is Mode.AGENT and len(word) < 8 and low not in self._known
        if mode is Mode.TEXT and word[0].isupper() and not word.isupper():
            return bool(_SENTENCE.search(before))
        return True

    def _all_kept(self, text: str) -> bool:
        words = [word.lower() for word in _WORD.findall(text)]
        return all(word in self._kept and word not in self._secret for word in words)

    def _has_secret(self, text: str) -> bool:
        return bool(self._secret) and any(
            word.lower() in self._secret for word in _WORD.findall(text)
        )

    # --- numbers and times -----------------------------------------------------------------------

    def number(self, digits: str, mode: Mode, field: str = "") -> str:
        """A number of JSON, as it is written; identifiers and places get other digits.

        What only begins like a number, such as an address of the network or a time, is a text.
        """
        if not _JSON_NUMBER.fullmatch(digits):
            return self.text(digits, mode)
        whole = digits.lstrip("-").partition(".")[0].partition("e")[0].partition("E")[0]
        identifies = field.lower().endswith("id") and mode is Mode.HIDE
        if mode is not Mode.FORCE and whole.isdigit():
            exact = len(digits.partition(".")[2]) > DECIMALS_MAX
            small = _is_small(whole) and not exact
            if small and not (identifies and len(whole.lstrip("0")) > 1):
                return digits
            if self._is_near(float(whole)):
                return digits
        return re.sub(r"[0-9]+", lambda match: self._digits(match.group()), digits)

    def _digits(self, digits: str) -> str:
        made = self.word(digits)
        return made if digits[0] == "0" or made[0] != "0" else "1" + made[1:]

    def _is_time(self, text: str) -> bool:
        if _NUMBER.fullmatch(text):
            return self._is_near(float(text))
        if len(text) > fields.TIME_CHARS_MAX or not any(map(str.isdigit, text)):
            return False
        moment = fields.microseconds(text)
        return moment is not None and self._is_near(moment / 1_000_000)

    def _is_near(self, number: float) -> bool:
        """Whether a number is a time near the capture, in seconds, milli- or microseconds."""
        return any(abs(number / unit - self._now) < YEARS_NEAR_S for unit in (1, 1_000, 1_000_000))

    # --- words -----------------------------------------------------------------------------------

    def word(self, word: str) -> str:
        """The stand-in of a word; capitals as they were."""
        low = word.lower()
        made = self._known.get(low)
        if made is None:
            made = self._known[low] = self._made(low)
        if len(made) != len(word):
            return made
        return "".join([
            there.upper() if own.isupper() and len(there.upper()) == 1 else there
            for own, there in zip(word, made, strict=True)
        ])  # fmt: skip

    def _made(self, word: str) -> str:
        for draw in range(_DRAWS_MAX):
            made = self._drawn(word, draw)
            if made not in self._taken and made != word and made not in self._kept:
                break
        self._taken.add(made)
        return made

    def _stream(self, text: str, size: int) -> bytes:
        """So many bytes that depend on a text and the key."""
        seed = hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return hashlib.shake_256(seed).digest(size)

    def _drawn(self, word: str, draw: int) -> str:
        stream = self._stream(f"{draw}/{word}", 2 * len(word))
        letters = "abcdef" if _HEX.fullmatch(word) else "abcdefghijklmnopqrstuvwxyz"
        made = []
        for at, character in enumerate(word):
            value = int.from_bytes(stream[2 * at : 2 * at + 2], "big")
            if character.isdigit():
                made.append("0" if at == 0 and character == "0" else str(value % 9 + 1))
            elif character.isascii():
                made.append(letters[value % len(letters)])
            else:
                made.append(_ACCENTED[value % len(_ACCENTED)])
        return "".join(made)

    # --- addresses, hosts, links -----------------------------------------------------------------

    def _address(self, found: Found) -> str:
        local, _, domain = _NO_TEXT.sub("\ufffd", found.address).rpartition("@")
        return f"{_WORD.sub(lambda match: self.word(match.group()), local)}@{self.domain(domain)}"

    def domain(self, domain: str) -> str:
        """The stand-in of a host."""
        low = domain.lower().rstrip(".")
        if low in MAILBOXES or region_of(low) is not None:
            return domain
        if low.startswith("["):
            return "[192.0.2.1]"
        labels = [label for label in domain.split(".") if label]
        if not labels:
            return "host.example"
        names = labels[:-1] or labels
        made = [_WORD.sub(lambda match: self.word(match.group()), name) for name in names]
        return ".".join([*made, "example"])

    def network(self, address: str) -> str:
        """The stand-in of an address of the network."""
        made = self._networks.get(address.lower())
        if made is None:
            number = len(self._networks)
            if ":" in address:
                made = f"2001:db8::{number + 1:x}"
            else:
                made = f"{('198.51.100', '203.0.113')[number // 254 % 2]}.{number % 254 + 1}"
            self._networks[address.lower()] = made
        return made

    def link(self, link: str) -> str:
        """The stand-in of a link; its structure stays."""
        scheme, _, rest = link.partition("://")
        place = re.match(r"[^/?#]*", rest)
        host = place.group() if place else ""
        user, at, bare = host.rpartition("@")
        name, colon, port = bare.partition(":")
        if user:
            user = _WORD.sub(lambda match: self.word(match.group()), user)
        known = name if self._network_like(name) is None else self._network_like(name)
        shown = known if known != name else self.domain(name)
        return f"{scheme}://{user}{at}{shown}{colon}{port}{self._tail(rest[len(host) :])}"

    def _network_like(self, name: str) -> str | None:
        return self.network(name) if _IP4.fullmatch(name) else None

    def _tail(self, tail: str) -> str:
        """Path, query and fragment, part by part."""
        parts = re.split(r"([/?#&;=])", tail)
        made = []
        for at, part in enumerate(parts):
            if at % 2:
                made.append(part)
                continue
            value = parts[at + 1] if at + 1 < len(parts) else ""
            mode = Mode.SYMBOL if value == "=" and at and parts[at - 1] in "?&;" else Mode.HIDE
            plain = unquote(part, errors="surrogateescape")
            renamed = self.text(plain, mode, hosts=False)
            made.append(
                part
                if renamed == plain
                else quote(renamed, safe="@:!$'()*+,~", errors="surrogateescape")
            )
        return "".join(made)
