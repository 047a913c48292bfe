"""Settings of workers that ask for more than topics keep are refused, with the way to mend them."""

from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from schemas.errors import ConfigError
from schemas.settings import Settings
from schemas.topics import BY_NAME, ENRICHED, RAW
from streams.kafka import retention
from streams.kafka.admin import wanted_config

HOUR = 3_600_000


def configs(enriched_ms: int | None, raw_ms: int | None) -> dict[str, dict[str, str]]:
    """Settings of the two topics; ``None``: the right to read them is missing."""
    given = {ENRICHED: enriched_ms, RAW: raw_ms}
    return {name: {} if ms is None else {"retention.ms": str(ms)} for name, ms in given.items()}


def test_what_mailpulse_makes_fits_its_defaults() -> None:
    """And the longest correction window that there is."""
    made = {name: wanted_config(topic, 1) for name, topic in BY_NAME.items()}
    assert retention.contradictions(Settings(), made) == []
    assert retention.contradictions(Settings(correction_hours=144), made) == []


@pytest.mark.parametrize(
    ("hours", "kept_ms", "refused"),
    [
        (720, 720 * HOUR, False), (720, 720 * HOUR - 1, True), (721, 720 * HOUR, True),
        (1, 0, True), (10**6, -1, False), (10**6, None, False),
    ],
)  # fmt: skip
def test_a_message_is_kept_no_longer_than_what_state_is_rebuilt_from(
    hours: int, kept_ms: int | None, refused: bool
) -> None:
    """The line names the setting, what would fit, and the command that keeps more."""
    settings = Settings(message_ttl_hours=hours, correction_hours=1)
    found = retention.contradictions(settings, configs(kept_ms, 10 * 24 * HOUR))
    assert len(found) == refused
    for line in found:
        for said in ("MAILPULSE_MESSAGE_TTL_HOURS: ", ENRICHED, f"retention.ms={hours * HOUR}"):
            assert said in line


def test_all_that_contradicts_is_told_at_once() -> None:
    """The correction window reads raw records again."""
    found = retention.contradictions(Settings(), configs(HOUR, 23 * HOUR))
    assert [line.partition(":")[0] for line in found] == [
        "MAILPULSE_MESSAGE_TTL_HOURS", "MAILPULSE_CORRECTION_HOURS",
    ]  # fmt: skip
    assert "set 23 at most" in found[1]


def test_a_limit_of_bytes_is_told() -> None:
    """It may remove records before their time; when, nobody knows."""
    assert retention.bounded_by_size({RAW: {"retention.bytes": "1000000"}, ENRICHED: {}}) == [RAW]
    assert retention.bounded_by_size({RAW: {"retention.bytes": "-1"}}) == []


@pytest.mark.parametrize("known", [True, False])
async def test_a_worker_without_the_right_starts_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], known: bool
) -> None:
    """With it, the same settings are refused."""

    class Client:
        async def describe_configs(self, resources: list[Any]) -> list[Any]:
            entries = [{"config_names": "retention.ms", "config_value": str(HOUR)}]
            found = [
                {"resource_name": one.name, "config_entries": entries if known else None}
                for one in resources
            ]
            return [SimpleNamespace(to_object=lambda: {"resources": found})]

    @asynccontextmanager
    async def client(_: Settings) -> Any:
        yield Client()

    monkeypatch.setattr(retention, "admin_client", client)
    if known:
        with pytest.raises(ConfigError, match="MESSAGE_TTL_HOURS"):
            await retention.check_retention(Settings())
        return
    await retention.check_retention(Settings())
    assert "DescribeConfigs" in capsys.readouterr().out
