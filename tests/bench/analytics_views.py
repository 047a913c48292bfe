"""How long analysts wait for an answer, while nothing else happens and while the sink inserts.

Invariants:
1. Questions are asked warm and one at a time, over the analysts' listener.
2. Quiet and loaded take turns, round after round, so that what else the machine does falls on
   both alike; each figure is over the samples of all rounds.
3. The load is the sink's own ``Loader``: ``ROWS_PER_S`` events, and the minutes that such events
   would move, in two batches a second.
4. A view is held against its target twice over: «at most twice that» is read as twice the target,
   and as twice what the same view took while it was quiet. Both are told.
"""

import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from clickhouse_connect.driver.client import Client

from analytics.client import connect
from analytics.sink.loading import Loader
from schemas import topics
from schemas.codec import Codec
from schemas.settings import Settings
from tests.analytics.scenario import Sent
from tests.bench.analytics_load import DAY_S, Load

ROWS_PER_S = 10_000
BATCH_S = 0.5
ROUNDS = 5
ROUNDS_QUICK = 2
ASKED = 24
"""Times each question is asked in a round, quiet and loaded each."""

ONE = "campaign_id = 'campaign-0100'"
QUESTIONS: dict[str, str] = {
    "campaign_summary_one": f"SELECT * FROM campaign_summary WHERE {ONE}",
    "campaign_summary_all": "SELECT * FROM campaign_summary",
    "campaign_timeline_24h": (
        "SELECT * FROM campaign_timeline(campaign = 'campaign-0100', from = '{begin}',"
        " to = '{end}', step = 60, zone = 'UTC')"
    ),
    "bounce_reasons": f"SELECT * FROM bounce_reasons WHERE {ONE}",
    "links": f"SELECT * FROM links WHERE {ONE}",
    "mailbox_providers": f"SELECT * FROM mailbox_providers WHERE {ONE}",
    "campaign_totals_from_events": (
        "SELECT countIf(event_type = 'delivered' AND first_of_kind), countIf(event_type = 'opened'"
        f" AND first_human), countIf(event_type = 'clicked' AND first_human) FROM events FINAL"
        f" WHERE {ONE}"
    ),
    "campaign_totals_from_minutes": (
        f"SELECT delivered, opened, clicked FROM campaign_summary WHERE {ONE}"
    ),
    "freshness": "SELECT * FROM freshness",
}
TARGETS_MS = {
    "campaign_summary_one": 50,
    "campaign_summary_all": 150,
    "campaign_timeline_24h": 50,
    "bounce_reasons": 80,
    "links": 80,
    "mailbox_providers": 80,
    "freshness": 50,
}
Samples = dict[str, list[float]]


def ask(
    client: Client, settings: Settings, load: Load, quick: bool, say: Callable[[str], None]
) -> dict[str, float]:
    """``p95_ms_<question>``, the same with ``_loaded``, and ``loaded_ratio_<question>``."""
    questions = _filled(load)
    quiet: Samples = defaultdict(list)
    loaded: Samples = defaultdict(list)
    rounds = ROUNDS_QUICK if quick else ROUNDS
    _asked(client, questions, 3, defaultdict(list))
    for number in range(rounds):
        _asked(client, questions, ASKED, quiet)
        with _inserting(settings, load, number):
            _asked(client, questions, ASKED, loaded)
        say(f"views: round {number + 1} of {rounds}")
    figures = {}
    for name in QUESTIONS:
        before, under = quantile(quiet[name], 0.95), quantile(loaded[name], 0.95)
        figures[f"p95_ms_{name}"] = before
        figures[f"p95_ms_{name}_loaded"] = under
        figures[f"loaded_ratio_{name}"] = under / before
        say(_verdict(name, before, under))
    return figures


def _verdict(name: str, before: float, under: float) -> str:
    """Both readings of the aim, in one line."""
    line = (
        f"{name:30} quiet {before:6.1f} ms  loaded {under:6.1f} ms = {under / before:.1f} x quiet"
    )
    target = TARGETS_MS.get(name)
    if target is None:
        return line
    met = [
        f"quiet aim {target}: {_word(before <= target)}",
        f"loaded, twice the aim: {_word(under <= 2 * target)}",
        f"loaded, twice quiet: {_word(under <= 2 * before)}",
    ]
    return f"{line}  ({', '.join(met)})"


def _word(met: bool) -> str:
    return "met" if met else "SHORT"


def _filled(load: Load) -> dict[str, str]:
    day = load.start_s + int(100 / load.campaigns * (load.days - 3) * DAY_S)
    begin, end = (
        time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(each)) for each in (day, day + DAY_S)
    )
    return {
        name: sql.replace("{begin}", begin).replace("{end}", end) for name, sql in QUESTIONS.items()
    }


def _asked(client: Client, questions: dict[str, str], times: int, into: Samples) -> None:
    """Each question in turn, so that a disturbance does not fall on one of them alone."""
    for _ in range(times):
        for name, sql in questions.items():
            started = time.perf_counter()
            client.query(sql)
            into[name].append((time.perf_counter() - started) * 1000)


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@contextmanager
def _inserting(settings: Settings, load: Load, number: int) -> Iterator[None]:
    """Inserts as the sink does until the block is left, and ends the block's error with its own."""
    stop = threading.Event()
    failures: list[BaseException] = []
    client = connect(settings)
    rows = int(ROWS_PER_S * BATCH_S)
    batch = Load(rows, 1, load.start_s + (load.days - 2) * DAY_S)
    values = [value for _, value in batch]
    minutes = _records(topics.MINUTES, list(batch.minute_values()))
    loaders = {topic: Loader(client, Codec(), topic) for topic in (topics.ENRICHED, topics.MINUTES)}

    def insert() -> None:
        for count in itertools.count(1):
            started = time.perf_counter()
            # other campaigns each time: rows that replaced one another would be merged away
            mark = b"load%02d-%06d" % (number, count)
            events = _records(
                topics.ENRICHED, [value.replace(b"campaign-0000", mark) for value in values]
            )
            assert loaders[topics.ENRICHED].load(events) == []
            # the same cells each time, as a campaign's minutes are written again and again
            assert loaders[topics.MINUTES].load(minutes) == []
            if stop.wait(max(0.0, BATCH_S - (time.perf_counter() - started))):
                return

    def guarded() -> None:
        try:
            insert()
        except BaseException as error:
            failures.append(error)

    worker = threading.Thread(target=guarded)
    worker.start()
    try:
        time.sleep(2 * BATCH_S)
        yield
    finally:
        stop.set()
        worker.join()
        client.close()
    if failures:
        raise failures[0]


def _records(topic: str, values: list[bytes]) -> list[Sent]:
    return [Sent(topic, 0, at, 0, None, value) for at, value in enumerate(values)]
