"""What is shown of one destination: metrics, its last tries, and its state for the dashboard."""

from collections.abc import Callable
from typing import Any

import structlog
from aiokafka import TopicPartition

from streams.deliver.content import content_of
from streams.deliver.core import Deliveries, Place, Request
from streams.deliver.destinations import AnyDestination
from streams.deliver.metrics import RESULTS, DeliverMetrics
from streams.deliver.outcomes import Outcome
from streams.deliver.places import Places
from streams.deliver.tries import Tries

log = structlog.get_logger("mailpulse.deliver")


class Figures:
    """Of one destination.

    Args:
        destination: whose.
        machine: its deliveries.
        metrics: to update.
        places: tells how long records are kept.
        wall: seconds since 1970.
        now: the clock of its deliveries.
    """

    def __init__(
        self,
        destination: AnyDestination,
        machine: Deliveries,
        metrics: DeliverMetrics,
        places: Places,
        wall: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        self._destination = destination
        self._name = destination.name
        self._machine = machine
        self._metrics = metrics
        self._places = places
        self._wall = wall
        self._now = now
        self._open = False
        self.consumer: Any = None
        self.tries = Tries()

    def tested(self, outcome: Outcome, seconds: float) -> None:
        """A request of type «test» was answered."""
        self.tries.add(self._wall(), 0, "test", outcome, seconds)

    def answered(self, request: Request, outcome: Outcome, seconds: float) -> None:
        """A request was answered."""
        metrics, name, now = self._metrics, self._name, self._wall()
        result = RESULTS[outcome.blame]
        self.tries.add(now, len(request.items), result, outcome, seconds)
        metrics.requests.labels(name, result).inc()
        metrics.request_seconds.labels(name).observe(seconds)
        if outcome.delivered:
            metrics.records.labels(name, "delivered").inc(len(request.items))
            metrics.last_success.labels(name).set(now)
            for item in request.items:
                delay = now - content_of(item).record.timestamp / 1000
                metrics.delay_seconds.labels(name).observe(max(0.0, delay))
        self._tell_of_breaker(outcome)

    def _tell_of_breaker(self, outcome: Outcome) -> None:
        is_open = self._machine.breaker.is_open
        if is_open == self._open:
            return
        self._open = is_open
        self._metrics.open.labels(self._name).set(is_open)
        if is_open:
            log.error(
                "destination does not work; it is only probed, and nothing is lost while its "
                "topics hold it", destination=self._name, host=self._destination.host,
                said=outcome.said,
            )  # fmt: skip
        else:
            log.info("destination works again", destination=self._name)

    def show(self) -> None:
        """Updates what changes without a request."""
        metrics, name, machine = self._metrics, self._name, self._machine
        metrics.held.labels(name).set(machine.held)
        metrics.paused.labels(name).set(machine.paused)
        metrics.waits.labels(name).set(machine.waits_s(self._now()))
        for place, left in self._left().items():
            metrics.show_expiry(name, *place, left)
        for place, lag in self._lags().items():
            metrics.show_lag(name, *place, lag)

    def show_no_partitions(self) -> None:
        """Removes the figures of partitions, which another process shows from now on."""
        for place in self._machine.progress:
            self._metrics.forget(self._name, *place)

    def _lags(self) -> dict[Place, int]:
        """Records from the first that is not delivered, by partition whose end is known."""
        found: dict[Place, int] = {}
        for place, progress in self._machine.progress.items():
            end = self.consumer.highwater(TopicPartition(*place))
            if end is not None:
                found[place] = max(0, end - progress.offset)
        return found

    def _left(self) -> dict[Place, float | None]:
        """Seconds until the first record that is not delivered may be removed, by partition."""
        found: dict[Place, float | None] = {}
        for place in self._machine.progress:
            oldest = self._machine.oldest(place)
            found[place] = None
            if oldest is not None:
                timestamp_ms = content_of(oldest).record.timestamp
                found[place] = self._places.seconds_left(place.topic, timestamp_ms)
        return found

    def seconds_left(self) -> float | None:
        """The least of all partitions; ``None``: nothing waits that will be removed."""
        return min((left for left in self._left().values() if left is not None), default=None)

    def document(self) -> dict[str, Any]:
        """How it does, for the dashboard."""
        now = self._now()
        one, machine, tries = self._destination, self._machine, self.tries
        return {
            "destination": one.name, "kind": one.kind, "host": one.host,
            "topics": ", ".join(one.topics), "state": machine.state(now),
            "waits_s": round(machine.waits_s(now)), "lag": sum(self._lags().values()),
            "held": machine.held, "delivered": tries.delivered, "failed": tries.failed,
            "last_success_ms": tries.last_success_ms, "tries": tries.document(),
        }  # fmt: skip
