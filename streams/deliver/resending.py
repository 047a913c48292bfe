"""Sends dead letters of ``deliver`` again, to the destinations that did not take them.

Invariant: what is about a person who was forgotten since is not sent
(``streams.deliver.forgotten``).
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from schemas.codec import Codec
from schemas.dead_letter import DESTINATION
from schemas.erasure import Erasures
from schemas.errors import DecodeError
from schemas.topics import BY_NAME
from streams.deliver import bodies
from streams.deliver.bodies import Body
from streams.deliver.destinations import AnyDestination
from streams.deliver.forgotten import is_forgotten
from streams.deliver.senders import AnySender, sender_of
from streams.deliver.suppress.accounts import Account


def body_of(letter: Mapping[str, Any], codec: Codec) -> Body:
    """The body that the record of a letter has, with the id that it had.

    Raises:
        DecodeError: it can't be read.
    """
    topic, key, value = letter["topic"], letter["key"], letter["content"] or None
    if topic not in bodies.KINDS:
        raise DecodeError("no_topic", str(topic))
    ce_id = letter["headers"].get("ce_id", "").encode() or None
    body_id = bodies.identity(ce_id, topic, key, value)
    if value is None:
        return bodies.of_lifted(body_id, key or b"", int(letter["occurred_at"]) // 1000)
    return bodies.of_record(topic, body_id, codec.decode(value, BY_NAME[topic].schema))


@dataclass(frozen=True, slots=True)
class _Parked:
    """The record of a letter, as far as it tells whose it is."""

    topic: str
    key: bytes | None
    timestamp: int
    headers: tuple[tuple[str, bytes | None], ...]


def is_of_forgotten(letter: Mapping[str, Any], codec: Codec, erasures: Erasures) -> bool:
    """Whether a letter is about what happened to a person before they were forgotten.

    Raises:
        DecodeError: its record can't be read.
    """
    topic, value = letter["topic"], letter["content"] or None
    headers = tuple((name, text.encode()) for name, text in letter["headers"].items())
    parked = _Parked(topic, letter["key"], int(letter["occurred_at"]) // 1000, headers)
    decoded = codec.decode(value, BY_NAME[topic].schema) if value and topic in BY_NAME else None
    return is_forgotten(parked, decoded, erasures)


async def send_again(
    destinations: Mapping[str, AnyDestination],
    codec: Codec,
    letters: Iterable[Mapping[str, Any]],
    erasures: Erasures,
) -> AsyncIterator[str]:
    """Sends each letter, one after the other, in the order given.

    Args:
        erasures: to obey; read to their end.

    Yields:
        Empty when it was delivered, else why not, for each letter.

    Raises:
        ConfigError: a certificate file of a destination can't be read.
    """
    senders: dict[str, AnySender] = {}
    async with AsyncExitStack() as stack:
        for letter in letters:
            name = letter["headers"].get(DESTINATION, "")
            if name not in destinations:
                yield f"no destination {name} in mailpulse.toml"
                continue
            if isinstance(destinations[name], Account):  # what came later would be undone
                yield f"for a provider's list: 'mailpulse deliver resend {name}' sends all in order"
                continue
            try:
                if is_of_forgotten(letter, codec, erasures):
                    yield "about a person who was forgotten since"
                    continue
                if name not in senders:
                    senders[name] = await stack.enter_async_context(sender_of(destinations[name]))
                outcome = await senders[name].send([body_of(letter, codec)])
            except DecodeError as error:
                yield error.reason
                continue
            yield outcome.said
