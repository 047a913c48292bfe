"""Counts of requests: none is missed or counted twice, and nothing that is sent makes them grow."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import counting
from ingest.counting import Counting
from ingest.problems import DETAILS
from ingest.request_counts import REASONS_MAX, RequestCounts, result_of
from schemas.codec import AvroRecord, Codec
from schemas.errors import Unavailable
from tests.ingest.front_door import KEY, NOW, front_door, source

ID = "ab" * 16
Key = tuple[str, str, str]


def item(name: str) -> dict[str, str]:
    """An event of the tiny provider."""
    return {"id": name}


class ListTopic:
    """Keeps what it is sent; refuses as often as it is told to, with or without keeping it."""

    def __init__(self, refusals: Sequence[bool] = ()) -> None:
        self.sent: list[AvroRecord] = []
        self.closed = False
        self.has_some = asyncio.Event()
        self._refusals = list(refusals)

    async def send(self, records: Sequence[AvroRecord]) -> None:
        """A refusal that is true comes after the records were kept: the answer was lost."""
        refusal = self._refusals.pop(0) if self._refusals else None
        if refusal is not False:
            self.sent += [Codec().decode(Codec().encode("source_requests", one), "source_requests")
                          for one in records]  # fmt: skip
            self.has_some.set()
        if refusal is not None:
            raise Unavailable("nobody listens")

    async def close(self) -> None:
        """Notes it."""
        self.closed = True

    def counts(self) -> Counter[Key]:
        """Requests by source, result and reason, each record once."""
        once = {(one["ingress"], one["sequence"], one["source"]): one for one in self.sent}
        found: Counter[Key] = Counter()
        for one in once.values():
            for each in one["results"]:
                found[one["source"], each["result"], each["reason"]] += each["requests"]
        return found


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["news", "shop", ""]),
                      st.sampled_from(["accepted", "forbidden", "unauthorized"]),
                      st.sampled_from(["", "bad_signature"])),
            st.sampled_from([None, False, True]),
        )
    )
)  # fmt: skip
def test_every_request_is_published_once(steps: list[tuple[str, str, str] | bool | None]) -> None:
    """However often Kafka refuses, or keeps what it does not acknowledge."""
    counts, topic, expected = RequestCounts(ID, "plain", 0), ListTopic(), Counter[Key]()

    def publish(refusal: bool | None) -> None:
        records = counts.records(now)
        assert list(counts.records(now)) == list(records)  # asking again changes nothing
        if refusal is not False:
            topic.sent += records
        if refusal is None:
            counts.acknowledged()

    now = 0
    for now, step in enumerate(steps):
        if isinstance(step, tuple):
            name, result, reason = step
            counts.add(name, result, reason, now)
            expected[name, result, reason if result == "unauthorized" else ""] += 1
        else:
            publish(step)
    publish(None)
    publish(None)
    assert topic.counts() == expected
    assert not counts.records(now)
    for one in topic.sent:
        for each in one["results"]:
            assert one["began_at"] <= each["first_at"] <= each["last_at"] <= one["ended_at"]


def test_what_is_sent_makes_nothing_grow() -> None:
    """A million reasons are a bounded number of kinds, and no result is lost among them."""
    counts = RequestCounts(ID, "plain", 0)
    for number in range(10_000):
        counts.add("news", "unauthorized", f"{'x' * 1_000}{number}"[-1_000:], number)
        counts.add("news", "unauthorized", f"{number}", number)
    for result in DETAILS:
        counts.add("news", result, "", 1)
    [record] = counts.records(20_000)
    assert len(record["results"]) <= REASONS_MAX + len(DETAILS)
    assert sum(one["requests"] for one in record["results"]) == 20_000 + len(DETAILS)
    assert set(DETAILS) <= {one["result"] for one in record["results"]}
    assert all(len(one["reason"]) <= 40 for one in record["results"])


def test_a_clock_that_is_set_back_loses_nothing() -> None:
    """Times stay in order within a record."""
    counts = RequestCounts(ID, "plain", 1_000)
    for now in (2_000, 500, 1_500):
        counts.add("news", "accepted", "", now)
    [record] = counts.records(400)
    assert record["results"][0] | {"requests": 3} == record["results"][0]
    assert (record["results"][0]["first_at"], record["results"][0]["last_at"]) == (500, 2_000)
    assert record["began_at"] <= record["ended_at"]


@pytest.mark.parametrize(
    ("result", "events", "dead_letters", "expected"),
    [
        ("accepted", 1, 0, "accepted"), ("accepted", 1, 9, "accepted"),
        ("accepted", 0, 1, "unreadable"), ("accepted", 0, 0, "empty"),
        ("unavailable", 0, 0, "unavailable"), ("unavailable", 0, 3, "unavailable"),
    ],
)  # fmt: skip
def test_accepted_requests_differ_by_what_was_in_them(
    result: str, events: int, dead_letters: int, expected: str
) -> None:
    """A provider that changed its format is no provider that is accepted."""
    assert result_of(result, events, dead_letters) == expected


async def test_every_request_of_the_front_door_is_counted() -> None:
    """By source and kind of refusal; all unknown sources are one; the last interval at the end."""
    topic = ListTopic()
    async with front_door(
        source(), source("shop"), parts={"counts_topic": topic}, body_bytes_max=1_000
    ) as door:
        await door.post([item("a")])
        await door.post([item("a"), {}])
        await door.post([{}])
        await door.post(b"no json")
        await door.post({"confirm": "https://a.example.com/"})
        for key in ("wrong", "wrong", "explode"):
            await door.post([item("a")], key=key)
        await door.post(b"x" * 1_001, path="/hooks/shop")
        for name in ("a", "b", "a/b", "news/x"):
            await door.post(path=f"/hooks/{name}", key=KEY)
        await door.client.head("/hooks/news")
        assert topic.sent == []
    assert topic.closed
    assert topic.counts() == {
        ("news", "accepted", ""): 2,
        ("news", "unreadable", ""): 2,
        ("news", "empty", ""): 1,
        ("news", "unauthorized", "wrong_key"): 2,
        ("news", "unauthorized", "module_failed"): 1,
        ("news", "probe", ""): 1,
        ("shop", "body_too_large", ""): 1,
        ("", "not_found", ""): 4,
    }
    assert {one["began_at"] for one in topic.sent} == {int(NOW * 1e6)}


async def test_counts_are_kept_while_kafka_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are answered meanwhile, and all are told in two intervals."""
    monkeypatch.setattr(counting, "INTERVAL_S", 0.0)
    topic = ListTopic([False, True, False])
    times = iter(range(1_000_000))
    mine = Counting(topic, "plain", lambda: next(times), lambda: 0.0)
    mine.count("news", "accepted", "", 1, 0)
    mine.start()
    for _ in range(10):
        mine.count("news", "forbidden", "", 0, 0)
        await asyncio.sleep(0)
    await topic.has_some.wait()
    await mine.stop()
    assert topic.counts() == {("news", "accepted", ""): 1, ("news", "forbidden", ""): 10}


async def test_a_topic_that_hangs_holds_up_neither_requests_nor_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ingress ends within a limit; what was not published is lost, as after a kill."""
    monkeypatch.setattr(counting, "LAST_S_MAX", 0.02)

    class Hanging(ListTopic):
        async def send(self, records: Sequence[AvroRecord]) -> None:
            await asyncio.Event().wait()

    topic = Hanging()
    async with front_door(parts={"counts_topic": topic}) as door:
        assert (await door.post([item("a")])).status_code == 200
    assert topic.closed
