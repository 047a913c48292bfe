"""The words that providers' interfaces use: what this program itself names is no secret.

They are taken from the providers' modules: names of fields and events, patterns, categories. What
is written for readers only (docstrings) and in samples is left out.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from types import CodeType, FunctionType

from ingest.providers import REGISTRY
from schemas.settings import Source

_WORD = re.compile(r"[A-Za-z]+", re.ASCII)
_PACKAGE = "ingest.providers."
_NOT_OURS = ("sample", "made", "sample_event")
_FURTHER = (
    "a an and are as at be by com for from has have http https in is it no not of on or that the "
    "this to was with utf application json text plain form urlencoded multipart charset www x "
    "bearer basic sns aws arn us eu ap ca sa east west north south central gmt mon tue wed thu fri "
    "sat sun jan feb mar apr may jun jul aug sep oct nov dec sha256 sha1 hmac v1 true false null "
    "unsubscribe optout opt out preferences"
)


@cache
def words() -> frozenset[str]:
    """Words of all providers, in lower case."""
    texts: list[str] = []
    for name, module in sorted(sys.modules.items()):
        if name.startswith(_PACKAGE):
            for key, value in vars(module).items():
                if not key.startswith("__"):
                    texts += _strings(value, name)
    for provider in REGISTRY.values():
        texts += _strings(provider.events, "")
        texts += _strings(getattr(provider, "mapping", {}), "")
    found = {word.lower() for text in texts for word in _WORD.findall(text)}
    return frozenset(found) | frozenset(_FURTHER.split())


def of_source(source: Source) -> tuple[frozenset[str], frozenset[str]]:
    """Words that the operator's own mapping names, and the texts that are events of the provider."""
    mapped = [*_strings(source.mapping, ""), *source.campaign_from]
    found = {word.lower() for text in mapped for word in _WORD.findall(text)}
    own = source.mapping.get("events")
    events = {*REGISTRY[source.provider].events, *(own if isinstance(own, dict) else ())}
    return frozenset(found), frozenset(events)


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
