"""Suppressions of lists and groups: whose they are, and how many an address may have."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.event import Event
from streams.enrich import suppressions
from streams.enrich.telling import Addressee
from tests.builders import RECEIVED_AT, event
from tests.ingest.reading import parsed, payload
from tests.streams.folding import Fold, log_of

ADA = "ada@example.com"
DAY_US = 86_400_000_000
FEW = 3


@pytest.fixture(autouse=True)
def _few_scopes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suppressions, "SCOPES_MAX", FEW)


def told(number: int, kind: str, scope: str | None, source: str = "crm", **more: Any) -> Event:
    """One event about a list, a minute after the one before."""
    at = RECEIVED_AT + number * 60_000_000
    return event(
        event_id=f"{number:032x}", event_type=kind, recipient=ADA, message_id=None, source=source,
        suppression_scope=scope, received_at=at, occurred_at=at, **more,
    )  # fmt: skip


def standing(fold: Fold) -> dict[Addressee, str]:
    """What holds after all that was told."""
    last = {one.addressee: one.record and one.record["reason"] for one in fold.suppressions}
    return {whom: reason for whom, reason in last.items() if reason}


def folded(*events: Event) -> Fold:
    fold = Fold()
    fold.fold(log_of(list(events)))
    return fold


def test_groups_of_two_sources_are_two_though_their_number_is_one() -> None:
    """Numbers of groups are an account's own, and a source is one account."""
    (body,) = payload("sendgrid/group_unsubscribe")
    (back,) = payload("sendgrid/group_resubscribe")
    assert body["asm_group_id"] == back["asm_group_id"]
    back["timestamp"] = body["timestamp"] + 60

    def of(source: str, item: Any) -> Event:
        (made,) = parsed("sendgrid", [{**item, "email": ADA, "sg_event_id": f"{source}{item}"}])
        return {**made, "source": source}

    group = f"group:{body['asm_group_id']}"
    both = [of("news", body), of("shop", body)]
    assert set(standing(folded(*both))) == {
        Addressee(ADA, "news", group),
        Addressee(ADA, "shop", group),
    }
    assert set(standing(folded(*both, of("news", back)))) == {Addressee(ADA, "shop", group)}


def test_an_unsubscribe_beyond_the_limit_is_from_all_mail() -> None:
    """Counted, told of the address, and nothing of the others is lost."""
    lists = [told(number, "unsubscribed", f"list:{number}") for number in range(FEW + 2)]
    fold = folded(*lists)
    assert standing(fold) == {
        **{Addressee(ADA, "crm", f"list:{number}"): "unsubscribe" for number in range(FEW)},
        Addressee(ADA): "unsubscribe",
    }
    (whole,) = (one.record for one in fold.suppressions if not one.addressee.scope)
    assert (whole["scope"], whole["evidence_event_id"]) == (None, lists[FEW]["event_id"])
    assert len(list(fold.shard.touched_recipients)) == FEW + 1


def test_lists_within_the_limit_go_on_and_a_return_beyond_it_lifts_nothing() -> None:
    """The address is lifted by what concerns all mail."""
    lists = [told(number, "unsubscribed", f"list:{number}") for number in range(FEW + 1)]
    back = [told(20, "subscribed", f"list:{FEW}"), told(21, "subscribed", "list:0")]
    assert set(standing(folded(*lists, *back))) == {
        Addressee(ADA), Addressee(ADA, "crm", "list:1"), Addressee(ADA, "crm", "list:2"),
    }  # fmt: skip
    assert Addressee(ADA) not in standing(folded(*lists, *back, told(22, "subscribed", None)))


def test_a_hard_bounce_and_an_entry_beyond_the_limit_stand_side_by_side() -> None:
    """The first of the precedence is told, then the other, when that was lifted."""
    events = [told(number, "unsubscribed", f"list:{number}") for number in range(FEW)]
    events.append(told(8, "bounced", None, bounce_class="hard", bounce_reason="no_mailbox"))
    events.append(told(9, "suppression_added", "list:9", bounce_reason="other"))
    assert standing(folded(*events))[Addressee(ADA)] == "hard_bounce"
    lifted = told(10, "suppression_removed", None, bounce_reason="suppressed_bounce")
    assert standing(folded(*events, lifted))[Addressee(ADA)] == "manual"


KINDS = ("unsubscribed", "subscribed", "suppression_added", "suppression_removed", "delivered")
HAPPENED = st.tuples(
    st.sampled_from(KINDS), st.sampled_from([None, *(f"list:{n}" for n in range(FEW + 3))])
)


@given(st.lists(HAPPENED, max_size=20), st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_limit_holds_over_crashes_and_loses_no_suppression(
    happened: list[tuple[str, str | None]], data: st.DataObject
) -> None:
    """Whoever left a list is suppressed for it or for all mail, unless a return lifted it."""
    events = [told(number, kind, scope) for number, (kind, scope) in enumerate(happened)]
    log, done, fold = log_of(events), 0, Fold()
    while done < len(log):
        cut = data.draw(st.integers(done + 1, len(log)))
        fold.fold(log[done:cut])
        if data.draw(st.booleans()):
            fold.checkpoint()
        if data.draw(st.booleans()):
            fold.restart()
        done = fold.shard.applied + 1
    found = standing(fold)
    assert found == standing(folded(*events))
    assert len({whom for whom in found if whom.scope}) <= FEW
    left: dict[str, bool] = {}
    for kind, scope in happened:
        if scope and kind != "delivered":
            left[scope] = suppressions.suppresses(kind)
        elif kind in ("subscribed", "suppression_removed"):
            left = {scope: is_left for scope, is_left in left.items() if scope in kept(happened)}
    for scope, is_left in left.items():
        assert not is_left or Addressee(ADA) in found or Addressee(ADA, "crm", scope) in found


def kept(happened: list[tuple[str, str | None]]) -> list[str]:
    """The scopes that are kept apart: the first ones."""
    named = (scope for kind, scope in happened if scope and kind != "delivered")
    return list(dict.fromkeys(named))[:FEW]
