"""How far one partition has been delivered, when records finish out of order.

Invariants:
1. Pure.
2. ``offset`` is the lowest offset that is not finished: the one to commit. A crash repeats records,
   and loses none.
3. What is finished above it goes into the commit's metadata, so that a restart does not repeat it.
   Only what does not fit there is repeated.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

METADATA_BYTES_MAX = 3_500
"""Of the metadata of a commit; Kafka's default limit is 4,096 (``offset.metadata.max.bytes``)."""
_SPAN = r"[0-9]{1,18}\+[0-9]{1,18}"
_FORM = re.compile(rf"1 ([0-9]{{1,18}}) ((?:{_SPAN}(?:,{_SPAN})*)?)")


class Progress:
    """One partition, as one destination sees it.

    Args:
        offset: the lowest offset that is not finished.
        spans: ``(begin, end)`` of what is finished above it, end exclusive, in any order.
        order: number of the operator's order to send again that this follows; 0: none.

    Attributes:
        position: the next offset to read.
    """

    def __init__(self, offset: int, spans: Iterable[tuple[int, int]] = (), order: int = 0) -> None:
        self.offset = self.position = offset
        self.order = order
        self._begins: list[int] = []
        self._ends: list[int] = []
        for begin, end in spans:
            self.finish(begin, end)

    def is_finished(self, offset: int) -> bool:
        """Whether the record at ``offset`` was delivered or parked."""
        if offset < self.offset:
            return True
        at = bisect_right(self._begins, offset) - 1
        return at >= 0 and offset < self._ends[at]

    def unfinished(self, begin: int, end: int) -> int:
        """How many offsets from ``begin`` to before ``end`` are not finished."""
        begin = max(begin, self.offset)
        done = sum(
            max(0, min(last, end) - max(first, begin))
            for first, last in zip(self._begins, self._ends, strict=True)
        )
        return max(0, end - begin) - done if begin < end else 0

    def finish(self, begin: int, end: int | None = None) -> None:
        """Marks the offsets from ``begin`` to before ``end`` as finished; default: one."""
        end = begin + 1 if end is None else end
        begin = max(begin, self.offset)
        if begin >= end:
            return
        first, last = bisect_left(self._ends, begin), bisect_right(self._begins, end)
        if first < last:  # touches or overlaps these
            begin = min(begin, self._begins[first])
            end = max(end, self._ends[last - 1])
        if begin <= self.offset:
            self.offset = end
            del self._begins[:last], self._ends[:last]
        else:
            self._begins[first:last], self._ends[first:last] = [begin], [end]

    def read(self, offset: int) -> None:
        """Notes that ``offset`` is the next one read: those between have no records."""
        if offset > self.position:
            self.finish(self.position, offset)
            self.position = offset

    @property
    def spans(self) -> list[tuple[int, int]]:
        """What is finished above ``offset``, in order, as ``(begin, end)``."""
        return list(zip(self._begins, self._ends, strict=True))

    def metadata(self, bytes_max: int = METADATA_BYTES_MAX) -> str:
        """The order and the spans that fit, lowest first, as text for a commit.

        A span is its distance from the end of the one before and its length.
        """
        text, at = f"1 {self.order} ", self.offset
        parts: list[str] = []
        size = len(text)
        for begin, end in zip(self._begins, self._ends, strict=True):
            part = f"{begin - at}+{end - begin}"
            size += len(part) + 1
            if size > bytes_max:
                break
            parts.append(part)
            at = end
        return text + ",".join(parts)


def restored(offset: int, metadata: str) -> Progress:
    """The progress that a commit describes; metadata of another form counts as empty."""
    found = _FORM.fullmatch(metadata)
    if found is None:
        return Progress(offset)
    spans, at = [], offset
    for part in filter(None, found[2].split(",")):
        gap, length = map(int, part.split("+"))
        spans.append((at + gap, at + gap + length))
        at += gap + length
    return Progress(offset, spans, int(found[1]))
