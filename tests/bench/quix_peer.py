"""Quix Streams with its own RocksDB state and changelog, one record at a time.

Its state is kept per message key, so campaign counts, which are not, stay in memory: it has less to
write than the others.
"""

import os
import time
from pathlib import Path
from typing import Any

from schemas.topics import PARTITIONS_DEFAULT
from streams.enrich.shard import Shard
from streams.enrich.step import step
from tests.bench.engine_peers import (
    CHECKPOINT_S,
    CODEC,
    LOOK_UPS,
    Clock,
    Kept,
    StoredRecord,
    minute_rows,
    outputs_of,
)
from tests.bench.rolling import Rolling


class Minute(bytes):
    """A minute count among the outputs of an event."""


class Quix:
    """The application.

    Args:
        rolling: publish minute counts, merge them in a second data frame, and publish rates.
    """

    def __init__(
        self,
        bootstrap: str,
        source: str,
        clock: Clock,
        directory: Path,
        _partitions: int = PARTITIONS_DEFAULT,
        rolling: Rolling | None = None,
    ) -> None:
        from quixstreams import Application

        self.clock, self.rolling = clock, rolling
        self.app = app = Application(
            broker_address=bootstrap, consumer_group=f"bench-quix-{os.getpid()}",
            auto_offset_reset="earliest", loglevel="WARNING", commit_interval=CHECKPOINT_S,
            state_dir=str(directory), producer_extra_config={"acks": "all", "linger.ms": 5},
        )  # fmt: skip
        binary: Any = dict.fromkeys(
            ("value_serializer", "key_serializer", "value_deserializer", "key_deserializer"),
            "bytes",
        )
        self.out, self.minutes = app.topic("bench.out", **binary), None
        self.state: Any = None
        self.shards: dict[int, Shard] = {}
        self.flushed: dict[int, float] = {}
        self.kept = Kept()
        frame = app.dataframe(app.topic(source, **binary))
        frame = frame.apply(self.enrich, stateful=True, metadata=True, expand=True)
        frame.to_topic(self._place)
        if rolling is not None:
            self.minutes = app.topic("bench.minutes", **binary)
            rates = app.topic("bench.rates", **binary)
            app.dataframe(self.minutes).apply(self.campaigns, expand=True).to_topic(rates)

    def _place(self, value: bytes, *_: Any) -> Any:
        return self.minutes if isinstance(value, Minute) else self.out

    def _load(self, keys: list[bytes]) -> list[bytes | None]:
        return [None if key[:1] == b"c" else self.state.get_bytes(key.hex()) for key in keys]

    def enrich(
        self, value: bytes, key: bytes, timestamp: int, _headers: Any, state: Any
    ) -> list[bytes]:
        """An event in, what it leads to out."""
        from quixstreams import message_context

        if self.clock.done >= self.clock.count:
            return []  # the minute counts are still to be merged
        self.clock.start()
        self.state = state
        at = message_context()
        shard = self.shards.get(at.partition)
        if shard is None:
            shard = self.shards[at.partition] = Shard(at.partition, self._load)
            shard.begin_log("bench")
        # Its memory is emptied after each record: the state of another key is out of reach.
        record = StoredRecord(at.offset, timestamp, key, value)
        effects = self.kept.complete(shard, [record], step(shard, [record], LOOK_UPS, CODEC))
        for name, content in shard.unit_writes():
            if content is None:
                state.delete(name.hex())
            else:
                state.set_bytes(name.hex(), content)
        shard.units_saved()
        shard.messages, shard.recipients = {}, {}
        self.clock.done += 1
        told = [content for _, _, content in outputs_of(effects) if content is not None]
        if self.rolling is None and self.clock.done >= self.clock.count:
            self.app.stop()
        return told if self.rolling is None else told + self._minutes(shard, self.rolling)

    def _minutes(self, shard: Shard, rolling: Rolling) -> list[bytes]:
        """The counts that are to be published now; at the end, those of all partitions."""
        last, now = self.clock.done >= self.clock.count, time.monotonic()
        if not last and now - self.flushed.setdefault(shard.partition, now) <= CHECKPOINT_S:
            return []
        self.flushed[shard.partition] = now
        told: list[bytes] = []
        for one in self.shards.values() if last else (shard,):
            told += [Minute(value) for _, _, value in minute_rows(one)]
            one.minutes.saved(keep_max=1 << 60)
        rolling.written += len(told)
        return told

    def campaigns(self, value: bytes) -> list[bytes]:
        """A minute count in, rates out."""
        assert self.rolling is not None
        self.rolling.merge(value)
        last = self.clock.done >= self.clock.count and self.rolling.is_done
        if last:
            self.app.stop()
        return [rate for _, rate in self.rolling.rates(last=last)]


def quix(*given: Any) -> None:
    """Runs ``Quix``; it ends with a checkpoint: everything is acknowledged and committed."""
    peer = Quix(*given)
    peer.app.run()
    peer.clock.finish()
