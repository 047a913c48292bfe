"""Reprocessing: figures are those of the new rules from their start on, whatever fails."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.event import Event
from streams.classify.actor_rules import Rules
from streams.enrich.epochs import Epoch, Ruling, Span
from streams.enrich.shard import Shard
from streams.enrich.step import step
from streams.enrich.telling import Addressee, Told
from tests.builders import RECEIVED_AT, event
from tests.streams.folding import CODEC, LOG, Disk, LogRecord, log_of
from tests.streams.reference import count
from tests.streams.replaying import LAX, STRICT, Topics, Worker, epoch, ruling
from tests.streams.test_step import AGENT, logs

KINDS = (
    "delivered", "delivered", "opened", "opened", "opened", "clicked", "clicked", "clicked",
    "bounced", "deferred", "complained", "unsubscribed",
)  # fmt: skip
GAPS_S = (0, 0, 1, 70, 700)
DELAYS_S = (0, 0, 1, 30, 400)


def standing(told: list[Told]) -> dict[Addressee, dict[str, Any] | None]:
    """What was told of each address last."""
    return {one.addressee: one.record for one in told}


def message_ids(draw: st.DrawFn, message: int, kind: str) -> dict[str, str | None]:
    """SendGrid's id alone, the sender's too, or that alone; some messages share the sender's."""
    own = f"m{message}"
    if message == 0 or kind in ("opened", "clicked"):
        return {"message_id": own}
    rfc = f"r{message}@shop.example"
    ids = st.sampled_from([own, own, None if kind == "bounced" else own, f"n{message}"])
    return {"message_id": draw(ids), "rfc_message_id": draw(st.sampled_from([rfc, rfc, None]))}


@st.composite
def spaced_logs(draw: st.DrawFn) -> list[Event]:
    """Mostly opens and clicks of a few messages, with pauses in which verdicts settle."""
    out: list[Event] = []
    received = RECEIVED_AT
    for number in range(draw(st.integers(4, 30))):
        received += draw(st.sampled_from(GAPS_S)) * 1_000_000 + 100_000
        if out and not draw(st.integers(0, 7)):
            out.append(out[draw(st.integers(0, len(out) - 1))])
            continue
        message, kind = draw(st.integers(0, 2)), draw(st.sampled_from(KINDS))
        clicked = kind == "clicked"
        link = draw(st.sampled_from(["1", "2", "3", "unsubscribe?x=1"])) if clicked else ""
        out.append(
            event(
                event_id=f"{number:032x}",
                event_type=kind,
                provider="sendgrid",
                received_at=received,
                occurred_at=received - draw(st.sampled_from(DELAYS_S)) * 1_000_000,
                **message_ids(draw, message, kind),
                recipient=f"u{message}@gmail.com",
                recipient_domain="gmail.com",
                campaign_id=draw(st.sampled_from([None, "c", "c"])),
                bounce_class="soft" if kind == "bounced" else "none",
                user_agent=draw(st.sampled_from([AGENT, AGENT, "Mozilla/5.0", "curl/8"])),
                click_url=f"https://shop.example/{link}" if clicked else None,
            )
        )
    return out


def run(worker: Worker, span: Span | None, stops: Sequence[int], draw: st.DataObject) -> bool:
    """Opens and folds to the last of ``stops``, with checkpoints and crashes in between; returns
    whether a disk was lost."""
    lost = False
    worker.open(span)
    for stop in stops:
        worker.fold(stop)
        fate = draw.draw(st.sampled_from(["checkpoint", "checkpoint", "crash", "cut off", "wiped"]))
        if fate == "checkpoint":
            worker.checkpoint()
            continue
        if fate == "cut off":
            worker.checkpoint(cut_off=True)
        if fate == "wiped":
            worker.disk = Disk()
            lost = True
        worker.open(span)
    worker.fold(stops[-1])
    worker.checkpoint()
    return lost


def stops_of(draw: st.DataObject, end: int) -> list[int]:
    """Offsets at which something happens; the last is ``end``."""
    return [*sorted(draw.draw(st.lists(st.integers(0, end), max_size=5))), end]


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(spaced_logs(), st.booleans(), st.data())
def test_a_replay_gives_what_the_rules_would_have_given(
    events: list[Event], stricter: bool, data: st.DataObject
) -> None:
    """Two runs over random spans, with crashes and lost disks: the figures of a fold without
    them."""
    first, second = (LAX, STRICT) if stricter else (STRICT, LAX)
    log = log_of(events)
    topics = Topics()
    epochs: list[Epoch] = []
    before: set[str] = set()
    worker = Worker(ruling(first), log, topics)
    until = data.draw(st.integers(len(log) // 2, len(log)))
    lost = run(worker, None, stops_of(data, until), data)
    stored = len(topics.engagement)
    worker.fold(min(len(log), until + data.draw(st.integers(0, 3))))  # killed before it was stored
    # Known limit (streams/README.md): the next rules do not know what was published of these.
    unstored = {record["event_id"] for record in topics.engagement[stored:]}
    for number, text in ((1, second), (2, first)):
        begin = data.draw(st.integers(0, until) | st.just(until // 2))
        span = Span(begin, until)
        epochs.append(epoch(number, text, span))
        worker = Worker(ruling(first, *epochs), log, topics)
        worker.committed = begin
        before = {event_id for event_id, holds in topics.told(unstored).items() if holds}
        until = len(log) if number == 2 else data.draw(st.integers(until, len(log)))
        lost = run(worker, span, stops_of(data, until), data)
    plain = fold_once(ruling(first, *epochs), log)
    known = len(log) if lost else epochs[-1].spans[0].until
    newest = Span(epochs[-1].spans[0].begin, known)
    assert not differences(topics.events(), plain.events(), newest)
    assert topics.counts() == plain.counts()
    assert standing(topics.suppressions) == standing(plain.suppressions)
    human = {i for (_, i), row in plain.events().items() if row["first_human"]}
    told = {event_id for event_id, holds in topics.told(unstored).items() if holds}
    assert told - unstored <= human
    assert human & before <= told, "what was told and holds was withdrawn"
    news = {
        i for (_, i), row in plain.events().items() if row["offset"] >= epochs[-1].spans[0].until
    }
    assert human & news <= told


def differences(
    found: dict[tuple[str, str], dict[str, Any]],
    wanted: dict[tuple[str, str], dict[str, Any]],
    newest: Span,
) -> list[Any]:
    """Rows that are in only one of both, and fields that differ: key, field, found, wanted.

    ``newest``: the first event that the newest run wrote anew, and the end of those of which it
    knew what stood: written by the runs before, or by itself before its disk was lost. The version
    of the rules may differ in these: a verdict keeps that of the rules that gave it first
    (``streams.enrich.changes``, invariant 2). In events from before the run, which were written
    again unchanged, so may the seconds since a delivery that was learned after the event.
    """
    out: list[Any] = [*(found.keys() ^ wanted.keys())]
    for key in found.keys() & wanted.keys():
        for name, value in wanted[key].items():
            if found[key][name] == value:
                continue
            offset = wanted[key]["offset"]
            better = name == "seconds_since_delivery" and value is None
            kept = name == "rules_version" and offset < newest.until
            if not kept and not (offset < newest.begin and better):
                out.append((key, name, found[key][name], value))
    return out


def fold_once(ruling: Ruling, log: list[LogRecord]) -> Topics:
    """Folds the log once, each record by its rules, without reprocessing."""
    topics = Topics()
    worker = Worker(ruling, log, topics)
    worker.shard = Shard(0, worker.disk.get_many)
    worker.shard.begin_log(LOG)
    changes = ruling.changes(LOG, 0, LOG)
    for number, (begin, look_ups) in enumerate(changes):
        end = changes[number + 1][0] if number + 1 < len(changes) else len(log)
        plain = replace(look_ups, epoch=0)
        effects = step(worker.shard, log[begin:end], plain, CODEC)
        worker.write(worker.completed(effects, plain))
    worker.checkpoint()
    return topics


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(logs(), st.data())
def test_counts_after_a_replay_of_everything_equal_a_recount(
    events: list[Event], data: st.DataObject
) -> None:
    """From the start of the log, by the other rules: a brute-force recount with those."""
    log, topics = log_of(events), Topics()
    until = data.draw(st.integers(0, len(log)))
    run(Worker(ruling(LAX), log, topics), None, stops_of(data, until), data)
    span = Span(0, until)
    run(
        Worker(ruling(LAX, epoch(1, STRICT, span)), log, topics),
        span,
        stops_of(data, len(log)),
        data,
    )
    assert topics.counts() == count(events, Rules.load(STRICT))
    assert {row["event"]["event_id"] for row in topics.enriched} == {e["event_id"] for e in events}


def test_a_count_that_only_the_new_rules_change_is_released_after_a_checkpoint() -> None:
    """By the new rules alone the second open is human: it counts in the minute of delivery."""
    kinds = [("delivered", 0, None), ("opened", 65, "curl/8"), ("opened", 70, AGENT)]
    events = [
        event(
            event_id=f"{number:032x}", event_type=kind, user_agent=agent,
            received_at=RECEIVED_AT + at * 1_000_000, occurred_at=RECEIVED_AT + at * 1_000_000,
        )
        for number, (kind, at, agent) in enumerate(kinds)
    ] + [event(event_id="f" * 32, message_id="other", campaign_id="autumn")]  # fmt: skip
    log, topics = log_of(events), Topics()
    old = Worker(ruling(STRICT), log, topics)
    old.open(None)
    for end in range(1, 5):
        old.fold(end)
        old.checkpoint()
    new = Worker(ruling(STRICT, epoch(1, LAX, Span(2, 4))), log, topics)
    new.committed = 2
    new.open(Span(2, 4))
    new.fold(3)
    new.checkpoint()
    assert topics.counts() == count(events, Rules.load(STRICT)), "held back"
    new.open(Span(2, 4))
    new.fold(4)
    new.checkpoint()
    assert topics.counts() == count(events, Rules.load(LAX))
    assert count(events, Rules.load(LAX)) != count(events, Rules.load(STRICT))
