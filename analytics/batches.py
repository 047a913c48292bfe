"""Cuts what is asked of ClickHouse into queries that are not too long."""

from collections.abc import Callable, Iterable, Iterator


def batches(
    items: Iterable[str], size_max: int, size_of: Callable[[str], int] = lambda _: 1
) -> Iterator[list[str]]:
    """Lists of items of which each has ``size_max`` together, or is one item."""
    some: list[str] = []
    size = 0
    for item in items:
        if some and size + size_of(item) > size_max:
            yield some
            some, size = [], 0
        some.append(item)
        size += size_of(item)
    if some:
        yield some
