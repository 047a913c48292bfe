"""One definition of every figure: Avro, glossary and derived counts say the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import LATEST, schema_json
from schemas.glossary import (
    COUNTER_INDEX,
    COUNTER_NAMES,
    COUNTERS,
    DERIVED,
    DERIVED_DOCS,
    RATES,
    WINDOWS_DOC,
    WINDOWS_S,
    Basis,
    derived,
)


def minute_fields() -> dict[str, str]:
    """Counter fields of a campaign minute -> doc, in order."""
    fields = schema_json(LATEST["campaign_minute"])["fields"]
    start = [field["name"] for field in fields].index("offset") + 1
    return {field["name"]: field["doc"] for field in fields[start:]}


def window_fields() -> dict[str, str]:
    """Counter fields of a window of campaign rates -> doc, in order."""
    (windows,) = [
        field["type"]["items"]
        for field in schema_json(LATEST["campaign_rates"])["fields"]
        if field["name"] == "windows"
    ]
    (counts,) = [field["type"] for field in windows["fields"] if field["name"] == "counts"]
    return {field["name"]: field["doc"] for field in counts["fields"]}


def sentence(doc: str) -> str:
    """A glossary definition as a sentence."""
    return doc[0].upper() + doc[1:] + "."


@pytest.mark.parametrize("fields", [minute_fields(), window_fields()], ids=["minute", "window"])
def test_avro_counters_are_the_glossarys(fields: dict[str, str]) -> None:
    """Same names, same order, same words."""
    assert fields == {counter.name: sentence(counter.doc) for counter in COUNTERS}
    assert tuple(fields) == COUNTER_NAMES


def test_counters_have_distinct_names_and_index() -> None:
    """A vector position belongs to one counter."""
    assert [COUNTER_INDEX[name] for name in COUNTER_NAMES] == list(range(len(COUNTERS)))


def test_rates_are_made_of_known_counts() -> None:
    """Every numerator and denominator is a counter or a derived count, of the rate's basis.

    A delivery is counted in its own minute, so ``delivered`` stands below rates of either basis.
    """
    known = set(COUNTER_NAMES) | set(DERIVED)
    for rate in RATES:
        assert rate.numerator in known
        assert rate.denominator in known
        assert rate.numerator.startswith("cohort_") or rate.basis is Basis.FLOW
        for name in (rate.numerator, rate.denominator):
            assert name == "delivered" or name.startswith("cohort_") == (rate.basis is Basis.COHORT)
    assert len({rate.name for rate in RATES}) == len(RATES)


def _above(name: str) -> set[str]:
    """Counters that a figure adds up."""
    return {counter for counter, _ in DERIVED.get(name, ((name, 1),))}


def test_only_flow_rates_compare_different_messages() -> None:
    """Of every other rate each message above the line is also below it, in the same minute.

    In-band outcomes are part of ``sent``; cohort counts are of messages delivered in the minute.
    """
    for rate in RATES:
        same = _above(rate.numerator) <= _above(rate.denominator) or (
            rate.numerator.startswith("cohort_")
            and rate.denominator in ("delivered", rate.numerator.removesuffix("_clicked"))
        )
        assert same != rate.name.startswith("flow_"), rate.name


def test_cohort_counters_are_those_of_the_delivery_minute() -> None:
    """The name says which minute a counter belongs to."""
    for counter in COUNTERS:
        assert counter.name.startswith("cohort_") == (counter.basis is Basis.COHORT)
        assert counter.name.startswith("attempt_") == (counter.basis is Basis.ATTEMPT)


def test_every_derived_count_is_explained() -> None:
    """No derived count without words, no words without a count."""
    assert set(DERIVED) == set(DERIVED_DOCS)


@given(st.lists(st.integers(0, 10**9), min_size=len(COUNTERS), max_size=len(COUNTERS)))
def test_derived_counts_by_hand(vector: list[int]) -> None:
    """Sent is delivered plus bounced in-band; a late bounce is a delivered message."""
    count = dict(zip(COUNTER_NAMES, vector, strict=True))
    bounced = (
        count["bounced_hard"]
        + count["bounced_soft"]
        + count["bounced_block"]
        + count["bounced_undetermined"]
    )
    assert derived(vector, "bounced") == bounced
    assert derived(vector, "sent") == count["delivered"] + bounced
    unopened = count["cohort_clicked"] - count["cohort_opened_clicked"]
    assert derived(vector, "clicked_unopened") == unopened
    assert derived(vector, "opens") == count["opens"]
    with pytest.raises(KeyError):
        derived(vector, "no_such_count")


def test_windows_grow_and_end_with_total() -> None:
    """5 minutes, 1 hour, 24 hours, everything: whole minutes each."""
    assert list(WINDOWS_S.items()) == [("5m", 300), ("1h", 3600), ("24h", 86400), ("total", None)]


def test_avro_docs_name_every_window() -> None:
    """Subscribers learn from the schema which windows there are."""
    [windows] = [
        field
        for field in schema_json(LATEST["campaign_rates"])["fields"]
        if field["name"] == "windows"
    ]
    [window] = [field for field in windows["type"]["items"]["fields"] if field["name"] == "window"]
    *others, last = WINDOWS_S
    assert window["doc"] == f"{', '.join(others)} or {last}. {WINDOWS_DOC}."
    assert windows["doc"] == f"The windows: {', '.join(WINDOWS_S)}."
