"""CSV for spreadsheets: no text is run as a formula, and nothing else is changed."""

import csv
import io
from collections.abc import AsyncIterator

from hypothesis import given
from hypothesis import strategies as st

from analytics.dashboard.formulas import BEGINS, harmless, without_formulas

CELLS = st.one_of(st.text(alphabet="=+-@\t\r\n\",;' a1é", max_size=6), st.integers(), st.none())


def clickhouses(value: str | int | None) -> str:
    """A value as ClickHouse writes it in CSV."""
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    return "\\N" if value is None else str(value)


async def _cut(content: bytes, places: set[int]) -> AsyncIterator[bytes]:
    ends = sorted({place % (len(content) + 1) for place in places} | {len(content)})
    for begin, end in zip([0, *ends], ends, strict=False):
        yield content[begin:end]


@given(
    rows=st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=4),
    places=st.sets(st.integers(0, 60)),
)
async def test_texts_are_harmless_wherever_the_pieces_are_cut(
    rows: list[list[str | int | None]], places: set[int]
) -> None:
    """A reader of CSV gets each text harmless, and numbers and NULL as they are."""
    content = "".join(",".join(map(clickhouses, row)) + "\n" for row in rows).encode()
    pieces = [piece async for piece in without_formulas(_cut(content, places))]
    read = list(csv.reader(io.StringIO(b"".join(pieces).decode(), newline="")))
    assert read == [
        [harmless(cell) if isinstance(cell, str) else clickhouses(cell) for cell in row]
        for row in rows
    ]


@given(text=st.text(alphabet="=+-@\t\r\n'a1", max_size=4))
def test_no_harmless_text_begins_like_a_formula(text: str) -> None:
    """And what is none stays as it is."""
    assert not harmless(text).startswith(BEGINS)
    assert harmless(text).removeprefix("'") == text.removeprefix("'")
