"""An import's tables: every line is a row or a problem with its line, and no text is guessed."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.history.tables import ROW_CHARS_MAX, rows

HEAD = "Type;To\n"
_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


def read(content: bytes, delimiter: str = "") -> tuple[dict[int, object], dict[int, str]]:
    """Rows and problems, by line."""
    found = [*rows(io.BytesIO(content), delimiter)]
    good = {one.line: json.loads(one.content) for one in found if not one.problem}
    return good, {one.line: one.problem for one in found if one.problem}


@given(
    cells=st.lists(st.tuples(_TEXT, _TEXT), max_size=8),
    delimiter=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    named=st.booleans(),
)
def test_what_a_spreadsheet_writes_is_read_back(
    cells: list[tuple[str, str]], delimiter: str, end: str, encoding: str, named: bool
) -> None:
    """Whatever is in the cells, also delimiters, quotes and line ends."""
    text = io.StringIO(newline="")
    if named:
        text.write(f"sep={delimiter}{end}")
    # Python quotes no lone \r by itself
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("Type", "To"), *cells])
    good, problems = read(text.getvalue().encode(encoding))
    assert not problems
    wanted = [{name: cell for name, cell in zip(("Type", "To"), one, strict=True) if cell}
              for one in cells]  # fmt: skip
    assert [*good.values()] == wanted


@given(
    before=st.integers(0, 5),
    after=st.integers(0, 5),
    broken=st.sampled_from(['a;"b', '"a;b', '"a;b"c', 'a;b";"', '"', 'a;"b";"c']),
)
def test_a_quote_that_is_not_closed_costs_its_own_line_alone(
    before: int, after: int, broken: str
) -> None:
    """The rows behind it are read, and none becomes a part of it."""
    lines = [*(f"x{n};y" for n in range(before)), broken, *(f"z{n};y" for n in range(after))]
    good, problems = read((HEAD + "\n".join(lines)).encode())
    at = before + 2
    assert problems.keys() == {at}
    assert [one["Type"] for one in good.values()] == [  # type: ignore[index]
        one.split(";")[0] for place, one in enumerate(lines) if place != before
    ]


@given(st.integers(0, 6))
def test_what_is_not_utf8_is_told_and_never_stored_otherwise(place: int) -> None:
    """An address with other characters would be another person."""
    lines = [f"x{number};y" for number in range(7)]
    lines[place] = f"x{place};müller@x.example"
    good, problems = read((HEAD + "\n".join(lines)).encode("latin-1"))
    assert problems.keys() == {place + 2}
    assert "UTF-8" in problems[place + 2]
    assert len(good) == 6


@pytest.mark.parametrize(
    ("head", "said"),
    [("To;Type;To", "two columns have the name 'To'"), ("Größe;To", "UTF-8"), (";;", "no columns")],
)
def test_a_table_whose_columns_cannot_be_told_apart_is_one_problem(head: str, said: str) -> None:
    """It would be read wrongly as a whole."""
    good, problems = read(f"{head}\na;b;c\nd;e;f\n".encode("latin-1"))
    assert not good
    assert problems.keys() == {1}
    assert said in problems[1]


def test_long_lines_are_told_in_pieces_of_bounded_size() -> None:
    """Whatever their length, and the next row is read."""
    long = "x" * (ROW_CHARS_MAX * 2)
    good, problems = read(f"{HEAD}a;b\n{long};y\n{'y;' * ROW_CHARS_MAX}\nc;d\n".encode())
    assert [*good] == [2, 5]
    assert [*problems] == [3, 4]
    assert read(b"") == read(b"\n") == read(HEAD.encode()) == ({}, {})


def test_columns_with_dots_are_found_by_a_mappings_paths() -> None:
    """``bounce.class`` is a value in an object; a name twice as both stays as it is."""
    good, _ = read(b"event,bounce.class,bounce.smtp_code,a,a.b, To ,\nbounced,hard,550,1,2,me,x\n")
    assert good[2] == {
        "event": "bounced", "bounce": {"class": "hard", "smtp_code": "550"}, "a": "1", "a.b": "2",
        "To": "me",
    }  # fmt: skip
