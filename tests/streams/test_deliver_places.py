"""Where a destination begins, what operators order of it, and how long its records are kept."""

import asyncio
from typing import Any, NamedTuple

import pytest
from aiokafka import TopicPartition

from schemas.codec import Codec
from schemas.settings import Settings
from schemas.topics import ENGAGEMENT
from streams.deliver.destinations import Destination
from streams.deliver.groups import instance_of
from streams.deliver.orders import Order
from streams.deliver.places import Places
from streams.deliver.progress import Progress
from streams.deliver.retention import seconds_left

TP = TopicPartition(ENGAGEMENT, 0)
HOUR_MS = 3_600_000
START, END = 100, 1_000


class Committed(NamedTuple):
    """A commit, as an admin client gives it."""

    offset: int
    metadata: str


class At(NamedTuple):
    """An offset by time, as a consumer gives it."""

    offset: int


class Kafka:
    """One partition with records 100 to 999; the record at offset ``n`` is of hour ``n``."""

    def __init__(self, committed: Committed | None) -> None:
        self._committed = committed

    async def list_consumer_group_offsets(self, *_: Any, **__: Any) -> dict[Any, Committed]:
        return {TP: self._committed or Committed(-1, "")}

    async def beginning_offsets(self, _: Any) -> dict[Any, int]:
        return {TP: START}

    async def end_offsets(self, _: Any) -> dict[Any, int]:
        return {TP: END}

    async def offsets_for_times(self, given: dict[Any, int]) -> dict[Any, At | None]:
        assert given[TP] >= 0, "aiokafka raises ValueError"
        hour = -(-given[TP] // HOUR_MS)
        return {TP: At(max(hour, START)) if hour < END else None}


def begun(
    committed: Committed | None = None, order: Order | None = None, begin: str = "now"
) -> tuple[Progress, int]:
    """Where the partition begins, and how many records are gone."""
    kafka = Kafka(committed)
    destination = Destination.model_validate(
        {"name": "crm", "url": "https://crm.example/", "topics": "engagement", "begin": begin}
    )
    made = Places(kafka, Settings(), {}, lambda: 0.0)
    return asyncio.run(made.of(kafka, destination, "g", [TP], order or Order("crm")))[TP]


@pytest.mark.parametrize(("begin", "offset"), [("now", END), ("earliest", START)])
def test_a_new_destination(begin: str, offset: int) -> None:
    """Begins as its table says; an order from before its time is not for it."""
    old = Order("crm").with_resend(0, 5)
    for order in (None, old):
        progress, gone = begun(None, order, begin)
        assert (progress.offset, progress.position, gone) == (offset, offset, 0)
    assert progress.order == old.resend


def test_a_known_one_goes_on_with_what_was_finished_beyond() -> None:
    """Committed and finished records are not sent again."""
    old = Progress(200, [(210, 220)])
    progress, gone = begun(Committed(200, old.metadata()))
    assert (progress.offset, progress.spans, gone) == (200, [(210, 220)], 0)


def test_records_that_retention_removed_are_counted() -> None:
    """Those that were not delivered, and no others."""
    old = Progress(50, [(60, 70), (95, 105)])
    progress, gone = begun(Committed(50, old.metadata()))
    assert (progress.offset, progress.position) == (105, 105)
    assert gone == 50 - 10 - 5


def test_a_topic_that_was_made_anew_is_sent_from_its_start() -> None:
    """A place beyond its end belongs to the topic before it."""
    progress, gone = begun(Committed(5_000, Progress(5_000).metadata()))
    assert (progress.offset, gone) == (START, 0)


@pytest.mark.parametrize(
    ("hour", "offset", "kept"),
    [
        (300, 300, []), (0, START, []), (-9_000_000, START, []),
        (907, 900, [(905, 907)]), (950, 900, [(905, 910)]),
        (2_000, 900, [(905, 910)]),
    ],
)  # fmt: skip
def test_an_order_to_send_again_is_followed_once(
    hour: int, offset: int, kept: list[tuple[int, int]]
) -> None:
    """From its time on, and what was not sent before it; the next commit says that it was."""
    order = Order("crm").with_resend(hour * HOUR_MS * 1000, 77)
    progress, gone = begun(Committed(900, Progress(900, [(905, 910)]).metadata()), order)
    assert (progress.offset, progress.spans, progress.order, gone) == (offset, kept, 77, 0)
    again, _ = begun(Committed(950, Progress(950, order=77).metadata()), order)
    assert again.offset == 950


def test_orders() -> None:
    """Each keeps what the others said, and a second one to send again is another one."""
    first = Order("crm").with_resend(5, 100)
    paused = first.with_pause(True, 100)
    second = paused.with_resend(6, 100)
    assert (paused.resend, paused.resend_from, paused.paused) == (100, 5, True)
    assert (second.resend, second.resend_from, second.paused) == (101, 6, True)
    codec = Codec()
    values = {name: getattr(second, name) for name in second.__dataclass_fields__}
    assert Order(**codec.decode(codec.encode("destination", values), "destination")) == second


@pytest.mark.parametrize(
    ("retention_ms", "now_s", "expected"),
    [(7_000, 1_000.0, 2.0), (7_000, 1_003.0, -1.0), (None, 0.0, None), (-1, 0.0, None)],
)
def test_how_long_a_record_stays(
    retention_ms: int | None, now_s: float, expected: float | None
) -> None:
    """By its timestamp; compacted topics and those without a limit remove nothing by age."""
    assert seconds_left(995_000, retention_ms, now_s) == expected


def test_a_static_member_is_another_one_for_other_topics() -> None:
    """Without the setting there is none."""
    settings = Settings(group_instance_id="one")
    ids = {instance_of(settings, topics) for topics in (["a"], ["b"], ["a", "b"])}
    assert len(ids) == 3
    assert all(one is not None and one.startswith("one-") for one in ids)
    assert instance_of(Settings(), ["a"]) is None
