"""A backfill against replicas of the providers, killed at any moment: all is kept."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from ingest.intake import Intake
from ingest.providers import REGISTRY
from ingest.providers.base import Request as Hook
from ingest.providers.histories import HISTORIES
from ingest.providers.history import Account, Window
from schemas.codec import Codec
from schemas.errors import BadInput, Unavailable
from schemas.history_api import Answer, Ask
from schemas.settings import Settings
from schemas.topics import DEAD_LETTERS, RAW
from streams.books.pull import Page, Progress, Record
from streams.books.runner import Unanswered, run
from streams.classify.actors import DEFAULT_RULES
from streams.cli import provider_pull
from streams.cli.provider_pull import ProviderPull
from tests.ingest.keys import example
from tests.ingest.replicas import (
    KEY,
    REPLICAS,
    Happening,
    Replica,
    Trouble,
    happened,
    history_table,
)

NOW = 1_795_521_600.0
BEGIN, UNTIL = NOW - 72 * 3600, NOW - 1800
DAY_US = 86_400_000_000
CODEC = Codec()


class Killed(Exception):
    """SIGKILL: nothing after it happens."""


@dataclass
class World:
    """Fake effects: a virtual clock, a Kafka that is a list, and a file that is a text.

    Attributes:
        kills: how often it dies yet, at a random effect.
        asked_at: when each request was made.
        may_ask_at: before that no request may be made, as the last answer said.
    """

    replica: Replica
    dice: random.Random
    kills: int = 0
    at: float = NOW
    kept: list[Record] = field(default_factory=list)
    noted: str = ""
    stored: set[str] = field(default_factory=set)
    clickhouse: bool = True
    asked_at: list[float] = field(default_factory=list)
    may_ask_at: float = 0.0

    def _may_die(self) -> None:
        if self.kills and self.dice.random() < 0.05:
            self.kills -= 1
            raise Killed

    async def fetch(self, request: Ask) -> Answer:
        self._may_die()
        assert self.at >= self.may_ask_at, "asked while the API said to wait"
        self.asked_at.append(self.at)
        if self.dice.random() < 0.02:
            raise Unanswered("ConnectionResetError")
        status, headers, body = self.replica.answer(
            request.method, request.target, dict(request.headers), request.body, self.at
        )
        self.at += 0.01
        if status == 429:
            self.may_ask_at = self.at + float(headers["retry-after"])
        self._may_die()
        return Answer(status, headers, body)

    async def keep(self, records: Sequence[Record]) -> None:
        for record in records:
            self._may_die()
            self.kept.append(record)

    async def known(self, page: Page) -> int | None:
        self._may_die()
        return len(self.stored.intersection(page.event_ids)) if self.clickhouse else None

    def save(self, progress: Progress) -> None:
        self._may_die()
        self.noted = progress.to_json()

    def tell(self, progress: Progress, share: float) -> None:
        assert 0 <= share <= 1

    async def wait(self, seconds: float, why: str) -> None:
        self._may_die()
        self.at += seconds

    def now(self) -> float:
        return self.at

    def clock(self) -> float:
        return self.at

    def chance(self) -> float:
        return self.dice.random()


def pull_of(provider: str, remembered_us: int = 30 * DAY_US) -> ProviderPull:
    account = Account(example(provider, history=history_table(provider)).source, KEY)
    intake = Intake(Settings(), CODEC)
    return ProviderPull(HISTORIES[provider], account, intake, DEFAULT_RULES, remembered_us)


def begun(pull: ProviderPull, *, survey: bool = False) -> Progress:
    window = Window(int(BEGIN * 1e6), int(UNTIL * 1e6), int((BEGIN - 86400) * 1e6))
    state = pull.begin(window, survey=survey)
    return Progress("news", (("--from", "3d"),), window.begin_us, window.until_us, state)


async def until_done(world: World, provider: str, *, survey: bool = False) -> Progress:
    """Runs it as often as it is killed, each time from what was noted."""
    world.noted = begun(pull_of(provider), survey=survey).to_json()
    while True:
        try:
            return await run(pull_of(provider), Progress.from_json(world.noted), world)
        except Killed:
            world.at += 5


def ids_of(records: Sequence[Record], topic: str = RAW) -> list[str]:
    return [CODEC.decode(value, "raw_event")["event_id"] for name, _, value in records
            if name == topic]  # fmt: skip


def expected(replica: Replica, provider: str) -> set[str]:
    """Ids of the webhook's events of the range, by ``parse``."""
    source = example(provider).source
    found = set()
    for one in replica.happenings:
        body, headers = replica.hook(one)
        [event] = (
            REGISTRY[provider]
            .parse(Hook("POST", "", headers, body, ""), source, int(NOW * 1e6))
            .events
        )
        at = event["occurred_at"] / 1e6 if provider == "sendgrid" else one.at_s
        if BEGIN <= at < UNTIL and one.kind != "initial_open":
            found.add(event["event_id"])
    return found


def replica_of(
    provider: str, seed: int, count: int = 200, trouble: Trouble | None = None
) -> Replica:
    make, kinds = REPLICAS[provider]
    dice = random.Random(seed)
    return make(happened(kinds, BEGIN - 5e3, NOW, count, seed), trouble or Trouble(), dice, 20)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("provider", REPLICAS)
async def test_whatever_happens_all_is_kept_and_nothing_else(provider: str, seed: int) -> None:
    """20 kills at any effect, 401, 429, 5xx, lost connections and cursors; waits are kept."""
    replica = replica_of(provider, seed, trouble=Trouble(0.05, 0.05, 0.05, 0.01))
    world = World(replica, random.Random(seed), kills=20)
    done = await until_done(world, provider)
    assert set(ids_of(world.kept)) == expected(replica, provider)
    assert not [one for one in world.kept if one[0] == DEAD_LETTERS]
    assert done.counts.refused == 0
    gap = HISTORIES[provider].gap_s
    assert all(
        b - a >= gap - 1e-4 for a, b in zip(world.asked_at, world.asked_at[1:], strict=False)
    )


@pytest.mark.parametrize("provider", REPLICAS)
async def test_figures_are_exact_without_a_kill(provider: str) -> None:
    """Also where slices are read again because the API forgot a cursor."""
    replica = replica_of(provider, 7, trouble=Trouble(forgets=0.1))
    wanted = expected(replica, provider)
    world = World(replica, random.Random(7), stored=set(sorted(wanted)[::3]))
    counts = (await until_done(world, provider)).counts
    assert sorted(ids_of(world.kept)) == sorted(wanted)
    assert (counts.events, counts.known) == (len(wanted), len(world.stored))
    assert counts.new == len(wanted) - len(world.stored)
    assert BEGIN * 1e6 <= counts.first_us <= counts.last_us < UNTIL * 1e6


async def test_without_clickhouse_all_is_kept_and_nobody_claims_to_know() -> None:
    """Figures are not worth waiting for."""
    world = World(replica_of("mailgun", 1), random.Random(1), clickhouse=False)
    counts = (await until_done(world, "mailgun")).counts
    assert counts.new is None
    assert counts.unasked == counts.events == len(expected(world.replica, "mailgun"))


@pytest.mark.parametrize("provider", ["sendgrid", "resend"])
async def test_a_survey_only_lists(provider: str) -> None:
    """Where each event takes a request, a dry run makes none of these."""
    whole, listed = (World(replica_of(provider, 2), random.Random(2)) for _ in range(2))
    await until_done(whole, provider)
    done = await until_done(listed, provider, survey=True)
    assert (done.counts.events, listed.kept) == (0, [])
    assert done.counts.listed > 0
    assert len(listed.asked_at) < len(whole.asked_at)


async def test_a_wrong_key_is_tried_a_few_times_and_told() -> None:
    """Providers lock keys out that fail often."""
    world = World(replica_of("mailgun", 1, trouble=Trouble(unauthorized=1.0)), random.Random(1))
    with pytest.raises(BadInput, match="api_key"):
        await until_done(world, "mailgun")
    assert len(world.asked_at) == 5


async def test_an_api_that_is_down_ends_the_command() -> None:
    """It goes on from there when it is run again."""
    world = World(replica_of("sparkpost", 1, trouble=Trouble(broken=1.0)), random.Random(1))
    with pytest.raises(Unavailable, match="HTTP 50"):
        await until_done(world, "sparkpost")
    world.replica.trouble.broken = 0
    await run(pull_of("sparkpost"), Progress.from_json(world.noted), world)
    assert set(ids_of(world.kept)) == expected(world.replica, "sparkpost")


async def test_the_providers_clock_counts_too() -> None:
    """What it calls younger than 30 minutes is left for the next run; later, nothing is missing."""
    replica = replica_of("mailgun", 3, trouble=Trouble(skew_s=-3600))
    world = World(replica, random.Random(3))
    await until_done(world, "mailgun")
    young = {one.number for one in replica.happenings if UNTIL - 3600 <= one.at_s < UNTIL}
    assert young
    early = {CODEC.decode(value, "raw_event")["occurred_at"] for _, _, value in world.kept}
    assert max(early) < (UNTIL - 3600 + 1) * 1e6
    replica.trouble.skew_s, world.kept = 0, []
    await until_done(world, "mailgun")
    assert set(ids_of(world.kept)) == expected(replica, "mailgun")


async def test_what_state_may_have_forgotten_is_left_out() -> None:
    """A run that goes on days later leaves out what has become too old meanwhile, and says so."""
    world = World(replica_of("mailgun", 4), random.Random(4))
    pull = pull_of("mailgun", remembered_us=2 * DAY_US)
    done = await run(pull, begun(pull), world)
    times = [CODEC.decode(value, "raw_event")["occurred_at"] for _, _, value in world.kept]
    assert min(times) >= NOW * 1e6 - 2 * DAY_US
    assert done.counts.too_old == len(expected(world.replica, "mailgun")) - len(times) > 0


async def test_records_are_as_from_ingress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Same key and same value as the webhook's, but for how and when the event came; a bad item is
    a dead letter; ids are remembered within a bound."""
    monkeypatch.setattr(provider_pull, "RECENT_MAX", 50)
    replica = replica_of("mailgun", 5, 120)
    replica.happenings.append(Happening(10**9, 1, "opened", BEGIN + 9))
    world = World(replica, random.Random(5))
    original = replica._item  # type: ignore[attr-defined]

    def item(one: Happening) -> dict[str, object]:
        made = original(one)
        return {**made, "id": ""} if one.number == 10**9 else made

    replica._item = item  # type: ignore[attr-defined]
    done = await until_done(world, "mailgun")
    [letter] = [CODEC.decode(value, "dead_letter") for topic, _, value in world.kept
                if topic == DEAD_LETTERS]  # fmt: skip
    assert letter["reason"] == "no_event_id"
    assert done.counts.refused == 1
    replica.happenings.pop()
    source = example("mailgun").source
    hooks = {}
    for one in replica.happenings:
        body, headers = replica.hook(one)
        request = Hook("POST", "", headers, body, "")
        [pair] = (
            Intake(Settings(), CODEC)
            .take(REGISTRY["mailgun"], source, request, int(NOW * 1e6))
            .parcel.events
        )
        event = CODEC.decode(pair[1], "raw_event")
        hooks[event["event_id"]] = (pair[0], event)
    for topic, key, value in world.kept:
        if topic == RAW:
            event = CODEC.decode(value, "raw_event")
            hook_key, hook = hooks[event["event_id"]]
            assert key == hook_key
            assert event.pop("received_by") == "pull"
            assert hook.pop("received_by") == "hook"
            differ = {name for name in event if event[name] != hook[name]}
            assert differ <= {"received_at", "batch_id", "batch_index"}


def test_progress_survives_as_text() -> None:
    """What another version wrote is refused."""
    progress = begun(pull_of("mailgun"))
    page = Page({"at": 1}, kinds={"opened": 2}, event_ids=["a", "b"], times_us=[7, 5], cut=["x"],
                machines={"opened, scanner: human": 1})  # fmt: skip
    after = progress.after(page, 1, 0.5).after(page, None, 0.5)
    assert Progress.from_json(after.to_json()) == after
    assert (after.counts.known, after.counts.unasked, after.counts.new) == (1, 2, None)
    assert (after.counts.first_us, after.counts.last_us) == (5, 7)
    for text in ("", "{}", "[" * 10_000, after.to_json().replace('"form": 2', '"form": 1')):
        with pytest.raises(BadInput, match="no_progress"):
            Progress.from_json(text)
