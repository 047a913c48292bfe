"""Providers spell one address in many ways: what is counted and suppressed is the same."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.event import Event
from tests.builders import RECEIVED_AT, event
from tests.streams.folding import Fold, log_of

IDENTITY = "gina.b@xn--mller-kva.example"
SPELLINGS = (
    IDENTITY, "Gina.B@müller.example", "GINA.B@MÜLLER.EXAMPLE", '"gina.b"@xn--mller-kva.example.',
    "gina.b@mu\u0308ller.example", "gina.b@müller\uff0eexample",
)  # fmt: skip
KINDS = ("delivered", "bounced", "opened", "complained", "unsubscribed", "subscribed")
DAY_US = 86_400_000_000


@st.composite
def spelled(draw: st.DrawFn) -> tuple[list[Event], list[Event]]:
    """The events of one person, first each in a spelling of its own, then all in one."""
    ways = []
    for number in range(draw(st.integers(1, 14))):
        at = RECEIVED_AT + number * DAY_US // 8
        kind = draw(st.sampled_from(KINDS))
        built = event(
            event_id=f"{number:032x}", event_type=kind, received_at=at, occurred_at=at,
            message_id=f"m{draw(st.integers(0, 2))}", recipient=draw(st.sampled_from(SPELLINGS)),
            bounce_class=draw(st.sampled_from(["hard", "soft"])) if kind == "bounced" else "none",
            user_agent="Mozilla/5.0" if kind == "opened" else None,
        )  # fmt: skip
        ways.append(built)
    alike: list[Event] = [{**one, "recipient": IDENTITY} for one in ways]
    return ways, alike


def folded(events: list[Event]) -> Fold:
    """What a worker made of them."""
    fold = Fold()
    fold.fold(log_of(events))
    fold.publish_minutes()
    return fold


@given(spelled())
def test_spellings_change_neither_counts_nor_suppressions(
    both: tuple[list[Event], list[Event]],
) -> None:
    """Nor who is told to be engaged, or which message an event belongs to."""
    ways, alike = map(folded, both)
    assert ways.minutes == alike.minutes
    assert ways.suppressions == alike.suppressions
    assert {one.addressee.identity for one in ways.suppressions} <= {IDENTITY}
    assert {key for key, _ in ways.engagement} <= {IDENTITY}
    assert ways.enriched == alike.enriched


@given(spelled())
def test_another_producers_events_lack_the_identity(both: tuple[list[Event], list[Event]]) -> None:
    """It is made from the address then."""
    ways, _ = both
    bare: list[Event] = [{**one, "recipient_identity": None} for one in ways]
    assert folded(bare).minutes == folded(ways).minutes
    assert folded(bare).suppressions == folded(ways).suppressions


def test_a_bounce_of_one_spelling_is_a_suppression_of_all() -> None:
    """The topic's key and record, by which everyone looks, are the identity."""
    bounced = event(event_type="bounced", bounce_class="hard", recipient="Kurt.G@Example.com")
    (told,) = folded([bounced]).suppressions
    assert told.addressee == ("kurt.g@example.com", "", "")
    assert told.record["recipient"] == "kurt.g@example.com"
