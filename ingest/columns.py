"""Events of one request that have most in common, column by column instead of one by one.

Invariants:
1. Pure. ``events()`` is what a ``Columns`` means; whoever works on columns makes of them exactly
   what would have been made of those events, one by one.
2. Of a batch's hundred events a column costs what some single values do: the loops over it are C.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.event import Event, message_key


@dataclass(frozen=True, slots=True)
class Columns:
    """Events that differ in some fields only.

    Attributes:
        alike: an event with what is the same in all.
        fields: field's name -> its value in each; ``batch_index`` is always among them,
            ``metadata`` never.
        metadata: key -> its value in each, keys in their order; if there are any, all of each
            event's metadata.
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
        """The events, in order; each has lists and maps of its own."""
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
        recipients = self.fields.get("recipient")
        if recipients is not None and self.alike["recipient_certain"] and all(recipients):
            keys = "\n".join(recipients).lower().encode("utf-8", "replace").split(b"\n")
            if len(keys) == len(recipients):
                return keys
        return [message_key(event) for event in self.events()]
