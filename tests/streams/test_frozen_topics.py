"""The frozen topics: read by today's codec, and folded by today's code into what was written then.

They stand for records that are on users' brokers. See ``tests/frozen/make.py``.
"""

import base64
import json
import lzma
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import pytest

from schemas import topics
from schemas.cloudevents import leading_text
from schemas.codec import Codec
from schemas.versions import FOLD_VERSION
from streams.enrich.derive import LookUps
from streams.enrich.effects import complete, wanted
from streams.enrich.shard import Shard
from streams.enrich.step import step
from tests.frozen.make import TOPICS
from tests.streams.folding import Disk

CODEC = Codec()
NO_EVENT = b"nobody"


@dataclass(frozen=True)
class Frozen:
    """A record as it was read from a broker."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def _read() -> dict[str, list[Frozen]]:
    found: dict[str, list[Frozen]] = defaultdict(list)
    with lzma.open(TOPICS, "rt", encoding="utf-8") as lines:
        for line in lines:
            one = json.loads(line)
            found[one["topic"]].append(
                Frozen(
                    one["partition"], one["offset"], one["timestamp"], _bytes(one["key"]),
                    _bytes(one["value"]),
                )
            )  # fmt: skip
    return found


RECORDS = _read()
ORDERED = (topics.RULES, topics.DESTINATIONS, topics.ERASURES, topics.HISTORY)
"""What only operators' commands write: no run of the pipeline has records of it."""


@pytest.mark.parametrize("topic", [name for name in topics.BY_NAME if name not in ORDERED])
def test_frozen_records_are_read(topic: str) -> None:
    """Of every topic, by the schema that its frame names."""
    values = [one.value for one in RECORDS[topic] if one.value is not None]
    assert values
    decoded, errors = CODEC.decode_batch(values, topics.BY_NAME[topic].schema)
    assert (len(decoded), errors) == (len(values), [])
    for value in values:
        name = topics.BY_NAME[topic].schema
        assert CODEC.decode(CODEC.encode(name, CODEC.decode(value, name)), name) == CODEC.decode(
            value, name
        )


def folded(partition: int) -> tuple[list[bytes], list[Any]]:
    """What today's fold makes of a frozen raw partition: enriched values, suppressions."""
    raw = [one for one in RECORDS[topics.RAW] if one.partition == partition]
    log_id = CODEC.split_enriched(RECORDS[topics.ENRICHED][0].value or b"")[2].log_id
    shard = Shard(partition, Disk().get_many)
    shard.begin_log(log_id)
    look_ups = LookUps()
    effects = step(shard, raw, look_ups, CODEC)
    raws = {one.offset: one.value or b"" for one in raw if one.offset in wanted(effects)}
    done = complete(
        effects, raws, codec=CODEC, look_ups=look_ups, log_id=log_id, partition=partition
    )
    return [value for _, value, _ in done.enriched], list(done.suppressions)


@pytest.mark.parametrize("partition", [0, 1])
def test_frozen_raw_records_are_folded_as_they_were(partition: int) -> None:
    """Byte for byte, or the version of the fold was raised: then an epoch is due."""
    values, told = folded(partition)
    written = [one.value for one in RECORDS[topics.ENRICHED] if one.partition == partition]
    by_then = {CODEC.split_enriched(value or b"")[2].fold_version for value in written}
    if by_then != {FOLD_VERSION}:
        assert max(by_then) < FOLD_VERSION
        return
    assert [leading_text(value) for value in values] == [leading_text(v or b"") for v in written]
    assert values == written
    records = [one.record for one in told if one.record is not None and not one.addressee.scope]
    kept = {one["recipient"]: one for one in records}
    for one in RECORDS[topics.SUPPRESSIONS]:
        if one.value is not None:
            record = CODEC.decode(one.value, "suppression")
            if record["partition"] == partition:
                assert kept[record["recipient"]]["reason"] == record["reason"]
