"""Faust's settings, derived from ours."""

from pathlib import Path

from faust.auth import SASLCredentials
from pydantic import SecretStr

from schemas.settings import Settings
from streams.transport.app import ChunkApp
from streams.transport.runner import faust_options
from tests.streams.rig import FakeHooks


def app_of(settings: Settings) -> ChunkApp:
    return ChunkApp(
        settings.consumer_group, chunk_topics=["in"], chunk_records_max=1, chunk_bytes_max=1,
        hooks=FakeHooks(), on_fatal=print, **faust_options(settings),
    )  # fmt: skip


def test_time_outs_fit_each_other() -> None:
    """A session is ten heartbeats; a join may take as long as a rebalance."""
    settings = Settings(session_timeout_ms=6_000, rebalance_timeout_ms=90_000)
    conf = app_of(settings).conf
    assert conf.broker_session_timeout == 6.0
    assert conf.broker_heartbeat_interval == 0.6
    assert conf.broker_rebalance_timeout == 90.0
    assert conf.broker_request_timeout > 90.0


def test_the_app_is_what_the_settings_say(tmp_path: Path) -> None:
    """Brokers, group, static membership, checkpoint interval; nothing is served or declared."""
    settings = Settings(
        kafka_bootstrap="a:1,b:2", consumer_group="g", group_instance_id="w1",
        checkpoint_interval_ms=500,
    )  # fmt: skip
    conf = app_of(settings).conf
    assert [(url.host, url.port) for url in conf.broker_consumer] == [("a", 1), ("b", 2)]
    assert conf.id == "g"
    assert conf.consumer_group_instance_id == "w1"
    assert conf.broker_commit_interval == 0.5
    assert conf.consumer_auto_offset_reset == "earliest"
    assert not conf.web_enabled
    assert not conf.topic_allow_declare
    assert conf.topic_disable_leader


def test_credentials_reach_faust_and_no_log() -> None:
    """SASL over TLS, with the configured mechanism."""
    settings = Settings(
        kafka_security_protocol="SASL_SSL", kafka_sasl_username="u",
        kafka_sasl_password=SecretStr("not-for-logs"),
    )  # fmt: skip
    credentials = faust_options(settings)["broker_credentials"]
    assert isinstance(credentials, SASLCredentials)
    assert credentials.mechanism is not None
    assert str(credentials.mechanism.value) == "SCRAM-SHA-512"
    assert credentials.protocol.value == "SASL_SSL"
    assert credentials.password == "not-for-logs"
    assert "not-for-logs" not in repr(credentials)


def test_plain_text_needs_no_credentials() -> None:
    """For a broker on a laptop."""
    assert faust_options(Settings())["broker_credentials"] is None
