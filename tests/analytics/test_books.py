"""The comparison of accepted with stored events, on the real engine, against a plain recount."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.sink.books import Books, shares
from schemas import topics
from schemas.codec import AvroRecord, Codec
from schemas.event import event_id
from tests.analytics.scenario import Sent
from tests.builders import enrichment, event, record
from tests.contracts.test_warehouse import embedded
from tests.contracts.warehouse import Warehouse

CODEC = Codec()
HOUR_AGO = (int(time.time()) - 3_600) // 60 * 60
TABLES = (
    "accepted", "stored", "stored_ids", "reconciled", "reconciliation_passes", "events",
    "dead_letters",
)  # fmt: skip
FIGURES = "accepted, stored, repeated, dead_letters, missing, unexplained"
Figures = dict[tuple[int, str], tuple[int, ...]]


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """A migrated database."""
    yield from embedded(tmp_path_factory.mktemp("books"))


def emptied(warehouse: Warehouse) -> Books:
    """Books on an empty database."""
    for table in TABLES:
        warehouse.client.command(f"TRUNCATE TABLE {table}")
    return books_of(warehouse)


def books_of(warehouse: Warehouse) -> Books:
    """As the sink has them, in a process that has just started."""
    return Books(warehouse.client, {"max_threads": 1, "max_memory_usage": 1 << 30}, 300)


def raw(number: int, source: str, minute: int, second: int = 0) -> AvroRecord:
    """Event ``number`` as it came by ``source``."""
    at = (HOUR_AGO + 60 * minute + second) * 1_000_000
    identity = event_id("test", "", str(number))
    return dict(event(event_id=identity, source=source, received_at=at, occurred_at=at))


def accepted(copy: AvroRecord, offset: int) -> Sent:
    """Its record on the raw topic."""
    at = copy["received_at"] // 1000
    return Sent(topics.RAW, 0, offset, at, b"k", CODEC.encode("raw_event", copy))


def enriched(copy: AvroRecord, offset: int, revision: int = 0, campaign: str = "spring") -> Sent:
    """What the streams make of it."""
    value = {
        "event": copy,
        "enrichment": enrichment(
            event_time=HOUR_AGO * 1_000_000, message_key=event_id("message", "", "1"),
            offset=offset, version=offset + revision, revision=revision, campaign_id=campaign,
            previous_campaign_id="spring" if revision else None,
        ),
    }  # fmt: skip
    at = copy["received_at"] // 1000
    return Sent(topics.ENRICHED, 0, offset, at, b"k", CODEC.encode("enriched_event", value))


def letter(about: Sent, stage: str) -> Sent:
    """The dead letter of a record."""
    content = record(
        "dead_letter", dead_letter_id=event_id(stage, about.topic, str(about.offset)), stage=stage,
        reason="odd", occurred_at=about.timestamp * 1000, topic=about.topic,
        partition=about.partition, offset=about.offset, content=about.value,
    )  # fmt: skip
    return Sent(
        topics.DEAD_LETTERS, 0, about.offset, about.timestamp, b"k",
        CODEC.encode("dead_letter", content),
    )  # fmt: skip


def told(warehouse: Warehouse) -> Figures:
    """The view's figures by minute and source."""
    rows = warehouse.rows(
        f"SELECT intDiv(toUnixTimestamp(minute) - {HOUR_AGO}, 60), source, {FIGURES}"
        " FROM reconciliation"
    )
    return {(row[0], row[1]): row[2:] for row in rows}


def test_an_event_that_comes_by_two_sources_balances(warehouse: Warehouse) -> None:
    """The streams keep the first; the other is a repeat, and nothing is missing."""
    books = emptied(warehouse)
    first, second = raw(1, "news", 0), raw(1, "shop", 0)
    warehouse.load([accepted(first, 0), accepted(second, 1), enriched(first, 0)])
    assert books.balance().missing == 0
    assert told(warehouse) == {
        (0, "news"): (1, 1, 0, 0, 0, 0),
        (0, "shop"): (1, 0, 1, 0, 0, 0),
    }


def test_late_news_of_a_minute_is_taken_into_account(warehouse: Warehouse) -> None:
    """Missing, then stored late; stored, then known to have been accepted late; a later process
    goes on where the last one stopped."""
    books = emptied(warehouse)
    one, two = raw(1, "news", 0), raw(2, "news", 5)
    warehouse.load([accepted(one, 0), enriched(two, 1)])
    totals = books.balance()
    assert (totals.missing, totals.unexplained) == (1, 1)
    warehouse.load([accepted(two, 1), enriched(one, 0)])
    totals = books_of(warehouse).balance()
    assert (totals.missing, totals.unexplained) == (0, 0)
    assert {figures for figures in told(warehouse).values()} == {(1, 1, 0, 0, 0, 0)}


def test_what_nobody_can_read_is_accounted_for_by_its_place(warehouse: Warehouse) -> None:
    """The sink's letter says that a record came in; without one of the streams it is missing."""
    books = emptied(warehouse)
    at = HOUR_AGO * 1000
    broken = Sent(topics.RAW, 0, 7, at, b"k", b"\0\0\0\0\1")
    warehouse.load([letter(broken, "sink")])
    assert books.balance().missing == 1
    warehouse.load([letter(broken, "enrich")])
    assert books.balance().missing == 0
    assert told(warehouse) == {(0, ""): (1, 0, 0, 1, 0, 0)}


COPIES = st.lists(
    st.tuples(
        st.integers(0, 5), st.sampled_from(("news", "shop")), st.integers(0, 3), st.integers(0, 59)
    ),
    max_size=14,
)
FATES = st.lists(
    st.sampled_from(("kept", "kept", "corrected", "lost", "enrich", "sink", "raw lost")),
    min_size=6, max_size=6,
)  # fmt: skip


@given(copies=COPIES, fates=FATES, data=st.data())
@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_figures_equal_a_recount_whatever_the_order_cut_and_repetition(
    warehouse: Warehouse, copies: list[tuple[int, str, int, int]], fates: list[str],
    data: st.DataObject,
) -> None:  # fmt: skip
    """Repeats by any source, corrections that move an event, dead letters, losses; every record
    twice, in any order and batches, with a pass after each batch."""
    books = emptied(warehouse)
    sent, expected = _pipeline(copies, fates)
    order = data.draw(st.permutations(sent + sent), label="order")
    cut = data.draw(st.integers(0, len(order)), label="cut")
    for part in (order[:cut], order[cut:]):
        assert warehouse.load(list(part)) == []
        totals = books.balance()
    assert told(warehouse) == expected
    assert totals.missing == sum(figures[4] for figures in expected.values())
    assert totals.unexplained == sum(figures[5] for figures in expected.values())


def _pipeline(
    copies: list[tuple[int, str, int, int]], fates: list[str]
) -> tuple[list[Sent], Figures]:
    """Every record that the topics hold, and the figures that follow."""
    sent: list[Sent] = []
    ids: dict[tuple[int, str], set[int]] = defaultdict(set)
    kept: dict[int, tuple[int, str]] = {}
    hidden: set[tuple[int, int, str]] = set()
    seen: set[int] = set()
    for offset, (number, source, minute, second) in enumerate(copies):
        copy, fate, place = raw(number, source, minute, second), fates[number], (minute, source)
        if fate != "raw lost":
            sent.append(accepted(copy, offset))
            ids[place].add(number)
        if number in seen:
            continue
        seen.add(number)
        if fate in ("kept", "corrected", "raw lost"):
            kept[number] = place
            sent.append(enriched(copy, offset))
        if fate == "corrected":
            sent.append(enriched(copy, offset, 1, "autumn"))
        if fate in ("enrich", "sink"):
            of = accepted(copy, offset) if fate == "enrich" else enriched(copy, offset)
            sent.append(letter(of, fate))
    assert not hidden
    return sent, _figures(ids, kept, fates)


def _figures(
    ids: dict[tuple[int, str], set[int]], kept: dict[int, tuple[int, str]], fates: list[str]
) -> Figures:
    found: dict[tuple[int, str], Counter[str]] = defaultdict(Counter)
    for place, numbers in ids.items():
        for number in numbers:
            fate = "stored" if kept.get(number) == place else "repeated" if number in kept else ""
            fate = fate or ("dead" if fates[number] in ("enrich", "sink") else "missing")
            found[place].update(("accepted", fate))
    for number, place in kept.items():
        if number not in ids.get(place, ()):
            found[place].update(("unexplained",))
    names = ("accepted", "stored", "repeated", "dead", "missing", "unexplained")
    return {place: tuple(counts[name] for name in names) for place, counts in found.items()}


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(1, 50)), max_size=20), st.integers(1, 30))
def test_every_row_is_in_exactly_one_bounded_query(
    sizes: list[tuple[int, int]], rows_max: int
) -> None:
    """Small minutes share a query, large ones are cut into as many as they need."""
    sizes = sorted(dict(sizes).items())
    found = list(shares(sizes, rows_max))
    whole = Counter(minute for share in found for minute in share.minutes)
    rows = dict(sizes)
    assert set(whole) == set(rows)
    for share in found:
        assert sum(rows[minute] for minute in share.minutes) <= rows_max * share.of
        assert share.of == 1 or len(share.minutes) == 1
    for minute, number in whole.items():
        assert [s.number for s in found if minute in s.minutes] == list(range(number))


FILL = "INSERT INTO {table} ({columns}) SELECT {values} FROM numbers({start}, {rows})"
ID = "reinterpretAsUUID(sipHash128(number))"
FILL_ROWS_MAX = 2_000_000


def fill(warehouse: Warehouse, rows: int) -> None:
    """Two days of balanced events, written long ago, as if a pass had just compared them."""
    minute = f"toDateTime({HOUR_AGO} - 172800 + intDiv(number * 165600, {rows}) DIV 60 * 60, 'UTC')"
    for table, columns, values in (
        ("accepted", "minute, source, event_id, inserted_at", f"{minute}, 'news', {ID}, {minute}"),
        ("stored", "minute, source, event_id, inserted_at", f"{minute}, 'news', {ID}, {minute}"),
        ("stored_ids", "event_id, day", f"{ID}, toDate({minute})"),
    ):
        for start in range(0, rows, FILL_ROWS_MAX):
            count = min(FILL_ROWS_MAX, rows - start)
            warehouse.client.command(
                FILL.format(table=table, columns=columns, values=values, start=start, rows=count)
            )
    warehouse.client.command("INSERT INTO reconciliation_passes (through) VALUES (now())")


def test_a_pass_costs_what_changed_whatever_is_stored(warehouse: Warehouse) -> None:
    """Its queries may read rows by the thousand, whether there are few or a million."""
    limits = {"max_threads": 1, "max_memory_usage": 1 << 28, "max_rows_to_read": 60_000}
    for rows in (20_000, 1_000_000):
        emptied(warehouse)
        fill(warehouse, rows)
        first, again = raw(1, "news", 0), raw(1, "shop", 9)
        warehouse.load([accepted(first, 0), accepted(again, 1), enriched(first, 0)])
        totals = Books(warehouse.client, limits, 300).balance()
        assert (totals.missing, totals.minutes) == (0, 2)
