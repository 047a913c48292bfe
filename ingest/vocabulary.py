"""The words that providers' interfaces use: what this program itself names is no secret.

They are taken from the providers' modules: names of fields and events, patterns, categories. What
is written for readers only (docstrings) and in samples is left out.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import CodeType, FunctionType
from typing import Any

from ingest.providers import REGISTRY
from ingest.providers.generic import Generic
from ingest.renaming import Mode
from schemas.settings import Source

_WORD = re.compile(r"[A-Za-z]+", re.ASCII)
_FIXED = re.compile(r"(?=.*[0-9@])[\w.+-]{4,40}(?:@[\w.-]+)?", re.ASCII)
"""Texts with digits or an @ that the code of a provider compares with, as of test calls."""
_PACKAGE = "ingest.providers."
_NOT_OURS = ("sample", "made", "sample_event")
_FURTHER = (
    "a an and are as at be by com for from has have http https in is it no not of on or that the "
    "this to was with utf application json text plain form urlencoded multipart charset www x "
    "bearer basic sns aws arn us eu ap ca sa east west north south central gmt mon tue wed thu fri "
    "sat sun jan feb mar apr may jun jul aug sep oct nov dec sha256 sha1 hmac v1 true false null "
    "unsubscribe optout opt out preferences "
    "mozilla chrome chromium firefox safari edge opera msie internet explorer outlook thunderbird "
    "apple gmail yahoo android ios iphone ipad mac macos windows linux desktop mobile tablet phone "
    "webmail browser samsung pixel google proxy bot spider crawler other computer smartphone"
)


_ROLES = {
    "event": Mode.SYMBOL, "bounce_class": Mode.SYMBOL, "bounce_reason": Mode.SYMBOL,
    "machine": Mode.SYMBOL, "diagnostic": Mode.TEXT, "smtp_code": Mode.TEXT,
    "enhanced_status": Mode.TEXT, "user_agent": Mode.AGENT,
}  # fmt: skip
"""Field of a mapping -> how what it finds is treated."""


@cache
def _texts() -> tuple[str, ...]:
    """Every text in the modules and data files of providers."""
    texts: list[str] = []
    for name, module in sorted(sys.modules.items()):
        if name.startswith(_PACKAGE):
            for key, value in vars(module).items():
                if not key.startswith("__"):
                    texts += _strings(value, name)
    for provider in REGISTRY.values():
        texts += _strings(provider.events, "")
        texts += _strings(getattr(provider, "mapping", {}), "")
    return tuple(texts)


@cache
def words() -> frozenset[str]:
    """Words of all providers, in lower case."""
    found = {word.lower() for text in _texts() for word in _WORD.findall(text)}
    return frozenset(found) | frozenset(_FURTHER.split())


@dataclass(frozen=True, slots=True)
class OwnWords:
    """What a source's own configuration names.

    Attributes:
        words: in lower case.
        whole: texts that are harmless as a whole: events, and what the provider always sends.
        modes: field -> how it is treated.
    """

    words: frozenset[str]
    whole: frozenset[str]
    modes: Mapping[str, Mode]


def of_source(source: Source) -> OwnWords:
    """What the operator's own mapping and the provider's data file name."""
    provider = REGISTRY[source.provider]
    mapping = provider.mapping_of(source) if isinstance(provider, Generic) else source.mapping
    mapped = [*_strings(mapping, ""), *source.campaign_from]
    named = mapping.get("events")
    places = {one.rpartition(".")[2] for one in source.campaign_from}
    fixed = {text for text in _texts() if _FIXED.fullmatch(text)}
    return OwnWords(
        frozenset(word.lower() for text in mapped for word in _WORD.findall(text)),
        frozenset({*provider.events, *(named if isinstance(named, dict) else ()), *places, *fixed}),
        _modes(mapping),
    )


def _modes(mapping: Mapping[str, Any]) -> dict[str, Mode]:
    """The last part of each path of a mapping -> how it is treated."""
    made: dict[str, Mode] = {}
    paths = mapping.get("fields")
    for name, path in (paths if isinstance(paths, dict) else {}).items():
        if name in _ROLES:
            for one in path if isinstance(path, list) else [path]:
                for part in str(one).split("+"):
                    made[part.rpartition(".")[2]] = _ROLES[name]
    return made


def _strings(value: object, module: str) -> list[str]:
    """The texts in a value of a module, those of its code included."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, re.Pattern):
        return [value.pattern] if isinstance(value.pattern, str) else []
    if isinstance(value, Mapping):
        return [text for pair in value.items() for one in pair for text in _strings(one, module)]
    if isinstance(value, list | tuple | set | frozenset):
        return [text for one in value for text in _strings(one, module)]
    if isinstance(value, FunctionType) and value.__module__ == module:
        return _in_code(value.__code__, value.__doc__)
    if isinstance(value, type) and value.__module__ == module:
        return [text for one in vars(value).values() for text in _in_class(one)]
    return []


def _in_class(value: object) -> list[str]:
    if isinstance(value, FunctionType):
        return _in_code(value.__code__, value.__doc__)
    return _strings(value, "") if isinstance(value, Mapping | tuple) else []


def _in_code(code: CodeType, doc: str | None) -> list[str]:
    if code.co_name in _NOT_OURS:
        return []
    texts: list[str] = []
    for constant in _flat(code.co_consts):
        if isinstance(constant, CodeType):
            texts += _in_code(constant, None)
        elif isinstance(constant, str) and constant != doc:
            texts.append(constant)
    return texts


def _flat(values: Iterable[object]) -> Iterable[object]:
    for value in values:
        if isinstance(value, tuple | frozenset):
            yield from _flat(value)
        else:
            yield value
