"""Webhook and history of one event give one id, message and key; a pull reads all of a window."""

import random

import pytest

from ingest.providers import REGISTRY
from ingest.providers.base import Request
from ingest.providers.histories import HISTORIES
from ingest.providers.history import Account, History, State, Window
from schemas.event import Event, message_key, unit_key
from schemas.history_api import Answer
from tests.ingest.keys import example
from tests.ingest.replicas import KEY, REPLICAS, Replica, Trouble, happened, history_table

NOW = 1_795_521_600.0
BEGIN, UNTIL = NOW - 72 * 3600, NOW - 1800
SAME = ("event_type", "occurred_at", "message_id", "recipient_identity", "campaign_id", "metadata",
        "native_type", "bounce_class", "bounce_reason", "rfc_message_id")  # fmt: skip


def account_of(provider: str) -> Account:
    table = history_table(provider)
    return Account(example(provider, history=table).source, KEY)


def pulled(history: History, account: Account, replica: Replica, seed: int = 0) -> list[Event]:
    """All events of a pull that is killed at random between taking a page and saving its state."""
    dice, now, saved = random.Random(seed), NOW, None
    window = Window(int(BEGIN * 1e6), int(UNTIL * 1e6), int((BEGIN - 86400) * 1e6))
    state: State = history.begin(account, window, survey=False)
    events: list[Event] = []
    for _ in range(50_000):
        ask = history.ask(account, state)
        if ask is None:
            return events
        now += 0.01
        status, headers, body = replica.answer(
            ask.method, ask.target, dict(ask.headers), ask.body, now
        )
        answer = Answer(status, headers, body)
        if status == 200:
            turn = history.take(account, state, answer, int(now * 1e6))
            assert not turn.parsed.rejects
            events += turn.parsed.events
            if dice.random() > 0.1:
                state = turn.state
        else:
            saved = history.refused(account, state, answer)
            state = state if saved is None else saved.state
    raise AssertionError("the pull does not end")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("provider", REPLICAS)
def test_a_pull_reads_all_and_nothing_else(provider: str, seed: int) -> None:
    """Over 401, 429, 5xx, kills, lost cursors and late records; ids are those of the webhook."""
    make, kinds = REPLICAS[provider]
    trouble = Trouble(busy=0.05, unauthorized=0.05, broken=0.05, forgets=0.01)
    dice = random.Random(seed)
    replica = make(
        happened(kinds, BEGIN - 5e3, NOW, 300, seed), trouble, dice, dice.choice((20, 50))
    )
    account = account_of(provider)
    found = {one["event_id"]: one for one in pulled(HISTORIES[provider], account, replica, seed)}
    sent = {}
    for one in replica.happenings:
        body, headers = replica.hook(one)
        request = Request("POST", "", headers, body, "192.0.2.1")
        [event] = REGISTRY[provider].parse(request, account.source, int(NOW * 1e6)).events
        if BEGIN <= one.at_s < UNTIL and one.kind != "initial_open":
            sent[event["event_id"]] = event
    if provider == "sendgrid":  # whole seconds
        sent = {key: one for key, one in sent.items() if one["occurred_at"] >= BEGIN * 1e6}
    assert found.keys() == sent.keys()
    for identity, event in found.items():
        hook = sent[identity]
        assert event["received_by"] == "pull"
        assert message_key(event) == message_key(hook)
        assert unit_key(event) == unit_key(hook)
        for name in SAME:
            if name != "occurred_at" or provider != "sparkpost":  # the webhook has whole seconds
                assert event[name] == hook[name], name  # type: ignore[literal-required]
