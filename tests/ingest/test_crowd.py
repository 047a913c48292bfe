"""Who stays when there are too many connections: every step against a list that is searched."""

import resource

from hypothesis import given
from hypothesis import strategies as st

from ingest.crowd import Crowd, Full
from ingest.server import FILES_RESERVED, files_for

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["enter", "waits", "works", "knows", "leave"]),
        st.integers(0, 12),
        st.sampled_from(["", "a", "b", "c"]),
    ),
    max_size=80,
)


class Searched:
    """The same rules by brute force: a list of (member, client) in the order of waiting."""

    def __init__(self, members_max: int, per_client_max: int) -> None:
        self.limits = members_max, per_client_max
        self.clients: dict[int, str] = {}
        self.waiting: list[int] = []
        self.known: set[int] = set()
        self.known_when_it_began_to_wait: set[int] = set()

    def enter(self, member: int, client: str) -> int | None:
        """See ``Crowd.enter``."""
        own = [one for one, whose in self.clients.items() if client and whose == client]
        among = list(self.clients)
        if len(own) >= self.limits[1]:
            among = own
        elif len(among) < self.limits[0]:
            self.clients[member] = client
            self.waits(member)
            return None
        order = sorted(
            (one for one in self.waiting if one in among),
            key=lambda one: (one in self.known_when_it_began_to_wait, self.waiting.index(one)),
        )
        if not order:
            raise Full
        self.leave(order[0])
        self.clients[member] = client
        self.waits(member)
        return order[0]

    def waits(self, member: int) -> None:
        """See ``Crowd.waits``."""
        self.works(member)
        if member in self.clients:
            self.waiting.append(member)
            if member in self.known:
                self.known_when_it_began_to_wait.add(member)

    def works(self, member: int) -> None:
        """See ``Crowd.works``."""
        if member in self.waiting:
            self.waiting.remove(member)
        self.known_when_it_began_to_wait.discard(member)

    def knows(self, member: int) -> None:
        """See ``Crowd.knows``."""
        if member in self.clients:
            self.known.add(member)

    def leave(self, member: int) -> None:
        """See ``Crowd.leave``."""
        self.works(member)
        self.clients.pop(member, None)
        self.known.discard(member)


@given(steps=STEPS, members_max=st.integers(1, 6), per_client_max=st.integers(1, 4))
def test_the_crowd_does_what_a_search_would(
    steps: list[tuple[str, int, str]], members_max: int, per_client_max: int
) -> None:
    """Whoever enters, waits and leaves: the same are displaced, and the limits hold."""
    crowd, searched = Crowd[int](members_max, per_client_max), Searched(members_max, per_client_max)
    for number, (step, member, client) in enumerate(steps):
        if step == "enter":
            newcomer = 100 + number
            results: list[int | str | None] = []
            for one in (crowd, searched):
                try:
                    results.append(one.enter(newcomer, client))
                except Full:
                    results.append("full")
            assert results[0] == results[1]
        else:
            chosen = list(searched.clients)[member : member + 1] or [member]
            for one in (crowd, searched):
                getattr(one, step)(chosen[0])
        assert len(crowd) == len(searched.clients) <= members_max
        for whose in "abc":
            assert list(searched.clients.values()).count(whose) <= per_client_max


def test_whoever_left_is_forgotten() -> None:
    """Nothing of a client stays when its last connection is gone."""
    crowd = Crowd[int](10, 2)
    for number in range(1_000):
        crowd.enter(number, f"client {number}")
        crowd.knows(number)
        crowd.leave(number)
    assert len(crowd) == 0
    assert not crowd._clients
    assert not crowd._counts


@given(connections=st.integers(1, 10_000), soft=st.integers(1, 20_000), more=st.integers(0, 20_000))
def test_there_are_files_for_all_connections_or_fewer_connections(
    connections: int, soft: int, more: int
) -> None:
    """The limit of open files is raised as far as it goes and needs to, and never lowered."""
    raised, room = files_for(connections, soft, soft + more)
    assert soft <= raised <= soft + more
    assert raised == soft or raised <= connections + FILES_RESERVED
    assert 1 <= room <= connections
    assert room == 1 or room + FILES_RESERVED <= raised
    assert room == connections or raised == soft + more


def test_without_a_limit_of_files_nothing_is_changed() -> None:
    """And where only the hard one is missing, the soft one is raised to what is needed."""
    unlimited = resource.RLIM_INFINITY
    assert files_for(4_096, unlimited, unlimited) == (unlimited, 4_096)
    assert files_for(4_096, 1_024, unlimited) == (4_096 + FILES_RESERVED, 4_096)
