"""Simulated providers against a running pipeline, and the verdict: all accepted is stored once.

Invariants:
1. The verdict comes from outside: the simulator's ledger (``streams.simulation``, which shares no
   code with what it checks) against what ClickHouse answers through the analysts' door.
2. Figures are compared until they agree or patience ends; nothing is waived meanwhile.
"""

import asyncio
import random
import secrets
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from schemas.errors import Unavailable
from schemas.glossary import COUNTER_NAMES
from streams.simulation.accounts import Accounts
from streams.simulation.ledger import Ledger, compare_events, differences, recount
from streams.simulation.readout import ClickHouse, Freshness
from streams.simulation.simulator import Simulator
from streams.simulation.traffic import Traffic

PATIENCE_S = 150.0

GIVE_UP_S = 120.0
"""How long the senders retry after the traffic, seconds: providers do for hours. A request given up
may be stored all the same, and then no figure agrees; a broker that starts on a busy machine takes
longer than the demo's senders wait."""

Disturbance = Callable[[], Awaitable[None]]


class Pipeline(Protocol):
    """What is judged: ``tests.live.roles.Pipeline``, or the services of a rehearsal."""

    @property
    def ingest_url(self) -> str:
        """Where providers post to."""

    @property
    def clickhouse_dsn(self) -> str:
        """Where analysts connect."""

    def wait_caught_up(self) -> None:
        """Waits until workers and sink have read everything."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a run.

    Attributes:
        unique: different events that were answered 200.
        stored: rows of this run in ClickHouse.
        lost: accepted and not stored.
        double: stored more than once, or stored and never accepted.
        differing: campaign -> counter -> (expected, found).
        campaigns: campaigns compared.
        ledger: the simulator's ledger.
        trouble: what senders noted, such as unanswered requests, with their number.
        visible_s: seconds from a 200 until a query shows the event, per measured event.
    """

    unique: int
    stored: int
    lost: int
    double: int
    differing: dict[str, dict[str, tuple[int, int]]]
    campaigns: int
    ledger: Ledger
    trouble: dict[str, int]
    visible_s: list[float]

    @property
    def exact(self) -> bool:
        """Nothing lost, nothing double, no campaign's figure different."""
        return not (self.lost or self.double or self.differing)

    def __str__(self) -> str:
        return (
            f"{self.unique} accepted, {self.stored} stored, {self.lost} lost, {self.double} double,"
            f" {len(self.differing)} of {self.campaigns} campaigns differ: {self.differing};"
            f" senders: {self.trouble}"
        )


async def _look(
    clickhouse: ClickHouse, traffic: Traffic, simulator: Simulator, run: str, visible_s: list[float]
) -> Verdict:
    """The present figures."""
    compared = compare_events(traffic.ledger, await clickhouse.stored(run))
    expected = {
        campaign: counts
        for campaign, counts in recount(traffic.ledger.accepted.values()).items()
        if campaign in simulator.campaigns
    }
    found = await clickhouse.counters(simulator.campaigns)
    return Verdict(
        unique=len(traffic.ledger.accepted),
        stored=compared.stored,
        lost=compared.lost,
        double=compared.double_counted,
        differing=differences(expected, found, COUNTER_NAMES),
        campaigns=len({*expected, *found}),
        ledger=traffic.ledger,
        trouble=traffic.trouble,
        visible_s=visible_s,
    )


async def _send(traffic: Traffic, seconds: float | None, disturb: Disturbance | None) -> None:
    """Sends for ``seconds``; ``disturb`` runs meanwhile and is awaited."""
    over = asyncio.Event()
    disturbing = asyncio.ensure_future(disturb()) if disturb is not None else None
    if disturbing is not None and seconds is None:
        disturbing.add_done_callback(lambda _: over.set())
    await traffic.run(seconds, over)
    if disturbing is not None:
        await disturbing


async def _verdict(
    pipeline: Pipeline,
    accounts: Accounts,
    seconds: float | None,
    rate_per_s: float,
    seed: int,
    disturb: Disturbance | None,
    tls: ssl.SSLContext | None,
) -> Verdict:
    run = secrets.token_hex(3)
    clickhouse = ClickHouse(pipeline.clickhouse_dsn)
    freshness = Freshness(clickhouse)
    simulator = Simulator(run, rate_per_s, time.time(), random.Random(seed))
    traffic = Traffic(
        simulator,
        accounts.senders,
        pipeline.ingest_url,
        random.Random(seed + 1),
        freshness.answered,
        give_up_s=GIVE_UP_S,
        tls=tls,
    )
    watching = asyncio.ensure_future(freshness.watch())
    try:
        await _send(traffic, seconds, disturb)
        await asyncio.to_thread(pipeline.wait_caught_up)
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                visible_s = list(freshness.seconds)
                verdict = await _look(clickhouse, traffic, simulator, run, visible_s)
            except Unavailable:
                if time.monotonic() > end:
                    raise
            else:
                if verdict.exact or time.monotonic() > end:
                    return verdict
            await asyncio.sleep(0.5)
    finally:
        watching.cancel()
        await clickhouse.close()


def verdict_of(
    pipeline: Pipeline,
    accounts: Accounts,
    *,
    seconds: float | None,
    rate_per_s: float,
    seed: int = 1,
    disturb: Disturbance | None = None,
    tls: ssl.SSLContext | None = None,
) -> Verdict:
    """Sends simulated traffic through a running pipeline, lets it drain and compares.

    Args:
        accounts: of ``open_accounts()``; the pipeline's ``config`` and ``secrets`` are theirs.
        seconds: ``None``: for as long as ``disturb`` takes.
        seed: of the simulator's chance.
        disturb: what happens to the pipeline while traffic flows; blocking calls belong into
            ``asyncio.to_thread``.
        tls: whom the senders trust; default: public authorities.

    Raises:
        ProcessFailed: the pipeline does not catch up.
        Unavailable: ClickHouse does not answer.
    """
    return asyncio.run(_verdict(pipeline, accounts, seconds, rate_per_s, seed, disturb, tls))
