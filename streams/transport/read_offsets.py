"""What Faust may remember of how far it read: nothing of chunk topics."""

from collections import defaultdict

from streams.transport.chunks import TP


class ReadOffsets(defaultdict[TP, int | None]):
    """Faust's read offsets, blind for chunk topics.

    Faust drops messages below the read offset, and sets it after a delivery even when a seek came
    in between: after a seek back it would drop what was asked for. Sessions do this work.

    Args:
        topics: of chunks.
    """

    def __init__(self, topics: frozenset[str]) -> None:
        super().__init__(lambda: None)
        self._topics = topics

    def __getitem__(self, tp: TP) -> int | None:
        return None if tp.topic in self._topics else super().__getitem__(tp)
