"""Which records are written to a provider's lists, and which are left out, each with its reason."""

from typing import Any

import pytest

from streams.deliver.suppress.changes import (
    REASONS,
    Change,
    LeftOut,
    Rules,
    Suppressed,
    Target,
    settled,
)

ADA = "ada@x.example"


def rules(**changed: Any) -> Rules:
    given: dict[str, Any] = {
        "lists": {"hard_bounce": ("bounces",), "unsubscribe": ("left",), "manual": ("left",)},
        "places": ("",),
        "scopes": {("mailer", "tag:news"): "group:1", ("mailer", "tag:offers"): "group:2"},
        "reasons": REASONS,
        "own": "sendgrid",
        "lifts": True,
    } | changed
    return Rules(**given)


def of(record: Suppressed, **changed: Any) -> tuple[set[tuple[str, str, bool]], LeftOut | None]:
    told = rules(**changed).of(record)
    assert not (told.changes and told.left_out)
    found = {(one.target.list, one.target.place, one.on) for one in told.changes}
    return found, told.left_out


def test_a_suppression_goes_on_the_list_for_its_reason() -> None:
    """With what caused it, and when."""
    record = Suppressed(ADA, "mailer", "", "hard_bounce", 5, "e1")
    told = rules().of(record)
    assert told.changes == (Change(ADA, Target("bounces"), True, 5, "hard_bounce", "e1"),)


def test_a_reason_may_have_several_lists_and_an_account_several_places() -> None:
    """Each of them at each."""
    found, _ = of(Suppressed(ADA, "", "", "manual"), lists={"manual": ("a", "b")},
                  places=("domain:x", "domain:y"))  # fmt: skip
    assert found == {(name, place, True) for name in "ab" for place in ("domain:x", "domain:y")}


def test_a_lifted_suppression_comes_off_every_list_that_it_may_have_been_put_on() -> None:
    """A tombstone has no reason."""
    assert of(Suppressed(ADA)) == ({("bounces", "", False), ("left", "", False)}, None)


def test_a_reason_that_is_not_written_has_no_list_to_come_off() -> None:
    """Lists that are not written to are left alone."""
    assert of(Suppressed(ADA), reasons=("unsubscribe",))[0] == {("left", "", False)}


def test_a_scope_goes_where_it_is_mapped_to_and_nowhere_else() -> None:
    """Also when it is lifted."""
    record = Suppressed(ADA, "mailer", "tag:news", "unsubscribe")
    assert of(record) == ({("left", "group:1", True)}, None)
    lifted = Suppressed(ADA, "mailer", "tag:news")
    assert of(lifted) == ({("bounces", "group:1", False), ("left", "group:1", False)}, None)


@pytest.mark.parametrize(
    ("record", "left_out"),
    [
        (Suppressed(ADA, "mailer", "tag:other", "unsubscribe"), LeftOut.NOT_MAPPED),
        (Suppressed(ADA, "another", "tag:news", "unsubscribe"), LeftOut.NOT_MAPPED),
        (Suppressed(ADA, "mailer", "tag:other"), LeftOut.NOT_MAPPED),
        (Suppressed(ADA, "sendgrid", "", "hard_bounce"), LeftOut.OWN),
        (Suppressed(ADA, "sendgrid", "group:1", "unsubscribe"), LeftOut.OWN),
        (Suppressed(ADA, "sendgrid", "group:1"), LeftOut.OWN),
        (Suppressed(ADA, "mailer", "", "complaint"), LeftOut.NOT_HELD),
        (Suppressed(ADA, "mailer", "", "soft_bounces"), LeftOut.REASON),
        (Suppressed("h:" + "0" * 64, "mailer", "", "unsubscribe"), LeftOut.NO_ADDRESS),
        (Suppressed("", "mailer", "", "unsubscribe"), LeftOut.NO_ADDRESS),
        (Suppressed(""), LeftOut.NO_ADDRESS),
    ],
)  # fmt: skip
def test_what_is_left_out_has_a_reason(record: Suppressed, left_out: LeftOut) -> None:
    """Nothing is dropped without a word."""
    assert of(record) == (set(), left_out)


def test_nothing_is_lifted_if_it_is_not_to_be() -> None:
    """As the file says."""
    assert of(Suppressed(ADA), lifts=False) == (set(), LeftOut.NOT_LIFTED)


def test_a_place_that_several_scopes_stand_for_is_never_taken_off() -> None:
    """Whether the others still hold can't be told."""
    both = {("mailer", "tag:news"): "group:1", ("other", "list:9"): "group:1"}
    assert rules(scopes=both).shared == {"group:1"}
    assert of(Suppressed(ADA, "mailer", "tag:news"), scopes=both) == (set(), LeftOut.NOT_LIFTED)
    assert of(Suppressed(ADA, "mailer", "tag:news", "manual"), scopes=both)[0]
    mixed = {("mailer", "tag:news"): "domain:x"}
    found, _ = of(Suppressed(ADA), scopes=mixed, places=("domain:x", "domain:y"))
    assert {place for _, place, _ in found} == {"domain:y"}


def test_of_several_changes_of_one_entry_the_last_holds() -> None:
    """In the order of the last ones."""
    one, two = Target("a", "p"), Target("b", "p")
    changes = [Change(ADA, one, True), Change("b@x.example", one, True), Change(ADA, one, False),
               Change(ADA, two, True)]  # fmt: skip
    assert settled(changes, lambda target: target) == changes[1:]
    assert settled(changes, lambda target: target.place) == [changes[1], changes[3]]


@pytest.mark.parametrize("scope", ["", "group:1"])
def test_what_its_own_source_reports_is_restored_where_everything_may_be_taken_off(
    scope: str,
) -> None:
    """Else a lift that goes out late takes off what the provider put there since, for good."""
    own = Suppressed(ADA, "sendgrid", scope, "unsubscribe")
    assert of(own) == (set(), LeftOut.OWN)
    assert of(own, lifts_own=True) == ({("left", scope, True)}, None)
    lifted = Suppressed(ADA, "mailer" if scope else "", "tag:news" if scope else "")
    changes = [change for one in (lifted, own) for change in rules(lifts_own=True).of(one).changes]
    kept = settled(changes, lambda target: target)
    assert ("left", scope, True) in {(one.target.list, one.target.place, one.on) for one in kept}


@pytest.mark.parametrize(
    ("record", "changed"),
    [
        (Suppressed(ADA, "sendgrid", "group:9", "unsubscribe"), {}),  # nothing comes off there
        (Suppressed(ADA, "sendgrid", "group:1"), {}),  # the provider itself took it off
        (Suppressed(ADA, "sendgrid", "", "complaint"), {}),  # has no list
        (Suppressed(ADA, "sendgrid", "", "unsubscribe"), {"lifts": False}),
    ],
)
def test_what_could_not_be_gone_is_not_restored(
    record: Suppressed, changed: dict[str, Any]
) -> None:
    """Nor is it a warning."""
    assert of(record, lifts_own=True, **changed) == (set(), LeftOut.OWN)


def test_places_that_differ_in_case_only_may_be_the_same() -> None:
    """What a scope's end takes off would be that of the whole address."""
    scopes = {("mailer", "tag:news"): "domain:MG.x.example"}
    found = of(Suppressed(ADA, "mailer", "tag:news"), places=("domain:mg.x.example",),
               scopes=scopes)  # fmt: skip
    assert found == (set(), LeftOut.NOT_LIFTED)


@pytest.mark.parametrize("reason", ["", "hard_bounce"])
@pytest.mark.parametrize(
    "address",
    ["x/../../unsubscribes/eve@x.example", "../eve@x.example", "./../eve@x.example",
     "%2e%2e%2Feve@x.example", "a%252F%252e%252e%252Feve@x.example", '"a\\..\\b"@x.example',
     '"a/.."/b@x.example', '"a/../.."@x.example', '"a/..;b/c"@x.example'],
)  # fmt: skip
def test_no_address_leads_a_path_elsewhere(address: str, reason: str) -> None:
    """A server that decodes a path before it looks for dots would remove another entry."""
    assert of(Suppressed(address, "", "", reason)) == (set(), LeftOut.NO_ADDRESS)


@pytest.mark.parametrize("address", ["ada/news@x.example", "a..b@x.example", "a%+?#@x.example"])
def test_other_odd_addresses_are_written(address: str) -> None:
    """Nothing is lost that is no danger."""
    assert of(Suppressed(address, "", "", "hard_bounce"))[0]
