"""Events of one request that differ in few fields, stored by column.

Invariants:
1. Pure. ``events()`` defines the meaning of a ``Columns``: code that works on columns gives exactly
   what it would give for those events one by one.
2. A column of a hundred events costs about as much as a few single values: the loops over it are in
   C.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.event import Event, message_key


@dataclass(frozen=True, slots=True)
class Columns:
    """Events that differ in some fields only.

    Attributes:
        alike: an event with the values that are the same in all.
        fields: field's name -> its value in each event; always with ``batch_index``, never with
            ``metadata``.
        metadata: key -> its value in each event, keys in their order; unless empty, this is all of
            the events' metadata.
    """

    alike: Event
    fields: dict[str, Sequence[Any]]
    metadata: dict[str, Sequence[str]] = field(default_factory=dict)

    @property
    def positions(self) -> Sequence[int]:
        """``batch_index`` of each."""
        return self.fields["batch_index"]

    def __len__(self) -> int:
        """How many events."""
        return len(self.positions)

    def events(self) -> list[Event]:
        """The events, in order; they share no lists or maps."""
        return [self._event(number) for number in range(len(self))]

    def _event(self, number: int) -> Event:
        event: Any = self.alike.copy()
        for name, column in self.fields.items():
            event[name] = column[number]
        event["tags"] = list(event["tags"])
        own = {key: column[number] for key, column in self.metadata.items()}
        event["metadata"] = own or dict(event["metadata"])
        made: Event = event
        return made

    def keys(self) -> list[bytes]:
        """``message_key`` of each event."""
        identities = self.fields.get("recipient_identity")
        if identities is not None and self.alike["recipient_certain"] and all(identities):
            return [identity.encode("utf-8", "replace") for identity in identities]
        return [message_key(event) for event in self.events()]
