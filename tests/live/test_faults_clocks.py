"""Wrong clocks: providers' by a week, ingress hosts' by an hour, in both directions.

A week late is like any late event. A week ahead is not: such an event counts by its arrival (see
the glossary), so its own time is not in ClickHouse, and whether an open or click was too fast for a
human can't be determined.
"""

from collections import Counter
from pathlib import Path

import pytest

from schemas.glossary import COUNTER_NAMES
from streams.simulation.accounts import open_accounts
from streams.simulation.ledger import Compared, Identity, Ledger
from streams.simulation.load import DAY_S, Shape
from tests.live.faults import Trial
from tests.live.fixtures import KafkaCluster
from tests.live.roles import Pipeline

pytestmark = pytest.mark.timeout(480)

HOUR_S, WEEK_S = 3600, 7 * DAY_S
SECONDS = 6.0
_JUDGED = ("open", "click")


class ByArrival(Trial):
    """A trial whose events are too far ahead to keep their own times."""

    def compared(self, ledger: Ledger, stored: dict[Identity, int]) -> Compared:
        """Events of a message are distinguished by type only, and counted."""
        sent = Counter((event.message_id, event.kind) for event in ledger.accepted.values())
        found: Counter[tuple[str, str]] = Counter()
        for (message, kind, _), rows in stored.items():
            found[message, kind] += rows
        return Compared(found.total(), (sent - found).total(), (found - sent).total())


def quiet(trial: Trial) -> None:
    """The clocks are the fault."""


def test_clocks_of_providers_and_of_ingress(kafka_cluster: KafkaCluster, tmp_path: Path) -> None:
    """One ingress an hour fast, one an hour slow, with one log behind them: the figures agree."""
    (broker,) = kafka_cluster()
    accounts = open_accounts()
    clocks = {"ingest-1": HOUR_S, "ingest-2": -HOUR_S}
    unjudged = tuple(name for name in COUNTER_NAMES if not any(w in name for w in _JUDGED))
    with Pipeline(
        broker.bootstrap, tmp_path, accounts.toml, accounts.environ, ingests=2, clocks=clocks
    ) as pipeline:
        late = Trial(
            pipeline, accounts, tmp_path, shape=Shape(clock_skew_s=-WEEK_S, duplicates=0.1)
        )
        early = ByArrival(
            pipeline, accounts, tmp_path, shape=Shape(clock_skew_s=WEEK_S, duplicates=0.1),
            ingest="ingest-2", counters=unjudged,
        )  # fmt: skip
        for trial in (late, early):
            outcome = trial.run(SECONDS, quiet)
            trial.check(outcome)
            assert outcome.sent.trouble, "nobody whose signatures hold five minutes was refused"
