"""What a runner of a destination does with what Kafka gives it, without Kafka."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import OffsetMetadataTooLargeError

from schemas.codec import Codec
from schemas.erasure import ERASED_HEADER, Erasures, digest
from schemas.settings import Settings
from schemas.topics import ENGAGEMENT, SUPPRESSIONS
from streams.deliver.core import Place
from streams.deliver.destinations import Destination
from streams.deliver.metrics import DeliverMetrics
from streams.deliver.progress import Progress
from streams.deliver.runner import Runner
from tests.live.delivering import engagement

TPS = [TopicPartition(ENGAGEMENT, 0), TopicPartition(ENGAGEMENT, 1)]
FIRST, SECOND = (Place(*tp) for tp in TPS)


class Consumer:
    """Both partitions, and what was said of them."""

    def __init__(self, metadata_bytes_max: int = 10_000) -> None:
        self._metadata_bytes_max = metadata_bytes_max
        self._paused: set[TopicPartition] = set()
        self.commits: dict[TopicPartition, tuple[int, str]] = {}

    def assignment(self) -> set[TopicPartition]:
        return set(TPS)

    def paused(self) -> set[TopicPartition]:
        return set(self._paused)

    def pause(self, tp: TopicPartition) -> None:
        self._paused.add(tp)

    def resume(self, tp: TopicPartition) -> None:
        self._paused.discard(tp)

    def highwater(self, _: TopicPartition) -> int:
        return 1_000

    async def commit(self, offsets: dict[TopicPartition, tuple[int, str]]) -> None:
        if any(len(text) > self._metadata_bytes_max for _, text in offsets.values()):
            raise OffsetMetadataTooLargeError
        self.commits |= offsets


def runner(
    consumer: Consumer | None = None, metrics: DeliverMetrics | None = None, **options: Any
) -> Runner:
    """A runner that reads both partitions from offset 5 on, and sends nothing."""
    given = {"name": "crm", "url": "https://crm.example/", "topics": "engagement", **options}
    places = SimpleNamespace(seconds_left=lambda _topic, timestamp_ms: timestamp_ms / 1000)
    made = Runner(
        Destination.model_validate(given), Settings(), Codec(), None, None,  # type: ignore[arg-type]
        places, metrics or DeliverMetrics(), lambda: 0.5, lambda: 0.0,  # type: ignore[arg-type]
    )  # fmt: skip
    made._consumer = made.figures.consumer = consumer or Consumer()
    for place in (FIRST, SECOND):
        made.machine.assign(place, Progress(5))
    return made


def record(offset: int) -> Any:
    """One of a click."""
    _, key, value, _ = engagement(f"r{offset}@example.com", offset)
    return SimpleNamespace(
        topic=FIRST.topic, key=key, value=value, offset=offset, headers=[], timestamp=60_000
    )


def expired(metrics: DeliverMetrics) -> float:
    """Records that were counted as removed."""
    return metrics.registry.get_sample_value(
        "mailpulse_deliver_expired_records_total", {"destination": "crm"}
    ) or 0.0  # fmt: skip


def test_what_was_removed_while_it_waited_to_be_read_is_counted() -> None:
    """aiokafka goes on at the earliest record by itself, without a word."""
    metrics = DeliverMetrics()
    one = runner(metrics=metrics)
    one._take(FIRST, [record(5), record(6)])
    assert expired(metrics) == 0
    one._take(FIRST, [record(17)])
    assert expired(metrics) == 10
    assert one.machine.held == 3


def test_what_was_finished_before_a_restart_is_not_missed() -> None:
    """Of a gap only what was not delivered is lost."""
    metrics = DeliverMetrics()
    one = runner(metrics=metrics)
    one.machine.assign(FIRST, Progress(5, [(6, 9)]))
    one._take(FIRST, [record(10)])
    assert expired(metrics) == 2


def test_who_is_forgotten_is_not_taken_off_a_list() -> None:
    """An erasure's tombstone is passed over; another one says that a suppression was lifted."""
    one = runner(topics="suppressions")
    place = Place(SUPPRESSIONS, 0)
    one.machine.assign(place, Progress(5))
    lifted = SimpleNamespace(
        topic=SUPPRESSIONS, key=b"a@b.example", value=None, offset=5, headers=[], timestamp=60_000
    )
    erased = SimpleNamespace(**{**vars(lifted), "offset": 6, "headers": [(ERASED_HEADER, b"1")]})
    one._take(place, [erased])
    assert one.machine.held == 0
    one.machine.assign(place, Progress(5))
    one._take(place, [lifted])
    assert one.machine.held == 1


def test_nothing_is_sent_of_who_was_forgotten_since() -> None:
    """Of what happened before; the others, and what happens later, are sent."""
    erasures = Erasures()
    made = runner()
    made._erasures = erasures
    at_us = Codec().decode(record(5).value, "engagement")["occurred_at"]
    erasures.put("e", {"at": at_us + 1, "digests": [digest("r6@example.com").hex()]})
    made._take(FIRST, [record(5), record(6)])
    assert made.machine.held == 1
    erasures.put("e", {"at": at_us, "digests": [digest("r7@example.com").hex()]})
    made._take(FIRST, [record(7)])
    assert made.machine.held == 2


async def test_no_letter_is_written_of_who_was_forgotten_since() -> None:
    """A letter would hold the record longer than its topic does; what can't be read is parked."""
    written = []

    class Written:
        async def write(self, _: str, record: Any, *__: str) -> None:
            written.append(record.offset)

    made = runner()
    made._erasures, made._letters = Erasures(), Written()  # type: ignore[assignment]
    made._take(FIRST, [record(5), record(6)])
    items = list(made.machine._held[FIRST].values())
    at_us = Codec().decode(record(5).value, "engagement")["occurred_at"]
    made._erasures.put("e", {"at": at_us + 1, "digests": [digest("r5@example.com").hex()]})
    for item in items:
        await made._park(item, "not_delivered", "said")
    assert written == [6]


def test_compaction_is_no_loss() -> None:
    """A newer record of the key is there."""
    metrics = DeliverMetrics()
    one = runner(metrics=metrics, topics="suppressions")
    place = Place(SUPPRESSIONS, 0)
    one.machine.assign(place, Progress(5))
    lifted = SimpleNamespace(
        topic=SUPPRESSIONS, key=b"a@b.example", value=None, offset=9, headers=[], timestamp=0
    )
    one._take(place, [lifted])
    assert expired(metrics) == 0
    assert one.machine.held == 1


def test_a_topic_that_is_made_anew_meanwhile_is_read_from_its_start() -> None:
    """Its offsets begin again: they are other records, none of which was delivered."""
    metrics = DeliverMetrics()
    one = runner(metrics=metrics)
    one._take(FIRST, [record(5), record(6)])
    one._take(FIRST, [record(0), record(1), record(2)])
    assert sorted(one.machine._held[FIRST]) == [0, 1, 2]
    assert one.machine.progress[FIRST].offset == 0
    assert expired(metrics) == 0


async def test_of_each_partition_one_record_is_read_even_without_room() -> None:
    """Else nothing would warn that it will be removed: the room may be full of another one's."""
    metrics = DeliverMetrics()
    one = runner(consumer := Consumer(), metrics)
    one.machine.limits = one.machine.limits.__class__(records_max=3)
    one._take(FIRST, [record(offset) for offset in (5, 6, 7)])
    assert one._make_way() == 0
    assert consumer.paused() == {TPS[0]}
    one._take(SECOND, [record(5)])
    assert one._make_way() == 0
    assert consumer.paused() == set(TPS)
    one.figures.show()
    for number in "01":
        labels = {"destination": "crm", "topic": ENGAGEMENT, "partition": number}
        assert metrics.registry.get_sample_value("mailpulse_deliver_expires_seconds", labels) == 60


async def test_figures_of_partitions_leave_with_them_and_with_no_others() -> None:
    """A figure that stays would raise its alert for ever."""
    metrics = DeliverMetrics()
    one, other = runner(metrics=metrics), runner(metrics=metrics, name="other")
    for each in (one, other):
        each._take(FIRST, [record(5)])
        each.figures.show()
    before = metrics.render().decode()
    await one.on_partitions_revoked(TPS)
    after = metrics.render().decode()
    for name in ("mailpulse_deliver_lag_records", "mailpulse_deliver_expires_seconds"):
        mine, others = f'{name}{{destination="crm"', f'{name}{{destination="other"'
        assert mine in before
        assert mine not in after
        assert others in after


@pytest.mark.parametrize("limit", [10, 100, 1_000])
def test_a_broker_that_takes_less_metadata_gets_less(limit: int) -> None:
    """The offset is committed all the same: what is finished ahead is only an economy."""
    one = runner(consumer := Consumer(limit))
    spans = [(n, n + 1) for n in range(10, 3_000, 2)]
    one.machine.assign(FIRST, Progress(7, spans))

    async def commits() -> None:
        for _ in range(10):
            await one._commit()

    asyncio.run(commits())
    offset, metadata = consumer.commits[TPS[0]]
    assert offset == 7
    assert limit / 4 < len(metadata) <= limit
