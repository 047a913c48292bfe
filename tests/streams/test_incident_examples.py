"""Incidents over the whole engine, for mail that used to raise false alerts, several, or none."""

import random
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from schemas import topics
from schemas.event import Event
from streams.campaigns.lines import HOLD_S
from tests.builders import RECEIVED_AT, event
from tests.streams.engine_rig import Broker, Clock, EngineMaker, EngineRig

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR


def mail(
    kind: str, numbers: Iterable[int], at: int, *, told: int | None = None, seconds: int = 60,
    domain: str = "gmail.com", campaign: str = "spring",
) -> list[Event]:  # fmt: skip
    """One event each of messages by their number, spread over some seconds.

    Args:
        told: when it arrives; by default a second after it happened.
    """
    wanted = list(numbers)
    events = []
    for place, number in enumerate(wanted):
        moment = at + place * seconds * SECOND // max(1, len(wanted))
        events.append(
            event(
                event_id=blake2b(f"{kind} {number} {at}".encode(), digest_size=16).hexdigest(),
                event_type=kind,
                bounce_class="hard" if kind == "bounced" else "none",
                message_id=f"{campaign}-{number}",
                recipient=f"user-{number}@{domain}",
                recipient_domain=domain,
                campaign_id=campaign,
                occurred_at=moment,
                received_at=moment + SECOND if told is None else told,
            )
        )
    return events


class Story:
    """An engine that is fed in the order of arrival, while its clock follows."""

    def __init__(self, broker: Broker, clock: Clock, rig: EngineRig) -> None:
        self.broker, self.clock, self.rig = broker, clock, rig

    async def arrive(self, events: list[Event], batches: int = 1) -> None:
        """Feeds events as they arrive, and looks after each of some batches."""
        ordered = sorted(events, key=lambda one: one["received_at"])
        size = -(-len(ordered) // batches)
        for begin in range(0, len(ordered), size):
            part = ordered[begin : begin + size]
            self.clock.now_s = max(self.clock.now_s, part[-1]["received_at"] / 1e6)
            self.broker.feed(part)
            await self.look()

    async def look(self) -> None:
        """Works everything off and judges."""
        await self.rig.work_off()
        await self.rig.tick()

    async def wait(self, seconds: int) -> None:
        """Lets time pass without an event, with looks meanwhile."""
        for _ in range(4):
            self.clock.now_s += seconds / 4
            await self.look()

    def incidents(self) -> list[dict[str, Any]]:
        """The changes told, without repeated figures."""
        told = self.broker.decoded(topics.ALERTS, "alert")
        return [one for one in told if one["as_of"] == one["changed_at"]]

    def changes(self) -> list[tuple[str, str, str]]:
        """State, rate and level of each change."""
        return [(one["state"], one["rate"], one["level"]) for one in self.incidents()]


@pytest.fixture
async def story(engine_of: EngineMaker, tmp_path: Path) -> Story:
    """An engine at the present moment."""
    broker, clock = Broker(), Clock()
    return Story(broker, clock, await engine_of(broker, tmp_path, clock))


async def test_complaints_about_the_mail_of_yesterday_are_an_incident(story: Story) -> None:
    """50 complaints on 500 messages of 25 hours ago: feedback loops are late by nature."""
    await story.arrive(mail("delivered", range(500), RECEIVED_AT - 25 * HOUR))
    await story.arrive(mail("complained", range(50), RECEIVED_AT, seconds=5), batches=5)
    await story.wait(2 * HOLD_S)
    assert story.changes() == [("opened", "complaint_rate", "critical")]
    [incident] = story.incidents()
    assert (incident["numerator"], incident["denominator"]) == (50, 500)


async def test_one_complaint_of_a_hundred_is_no_incident(story: Story) -> None:
    """It is chance, whatever the ratio."""
    await story.arrive(mail("delivered", range(99), RECEIVED_AT))
    await story.arrive(mail("complained", range(1), RECEIVED_AT + HOUR))
    await story.wait(10 * HOLD_S)
    assert story.changes() == []


async def test_bounces_that_arrive_before_the_deliveries_of_their_send_are_no_incident(
    story: Story,
) -> None:
    """60 bounces first, the 5,000 deliveries of the same send some seconds later."""
    await story.arrive(mail("bounced", range(60), RECEIVED_AT, told=RECEIVED_AT + SECOND))
    await story.wait(4)
    late = RECEIVED_AT + 20 * SECOND
    await story.arrive(mail("delivered", range(60, 5000), RECEIVED_AT, told=late), batches=4)
    await story.wait(10 * HOLD_S)
    assert story.changes() == []


async def test_late_bounces_are_judged_with_the_messages_that_they_belong_to(
    story: Story,
) -> None:
    """20 late bounces of yesterday's 600, while today has 110: 2.8 % of 710, not 18 %."""
    await story.arrive(mail("delivered", range(600), RECEIVED_AT - 20 * HOUR))
    await story.arrive(mail("delivered", range(600, 710), RECEIVED_AT))
    await story.arrive(mail("bounced", range(20), RECEIVED_AT + HOUR))
    await story.wait(10 * HOLD_S)
    assert [one["level"] for one in story.incidents() if one["level"] != "watch"] == []
    assert all(one["rate"] == "late_bounce_rate" for one in story.incidents())


async def test_bounces_after_a_day_of_retries_are_judged_with_the_send_that_they_belong_to(
    story: Story,
) -> None:
    """Yesterday's 3,000, 40 of which were deferred and bounce today, beside 200 of today."""
    yesterday = RECEIVED_AT - 26 * HOUR
    await story.arrive(mail("delivered", range(40, 3000), yesterday))
    await story.arrive(mail("deferred", range(40), yesterday))
    await story.arrive(mail("delivered", range(3000, 3200), RECEIVED_AT))
    await story.arrive(mail("bounced", range(40), RECEIVED_AT + HOUR))
    await story.wait(10 * HOLD_S)
    assert story.changes() == []


async def test_bounces_of_the_past_are_no_incident_of_today(story: Story) -> None:
    """120 bounces dated 3 days ago, as after an outage of the webhook."""
    await story.arrive(mail("delivered", range(200, 240), RECEIVED_AT))
    old = mail("bounced", range(120), RECEIVED_AT - 3 * DAY, told=RECEIVED_AT + HOUR)
    await story.arrive(old, batches=3)
    await story.wait(10 * HOLD_S)
    assert story.changes() == []


async def test_bounces_from_before_the_horizon_are_no_incident_of_today(story: Story) -> None:
    """120 bounces dated 32 days ago."""
    await story.arrive(mail("bounced", range(120), RECEIVED_AT - 32 * DAY, told=RECEIVED_AT))
    await story.wait(10 * HOLD_S)
    assert story.changes() == []


async def test_complaints_of_before_the_horizon_are_no_incident_of_today(story: Story) -> None:
    """40 of 100 deliveries of 32 days ago, both told now: counted now, and told apart."""
    long_ago = RECEIVED_AT - 32 * DAY
    await story.arrive(mail("delivered", range(100), long_ago, told=RECEIVED_AT))
    await story.arrive(mail("complained", range(20), long_ago + HOUR, told=RECEIVED_AT + SECOND))
    await story.arrive(mail("bounced", range(20, 40), RECEIVED_AT + HOUR))
    await story.wait(10 * HOLD_S)
    assert story.changes() == []


async def test_one_bad_send_is_one_incident_with_its_mailbox_providers_inside(
    story: Story,
) -> None:
    """It used to be six records, «other» among the mailbox providers; and its figures follow."""
    bad = mail("bounced", range(100), RECEIVED_AT, domain="gmail.com", seconds=600)
    bad += mail("bounced", range(100, 160), RECEIVED_AT, domain="corp.example", seconds=600)
    good = mail("delivered", range(160, 700), RECEIVED_AT, domain="gmail.com", seconds=600)
    good += mail("delivered", range(700, 1000), RECEIVED_AT, domain="corp.example", seconds=600)
    await story.arrive(bad + good, batches=40)
    await story.wait(2 * HOLD_S)
    incidents = story.incidents()
    assert len({one["incident_id"] for one in incidents}) == 1
    assert [one["sequence"] for one in incidents] == list(range(1, len(incidents) + 1))
    assert incidents[0]["state"] == "opened"
    newest = story.broker.decoded(topics.ALERTS, "alert")[-1]
    assert (newest["numerator"], newest["denominator"]) == (160, 1000)
    assert newest["opened_numerator"] < 160
    places = [one["mailbox_provider"] for one in newest["places"]]
    assert places == ["", "gmail", "other"]


async def test_an_incident_eases_and_closes_as_its_mail_becomes_healthy(story: Story) -> None:
    """Opened, then closed, with one identity; the next one has another."""
    start = RECEIVED_AT
    await story.arrive(
        mail("bounced", range(100), start) + mail("delivered", range(100, 900), start)
    )
    await story.wait(2 * HOLD_S)
    later = start + HOUR
    await story.arrive(mail("delivered", range(1000, 12_000), later), batches=2)
    await story.wait(2 * HOLD_S)
    states = [one["state"] for one in story.incidents()]
    assert states[0] == "opened"
    assert states[-1] == "closed"
    assert len({one["incident_id"] for one in story.incidents()}) == 1


async def test_an_incident_closes_when_nothing_is_sent_any_more(story: Story) -> None:
    """The log's time goes on while no record comes; after a day nothing is judged."""
    await story.arrive(
        mail("bounced", range(100), RECEIVED_AT) + mail("delivered", range(100, 900), RECEIVED_AT)
    )
    await story.wait(2 * HOLD_S)
    await story.wait(26 * 3600)
    await story.wait(2 * HOLD_S)
    assert [one["state"] for one in story.incidents()] == ["opened", "closed"]


async def test_a_single_send_before_silence_is_still_found(story: Story) -> None:
    """The hold ends although no later record moves the log's time."""
    await story.arrive(
        mail("bounced", range(100), RECEIVED_AT) + mail("delivered", range(100, 600), RECEIVED_AT)
    )
    assert story.changes() == []
    await story.wait(2 * HOLD_S)
    assert story.changes() == [("opened", "hard_bounce_rate", "critical")]


@pytest.mark.parametrize("seed", range(3))
async def test_kills_and_lost_state_tell_no_change_twice(
    engine_of: EngineMaker, tmp_path: Path, seed: int
) -> None:
    """Each (incident, sequence) is told once, or again with the very same meaning; at the end the
    incident is what it is without a kill."""
    dice = random.Random(seed)
    broker, clock = Broker(), Clock()
    story = Story(broker, clock, await engine_of(broker, tmp_path / "0", clock))
    for number in range(6):
        at = RECEIVED_AT + number * 10 * 60 * SECOND
        first = number * 1000
        bad = 150 if number < 3 else 0
        await story.arrive(
            mail("bounced", range(first, first + bad), at, seconds=300)
            + mail("delivered", range(first + bad, first + 1000), at, seconds=300),
            batches=3,
        )
        await story.wait(2 * HOLD_S)
        folder = tmp_path / str(number + 1)
        if dice.random() < 0.5:
            await story.rig.kill(folder)
        else:
            await story.rig.stop()  # and the state is lost
        story = Story(broker, clock, await engine_of(broker, folder, clock))
        await story.look()
    changes = story.incidents()
    identities = [(one["incident_id"], one["sequence"]) for one in changes]
    assert identities == sorted(set(identities), key=identities.index)
    assert len({one["incident_id"] for one in changes}) == 1
    assert changes[0]["state"] == "opened"


@pytest.mark.parametrize("state_is_lost", [False, True])
async def test_repeats_and_kills_make_no_incident_of_healthy_mail(
    engine_of: EngineMaker, tmp_path: Path, state_is_lost: bool
) -> None:
    """1.5 % hard bounces; everything arrives twice, and after each batch another worker starts."""
    broker, clock = Broker(), Clock()
    story = Story(broker, clock, await engine_of(broker, tmp_path / "0", clock))
    for number in range(4):
        at, first = RECEIVED_AT + number * 300 * SECOND, number * 1000
        batch = mail("bounced", range(first, first + 15), at)
        batch += mail("delivered", range(first + 15, first + 1000), at)
        await story.arrive(batch + batch, batches=2)
        folder = tmp_path / str(number + 1)
        if state_is_lost:
            await story.rig.stop()
        else:
            await story.rig.kill(folder)
        story = Story(broker, clock, await engine_of(broker, folder, clock))
        await story.look()
    await story.wait(4 * HOLD_S)
    assert story.changes() == []


async def test_kills_within_the_hold_do_not_keep_an_incident_silent(
    engine_of: EngineMaker, tmp_path: Path
) -> None:
    """The hold goes on where the worker before was."""
    broker, clock = Broker(), Clock()
    story = Story(broker, clock, await engine_of(broker, tmp_path / "0", clock))
    await story.arrive(
        mail("bounced", range(100), RECEIVED_AT) + mail("delivered", range(100, 600), RECEIVED_AT)
    )
    for number in range(1, 6):
        await story.look()  # with a checkpoint
        folder = tmp_path / str(number)
        await story.rig.kill(folder)
        clock.now_s += HOLD_S / 3
        story = Story(broker, clock, await engine_of(broker, folder, clock))
        await story.look()
    assert story.changes() == [("opened", "hard_bounce_rate", "critical")]
