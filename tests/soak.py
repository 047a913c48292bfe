"""A long run of the whole pipeline under load with random faults, and a report of it.

``make soak ARGS="--minutes 30 --rate 400"`` (or ``python -m tests.soak``) runs real Kafka, two
workers, ingress and sink, kills, freezes and restarts them, and then checks the invariants of
``tests/live/faults.py`` with the sender's ledger. Into ``--out`` it writes ``report.json``,
``report.md`` and ``memory.svg``. The exit code is 1 if an invariant does not hold.

Invariants:
1. The raw topic is recreated only between two acts: senders have ended, all events answered 200 are
   in ClickHouse, every spool is empty. So the deletion loses no event.
2. State belongs to one log, so no message continues in the next act: a repeat there would rightly
   be counted again. After each act the figures of all acts are checked.
3. With wrong clocks only the invariants are checked: a worker's clock is in ``as_of`` and in the
   bounds of rolling rates, which are not in the ledger. The clock of ingress is wrong by less than
   the five minutes that a signature may be old (``tests/live/test_faults_clocks.py`` goes beyond).
"""

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import httpx
import psutil
from aiokafka.errors import KafkaError

from streams.simulation.accounts import open_accounts
from streams.simulation.load import Shape
from streams.worker.setting_aside import MARK
from tests.curves import Curves
from tests.live.faults import LAG_S_MAX, Outcome, Trial
from tests.live.kafka import Kafka
from tests.live.poison import put_poison
from tests.live.process import ProcessFailed
from tests.live.roles import Pipeline, Role
from tests.live.threads import in_threads
from tests.streams.damaging import damage_something

UNRULY = Shape(duplicates=0.3, repeats_max=50, shuffled_s=86_400, late=0.05, hot=0.3)
QUIET_S = 20.0
"""Time without faults at the end, so that the last requests are answered."""
SAMPLE_S = 5.0
POISON_ROUNDS = 20
"""Rounds in one burst, of four unreadable records each."""
CLOCK_S_MAX = {"ingest": 240, "worker": 3000, "sink": 3000, "warehouse": 3000}
"""Invariant 3; Kafka also refuses records more than an hour ahead."""
RIGHTED = 0.4
"""Probability, after each fault, that a wrong clock is corrected."""
PAUSE_S = 8.0
"""How long a role is frozen: longer than the session time-out of these tests."""


class Weights(Curves):
    """Resident memory of every role over time."""

    @contextmanager
    def sampled(self, pipeline: Pipeline) -> Iterator[None]:
        """Samples inside the block."""
        began = time.monotonic()

        def sample(over: threading.Event) -> None:
            while not over.wait(SAMPLE_S):
                for role in tuple(pipeline):
                    with suppress(psutil.Error, ProcessFailed):
                        held = psutil.Process(role.pid).memory_info().rss
                        at = time.monotonic() - began
                        self.curves.setdefault(role.name, []).append((at, held))

        with in_threads(sample):
            yield


class Faults:
    """Draws faults until the quiet time at the end, or until the raw topic is to be recreated.

    Attributes:
        count: how often each was drawn.
        act_over: the last draw was ``topic_recreated``, which ``acts`` carries out.
    """

    def __init__(self, broker: Kafka, folder: Path, dice: random.Random) -> None:
        self.count: Counter[str] = Counter()
        self.act_over = False
        self._broker, self._folder, self._dice = broker, folder, dice
        self._wrong: Role | None = None
        self._until = 0.0
        self._kinds: dict[str, tuple[Callable[[Trial], None], int]] = {
            "kill": (self._kill, 12),
            "storm": (self._storm, 1),
            "freeze": (self._freeze, 3),
            "kafka_restart": (self._restart, 1),
            "kafka_away": (self._away, 1),
            "state_wiped": (self._wipe, 1),
            "state_damaged": (self._damage, 2),
            "worker_joins_and_leaves": (self._visit, 3),
            "poison": (self._poison, 2),
            "wrong_clock": (self._clock, 2),
            "topic_recreated": (self._end_act, 1),
        }

    def __call__(self, trial: Trial) -> None:
        """One fault after another."""
        names = list(self._kinds)
        weights = [weight for _, weight in self._kinds.values()]
        self.act_over = False
        while time.monotonic() < self._until and not self.act_over:
            [name] = self._dice.choices(names, weights)
            self._kinds[name][0](trial)
            self.count[name] += 1
            time.sleep(self._dice.uniform(1.0, 6.0))
            if self._dice.random() < RIGHTED:
                self._right(trial)
        self._right(trial)

    def acts(self, trial: Trial, seconds: float) -> Outcome:
        """Runs acts for ``seconds``; ends early if an invariant does not hold.

        Raises:
            ProcessFailed: not caught up in time, or a spool is not emptied.
        """
        left_s = seconds
        while True:
            began = time.monotonic()
            self._until = began + left_s - QUIET_S
            outcome = trial.run(left_s, self)
            if not (self.act_over and outcome.holds):
                return outcome
            left_s = max(QUIET_S, left_s - (time.monotonic() - began))
            for role in trial.roles("ingest"):
                role.wait_until(partial(is_empty, role), "its spool is empty")
            trial.pipeline.recreate_raw()

    def _end_act(self, trial: Trial) -> None:
        self.act_over = True
        trial.end_load()

    def _clock(self, trial: Trial) -> None:
        self._right(trial)
        self._wrong = role = self._dice.choice(trial.roles(*CLOCK_S_MAX))
        most = CLOCK_S_MAX[role.kind]
        with trial.down(role):
            role.set_clock(self._dice.choice((-1, 1)) * self._dice.randint(most // 4, most))

    def _right(self, trial: Trial) -> None:
        if self._wrong is not None:
            with trial.down(self._wrong):
                self._wrong.set_clock(0)
            self._wrong = None

    def _kill(self, trial: Trial) -> None:
        self._dice.choice(trial.roles()).kill()

    def _storm(self, trial: Trial) -> None:
        for _ in range(10):
            self._kill(trial)
            time.sleep(self._dice.uniform(0.1, 1.0))

    def _freeze(self, trial: Trial) -> None:
        role = self._dice.choice(trial.roles("worker", "sink", "warehouse"))
        role.pause()
        time.sleep(PAUSE_S)
        role.resume()

    def _restart(self, trial: Trial) -> None:
        self._broker.restart()

    def _away(self, trial: Trial) -> None:
        self._broker.kill()
        time.sleep(self._dice.uniform(5, 30))
        self._broker.start()

    def _wipe(self, trial: Trial) -> None:
        role = self._dice.choice(trial.roles("worker"))
        with trial.down(role):
            shutil.rmtree(self._folder / "state" / role.name, ignore_errors=True)

    def _damage(self, trial: Trial) -> None:
        role = self._dice.choice(trial.roles("worker"))
        with trial.down(role):
            stores = [
                path for path in (self._folder / "state" / role.name).glob("*/*-*")
                if path.is_dir() and MARK not in path.name
            ]  # fmt: skip
            if stores:
                damage_something(self._dice, self._dice.choice(sorted(stores)), Path("nowhere"))

    def _poison(self, trial: Trial) -> None:
        with suppress(KafkaError):  # the broker may just have been killed by another fault
            asyncio.run(put_poison(self._broker.bootstrap, POISON_ROUNDS))

    def _visit(self, trial: Trial) -> None:
        visitor = trial.pipeline.roles.get("worker-3")
        if visitor is None:
            visitor = trial.pipeline.add_worker()
        else:
            trial.held.discard(visitor.name)
        time.sleep(self._dice.uniform(2, 10))
        trial.held.add(visitor.name)
        visitor.stop()


def is_empty(role: Role) -> bool:
    """Whether the spool of an ingress is empty."""
    with suppress(httpx.HTTPError):
        return "\nmailpulse_ingest_spool_bytes 0.0\n" in role.metrics()
    return False


def report(outcome: Outcome, faults: Faults, seconds: float, rate: float) -> dict[str, object]:
    """The figures of a run."""
    sent = outcome.sent
    return {
        "minutes": round(seconds / 60, 1),
        "events_per_s": rate,
        "accepted": sent.accepted,
        "repeats": sent.duplicates,
        "requests": sent.requests,
        "unanswered_events": sent.unsure,
        "stored": outcome.stored,
        "lost": outcome.lost,
        "double": outcome.double,
        "forged_stored": outcome.forged,
        "campaigns_compared": outcome.campaigns,
        "campaigns_differing": len(outcome.differing),
        "faults": dict(faults.count),
        "restarts": outcome.restarts,
        "disk_peak_mb": round(outcome.disk_peak_bytes / 1e6),
        "memory_peak_mb": {k: round(v / 1e6) for k, v in outcome.memory_peak_bytes.items()},
        "lag_gone_within_s": LAG_S_MAX,
        "holds": outcome.holds,
    }


def run(minutes: float, rate: float, out: Path, seed: int) -> bool:
    """One soak; returns whether every invariant held.

    Raises:
        ProcessFailed: invariant D did not hold: the pipeline did not catch up in time.
    """
    out.mkdir(parents=True, exist_ok=True)
    accounts, seconds, weights = open_accounts(), minutes * 60, Weights()
    folder = Path(tempfile.mkdtemp(prefix="mailpulse-soak-"))
    with Kafka() as broker:
        settings = {"SPOOL_DIR": str(folder / "spool")}
        with Pipeline(
            broker.bootstrap, folder, accounts.toml, accounts.environ, workers=2, dashboard=True,
            settings=settings,
        ) as pipeline:  # fmt: skip
            trial = Trial(pipeline, accounts, folder, rate_per_s=rate, shape=UNRULY, seed=seed)
            faults = Faults(broker, folder, random.Random(seed))
            with weights.sampled(pipeline):
                outcome = faults.acts(trial, seconds)
    found = report(outcome, faults, seconds, rate)
    (out / "report.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (out / "memory.svg").write_text(weights.svg(), encoding="utf-8")
    rows = "\n".join(f"| {key.replace('_', ' ')} | {value} |" for key, value in found.items())
    (out / "report.md").write_text(f"| figure | value |\n|---|---|\n{rows}\n", encoding="utf-8")
    print(json.dumps(found), flush=True)
    if outcome.holds:
        shutil.rmtree(folder)
    else:  # state, ledger, logs and ClickHouse's data are kept for inspection
        print(f"{outcome.differing}\nkept: {folder}", file=sys.stderr)
    return outcome.holds


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=400, help="true events a second")
    parser.add_argument("--out", type=Path, default=Path("artifacts/soak"))
    parser.add_argument("--seed", type=int, default=1, help="of traffic and faults")
    given = parser.parse_args(arguments)
    return 0 if run(given.minutes, given.rate, given.out, given.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
