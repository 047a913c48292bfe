"""Which connections may stay: the decisions, compared with a search over all of them."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from schemas.serving.places import DESCRIPTORS_RESERVED, Cut, Limits, Places, Turn
from schemas.serving.sparing import KINDS_MAX, Sparing

SMALL = Limits(connections_max=4, requests_max=2)


def test_limits_that_cannot_hold_are_refused() -> None:
    """Without a spare connection nobody could make room."""
    for requests in (0, 4, 5):
        with pytest.raises(ValueError, match="requests_max"):
            Limits(connections_max=4, requests_max=requests)


@given(st.integers(1, 2_000), st.integers(0, 4_000))
def test_descriptors_are_left_to_the_process(wanted: int, descriptors: int) -> None:
    """Whatever is set, connections leave the reserve, down to a handful."""
    limits = Limits(connections_max=wanted + 1, requests_max=wanted).within(descriptors)
    assert limits.connections_max <= max(8, descriptors - DESCRIPTORS_RESERVED)
    assert limits.connections_max <= wanted + 1
    assert limits.within(descriptors) == limits
    assert limits.within(None) == limits


def test_the_greedy_client_makes_room() -> None:
    """Not the client that came first, but the oldest connection of the client with most."""
    places: Places[str] = Places(SMALL)
    for second, (key, client) in enumerate([("a", "honest"), ("b", "x"), ("c", "x"), ("d", "x")]):
        assert places.arrive(key, client, second) is None
    assert places.arrive("e", "honest", 9) == "b"
    assert places.arrive("f", "x", 10) == "a"  # two of each: the oldest
    assert len(places) == 4


def test_what_is_worked_on_stays() -> None:
    """With every place worked on, the newcomer is the one that goes."""
    places: Places[int] = Places(SMALL)
    for key in range(4):
        places.arrive(key, "x", key)
        places.turn(key, Turn.OURS, key)
    assert places.arrive(9, "y", 9) == 9
    places.unsent(2, 100, 10)  # its answer lies unread
    assert places.arrive(10, "y", 11) == 2


def test_a_slow_body_makes_room_for_a_request() -> None:
    """Requests that wait for us stay; one too many is answered 503."""
    places: Places[int] = Places(SMALL)
    for key, turn in enumerate((Turn.BODY, Turn.OURS, Turn.HEAD)):
        places.arrive(key, "x", key)
        places.turn(key, turn, key)
    assert places.admit(2, 4) == (True, 0)
    assert places.admit(2, 4) == (True, None)
    places.turn(2, Turn.OURS, 5)
    assert places.admit(3, 6) == (False, None)


def test_who_has_proven_nothing_leaves_first() -> None:
    """However long a proven body takes while it is arriving; and newcomers displace each other."""
    limits = Limits(connections_max=4, requests_max=3, body_grace_s=5, body_bytes_per_s_min=1_000)
    places: Places[int] = Places(limits)
    places.arrive(0, "x", 0)
    places.prove(0, proven=True)
    places.turn(0, Turn.BODY, 0)
    for key in range(1, 100):
        leaves = places.arrive(key, "x", key)
        assert leaves == (None if key < 4 else key - 3)
        places.received(0, 1_000)


@pytest.mark.parametrize(("waited_s", "leaves"), [(7, 1), (7.1, 0)])
def test_a_proven_body_that_stops_coming_makes_room(waited_s: float, leaves: int) -> None:
    """Among proven requests; bytes that arrived extend the deadline."""
    limits = Limits(connections_max=2, requests_max=1, body_grace_s=5, body_bytes_per_s_min=1_000)
    places: Places[int] = Places(limits)
    for key, turn in enumerate((Turn.BODY, Turn.IDLE)):
        places.arrive(key, "x", key)
        places.prove(key, proven=True)
        places.turn(key, turn, key)
    places.received(0, 2_000)
    assert places.arrive(2, "x", waited_s) == leaves


def test_requests_are_kept_for_those_who_prove_them() -> None:
    """An unproven request gets none of the last ones and displaces no proven one, not even a
    stalled one."""
    places: Places[int] = Places(Limits(connections_max=9, requests_max=3, requests_proven=1))
    for key in range(6):
        places.arrive(key, "x", key)
    for key in (0, 1):
        assert places.admit(key, 9) == (True, None)
        places.turn(key, Turn.OURS, 9)
    assert places.admit(2, 9) == (False, None)
    for key in (3, 4):
        places.prove(key, proven=True)
        assert places.admit(key, 9) == ((True, None) if key == 3 else (False, None))
        places.turn(key, Turn.BODY if key == 3 else Turn.HEAD, 9)
    assert places.admit(2, 1e6) == (False, None)
    assert places.admit(4, 1e6) == (True, 3)


@pytest.mark.parametrize(
    ("turn", "waited_s", "reason"),
    [
        (Turn.HEAD, 5.0, None),
        (Turn.HEAD, 5.1, Cut.HEADER_TIMEOUT),
        (Turn.BODY, 10.0, None),
        (Turn.BODY, 10.1, Cut.BODY_TIMEOUT),
        (Turn.OURS, 1e6, None),
        (Turn.IDLE, 1e6, None),
    ],
)
def test_waits_end(turn: Turn, waited_s: float, reason: Cut | None) -> None:
    """Ours do not, and idle ones end by uvicorn's own timer."""
    places: Places[int] = Places(Limits())
    places.arrive(1, "x", 0)
    places.turn(1, turn, 100)
    assert places.overdue(100 + waited_s) == ([(1, reason)] if reason else [])


@given(st.lists(st.integers(0, 400_000), min_size=1, max_size=60))
def test_slow_readers_end_and_steady_ones_do_not(drained: list[int]) -> None:
    """Bytes read extend the deadline at ``write_bytes_per_s_min``, whatever is added to the
    answer."""
    limits = Limits(write_timeout_s=10, write_bytes_per_s_min=100_000)
    places: Places[int] = Places(limits)
    places.arrive(1, "x", 0)
    places.turn(1, Turn.OURS, 0)
    left = 1 << 30
    places.unsent(1, left, 0)
    taken = 0
    for second, size in enumerate(drained, start=1):
        left -= size
        taken += size
        places.unsent(1, left, second)
        late = second > 10 + taken / 100_000
        assert (places.overdue(second) == [(1, Cut.WRITE_TIMEOUT)]) == late
    places.unsent(1, 0, len(drained) + 1)
    assert places.overdue(1e9) == []


class Crowd(RuleBasedStateMachine):
    """Connections that come, change and go, and a plain list of them."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = Limits(
            connections_max=5,
            requests_max=3,
            requests_proven=1,
            body_grace_s=4,
            body_bytes_per_s_min=1,
        )
        self.places: Places[int] = Places(self.limits)
        self.model: dict[int, dict[str, Any]] = {}
        self.now = 0.0
        self.next = 0

    def victims(self, turns: set[Turn], proven: bool) -> set[int]:
        """Connections that may be closed for another, by the invariant: brute force."""
        waiting = {
            key: one for key, one in self.model.items()
            if one["turn"] in turns and (one["turn"] is not Turn.OURS or one["stuck"] is not None)
        }  # fmt: skip
        strangers = {key: one for key, one in waiting.items() if not one["proven"]}
        if strangers or not proven:
            waiting = strangers
        else:
            waiting = {key: one for key, one in waiting.items() if not self.comes(one)}
        if not waiting:
            return set()
        counts = [one["client"] for one in waiting.values()]
        most = max(counts.count(client) for client in counts)
        greedy = {k: one for k, one in waiting.items() if counts.count(one["client"]) == most}
        since = {k: o["since"] if o["stuck"] is None else o["stuck"] for k, o in greedy.items()}
        return {key for key, at in since.items() if at == min(since.values())}

    def comes(self, one: dict[str, Any]) -> bool:
        """Whether a body keeps coming."""
        return one["turn"] is Turn.BODY and bool(self.now - one["since"] <= 4 + one["body"])

    @rule(client=st.sampled_from("abc"))
    def arrive(self, client: str) -> None:
        self.now += 1
        key, self.next = self.next, self.next + 1
        leaves = self.places.arrive(key, client, self.now)
        if len(self.model) < 5:
            assert leaves is None
        elif victims := self.victims(set(Turn), True):
            assert leaves in victims
            del self.model[leaves]
        else:
            assert leaves == key
            return
        self.model[key] = {
            "client": client, "turn": Turn.HEAD, "since": self.now, "stuck": None,
            "proven": False, "body": 0,
        }  # fmt: skip

    @precondition(lambda self: self.model)
    @rule(data=st.data(), turn=st.sampled_from(Turn))
    def turn(self, data: st.DataObject, turn: Turn) -> None:
        self.now += 1
        key = data.draw(st.sampled_from(sorted(self.model)))
        self.places.turn(key, turn, self.now)
        self.model[key].update(turn=turn, since=self.now, body=0)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), proven=st.booleans())
    def prove(self, data: st.DataObject, proven: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.model)))
        self.places.prove(key, proven)
        self.model[key]["proven"] = proven

    @precondition(lambda self: self.model)
    @rule(data=st.data(), size=st.integers(0, 3))
    def received(self, data: st.DataObject, size: int) -> None:
        key = data.draw(st.sampled_from(sorted(self.model)))
        self.places.received(key, size)
        self.model[key]["body"] += size

    @precondition(lambda self: self.model)
    @rule(data=st.data(), size=st.integers(0, 3))
    def unsent(self, data: st.DataObject, size: int) -> None:
        self.now += 1
        key = data.draw(st.sampled_from(sorted(self.model)))
        self.places.unsent(key, size, self.now)
        stuck = self.model[key]["stuck"]
        self.model[key]["stuck"] = (stuck or self.now) if size else None

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def admit(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.model)))
        proven = self.model[key]["proven"]
        admitted, leaves = self.places.admit(key, self.now)
        opened = [
            one["proven"] for one in self.model.values() if one["turn"] in (Turn.BODY, Turn.OURS)
        ]
        victims = self.victims({Turn.BODY, Turn.OURS}, proven)
        if len(opened) < 3 and (proven or opened.count(False) < 2):
            assert (admitted, leaves) == (True, None)
        elif victims:
            assert admitted
            assert leaves in victims
            del self.model[leaves]
        else:
            assert (admitted, leaves) == (False, None)

    @rule(key=st.integers(0, 30))
    def leave(self, key: int) -> None:
        self.places.leave(key)
        self.model.pop(key, None)

    @invariant()
    def counts_agree(self) -> None:
        assert set(self.places) == set(self.model)
        assert len(self.places) <= 5


TestCrowd = Crowd.TestCase


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40)), max_size=80))
def test_nothing_is_lost_from_the_count(happened: list[tuple[str, int]]) -> None:
    """What was reported plus what is pending is what happened; one line per minute each."""
    sparing, now = Sparing(60), 0.0
    said: dict[str, list[tuple[float, int]]] = {}
    for kind, later in happened:
        now += later
        for due, count in sparing.due(now):
            said.setdefault(due, []).append((now, count))
        count_now = sparing.happened(kind, now)
        if count_now is not None:
            said.setdefault(kind, []).append((now, count_now))
    for due, count in sparing.due(now + 60):
        said.setdefault(due, []).append((now + 60, count))
    kinds = [kind for kind, _ in happened]
    for kind, lines in said.items():
        assert sum(count for _, count in lines) == kinds.count(kind)
        times = [at for at, _ in lines]
        assert all(b - a >= 60 for a, b in pairwise(times))
    assert sparing.due(now + 300) == []


def test_kinds_are_bounded() -> None:
    """However many there are, memory does not grow."""
    sparing = Sparing(60)
    lines = sum(sparing.happened(f"kind {i}", 1) is not None for i in range(10 * KINDS_MAX))
    assert lines == KINDS_MAX + 1
