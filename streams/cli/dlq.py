"""``mailpulse dlq``: lists dead letters and resends them.

Invariants:
1. Without ``--yes`` resending only shows a plan; nothing is sent.
2. Nothing is counted twice: event ids are derived from the provider's data, so an event that was
   processed before is dropped as a duplicate. Nothing is lost: a dead letter stays on its topic.
3. A letter from ingress goes through its provider module and the privacy setting again; a record
   goes back to its topic and partition unchanged. One that a destination did not take goes to that
   destination alone, with the id that it had.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas import cloudevents
from schemas.cloudevents import Headers, by_leading_text, cloud_event
from schemas.errors import BadInput, DecodeError
from schemas.masking import masked
from schemas.settings import Settings, Source
from schemas.topics import BY_NAME, DEAD_LETTERS, RAW
from streams.cli.context import (
    FAILED,
    Json,
    codec_of,
    destinations_of,
    emit,
    now,
    say,
    settings_of,
    sources_of,
    table,
    table_or_json,
)
from streams.cli.recipients import compare as compare_recipients
from streams.cli.tail import Wanted, moment, readable, records

if TYPE_CHECKING:
    from schemas.codec import Codec

group = typer.Typer(help="Dead letters: records that failed.", no_args_is_help=True)

Since = Annotated[str | None, typer.Option(help="10m, 2h, 1d or an ISO 8601 time.")]
Reason = Annotated[str | None, typer.Option(help="Only this reason.")]
_CONTENT_SHOWN_CHARS = 4_000


async def letters(
    settings: Settings, codec: "Codec", since: str | None, reason: str | None
) -> AsyncGenerator[dict[str, Any], None]:
    """Dead letters, each once, in order of time (``streams.cli.tail.InOrder``).

    It holds a connection to Kafka, so callers that stop early must close it.
    """
    since_s = 0.0 if since is None else moment(since, now())
    seen: set[str] = set()
    wanted = Wanted(BY_NAME[DEAD_LETTERS], since_s=since_s)
    async with aclosing(records(settings, wanted, codec)) as found:
        async for _record, letter in found:
            if not isinstance(letter, dict) or letter["dead_letter_id"] in seen:
                continue
            seen.add(letter["dead_letter_id"])
            if reason is None or letter["reason"] == reason:
                yield letter


@group.command("ls")
def ls(since: Since = None, reason: Reason = None, json: Json = False) -> None:
    """Counts dead letters by stage and reason, and lists the newest."""
    settings = settings_of()
    codec = codec_of(settings)

    async def run() -> list[dict[str, Any]]:
        return [letter async for letter in letters(settings, codec, since, reason)]

    found = asyncio.run(run())
    if not json:
        tally = Counter((one["stage"], one["reason"]) for one in found)
        rows = [(*key, number) for key, number in tally.most_common()]
        table(f"{len(found):,} dead letters", ("stage", "reason", "number"), rows)
    columns = ("dead_letter_id", "occurred_at", "stage", "reason", "source", "detail", "bytes")
    found.sort(key=lambda one: int(one["occurred_at"]), reverse=True)
    shown = [readable(one) for one in (found if json else found[:20])]
    rows_of = [
        (*(one.get(name) for name in columns[:-1]), len(raw["content"]))
        for one, raw in zip(shown, found, strict=False)
    ]
    table_or_json(json, "newest", columns, rows_of)


@group.command("show")
def show(
    dead_letter_id: Annotated[str, typer.Argument(help="Id, or its first characters.")],
    unmasked: Annotated[bool, typer.Option("--unmasked", help="Show whole addresses.")] = False,
    json: Json = False,
) -> None:
    """Shows one dead letter with its content; addresses are masked."""
    settings = settings_of()
    codec = codec_of(settings)

    async def run() -> dict[str, Any] | None:
        async with aclosing(letters(settings, codec, None, None)) as found:
            async for letter in found:
                if letter["dead_letter_id"].startswith(dead_letter_id):
                    return letter
        return None

    letter = asyncio.run(run())
    if letter is None:
        raise BadInput("no_such_dead_letter", dead_letter_id)
    content = _content_of(letter, codec).decode("utf-8", "replace")
    text = (
        content if unmasked else masked(content)
    )  # before it is cut: half an address is not found
    shown = readable(letter, unmasked) | {"content": text[:_CONTENT_SHOWN_CHARS]}
    if json:
        emit(shown)
        return
    for name, value in shown.items():
        if value not in (None, "", {}):
            say(f"{name}: {value}")


def _content_of(letter: dict[str, Any], codec: "Codec") -> bytes:
    """What can be read of a letter: of ``deliver`` the body as it was sent."""
    if letter["stage"] != "deliver":
        return bytes(letter["content"])
    from streams.deliver.resending import body_of

    try:
        return body_of(letter, codec).json
    except DecodeError:
        return bytes(letter["content"])


@dataclass(slots=True)
class Resend:
    """What resending would send.

    Attributes:
        out: topic, partition (``None``: by key), key, value, timestamp in milliseconds.
        requests: letters of ``deliver``: each goes to the destination that did not take it, alone.
        still_bad: reason -> number of letters that would fail again.
    """

    out: list[tuple[str, int | None, bytes | None, bytes, int]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    tried: int = 0
    still_bad: Counter[str] = field(default_factory=Counter)


def plan_of(letter: dict[str, Any], sources: dict[str, Source], intake: Any, plan: Resend) -> None:
    """Adds one dead letter to a plan."""
    plan.tried += 1
    if letter["stage"] == "deliver":
        plan.requests.append(letter)
        return
    if letter["stage"] != "ingest":
        topic = letter["topic"]
        if topic not in BY_NAME:
            plan.still_bad["no_topic"] += 1
            return
        at = int(letter["occurred_at"]) // 1000
        plan.out.append((topic, letter["partition"], letter["key"], letter["content"], at))
        return
    source = sources.get(letter["source"] or "")
    if source is None:
        plan.still_bad["source_not_configured"] += 1
        return
    _parse_again(letter, source, intake, plan)


def _parse_again(letter: dict[str, Any], source: Source, intake: Any, plan: Resend) -> None:
    """Parses a letter from ingress again; its content as it is, then as a list of one item."""
    from ingest.providers import REGISTRY
    from ingest.providers.base import Request

    headers = tuple(letter["headers"].items())
    reasons: tuple[str, ...] = ()
    for body in (letter["content"], b"[" + letter["content"] + b"]"):
        request = Request("POST", "", headers, body, "")
        taken = intake.take(REGISTRY[source.provider], source, request, int(letter["occurred_at"]))
        if taken.accepted and not taken.rejected:
            plan.out += [
                (RAW, None, key, value, taken.parcel.timestamp_ms)
                for key, value in taken.parcel.events
            ]
            return
        reasons = reasons or taken.reasons or ("no_events",)
    plan.still_bad[reasons[0]] += 1


@group.command("replay", hidden=True, deprecated=True)  # its name until 0.2
@group.command("resend")
def resend(
    since: Since = None,
    reason: Reason = None,
    yes: Annotated[bool, typer.Option("--yes", help="Send it; without, only the plan.")] = False,
    json: Json = False,
) -> None:
    """Resends dead letters. Without --yes it only shows what would be sent.

    Letters from ingress go through their provider module again; records of the streams and the
    sink go back to their topic. Events that were processed before are dropped as duplicates. What
    a destination did not take is sent there again, after newer records of the same key, unless the
    person was forgotten since.

    Example: mailpulse dlq resend --reason unknown_schema_id
    """
    settings = settings_of()
    codec = codec_of(settings)
    compare_recipients(settings, codec, needed=yes)

    async def run() -> Resend:
        plan = await _plan(settings, codec, since, reason)
        if yes and plan.out:
            await _send(settings, plan)
        if yes:
            await _deliver(settings, codec, plan)
        return plan

    plan = asyncio.run(run())
    outcome = {
        "letters": plan.tried,
        "records": len(plan.out),
        "requests": len(plan.requests),
        "sent": bool(yes and (plan.out or plan.requests)),
        "still_bad": dict(plan.still_bad),
    }
    if json:
        emit(outcome)
    else:
        say(
            f"{plan.tried:,} dead letters: {len(plan.out):,} records and {len(plan.requests):,}"
            f" requests to destinations {'sent' if yes else 'to send'}"
        )
        for why, number in plan.still_bad.most_common():
            say(f"  {number:,} would fail again: {why}")
        if (plan.out or plan.requests) and not yes:
            say("Nothing was sent. Add --yes to send.")
    if plan.still_bad:
        raise typer.Exit(FAILED)


async def _plan(
    settings: Settings, codec: "Codec", since: str | None, reason: str | None
) -> Resend:
    from ingest.intake import Intake

    plan = Resend()
    intake = Intake(settings, codec)
    sources: dict[str, Source] | None = None
    async with aclosing(letters(settings, codec, since, reason)) as found:
        async for letter in found:
            if sources is None:
                sources = sources_of(settings) if letter["stage"] == "ingest" else None
            plan_of(letter, sources or {}, intake, plan)
    return plan


def _headers(topic: str, partition: int | None, value: bytes, at_ms: int) -> Headers:
    """CloudEvents headers of a resent record, the same each time it is resent.

    An event that was parsed again has its event id, as from ingress. An unchanged record could not
    be decoded, so its id is the hash of its content.
    """
    kind = BY_NAME[topic].schema
    if topic == RAW and partition is None:
        return by_leading_text(kind, cloudevents.CLI)(value, at_ms)
    return cloud_event(kind, cloudevents.CLI, sha256(value).hexdigest()[:32], at_ms * 1000)


async def _send(settings: Settings, plan: Resend) -> None:
    """Sends the plan and waits for every acknowledgement.

    Raises:
        Unavailable: a record was not acknowledged; sending again is safe (invariant 2).
    """
    from streams.kafka.clients import producer

    async with producer(settings) as client:
        waiting = [
            await client.send(
                topic, value, key, partition=partition, timestamp_ms=at,
                headers=_headers(topic, partition, value, at),
            )
            for topic, partition, key, value, at in plan.out
        ]  # fmt: skip
        for one in waiting:
            await one


async def _deliver(settings: Settings, codec: "Codec", plan: Resend) -> None:
    """Sends letters of ``deliver`` to their destinations, in order; counts those refused again."""
    if not plan.requests:
        return
    from streams.deliver.resending import send_again
    from streams.erasure.topic import ErasureLog

    async with ErasureLog(settings, codec) as log:
        await log.fresh(0)
        sent = send_again(destinations_of(settings), codec, plan.requests, log.erasures)
        async for said in sent:
            if said:
                plan.still_bad[said] += 1


def register(app: typer.Typer) -> None:
    """Adds these commands to ``app``."""
    app.add_typer(group, name="dlq", rich_help_panel="Kafka")
