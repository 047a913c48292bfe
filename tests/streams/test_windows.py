"""Rolling windows compared with a ten-line brute force, in any merge order, with restarts, over
time."""

import math
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.errors import DecodeError
from schemas.glossary import COUNTER_INDEX, COUNTER_NAMES, RATES, WINDOWS_S
from streams.campaigns.rates import MINUTE_US, encode_rates
from streams.campaigns.state import CampaignState
from streams.campaigns.windows import (
    Partial,
    PartialKey,
    Windows,
    summed,
    wilson,
)
from streams.enrich import minute_counts
from streams.enrich.vectors import WIDTH
from streams.worker.campaigns_agent import partials_of
from tests.streams.folding import Disk
from tests.streams.rates_reference import rates

NOW = 29_400_000
AS_OF_US = NOW * 60_000_000 + 12_345_678
"""In the running minute, some seconds after its start."""


class SortedDisk(Disk):
    """A store that scans in key order, as RocksDB does."""

    def scan(self, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """As ``Store.scan``."""
        for key in sorted(self.values):
            if begin <= key < end:
                yield key, self.values[key]


def counts(**named: int) -> tuple[int, ...]:
    """A vector with some counters set."""
    out = [0] * WIDTH
    for name, value in named.items():
        out[COUNTER_INDEX[name]] = value
    return tuple(out)


@st.composite
def partials(draw: st.DrawFn) -> list[Partial]:
    """Partials of two campaigns around now: newer and stale offsets, late and future minutes."""
    minutes = st.integers(-1500, 5)
    out = []
    for _ in range(draw(st.integers(1, 30))):
        key = PartialKey(
            draw(st.sampled_from(["a", "b", "a\x1fb"])), draw(st.sampled_from(["gmail", "other"])),
            NOW + draw(minutes), draw(st.sampled_from(["log1", "log2"])), draw(st.integers(0, 1)),
        )  # fmt: skip
        values = counts(delivered=draw(st.integers(-2, 50)), bounced_hard=draw(st.integers(0, 9)))
        out.append(Partial(key, draw(st.integers(0, 20)), values))
    return out


def brute_force(given_: Sequence[Partial], campaign: str, window: str, now: int) -> list[int]:
    """The newest offset of each key, the first on a tie; then a plain sum over the window."""
    newest: dict[PartialKey, Partial] = {}
    for partial in given_:
        if partial.key not in newest or partial.offset > newest[partial.key].offset:
            newest[partial.key] = partial
    seconds = WINDOWS_S.get(window)
    out = [0] * WIDTH
    for key, _, values in newest.values():
        inside = seconds is None or now - seconds // 60 <= key.minute < now
        if key.campaign == campaign and inside:
            out = [x + y for x, y in zip(out, values, strict=True)]
    return out


class Merger:
    """The agent's state on one partition, which can be restarted from what was stored."""

    def __init__(self, minute: int) -> None:
        self.disk = SortedDisk()
        self.open(minute)

    def open(self, minute: int) -> None:
        """Starts from the stored state."""
        self.state = CampaignState(self.disk.get_many, self.disk.scan)
        self.state.restore()
        self.windows = Windows(self.state, minute)
        self.windows.fill()

    def checkpoint(self) -> None:
        """Stores, and forgets quiet campaigns."""
        for campaign, mailbox in self.windows.touched:
            self.state.touch(campaign, mailbox, self.windows.of_campaign(campaign)[mailbox])
        self.windows.touched.clear()
        self.disk.write(self.state.writes())
        self.state.saved()
        self.windows.forget_quiet()

    def sums(self, campaign: str, window: str) -> list[int]:
        """The sums of the windows."""
        return summed(self.windows.of_campaign(campaign).values(), window)


@settings(max_examples=200, deadline=None)
@given(partials(), st.data())
def test_windows_equal_brute_force(given_: list[Partial], data: st.DataObject) -> None:
    """Any order, batches, restarts and passing of time: every window of every campaign is exact."""
    merger = Merger(NOW)
    at, now, stored = 0, NOW, 0
    while at < len(given_):
        size = data.draw(st.integers(1, 8))
        merger.windows.apply(given_[at : at + size])
        at += size
        action = data.draw(st.sampled_from(["go on", "checkpoint", "crash", "time"]))
        if action == "checkpoint":
            merger.checkpoint()
            stored = at
        elif action == "crash":
            merger.open(now)
            at = min(at, stored)  # what was not stored is read again
        elif action == "time":
            now += data.draw(st.integers(1, 70))
            merger.windows.advance(now)
    now += data.draw(st.sampled_from([0, 1, 4, 5, 59, 60, 1439, 1440, 1500]))
    merger.windows.advance(now)
    for campaign in ("a", "b", "a\x1fb"):
        for window in WINDOWS_S:
            assert merger.sums(campaign, window) == brute_force(given_, campaign, window, now)


def test_quiet_campaign_slides_to_zero_and_says_that_it_changed() -> None:
    """When nothing arrives any more, the windows become empty and the total stays."""
    merger = Merger(NOW)
    key = PartialKey("a", "gmail", NOW, "log", 0)
    merger.windows.apply([Partial(key, 1, counts(delivered=3))])
    merger.windows.changed.clear()
    for later, expected in ((0, 0), (1, 3), (5, 3), (6, 0)):
        merger.windows.advance(NOW + later)
        assert merger.sums("a", "5m")[COUNTER_INDEX["delivered"]] == expected
    assert "a" in merger.windows.changed
    merger.windows.advance(NOW + 1441)
    assert merger.sums("a", "24h") == [0] * WIDTH
    assert merger.sums("a", "total")[COUNTER_INDEX["delivered"]] == 3


def test_merging_the_same_partial_again_moves_nothing() -> None:
    """A replayed partial is stale: nothing changes, nothing is published."""
    merger = Merger(NOW)
    partial = Partial(PartialKey("a", "gmail", NOW, "log", 0), 7, counts(delivered=3))
    assert merger.windows.apply([partial]) == 1
    merger.windows.changed.clear()
    assert merger.windows.apply([partial, partial]) == 0
    assert not merger.windows.changed


def published(merger: "Merger", campaign: str, as_of_us: int = AS_OF_US) -> dict[str, Any]:
    """The rates record of a campaign as its consumers decode it."""
    codec = Codec()
    value = encode_rates(
        merger.windows, campaign, as_of_us=as_of_us, complete_through_us=4, revision=1
    )
    return codec.decode(codec.prefix("campaign_rates") + value, "campaign_rates")


def test_rates_record_names_every_window_and_rate() -> None:
    """One record has all windows, each with all rates, numerators and denominators."""
    merger = Merger(NOW)
    merger.windows.apply(
        [
            Partial(
                PartialKey("a", "gmail", NOW - 1, "log", 0),
                1,
                counts(delivered=90, bounced_hard=10, cohort_clicked=9, clicked=9),
            )  # fmt: skip
        ]
    )
    record = published(merger, "a")
    assert [window["window"] for window in record["windows"]] == list(WINDOWS_S)
    for window in record["windows"]:
        by_name = {rate["name"]: rate for rate in window["rates"]}
        assert list(by_name) == [rate.name for rate in RATES]
        assert (by_name["bounce_rate"]["numerator"], by_name["bounce_rate"]["denominator"]) == (
            10, 100,
        )  # fmt: skip
        assert by_name["click_rate"]["value"] == pytest.approx(0.1)
        assert by_name["click_to_open_rate"]["value"] is None
        assert set(window["counts"]) == set(COUNTER_NAMES)


@given(st.integers(-3000, 1500), st.integers(0, 59_999_999), st.integers(0, 3000))
def test_windows_are_whole_minutes_that_have_ended(distance: int, into_us: int, later: int) -> None:
    """At any moment: exactly 5, 60 and 1,440 minutes, ended by ``as_of``. A count is in the windows
    whose minutes contain its own, and in total at once. (Five minutes were once four to five.)"""
    merger = Merger(NOW)
    place = PartialKey("a", "gmail", NOW + distance, "log", 0)
    merger.windows.apply([Partial(place, 1, counts(delivered=3))])
    merger.windows.advance(NOW + later)
    as_of_us = (NOW + later) * MINUTE_US + into_us
    for window in published(merger, "a", as_of_us)["windows"]:
        starts, ends, length = window["starts_at"], window["ends_at"], WINDOWS_S[window["window"]]
        assert starts <= ends <= as_of_us
        if length is None:
            assert (ends, window["counts"]["delivered"]) == (as_of_us, 3)
            continue
        assert (ends - starts, starts % MINUTE_US, ends % MINUTE_US) == (length * 1_000_000, 0, 0)
        assert as_of_us - ends < MINUTE_US
        inside = starts <= place.minute * MINUTE_US < ends
        assert window["counts"]["delivered"] == (3 if inside else 0)


@given(
    st.lists(st.lists(st.integers(0, 3000), min_size=WIDTH, max_size=WIDTH), max_size=3),
    st.integers(0, 90_000),
)
def test_rates_by_hand_are_the_general_encoders(vectors: list[list[int]], ago: int) -> None:
    """For any counts, recent or old, the published bytes are those of the record."""
    merger = Merger(NOW)
    merger.windows.apply(
        [
            Partial(PartialKey("a", "gmail", NOW - ago * number, "log", 0), 1, tuple(vector))
            for number, vector in enumerate(vectors)
        ]
    )
    for campaign in ("a", "unknown"):
        arguments = {"as_of_us": AS_OF_US, "complete_through_us": 4, "revision": 1}
        record = rates(merger.windows, campaign, **arguments)
        by_hand = encode_rates(merger.windows, campaign, **arguments)
        codec = Codec()
        assert codec.prefix("campaign_rates") + by_hand == codec.encode("campaign_rates", record)


@given(st.lists(st.integers(-3, 3000), min_size=WIDTH, max_size=WIDTH), st.data())
def test_partials_are_read_as_by_the_general_decoder(
    vector: list[int], data: st.DataObject
) -> None:
    """Valid ones are read; damaged ones are refused, or read the same way."""
    codec = Codec()
    whole = codec.prefix("campaign_minute") + minute_counts.record(
        ("c", "gmail", NOW), vector, "l", 1, 9
    )
    (partial,), bad = partials_of(codec, [cast(Any, SimpleNamespace(value=whole))])
    assert partial == Partial(PartialKey("c", "gmail", NOW, "l", 1), 9, tuple(vector))
    assert not bad
    value = bytearray(whole)
    value[data.draw(st.integers(5, len(value) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(value[: data.draw(st.integers(5, len(value)))])
    found, bad = partials_of(codec, [cast(Any, SimpleNamespace(value=damaged))])
    try:
        fields = codec.decode(damaged, "campaign_minute")
    except DecodeError:
        assert (found, len(bad)) == ([], 1)
        return
    assert found[0].counts == tuple(fields[name] for name in COUNTER_NAMES)
    assert found[0].key.minute == fields["minute"] // 60_000


def test_zero_denominator_gives_no_rate() -> None:
    """A rate without a denominator is unknown, never 0 and never NaN."""
    for window in published(Merger(NOW), "unknown")["windows"]:
        for rate in window["rates"]:
            assert (rate["value"], rate["low"], rate["high"]) == (None, None, None)


@given(st.integers(0, 10_000), st.integers(1, 10_000))
def test_wilson_bounds_enclose_the_ratio(numerator: int, denominator: int) -> None:
    """The bounds are in 0..1 around the ratio, and solve the score equation."""
    numerator = min(numerator, denominator)
    low, high = wilson(numerator, denominator) or (math.nan, math.nan)
    ratio = numerator / denominator
    assert 0 <= low <= ratio + 1e-12
    assert ratio - 1e-12 <= high <= 1
    for bound in (low, high):
        if abs(ratio - bound) > 1e-9:  # 0 of n and n of n end where they lie
            z = abs(ratio - bound) / math.sqrt(bound * (1 - bound) / denominator)
            assert z == pytest.approx(1.959964, abs=1e-4)
