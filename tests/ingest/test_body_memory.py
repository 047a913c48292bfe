"""Memory for large bodies: who gets it, and who has to give it up."""

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.body_memory import Bodies, Holding
from ingest.rate_limits import CLIENTS_MAX
from tests.ingest.front_door import KEY, Door, front_door

CLIENTS = "abcd"


class Crowd:
    """Requests that hold memory, and what the invariants imply for them, computed each time."""

    def __init__(self, most: int) -> None:
        self.bodies = Bodies(most)
        self.holdings: list[Holding] = []
        self.known: set[str] = set()
        self.given_up: list[Holding] = []

    def of(self, client: str) -> int:
        """The bytes that a client holds."""
        return sum(one.size for one in self.holdings if one.client == client)

    def of_strangers(self) -> int:
        """The bytes that all strangers hold."""
        return sum(one.size for one in self.holdings if one.client not in self.known)

    def take(self, client: str, amount: int, *, arriving: bool) -> Holding | None:
        """Memory for a request; ``None`` if there is no room."""
        holding = Holding(client)
        if arriving:
            holding.give_up = lambda: self._give_up(holding)
        if not self.bodies.take(amount, holding):
            return None
        self.holdings.append(holding)
        return holding

    def give_back(self, holding: Holding) -> None:
        """The request was answered."""
        self.bodies.give_back(holding)
        self.holdings.remove(holding)

    def knows(self, client: str) -> None:
        """The client proved a request."""
        self.known.add(client)
        self.bodies.knows(client)

    def check(self) -> None:
        """The counters agree with what is held."""
        assert self.bodies.used == sum(one.size for one in self.holdings)
        assert self.bodies._of_strangers == self.of_strangers()

    def _give_up(self, holding: Holding) -> None:
        self.given_up.append(holding)
        self.holdings.remove(holding)


STEPS = st.one_of(
    st.tuples(st.just("take"), st.sampled_from(CLIENTS), st.integers(1, 60), st.booleans()),
    st.tuples(st.just("arrived"), st.integers(0, 30)),
    st.tuples(st.just("give back"), st.integers(0, 30)),
    st.tuples(st.just("knows"), st.sampled_from(CLIENTS)),
)


@given(most=st.integers(2, 100), steps=st.lists(STEPS, max_size=60))
def test_the_invariants_hold_for_any_requests(most: int, steps: list[tuple[object, ...]]) -> None:
    """No client has more than half, nor have all strangers together, all within the limit;
    unless it was alone. Only a stranger's arriving body is ended, and only for a client that
    holds less."""
    crowd = Crowd(most)
    for step in steps:
        match step:
            case ("take", str(client), int(amount), bool(arriving)):
                alone = not crowd.holdings
                before = {one: crowd.of(one) for one in CLIENTS}
                gone = len(crowd.given_up)
                holding = crowd.take(client, amount, arriving=arriving)
                if holding is None:
                    assert not alone
                    assert len(crowd.given_up) == gone  # nothing is given up in vain
                elif not alone:
                    assert crowd.of(client) <= most // 2
                    assert client in crowd.known or crowd.of_strangers() <= most // 2
                    assert crowd.bodies.used <= most
                for one in crowd.given_up[gone:]:
                    assert one.client not in crowd.known | {client}
                    assert one.give_up is None
                    assert before[one.client] > before[client] + amount
            case ("arrived", int(number)) if number < len(crowd.holdings):
                crowd.bodies.arrived(crowd.holdings[number])
            case ("give back", int(number)) if number < len(crowd.holdings):
                crowd.give_back(crowd.holdings[number])
            case ("knows", str(client)):
                crowd.knows(client)
        crowd.check()
    for holding in list(crowd.holdings):
        crowd.give_back(holding)
    assert (crowd.bodies.used, crowd.bodies._of_strangers) == (0, 0)
    assert not crowd.bodies._clients
    assert not crowd.bodies._arriving


def test_who_proved_a_request_gets_through_beside_any_number_of_strangers() -> None:
    """However many declare large bodies: they get half of the memory."""
    crowd = Crowd(1_000)
    crowd.knows("provider")
    for number in range(100):
        crowd.take(f"stranger {number}", 100, arriving=True)
    assert crowd.bodies.used == 500
    assert crowd.take("provider", 400, arriving=True) is not None
    assert not crowd.given_up


def test_a_stranger_gets_through_beside_a_few_that_hold_all_of_the_strangers_half() -> None:
    """The oldest body of the client that holds most is ended; not for a client that holds as
    much."""
    crowd = Crowd(1_000)
    large = [crowd.take("large", 100, arriving=True) for _ in range(3)]
    for _ in range(2):
        crowd.take("small", 100, arriving=True)
    assert crowd.take("large", 100, arriving=True) is None
    assert crowd.take("provider", 150, arriving=False) is not None
    assert crowd.given_up == large[:2]
    assert crowd.take("other", 250, arriving=False) is None  # nobody holds more than that


def test_a_body_that_has_arrived_is_never_given_up() -> None:
    """Whoever sent it."""
    crowd = Crowd(1_000)
    held = [crowd.take("large", 100, arriving=True) for _ in range(5)]
    for holding in held[:-1]:
        assert holding is not None
        crowd.bodies.arrived(holding)
    assert crowd.take("provider", 150, arriving=True) is None
    assert crowd.take("provider", 50, arriving=True) is not None
    assert crowd.given_up == held[-1:]


def test_a_bounded_number_of_clients_is_remembered() -> None:
    """A client that was forgotten while it held memory is a stranger again, and its bytes are
    returned."""
    bodies = Bodies(1_000)
    bodies.knows("first")
    holding = Holding("first")
    assert bodies.take(100, holding)
    for number in range(CLIENTS_MAX):
        bodies.knows(str(number))
    assert len(bodies._known) == CLIENTS_MAX
    assert bodies._of_strangers == 100
    bodies.give_back(holding)
    assert (bodies.used, bodies._of_strangers) == (0, 0)


HONEST, ATTACKER = "127.0.0.2", "127.0.0.3"
LARGE = orjson.dumps([{"id": "m", "said": "x" * 100_000}])
DECLARED = (5_000_000, 5_000_000, 5_000_000, 1_040_000)
"""What four connections of one address declared; 100 bytes of each came."""


class Slow:
    """Bodies from one address that stall."""

    def __init__(self, door: Door, path: str = "/hooks/news") -> None:
        self._client = door.client_at(ATTACKER)
        self._path = path
        self._on = asyncio.Event()
        self._begun = 0
        self.tasks: list[asyncio.Task[int]] = []

    async def begin(self, declared: tuple[int, ...], sent: int = 100) -> None:
        """Begins to send; collects the answers."""
        self.tasks += [asyncio.create_task(self._post(size, sent)) for size in declared]
        while self._begun < len(self.tasks):  # noqa: ASYNC110 - a plain attribute keeps it short
            await asyncio.sleep(0.005)

    async def _post(self, declared: int, sent: int) -> int:
        async def body() -> AsyncIterator[bytes]:
            yield b"x" * sent
            self._begun += 1
            await self._on.wait()

        headers = {"content-length": str(declared)}
        answer = await self._client.post(self._path, content=body(), headers=headers)
        return answer.status_code

    async def end(self) -> list[int]:
        """The answers, once the bodies have ended."""
        self._on.set()
        statuses = await asyncio.gather(*self.tasks)
        await self._client.aclose()
        return statuses


@pytest.mark.parametrize("first", [200, 413])
async def test_slow_bodies_keep_out_nobody_who_proved_a_request(first: int) -> None:
    """The attack: one address declared 16 MB, and all others' large bodies got 503. A client
    whose proven request is refused is known, too."""
    proven = {200: b"[]", 413: b"[" * 100 + b"]" * 100}[first]
    async with front_door(bodies_bytes_max=32_000_000) as door, door.client_at(HONEST) as honest:
        headers = {"x-key": KEY}
        answer = await honest.post("/hooks/news", content=proven, headers=headers)
        assert answer.status_code == first
        slow = Slow(door)
        await slow.begin(DECLARED)
        assert door.metric("mailpulse_ingest_body_bytes") > 15_900_000
        for _ in range(3):
            answer = await honest.post("/hooks/news", content=LARGE, headers=headers)
            assert answer.status_code == 200
        assert not [task for task in slow.tasks if task.done()]  # nobody had to give way
        await slow.end()
        assert door.metric("mailpulse_ingest_body_bytes") == 0


async def test_slow_bodies_of_one_client_keep_out_no_stranger() -> None:
    """A provider's first request after a start may be large: a slow body is ended for it."""
    async with front_door(bodies_bytes_max=32_000_000) as door, door.client_at(HONEST) as honest:
        slow = Slow(door)
        await slow.begin(DECLARED)
        answer = await honest.post("/hooks/news", content=LARGE, headers={"x-key": KEY})
        assert answer.status_code == 200
        assert sorted(await slow.end()) == [401, 401, 401, 503]
        assert door.metric("mailpulse_ingest_body_bytes") == 0


async def test_slow_bodies_for_pages_keep_out_no_other_client_of_them() -> None:
    """The same for pages, where nobody proves anything."""
    async with front_door() as door, door.client_at(HONEST) as honest:
        slow = Slow(door, "/registry/subjects")
        await slow.begin((900_000,) * 5, sent=400_000)
        answer = await honest.post("/registry/subjects", content=b"x" * 200_000)
        assert answer.status_code == 404
        assert 503 in await slow.end()
