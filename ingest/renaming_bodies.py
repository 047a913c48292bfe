"""Replaces in place what a body says of people: in JSON, JSON Lines, forms and queries.

Invariants:
1. Pure. Only the content of strings and numbers changes: white space, order, repeated names,
   escapes, a byte order mark and whatever is broken stay as they were, for they may be the fault.
2. JSON inside a string, in a field of a form, or in base64, is treated like JSON.
3. A body of no form that is known is text in which every word is replaced.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable
from urllib.parse import quote, unquote

from ingest.renaming import Mode, Renamer, is_written_time

DEPTH_MAX = 6
"""Most codings inside one another that are followed; what is deeper is hidden whole."""
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"?|[{}\[\],:]|-?[0-9][0-9.eE+-]*|[^\s"{}\[\],:]+', re.DOTALL)
_LITERALS = ("true", "false", "null")
_FORM = re.compile(r"\s*[\w.$\[\]%+-]{1,200}=", re.ASCII)
_BASE64 = re.compile(r"[A-Za-z0-9+/]{16,}={0,2}\s*", re.ASCII)
_COUNTRY = re.compile(r"[A-Za-z]{2}", re.ASCII)
_COUNTRY_FIELD = re.compile(r"country|^geo$", re.IGNORECASE)
_ESCAPED = re.compile(r"\\u", re.ASCII)
_KEY = re.compile(r"[A-Za-z_$@][\w$ .:@/-]{0,63}", re.ASCII)


def body(content: bytes, renamer: Renamer) -> bytes:
    """A decoded body with what it says of people replaced."""
    text = content.decode("utf-8", "surrogateescape")
    return _any(text, "", renamer, 0).encode("utf-8", "surrogateescape")


def _any(text: str, field: str, renamer: Renamer, depth: int) -> str:
    """A text that may be JSON or a form."""
    bare = text.lstrip("\ufeff \t\r\n")
    if depth > DEPTH_MAX:
        return renamer.text(text, Mode.FORCE)
    if bare[:1] in ("{", "["):
        return _Json(renamer, depth).renamed(text)
    if depth < 2 and not field and _FORM.match(text):
        return form(text, renamer, depth)
    return renamer.text(text, renamer.mode(field) if field else Mode.HIDE)


def form(text: str, renamer: Renamer, depth: int = 0) -> str:
    """A form or a query string; pairs that stay are left as they are written."""
    made = []
    for pair in text.split("&"):
        name, sign, value = pair.partition("=")
        plain_name, plain = _unquoted(name), _unquoted(value)
        new_name = _key(plain_name, renamer)
        field = re.split(r"[.\[]", plain_name)[-1].rstrip("]") or plain_name
        new = value_of(plain, field, renamer, depth)
        left = name if new_name == plain_name else _quoted(new_name)
        made.append(left + sign + (value if new == plain else _quoted(new)))
    return "&".join(made)


def _unquoted(text: str) -> str:
    return unquote(text.replace("+", " "), errors="surrogateescape")


def _quoted(text: str) -> str:
    return quote(text, safe=" ", errors="surrogateescape").replace(" ", "+")


def value_of(text: str, field: str, renamer: Renamer, depth: int = 0) -> str:
    """A value under the name of its field."""
    bare = text.lstrip()
    if bare[:1] in ("{", "[") and len(bare) > 1:
        return _any(text, field, renamer, depth + 1)
    if _COUNTRY.fullmatch(text) and _COUNTRY_FIELD.search(field):
        return text
    if is_written_time(field, text):
        return text
    inside = _in_base64(text)
    if inside is not None:
        made = _any(inside, field, renamer, depth + 1)
        return base64.b64encode(made.encode("utf-8", "surrogateescape")).decode()
    return renamer.text(text, renamer.mode(field))


def _in_base64(text: str) -> str | None:
    """The JSON that a text holds in base64."""
    if not _BASE64.fullmatch(text):
        return None
    try:
        inside = base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return inside if inside.lstrip()[:1] in ("{", "[") else None


def _key(name: str, renamer: Renamer) -> str:
    """A member's name: one that is written like a name in a program stays."""
    return renamer.text(name, Mode.SYMBOL if _KEY.fullmatch(name) else Mode.HIDE)


class _Json:
    """One JSON text."""

    def __init__(self, renamer: Renamer, depth: int) -> None:
        self._renamer = renamer
        self._depth = depth
        self._fields = [""]
        """Field of each level that is open."""
        self._objects = [False]

    def renamed(self, text: str) -> str:
        parts: list[str] = []
        done = 0
        for token in _TOKEN.finditer(text):
            parts += (text[done : token.start()], self._token(token.group(), text, token.end()))
            done = token.end()
        return "".join(parts) + text[done:]

    def _token(self, token: str, text: str, end: int) -> str:
        first = token[0]
        if first in "{[":
            self._fields.append(self._fields[-1])
            self._objects.append(first == "{")
        elif first in "}]":
            if len(self._fields) > 1:
                self._fields.pop()
                self._objects.pop()
        elif first == '"':
            return self._string(token, text, end)
        elif first in "-0123456789":
            field = self._fields[-1]
            return self._renamer.number(token, self._renamer.mode(field), field)
        elif first not in ",:" and token not in _LITERALS:
            return self._renamer.text(token)
        return token

    def _string(self, token: str, text: str, end: int) -> str:
        renamer = self._renamer
        try:
            plain = json.loads(token, strict=False)
        except ValueError:
            return '"' + renamer.text(token[1:], Mode.HIDE)
        if self._objects[-1] and _follows_colon(text, end):
            self._fields[-1] = plain
            return self._written(token, plain, lambda: _key(plain, renamer))
        field = self._fields[-1]
        return self._written(token, plain, lambda: value_of(plain, field, renamer, self._depth))

    def _written(self, token: str, plain: str, make: Callable[[], str]) -> str:
        """A string as JSON, with the escapes that the original has."""
        made = make()
        if made == plain:
            return token
        text = json.dumps(made, ensure_ascii=bool(_ESCAPED.search(token)))
        return text.replace("/", "\\/") if "\\/" in token else text


def _follows_colon(text: str, end: int) -> bool:
    while end < len(text) and text[end] in " \t\r\n":
        end += 1
    return text[end : end + 1] == ":"
