"""What the agents of a worker keep for each partition, and what they share."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from schemas.codec import Codec
from schemas.settings import Settings
from streams.kafka.stretches import OpenStretches
from streams.transport.chunks import TP
from streams.worker.metrics import StreamMetrics
from streams.worker.outputs import Flight, Outputs
from streams.worker.store import StateDirectory, Store

if TYPE_CHECKING:
    from streams.worker.snapshotting import Snapshotting


@dataclass(slots=True)
class PartitionWork:
    """What any agent keeps per assigned partition."""

    tp: TP
    store: Store
    flight: Flight
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    next_offset: int | None = None
    since_checkpoint: int = 0
    checkpointed_at: float = field(default_factory=time.monotonic)
    lag_s: float = 0.0
    handing_over: bool = False
    """True from a step until its outputs are sent. If it is true when the lock is taken, a step
    failed or was cancelled half-way, and its state must never be stored."""
    live: bool = True
    """False once the partition was revoked: code that still holds this object stops."""
    touch: Callable[[], None] = lambda: None
    """Tells the watchdog that opening goes on; raises ``Abandoned`` when that is for nobody."""


class Resources(NamedTuple):
    """What the agents of a worker share.

    Attributes:
        log_id: incarnation of the raw topic.
        source: opens the partitions that state is brought up to date from.
        snapshots: what a lost store is restored from.
    """

    settings: Settings
    codec: Codec
    directory: StateDirectory
    outputs: Outputs
    metrics: StreamMetrics
    log_id: str
    source: OpenStretches
    snapshots: "Snapshotting"
