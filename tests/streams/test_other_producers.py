"""Records of other producers, and of nobody's making: none stops the fold, or loses another one."""

import io
import random
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import fastavro
import pytest

from schemas.codec import HEAD, LATEST, PREFIX_BYTES, schema_json, without_logical_types
from schemas.errors import DecodeError
from schemas.event import Event, EventType, message_key, recipient_identity, unit_key
from schemas.raw_head import HEADED, ID_SIZE, SIZE, with_head
from streams.enrich.admission import BESIDE_BYTES_MAX, NEWEST_MS, REPEATED_BYTES_MAX
from streams.enrich.message_bytes import TYPES
from streams.enrich.shard import Shard
from streams.enrich.step import step
from tests.builders import RECEIVED_AT, event
from tests.streams.folding import CODEC, LOOK_UPS, Fold, LogRecord, log_of

PLAIN_RAW = without_logical_types(schema_json(LATEST["raw_event"]))
FIELDS = {each["name"]: each["type"] for each in PLAIN_RAW["fields"] if each["name"] != HEAD}
KINDS = [one.value for one in EventType]
TEXTS = (
    *("x" * size for size in (0, 1, 63, 64, 127, 128, 255, 256, 8_191, 8_192, 70_000)),
    *("\u4e2d" * size for size in (1, 2_048)), "\U0010ffff" * 300, "a@" + "é" * 300, "a@....",
    "\x00", "\x1f", "用户@例子.广告", "@", "a@b", "a@[::1]", "a@[IPv6:zz]", "a@xn--", "a@\u3002",
    "\ufeff", '"', '"\\', "a@\u200d.x", "f" * 32, "-1", "0x1", "١", "http://[", "https://a/%%%",
    "https://a:99999999/", "https://a/" + "\u4e2d" * 3_000, "550 5.7.1 x", "m\u2028",
)  # fmt: skip
TIMES = (
    0, -1, -(2**63), 2**63 - 1, 2**62, RECEIVED_AT, RECEIVED_AT - 40 * 86_400 * 10**6,
    RECEIVED_AT + 2 * 86_400 * 10**6, 4_102_444_800 * 10**6, 946_684_800 * 10**6,
)  # fmt: skip
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15"


class Worker(Fold):
    """A worker whose enriched records consumers may find unreadable."""

    def __init__(self) -> None:
        self.unreadable: list[int] = []
        super().__init__()

    def take_enriched(self, value: bytes) -> None:
        """Notes an enriched record, or its coordinates alone."""
        try:
            super().take_enriched(value)
        except DecodeError:
            _, _, at = CODEC.split_enriched(value)
            if at.version == at.offset:
                self.unreadable.append(at.offset)


def some_value(dice: random.Random, node: Any) -> Any:
    """A value of an Avro type, mostly an extreme one."""
    if isinstance(node, list):
        return None if dice.random() < 0.3 else some_value(dice, node[1])
    if isinstance(node, dict):
        if node["type"] == "enum":
            return dice.choice(node["symbols"])
        if node["type"] == "array":
            return [dice.choice(TEXTS) for _ in range(dice.choice((0, 1, 200)))]
        return {dice.choice(TEXTS): dice.choice(TEXTS) for _ in range(dice.choice((0, 1, 20)))}
    extremes: dict[str, tuple[Any, ...]] = {
        "string": TEXTS, "long": TIMES, "boolean": (False, True), "int": (-(2**31), 0, 550)
    }  # fmt: skip
    return dice.choice(extremes[node])


def some_event(dice: random.Random) -> Event:
    """An event of a few messages and recipients, with some extreme values."""
    kind = dice.choice(KINDS)
    one: dict[str, Any] = {
        **event(
            event_id=f"{dice.getrandbits(128):032x}", event_type=kind,
            message_id=f"m{dice.randrange(4)}", recipient=f"u{dice.randrange(4)}@gmail.com",
            bounce_class=dice.choice(("none", "hard", "soft")),
            user_agent=dice.choice((PHONE, "x")),
            occurred_at=RECEIVED_AT - dice.choice((0, 1, 3, 100)) * 10**6,
        )
    }  # fmt: skip
    for name in dice.sample(sorted(FIELDS), dice.choice((0, 0, 1, 1, 2, 8))):
        one[name] = some_value(dice, FIELDS[name])
    return one  # type: ignore[return-value]


def headless(one: Event) -> bytes:
    """The record as another producer writes it."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(PLAIN_RAW), {**one, HEAD: None})
    return CODEC.prefix("raw_event") + out.getvalue()


def with_own_head(one: Event, said: Event, change: Callable[[bytes], bytes] = bytes) -> bytes:
    """The record with a head that says ``said``, of which checksum and length are right.

    Args:
        change: of the fields' bytes.
    """
    value = CODEC.encode("raw_event", one)
    if value[PREFIX_BYTES + ID_SIZE : PREFIX_BYTES + ID_SIZE + 1] != HEADED:
        return value
    first = value[PREFIX_BYTES : PREFIX_BYTES + ID_SIZE]
    rest = change(value[PREFIX_BYTES + ID_SIZE + 1 + SIZE :])
    return CODEC.prefix("raw_event") + with_head(
        said["event_type"], one["event_id"], said["occurred_at"], said["received_at"],
        said["time_suspect"], said["provider"], said["message_id"], said["rfc_message_id"],
        recipient_identity(said), said["recipient_certain"], first + rest,
    )  # fmt: skip


def damaged(dice: random.Random) -> Callable[[bytes], bytes]:
    """Cuts bytes or changes one of them."""

    def change(data: bytes) -> bytes:
        place = dice.randrange(len(data))
        if dice.random() < 0.3:
            return data[:place]
        return data[:place] + bytes((dice.randrange(256),)) + data[place + 1 :]

    return change


def some_record(dice: random.Random) -> tuple[Event, bytes]:
    """A sound event and its record, or anything that a Kafka client may write."""
    one = some_event(dice)
    kind = dice.random()
    if kind < 0.3:
        return one, CODEC.encode("raw_event", one)
    if kind < 0.6:
        return one, headless(one)
    if kind < 0.7:
        return one, damaged(dice)(CODEC.encode("raw_event", one))
    sound = event(event_id=one["event_id"], event_type=one["event_type"], message_id="m1")
    said = some_event(dice) if kind < 0.85 else sound
    if dice.random() < 0.5:
        said = one
    try:
        return one, with_own_head(one, said, damaged(dice) if dice.random() < 0.7 else bytes)
    except Exception:  # times that no head can hold
        return one, headless(one)


def some_log(dice: random.Random, records: int = 40) -> list[LogRecord]:
    """Such records as a partition's, in order, seconds or days apart."""
    at_ms, log = RECEIVED_AT // 1000, []
    for offset in range(records):
        _, value = some_record(dice)
        at_ms += dice.choice((0, 0, 1_000, 86_400_000))
        log.append(LogRecord(offset, at_ms, b"k", value))
    return log


@pytest.mark.parametrize("seed", range(120))
def test_every_record_is_folded_or_becomes_a_dead_letter(seed: int) -> None:
    """Whatever is in it; state is stored, read again, and every output can be written."""
    dice = random.Random(f"other producers {seed}")
    fold, at_ms, offset = Worker(), RECEIVED_AT // 1000, 0
    for _ in range(40):
        one, value = some_record(dice)
        at_ms += dice.choice((0, 0, 1_000, 86_400_000))
        time_ms = dice.choice((at_ms, at_ms, at_ms, -1, 0, 2**62))
        key = dice.choice((None, b"k", message_key(one)))
        fold.fold([LogRecord(offset, time_ms, key, value)])
        offset += 1
        if dice.random() < 0.3:
            fold.checkpoint(dice.choice((0, 1, 1_000)))
            if dice.random() < 0.3:
                fold.restart()
    fold.checkpoint()
    first = {one["offset"] for _, one in fold.enriched} | {*fold.unreadable}
    assert len(first) + fold.duplicates + len(fold.dead_letters) == offset
    assert fold.shard.log_time <= at_ms // 1000
    for one in fold.suppressions:
        assert one.record is None or CODEC.encode("suppression", one.record)
    assert all(CODEC.encode("engagement", record) for _, record in fold.engagement)
    assert all(CODEC.encode("dead_letter", record) for record in fold.dead_letters)


@pytest.mark.parametrize("seed", range(60))
def test_a_rebuild_of_what_was_folded_gives_the_same_state(seed: int) -> None:
    """It decodes less, since it tells nobody: what it reads was decoded when it was folded."""
    kept = []
    shard, again = (Shard(0, lambda keys: [None] * len(keys)) for _ in range(2))
    shard.begin_log("log")
    again.begin_log("log")
    for record in some_log(random.Random(f"rebuild {seed}")):
        effects = step(shard, [record], LOOK_UPS, CODEC)
        if not effects.dead_letters and not effects.duplicates:
            kept.append(record)
    for record in kept:
        assert not step(again, [record], LOOK_UPS, CODEC, emit=False).enriched
    again.applied = shard.applied
    stored, anew = (
        {key: value for key, value in each.writes() if value is not None}
        for each in (shard, again)
    )  # fmt: skip
    assert anew == stored


@pytest.mark.parametrize("seed", range(60))
def test_how_the_log_is_cut_changes_nothing(seed: int) -> None:
    """A record is folded or refused alike, whichever records are read with it."""
    log = some_log(random.Random(f"rebuild {seed}"))
    alone, together = Worker(), Worker()
    for record in log:
        alone.fold([record])
    together.fold(log)
    for one in (alone, together):
        one.checkpoint()
        one.dead_letters.sort(key=itemgetter("offset"))  # a slice's are found in two passes
    assert together.dead_letters == alone.dead_letters
    assert together.enriched == alone.enriched
    assert together.unreadable == alone.unreadable
    assert together.suppressions == alone.suppressions
    assert together.engagement == alone.engagement


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_over_fields_that_cannot_be_read_affects_no_other_record(kind: str) -> None:
    """Its checksum is right. Where only the head is needed, consumers find the record unreadable;
    where more is needed, it is a dead letter."""
    beside = [
        event(event_id=f"{n:032x}", event_type=each, message_id=f"m{n}", user_agent=PHONE,
              recipient="bob@example.com", bounce_class="hard" if each == "bounced" else "none")
        for n, each in enumerate(("bounced", "delivered", "opened", "complained"))
    ]  # fmt: skip
    sound = event(event_id="f" * 32, event_type=kind, user_agent=PHONE)
    wrong = with_own_head(sound, sound, lambda rest: rest[:-9] + b"\xff" * 9)
    with pytest.raises(DecodeError):
        CODEC.decode(wrong, "raw_event")
    for place in range(5):
        log = log_of(beside)
        log.insert(place, LogRecord(99, log[0].timestamp, None, wrong))
        log = [LogRecord(n, *list(vars(each).values())[1:]) for n, each in enumerate(log)]
        alone, fold = Worker(), Worker()
        alone.fold([each for each in log if each.value != wrong])
        fold.fold(log)
        fold.checkpoint()
        needed = kind not in ("queued", "sent", "delivered", "autoresponded", "unknown")
        found = [letter["offset"] for letter in fold.dead_letters] if needed else fold.unreadable
        assert (found, len(fold.dead_letters)) == ([place], needed)
        assert fold.enriched == alone.enriched
        assert fold.suppressions == alone.suppressions
        assert fold.engagement == alone.engagement


@pytest.mark.parametrize(
    "other",
    [
        {"event_type": "complained"}, {"occurred_at": RECEIVED_AT - 5}, {"time_suspect": True},
        {"received_at": RECEIVED_AT + 5}, {"message_id": None}, {"recipient_certain": False},
    ],
)  # fmt: skip
def test_a_head_that_says_otherwise_than_the_fields_is_refused(other: dict[str, Any]) -> None:
    """As soon as more than the head is needed."""
    one = event(event_type="unsubscribed")
    head = CODEC.raw_head(with_own_head(one, event(**{"event_type": "unsubscribed", **other})))
    with pytest.raises(DecodeError, match="wrong_head"):
        head.complete()


@pytest.mark.parametrize(
    ("fields", "key", "reason"),
    [
        ({"diagnostic": "x" * LOOK_UPS.record_bytes_max}, b"k", "record_too_large"),
        ({"diagnostic": "x" * 900_000}, b"k" * 110_000, "record_too_large"),
        ({"campaign_id": "x" * 66_000}, b"k", "text_too_long"),
        ({"diagnostic": "x" * 66_000, "geo_country": "x" * 4_097}, b"k", "text_too_long"),
        ({"diagnostic": "x" * 66_000, "click_url": "x" * 8_193}, b"k", "text_too_long"),
        ({}, b"k" * 66_000, "key_too_long"),
    ],
)
def test_what_is_too_large_to_be_told_is_a_dead_letter_that_is_not(
    fields: dict[str, Any], key: bytes, reason: str
) -> None:
    """A batch of records has a limit; a record that can't be written would stop the partition."""
    fold = Fold()
    value = CODEC.encode("raw_event", event(**fields))
    fold.fold([LogRecord(0, RECEIVED_AT // 1000, key, value), *log_of([event()] * 2)[1:]])
    (letter,) = fold.dead_letters
    assert letter["reason"] == reason
    assert len(fold.enriched) == 1
    limit = LOOK_UPS.record_bytes_max + BESIDE_BYTES_MAX
    assert len(CODEC.encode("dead_letter", letter)) < limit


def test_what_follows_from_the_largest_record_fits_into_a_batch() -> None:
    """A link of the longest kind, in a record of the largest size."""
    fold = Fold()
    longest = {
        name: "\U0001f600" * (REPEATED_BYTES_MAX // 4)
        for name in ("campaign_id", "geo_country", "recipient", "message_id", "source")
    }
    link = "https://a.example/" + "\U0001f600" * 2_030
    one = event(event_type="clicked", click_url=link, user_agent=PHONE, **longest)
    missing = LOOK_UPS.record_bytes_max - len(CODEC.encode("raw_event", one)) - 10
    value = CODEC.encode("raw_event", {**one, "diagnostic": "x" * missing})
    done = fold.fold([LogRecord(0, RECEIVED_AT // 1000, b"k", value)])
    [(key, told, _)] = done.enriched
    assert LOOK_UPS.record_bytes_max < len(key or b"") + len(told)
    assert len(told) < LOOK_UPS.record_bytes_max + BESIDE_BYTES_MAX - 5_000
    assert len(fold.engagement) == 1


def test_a_timestamp_of_another_age_does_not_end_what_is_kept() -> None:
    """Log time never goes back."""
    fold = Fold()
    value = CODEC.encode("raw_event", event())
    fold.fold([LogRecord(0, NEWEST_MS + 1, None, value), LogRecord(1, 1_000, None, value)])
    assert [letter["reason"] for letter in fold.dead_letters] == ["bad_time"]
    assert fold.shard.log_time == 1


def test_every_type_of_event_has_a_stored_form() -> None:
    """Also of messages that are put on a list: their events are pending like any other."""
    assert set(TYPES) == set(KINDS)
    fold = Fold()
    fold.fold(log_of([event(event_id=f"{n:032x}", event_type=k) for n, k in enumerate(KINDS)]))
    fold.checkpoint()
    fold.restart()
    key = unit_key(event())
    fold.shard.fetch([key], ())
    assert [one.event_type for one in fold.shard.message(key).pending] == KINDS
