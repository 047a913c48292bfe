"""Finds email addresses in texts, in every coding in which they occur: decode, then look.

Invariants:
1. Pure and total. The time is proportional to the length of the text (``schemas.codings``,
   invariant 2; the windows in which a local part is looked for don't overlap).
2. What is found is a part of the text as it stands, so that it can be replaced there.
3. In doubt more is found, not less: this is for keeping addresses out of places.

An address has an @ (or its full-width form), and a domain with a dot or an address literal: a word
with an @ before a host without a dot is no address, unless it is the one that is known to be there.
Found are addresses in percent-encoding, HTML, JSON, quoted-printable and base64, repeated or inside
one another; with quoted and international local parts and domains, in any case.

In a link, ``/ = & ? #`` part what is plain; percent-encoded as often as the @ is, they belong to
the local part. So ``?to=ada%2Fnews%40example.com`` has all of ``ada/news@example.com``.

Sources: RFC 5321 (4.1.2, addresses), RFC 5322 (3.2.3, atoms), RFC 6531 (international addresses).
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from schemas import codings
from schemas.codings import INNER_QUOTE, Reading
from schemas.event import ID_CHARS_MAX, TEXT_CHARS_MAX
from schemas.identity import domain_identity

CUTS_CHARS = (64, 128, ID_CHARS_MAX, TEXT_CHARS_MAX)
"""Lengths at which ingress cuts the fields of an event: addresses of clients, native types, ids and
names, texts."""
ADDRESS_CHARS_MAX = 320
"""So much at the end of a text that was cut may be the beginning of an address."""
QUOTED_CHARS_MAX = 130
"""Longest quoted local part that is taken for one, with its quotes: RFC 5321 allows 64 octets. So
long may a comment be, too."""

_UNSEEN = "\u00ad\u200b\u2060\ufeff"
"""Soft hyphens and spaces of no width: no part of an address. ``schemas.identity`` has them all."""
_SIGN = re.compile(f"[{_UNSEEN}]{{0,8}}[@\uff20\ufe6b]{{1,8}}")
_SIGN_OF_KNOWN = re.compile(f"{_SIGN.pattern}|=")
_PRINTABLE = re.compile("=[0-9A-Fa-f]{2}|=\r?\n")
_SPACES = r"\s\x00-\x20\x7f\u2028-\u202f\u3000"
_BRACKETS = (
    INNER_QUOTE + "\u00ab\u00bb\u2018\u201a-\u201f\u2039\u203a\u3001\u3008-\u3011\uff08\uff09\uff0c"
    "\uff1a\uff1b\uff1c\uff1e\uff1f\uff20\ufe6b"
)
_PARTING = "/=&?#|{}`'\u2019"
"""May be part of a local part, and stand before one."""
_PARTED = re.compile(r"[\s<>\"'(),;&?/=]")
_CUT_ESCAPE = re.compile(r"(?:%[0-9A-Fa-f]?|&#?\w{0,9}|\\[uxUX]?[0-9A-Fa-f]{0,7}|=[0-9A-Fa-f]?)\Z")
_LOCAL = re.compile(rf"[^{_SPACES}{_BRACKETS}\"(),:;<>@\[\]\\]*+")
"""From the @ to the left, on the text turned round."""
_DOTS = r".\u3002\uff0e\uff61"
_SIGNS = r"\x21-\x2c\x2f\x3a-\x40\x5b-\x5e\x60\x7b-\x7f\u2010-\u2027\u2032-\u205e"
_LABEL = rf"[^{_SPACES}{_BRACKETS}{_SIGNS}{_DOTS}]"
_DOMAIN = re.compile(rf"{_LABEL}++(?:[{_DOTS}]{_LABEL}++)++")
_HOST = re.compile(rf"{_LABEL}++(?:[{_DOTS}]{_LABEL}++)*+[{_DOTS}]?")
_READABLE = {ord(INNER_QUOTE): '"', **{ord(unseen): None for unseen in _UNSEEN}}
_LITERAL = re.compile(r"\[[^\]\[\s@<>\"]{2,80}\]")
_NUMERIC = re.compile(r"[.0-9]++")
_LIKELY = re.compile(
    rf"[\w\"]@.+[{_DOTS}](?:[^\W\d_]{{2,24}}|xn--[a-z0-9-]{{2,59}}|[0-9]+\])\]?$",
    re.IGNORECASE,
)
_DOTTED = re.compile(r"[\w-]++(?:\.[\w-]++)*\.[A-Za-z]{2,24}")


_WHOLE = re.compile(
    r'(?:"(?:[^"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*"|[^\s\x00-\x1f\x7f"(),:;<>@\[\\\]]+)'
    r"@(?:\[[0-9A-Za-z:.-]+\]|[^\s\x00-\x1f\x7f!-,/:-@\[-^`{-~]+)"
)


@dataclass(frozen=True, slots=True)
class Found:
    """An address in a text.

    Attributes:
        begin: where it begins in the text as it stands.
        sign: where its @ begins there; ``end`` if the whole is one piece of base64.
        end: where it ends.
        address: decoded.
    """

    begin: int
    sign: int
    end: int
    address: str


def find(text: str, known: str = "", *, others: bool = True) -> list[Found]:
    """The addresses in a text, in order, none overlapping another.

    Args:
        known: an address that may be in it; found in any case, also without a dot or an @, and with
            ``=`` in place of the @, as in the return path of a bounce.
        others: find other addresses too.
    """
    if not known and text.isalnum() and text.isascii() and text.islower():
        return []  # most texts of a log
    reading = codings.read(text)
    found = _in_plain(reading, known, others)
    if len(reading.text) >= codings.BASE64_CHARS_MIN and not reading.text.islower():
        found += _in_base64(reading, known, others)
    return _apart(found) if len(found) > 1 else found


def replaced(
    text: str, stand_in: Callable[[Found], str], known: str = "", *, others: bool = True
) -> str:
    """``text`` with every address replaced; arguments as of ``find``."""
    return _without(text, find(text, known, others=others), stand_in)


def _without(text: str, found: list[Found], stand_in: Callable[[Found], str]) -> str:
    if not found:
        return text
    parts: list[str] = []
    done = 0
    for one in found:
        parts += (text[done : one.begin], stand_in(one))
        done = one.end
    return "".join(parts) + text[done:]


def replaced_in_id(text: str, stand_in: Callable[[Found], str], known: str = "") -> str:
    """``text``, the id of a message, with every address replaced.

    A message id looks like an address itself (RFC 5322, 3.6.4), so what is before and behind its
    last @ is searched apart; ``known`` is searched in the whole.
    """
    if known:
        text = replaced(text, stand_in, known, others=False)
    local, at, domain = text.rpartition("@")
    return replaced(local, stand_in) + at + replaced(domain, stand_in)


def is_of(found: Found, known: str) -> bool:
    """Whether an address is the known one, perhaps with something in front: ``q=ada@…``."""
    address, end = found.address.lower(), known.lower()
    front = address[: len(address) - len(end)]
    return bool(known) and address.endswith(end) and not front[-1:].isalnum()


def replaced_in_field(
    text: str, stand_in: Callable[[Found], str], known: str = "", *, last: Callable[[str], str]
) -> str:
    """The same for a field of an event, which ingress may have cut within an address.

    Args:
        last: given the last word of a text that may have been cut, decoded, returns what replaces
            it, or the same text if it may stay.
    """
    if len(text) not in CUTS_CHARS:
        return replaced(text, stand_in, known)
    found = find(text, known)
    begin = max(_last_word(text), found[-1].end if found else 0)
    word = codings.read(text[begin:]).text
    instead = last(word)
    rest = text[begin:] if instead == word else instead
    # found in the whole text: base64 that is cut in two may not be read
    return _without(text[:begin], found, stand_in) + rest


def _last_word(text: str) -> int:
    """Where the last word of a text begins, in whatever coding it and what parts it is."""
    reading = codings.read(text)
    tail = max(0, len(reading.text) - ADDRESS_CHARS_MAX)
    cut = _CUT_ESCAPE.search(reading.text, tail)
    end = cut.start() if cut else len(reading.text)
    begin = max((found.end() for found in _PARTED.finditer(reading.text, tail, end)), default=tail)
    return reading.begin(begin) if begin < len(reading.text) else len(text)


def has_sign(text: str) -> bool:
    """Whether there is an @ in a decoded text, in any of its forms, or in base64 in it."""
    if _SIGN.search(text):
        return True
    return any(
        _SIGN.search(codings.read(content).text) for content, _ in codings.base64_texts(text)
    )


def is_address(text: str) -> bool:
    """Whether a text is one address and nothing beside it, no name and no other delimiter.

    Then all that ``find`` takes for what parts a link belongs to it: ``r&d@…``, ``a/b@…``.
    """
    return _WHOLE.fullmatch(text) is not None


def is_domain(text: str) -> bool:
    """Whether a text is a host's name or an address literal, and nothing else."""
    whole = _HOST.fullmatch(text) or _LITERAL.fullmatch(text)
    return whole is not None and not find(text)


def _in_plain(reading: Reading, known: str, others: bool) -> list[Found]:
    """What is not in base64."""
    text = reading.text
    found: list[Found] = []
    if "@" not in text and "=" not in text and text.isascii() and (not known or "@" in known):
        return found
    if others:
        found += _look(reading)
    if known:
        found += _look_for(reading, known)
    if _PRINTABLE.search(text):
        if others:
            found += _look(codings.read_quoted_printable(reading, links=True))
        if known:
            found += _look_for(codings.read_quoted_printable(reading, links=False), known)
    return found


def _in_base64(reading: Reading, known: str, others: bool) -> list[Found]:
    """Only what is: a domain of more than chance, since any text can be read as base64."""
    found: list[Found] = []
    end = len(reading.text)
    for content, place in codings.base64_texts(reading.text):
        for one in _in_plain(codings.read(content), known, others):
            if not (_LIKELY.search(one.address) or is_of(one, known)):
                continue
            begin = reading.begin(place(one.begin))
            last = reading.end(min(end, place(one.end - 1) + 4) - 1)
            found.append(Found(begin, last, last, one.address))
    return found


# --- looking --------------------------------------------------------------------------------------


def _look(reading: Reading) -> Iterator[Found]:
    """Addresses around each @ of a decoded text."""
    text, before = reading.text, 0
    for match in _SIGN.finditer(text):
        at, low = match.start(), before
        before = match.end()
        end = _domain_end(text, before)
        if not end:
            continue
        begin = _local_begin(reading, low, at)
        if begin < at:
            address = f"{text[begin:at]}@{text[before:end]}"
            yield _found(reading, begin, at, end, address.translate(_READABLE))


def _domain_end(text: str, begin: int) -> int:
    """Where the domain that begins at ``begin`` ends; 0 if there is none."""
    if text[begin : begin + 1] == "(":
        begin = text.find(")", begin, begin + QUOTED_CHARS_MAX) + 1 or begin
    found = _DOMAIN.match(text, begin)
    if found is None:
        found = _LITERAL.match(text, begin)
        return 0 if found is None else found.end()
    if _NUMERIC.fullmatch(found.group()) and found.group().count(".") != 3:
        return 0  # a version number, not an address of the network
    return found.end()


def _local_begin(reading: Reading, low: int, at: int) -> int:
    """Where the local part that ends at ``at`` begins; ``at`` if there is none.

    It is a word, or several of which some are quoted, as in ``"ada".b@``; a comment may follow.
    """
    text, end = reading.text, at
    if text[at - 1 : at] == ")":
        end = text.rfind("(", max(low, at - QUOTED_CHARS_MAX), at)
        if end < 0:
            return at
    begin = _word_begin(reading, low, end)
    while low < begin < end and at - begin < QUOTED_CHARS_MAX:
        beside = text[begin] == "." and text[begin - 1] in _QUOTES
        if not (beside or (text[begin] in _QUOTES and text[begin - 1] == ".")):
            break
        further = _word_begin(reading, low, begin)
        if further == begin:
            break
        begin = further
    return begin if begin < end else at


_QUOTES = ('"', INNER_QUOTE)


def _word_begin(reading: Reading, low: int, at: int) -> int:
    """Where the word that ends at ``at`` begins, or the words with dots between them."""
    text = reading.text
    quote = text[at - 1 : at]
    if quote in _QUOTES:
        begin = text.rfind(quote, max(0, at - QUOTED_CHARS_MAX), at - 1)
        content = text[begin + 1 : at - 1]
        is_text = any(map(str.isalnum, content)) and "\n" not in content
        return begin if begin >= 0 and is_text else at
    matched = _LOCAL.match(text[low:at][::-1])
    begin = at - (matched.end() if matched else 0)
    depth = -1
    for index in range(at - 1, begin - 1, -1):
        if text[index] in _PARTING:
            if depth < 0:
                depth = reading.depth(at)
            if not _belongs(reading, index, at, begin, depth):
                return index + 1
    return begin


def _belongs(reading: Reading, index: int, at: int, begin: int, depth: int) -> bool:
    """Whether the character at ``index``, one of ``_PARTING``, belongs to the local part."""
    text = reading.text
    character = text[index]
    if character in "'\u2019" and begin < index and text[index - 1] not in _PARTING:
        return True  # o'neil@; a quote before an address has nothing to its left
    own = reading.depth(index)
    if character in "=&?":
        if own > depth:
            return True
        return character == "=" and _is_return_path(text, begin, index, at)
    return own > 0 and own >= depth and text[index - 1 : index + 2].count("/") < 2


def _is_return_path(text: str, begin: int, index: int, at: int) -> bool:
    """Whether ``=`` stands for the @ of an address in a return path.

    As in ``bounces+7-ada=example.com@sender.example`` (VERP).
    """
    name = text[max(begin, index - QUOTED_CHARS_MAX) : index]
    if not ("+" in name or "-" in name) or _DOTTED.fullmatch(text, index + 1, at) is None:
        return False
    return not any(mark in name for mark in "?&")


def _look_for(reading: Reading, known: str) -> Iterator[Found]:
    """A known address, wherever its characters stand; also with ``=`` in place of the @."""
    text, known = reading.text.lower(), known.lower()
    if len(text) != len(reading.text):
        text = reading.text  # a letter has no lower case of one character
    local, at, domain = known.rpartition("@")
    if not at:
        yield from _look_for_name(reading, text, known)
        return
    domains = (domain, domain_identity(domain))
    begin = text.find(local)
    while begin >= 0:
        sign = begin + len(local)
        between = _SIGN_OF_KNOWN.match(text, sign)
        if between is not None:
            after = between.end()
            size = max(len(one) * text.startswith(one, after) for one in domains)
            if size:
                yield _found(reading, begin, sign, after + size, known)
        begin = text.find(local, begin + 1)


def _look_for_name(reading: Reading, text: str, known: str) -> Iterator[Found]:
    """A recipient that is no address, as a word of its own."""
    begin = text.find(known)
    while begin >= 0:
        end = begin + len(known)
        if not (text[begin - 1 : begin].isalnum() or text[end : end + 1].isalnum()):
            yield _found(reading, begin, end - 1, end, known)
        begin = text.find(known, end)


def _found(reading: Reading, begin: int, at: int, end: int, address: str) -> Found:
    return Found(reading.begin(begin), reading.begin(at), reading.end(end - 1), address)


def _apart(found: list[Found]) -> list[Found]:
    """Those that overlap joined to one, with the address of the longest."""
    apart: list[Found] = []
    for one in sorted(found, key=lambda item: (item.begin, -item.end)):
        if not apart or one.begin >= apart[-1].end:
            apart.append(one)
        elif one.end > apart[-1].end:
            last = apart[-1]
            longer = max(last, one, key=lambda item: item.end - item.begin)
            apart[-1] = Found(last.begin, one.sign, one.end, longer.address)
    return apart
