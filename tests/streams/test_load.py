"""Simulated load and its ledger: irregularities change reports only; a truncated file still
counts."""

import random
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from streams.simulation.ledger import recount
from streams.simulation.load import Books, Shape, UnrulySimulator, plans_of, read_books
from streams.simulation.simulator import Happening, Simulator

EPOCH_S = 1_790_000_000


def reports(shape: Shape, seconds: float = 3.0, seed: int = 1) -> list[Happening]:
    """Everything that is reported in a run."""
    simulator = UnrulySimulator("abc", 300, EPOCH_S, random.Random(seed), shape)
    out: list[Happening] = []
    for step in range(int(seconds * 10)):
        out += simulator.advance(step / 10)
    return out + simulator.finish()


shapes = st.builds(
    Shape,
    duplicates=st.floats(0, 0.5),
    repeats_max=st.integers(1, 50),
    shuffled_s=st.integers(0, 86_400),
    late=st.floats(0, 0.2),
    hot=st.floats(0, 0.95),
    burst_every_s=st.sampled_from([0.0, 0.5, 2.0]),
    clock_skew_s=st.integers(-7 * 86_400, 7 * 86_400),
)


@given(shape=shapes, seed=st.integers(0, 99))
def test_repeats_are_the_same_event_and_truth_is_consistent(shape: Shape, seed: int) -> None:
    """One id is one event, however often it is reported; a message's times keep their order."""
    events = reports(shape, 1.0, seed)
    by_id: dict[str, Happening] = {}
    for event in events:
        assert by_id.setdefault(event.native_id, event) == event
    # identity as the ledger has it stays unique
    assert len({(e.message_id, e.kind, e.at_s) for e in by_id.values()}) == len(by_id)
    if not shape.duplicates:
        assert len(by_id) == len(events)


def test_without_a_shape_nothing_is_changed() -> None:
    """The same seed gives the plain simulator's events."""
    plain = Simulator("abc", 300, EPOCH_S, random.Random(1), plans_of(Shape()))
    wanted = [event for step in range(30) for event in plain.advance(step / 10)] + plain.finish()
    assert reports(Shape()) == wanted


def test_shapes_do_what_they_say() -> None:
    """Duplicates, late events and a hot campaign occur in about their shares."""
    shape = Shape(duplicates=0.3, repeats_max=50, late=0.05, hot=0.9, shuffled_s=3_600)
    events = reports(shape, 20)
    unique = {event.native_id: event for event in events}
    assert len(events) > 1.5 * len(unique)
    assert max(Counter(event.native_id for event in events).values()) > 20
    late = sum(event.at_s < EPOCH_S - 2 * 86_400 for event in unique.values())
    assert 0.02 < late / len(unique) < 0.1
    campaigns = Counter(event.campaign for event in unique.values())
    assert 0.8 < campaigns.most_common(1)[0][1] / len(unique) < 0.97


def test_bursts_send_everything_and_only_then() -> None:
    """Nothing is reported between bursts."""
    simulator = UnrulySimulator("abc", 300, EPOCH_S, random.Random(1), Shape(burst_every_s=1.0))
    counts = [len(simulator.advance(step / 10)) for step in range(31)]
    assert [step for step, count in enumerate(counts) if count] in ([10, 20, 30], [20, 30])


def test_books_on_disk_are_the_books(tmp_path: Path) -> None:
    """What is read back equals what was written, also if the last line was truncated."""
    path = tmp_path / "ledger.jsonl"
    events = reports(Shape(duplicates=0.2))
    books = Books(path)
    for event in events[:300]:
        books.accept([event])
    books.doubt(events[300:310])
    books.close()
    found = read_books(path)
    assert found.accepted == books.accepted
    assert found.unsure == books.unsure
    assert found.duplicates_sent == books.duplicates_sent
    assert recount(found.accepted.values()) == recount(books.accepted.values())
    with path.open("ab") as file:
        file.write(b'{"status":200,"native_id":"cut')
    assert read_books(path).accepted == books.accepted
