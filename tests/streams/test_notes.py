"""The note next to a store: read as it was written, or not at all."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from streams.worker.notes import Held, Note, pack, unpack

helds = st.builds(
    Held, st.binary(min_size=8, max_size=8), st.integers(0, 2**64 - 1), st.integers(-1, 2**62)
)


@given(helds, st.integers(0, 10_000), st.binary(max_size=3))
def test_a_slot_is_read_as_written_or_not_at_all(held: Held, at: int, noise: bytes) -> None:
    """It has a checksum."""
    slot = pack(held)
    assert unpack(slot) == held
    assert unpack(slot + noise) == held
    flipped = bytearray(slot)
    flipped[at % len(slot)] ^= 1 + at % 255
    assert unpack(bytes(flipped)) is None
    assert unpack(slot[: at % len(slot)]) is None


def test_the_note_before_is_read_when_the_last_one_was_cut_off(tmp_path: Path) -> None:
    """The two slots are written in turn."""
    path = tmp_path / "s.note"
    note = Note(path)
    assert note.read() is None
    written = [Held(b"12345678", number, number) for number in range(1, 6)]
    for before, held in zip([None, *written], written, strict=False):
        note.write(held)
        assert note.read() == held
        whole = path.read_bytes()
        at = held.number % 2 * 512
        path.write_bytes(whole[: at + 20] + b"\0" * 8 + whole[at + 28 :])
        assert Note(path).read() == before
        path.write_bytes(whole)
    note.close()
