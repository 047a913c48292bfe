"""Faust's read offsets, without those of chunk topics."""

from collections import defaultdict

from streams.transport.chunks import TP


class ReadOffsets(defaultdict[TP, int | None]):
    """Read offsets of other topics; those of chunk topics read as ``None``.

    Faust drops messages below the read offset, and sets it after a delivery even when a seek came
    in between, so after a seek back it would drop the messages asked for. Sessions do this instead.

    Args:
        topics: of chunks.
    """

    def __init__(self, topics: frozenset[str]) -> None:
        super().__init__(lambda: None)
        self._topics = topics

    def __getitem__(self, tp: TP) -> int | None:
        return None if tp.topic in self._topics else super().__getitem__(tp)
