"""``mailpulse tail``: shows the records of a topic, decoded.

Invariants:
1. It reads without a consumer group and commits nothing.
2. Exactly as many records are shown as were asked for, if there are so many; in order of time.
3. Addresses are masked unless asked for; a record that can't be decoded is shown as such and
   reading goes on.
"""

import asyncio
import heapq
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas.errors import BadInput
from schemas.identity import address_identity
from schemas.masking import is_hash, masked, masked_field, masked_id, masked_recipient
from schemas.settings import Settings
from schemas.topics import BY_NAME, Topic
from streams.cli.context import Json, codec_of, emit, now, put, say, settings_of
from streams.cli.record_lines import checked, figures, filled
from streams.terminal.output import pair, put_lines
from streams.terminal.visible import visible

if TYPE_CHECKING:
    from schemas.codec import Codec

ALIASES = {name.split(".")[-2]: name for name in BY_NAME}
"""Short name -> topic: ``raw``, ``enriched``, ``dlq`` …: the part before the version."""
LOOK_BACK = 10_000
"""Newest offsets of each partition among which records that pass filters are looked for."""
HELD_MAX = 50_000
HELD_BYTES_MAX = 64 << 20
"""Records, and bytes of them, that are held to bring those of several partitions in order."""
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_TIME_FIELDS = ("occurred_at", "received_at", "event_time", "as_of", "complete_through", "since",
                "until", "raised_at", "updated_at", "starts_at", "ends_at", "started_at",
                "minute")  # fmt: skip
_ADDRESSES = ("recipient", "recipient_identity")
_IDS = ("message_id", "rfc_message_id")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records are shown.

    Attributes:
        since_s: oldest timestamp, seconds since 1970; ``None``: by ``last`` instead.
        last: number of the newest records, over all partitions; ignored with ``since_s`` and
            ``offsets``.
        offsets: partition -> first offset; only these partitions. ``None``: by time or ``last``.
    """

    topic: Topic
    last: int = 20
    since_s: float | None = None
    offsets: Mapping[int, int] | None = None
    follow: bool = False
    campaign: str | None = None
    event_type: str | None = None
    recipient: str | None = None

    @property
    def filters(self) -> bool:
        """Whether some records are left out."""
        return any((self.campaign, self.event_type, self.recipient))

    @property
    def depth(self) -> int:
        """How many of the newest offsets of each partition are looked at."""
        return max(self.last, LOOK_BACK) if self.filters else self.last

    def takes(self, record: Mapping[str, Any]) -> bool:
        """Whether a decoded record passes the filters, with the fields of its enrichment."""
        event = record.get("event", record)
        merged = {**event, **record.get("enrichment", {})} if isinstance(event, dict) else record
        wants = (("campaign_id", self.campaign), ("event_type", self.event_type))
        if any(value is not None and str(merged.get(name)) != value for name, value in wants):
            return False
        if self.recipient is None:
            return True
        recipient = str(merged.get("recipient") or "")
        return address_identity(recipient) == address_identity(self.recipient)


def topic_named(name: str) -> Topic:
    """A topic by its name or short name.

    Raises:
        typer.BadParameter: no such topic.
    """
    topic = BY_NAME.get(ALIASES.get(name, name))
    if topic is None:
        raise typer.BadParameter(f"no topic {name!r}; one of {', '.join(ALIASES)}")
    return topic


def moment(text: str, at: float) -> float:
    """A time in seconds since 1970: ``10m`` (before ``at``), ``2h``, or ISO 8601 (default UTC).

    Raises:
        typer.BadParameter: neither.
    """
    matched = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if matched:
        return at - float(matched[1]) * _UNITS_S[matched[2]]
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither like 10m nor like 2026-11-24T08:00 nor, for --from, like 0:1500"
        ) from None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def beginning(text: str, at: float) -> tuple[float | None, dict[int, int] | None]:
    """What ``--from`` means: a time in seconds since 1970, or offsets by partition.

    Args:
        text: as ``moment`` takes it, or ``PARTITION:OFFSET``, several parted by commas.
        at: seconds since 1970, for times ago.

    Raises:
        typer.BadParameter: neither.
    """
    if not re.fullmatch(r"\d+:\d+(,\d+:\d+)*", text):
        return moment(text, at), None
    places = [one.split(":") for one in text.split(",")]
    return None, {int(partition): int(offset) for partition, offset in places}


def readable(record: Any, unmasked: bool = False) -> Any:
    """A decoded record with times as ISO 8601, addresses masked, and bytes as their number."""
    if isinstance(record, dict):
        shown = {name: _readable_field(name, value) for name, value in record.items()}
    else:
        shown = _readable_field("", record)
    return shown if unmasked else without_addresses(shown)


def _readable_field(name: str, value: Any) -> Any:
    if name in _TIME_FIELDS and isinstance(value, int):
        scale = 1_000 if name == "minute" else 1_000_000
        return datetime.fromtimestamp(value / scale, UTC).isoformat()
    if isinstance(value, dict):
        return readable(value, unmasked=True)
    if isinstance(value, list):
        return [_readable_field("", item) for item in value]
    return f"{len(value)} bytes" if isinstance(value, bytes) else value


def without_addresses(value: Any, name: str = "") -> Any:
    """A document with the addresses in its names and texts masked."""
    if isinstance(value, dict):
        return {masked(key): without_addresses(item, key) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_addresses(item) for item in value]
    if not isinstance(value, str):
        return value
    if name in _ADDRESSES:
        return value if is_hash(value) else masked_recipient(value)
    return masked_id(value) if name in _IDS else masked_field(value)


async def records(
    settings: Settings, wanted: Wanted, codec: "Codec"
) -> AsyncGenerator[tuple[Any, Any], None]:
    """``(Kafka record, decoded record or BadInput)`` of those that pass the filters.

    What is there when it begins comes in order of time (``InOrder``), what follows as it arrives.

    Args:
        codec: with the schema ids that the roles write.

    Raises:
        Unavailable: no broker answers.
    """
    from streams.kafka.reader import reader

    async with reader(settings, wanted.topic.name) as topic:
        await topic.begin(wanted.since_s, wanted.depth, wanted.offsets)
        is_last = wanted.since_s is None and wanted.offsets is None
        order = InOrder(wanted.last if is_last else None)
        async for record in topic.records():
            decoded = _decoded(record, wanted, codec)
            if decoded is not _LEFT_OUT:
                for ready in order.add(record, decoded):
                    yield ready
        for ready in order.rest():
            yield ready
        if wanted.follow:
            async for record in topic.records(follow=True):
                decoded = _decoded(record, wanted, codec)
                if decoded is not _LEFT_OUT:
                    yield record, decoded


_LEFT_OUT = object()


def _decoded(record: Any, wanted: Wanted, codec: "Codec") -> Any:
    """A record decoded, ``None`` if it has no value, what is wrong with it, or ``_LEFT_OUT``."""
    if wanted.since_s is not None and record.timestamp < wanted.since_s * 1000:
        return _LEFT_OUT
    if record.value is None:
        return _LEFT_OUT if wanted.filters else None
    try:
        decoded = codec.decode(record.value, wanted.topic.schema)
    except BadInput as error:
        return error
    return decoded if wanted.takes(decoded) else _LEFT_OUT


class InOrder:
    """Records of several partitions in order of time: by timestamp, partition, offset.

    Args:
        last: only so many of the newest are kept until ``rest``; ``None``: all. Then the oldest are
            given out once more than ``HELD_MAX`` records or ``HELD_BYTES_MAX`` are held: the order
            is exact as long as no partition is further behind than that.
    """

    def __init__(self, last: int | None) -> None:
        self._last = last
        self._held: list[tuple[tuple[int, int, int], Any, Any]] = []
        self._bytes = 0

    def add(self, record: Any, decoded: Any) -> Iterator[tuple[Any, Any]]:
        """Takes a record; gives those that are ready."""
        entry = ((record.timestamp, record.partition, record.offset), record, decoded)
        heapq.heappush(self._held, entry)
        self._bytes += len(record.value or b"")
        while self._is_full():
            oldest = self._take()
            if self._last is None:
                yield oldest

    def rest(self) -> Iterator[tuple[Any, Any]]:
        """Those that are left."""
        while self._held:
            yield self._take()

    def _is_full(self) -> bool:
        if self._last is not None:
            return len(self._held) > self._last
        return len(self._held) > HELD_MAX or self._bytes > HELD_BYTES_MAX

    def _take(self) -> tuple[Any, Any]:
        _, record, decoded = heapq.heappop(self._held)
        self._bytes -= len(record.value or b"")
        return record, decoded


def one_line(record: Any, decoded: Any, unmasked: bool = False) -> str:
    """A record on one line: time, partition and offset, fields."""
    at = datetime.fromtimestamp(record.timestamp / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
    place = f"{at} {record.partition}:{record.offset}"
    if decoded is None:
        key = (record.key or b"").decode(errors="replace")
        return f"{place}  lifted ({visible(key if unmasked or is_hash(key) else masked(key))})"
    if isinstance(decoded, BadInput):
        return f"{place}  not decodable: {visible(str(decoded))}"
    event = decoded.get("event", decoded)
    extra = decoded.get("enrichment", {})
    told = {**event, **{k: v for k, v in extra.items() if v not in (None, "", "none", False)}}
    shown = ("event_type", "campaign_id", "recipient", "provider", "actor", "bounce_class",
             "first_of_kind", "first_human", "click_url", "kind", "reason", "detail", "stage",
             "rate", "level", "state", "value", "minute", "mailbox_provider", "as_of",
             "message_id")  # fmt: skip
    parts = [pair(name, told[name]) for name in shown if told.get(name) not in (None, "", "none")]
    return f"{place}  {' '.join([*parts, *figures(decoded)])}"


def tail(
    topic: Annotated[str, typer.Argument(help=f"Topic, or one of {', '.join(ALIASES)}.")],
    last: Annotated[int, typer.Option("--last", "-n", help="Newest records shown.", min=1)] = 20,
    begin: Annotated[
        str | None,
        typer.Option(
            "--from",
            "--since",
            help="10m, 2h, 1d (ago), an ISO 8601 time, or PARTITION:OFFSET, several with commas.",
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue until Ctrl-C.")] = False,
    campaign: Annotated[str | None, typer.Option(help="Only this campaign.")] = None,
    event_type: Annotated[str | None, typer.Option("--type", help="Only this type.")] = None,
    recipient: Annotated[str | None, typer.Option(help="Only this recipient.")] = None,
    unmasked: Annotated[bool, typer.Option("--unmasked", help="Show whole addresses.")] = False,
    template: Annotated[
        str | None,
        typer.Option(
            "--format", help="Fields in braces: '{at} {partition}:{offset} {key} {event_type}'."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Shows the records of a topic in order of time, decoded; addresses are masked.

    With a filter, the newest 10,000 records of each partition are looked through; --from goes
    further back. --json: one object per line.

    Example: mailpulse tail enriched --type clicked --follow
    """
    since_s, offsets = (None, None) if begin is None else beginning(begin, now())
    wanted = Wanted(
        topic_named(topic), last, since_s, offsets, follow, campaign, event_type, recipient
    )
    settings = settings_of()
    codec = codec_of(settings)
    line = None if template is None else checked(template, _fields(wanted.topic))

    async def read() -> None:
        async for record, decoded in records(settings, wanted, codec):
            if isinstance(decoded, dict):
                decoded = readable(decoded, unmasked)
            if json:
                problem = {"error": str(decoded)} if isinstance(decoded, BadInput) else decoded
                emit({"partition": record.partition, "offset": record.offset, "value": problem})
            elif line is not None and isinstance(decoded, BadInput):
                say(one_line(record, decoded, unmasked))  # a line of empty fields would hide it
            elif line is not None:
                put_lines(filled(line, _places(record, unmasked), decoded))
            else:
                put(one_line(record, decoded, unmasked))

    asyncio.run(read())


def _fields(topic: Topic) -> set[str]:
    """Names of a topic's fields, with those of an enriched record's two parts."""
    from schemas.codec import LATEST, schema_json

    found = schema_json(LATEST[topic.schema])["fields"]
    nested = [part["type"]["fields"] for part in found if part["name"] in ("event", "enrichment")]
    return {part["name"] for part in (*found, *(one for each in nested for one in each))}


def _places(record: Any, unmasked: bool) -> dict[str, Any]:
    """What a format may name of a record besides its fields."""
    key = (record.key or b"").decode(errors="replace")
    at = datetime.fromtimestamp(record.timestamp / 1000, UTC).isoformat(timespec="milliseconds")
    return {
        "at": at, "topic": record.topic, "partition": record.partition, "offset": record.offset,
        "key": key if unmasked or is_hash(key) else masked(key),
    }  # fmt: skip


def register(app: typer.Typer) -> None:
    """Adds these commands to ``app``."""
    app.command(rich_help_panel="Kafka")(tail)
