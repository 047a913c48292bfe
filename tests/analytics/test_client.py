"""What a client asks of ClickHouse when it connects, on one server and on a cluster."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import clickhouse_connect
import pytest
from pydantic import SecretStr

from analytics.client import connect, reader
from schemas.settings import Settings


@dataclass
class Server:
    """A server that has some databases; stands for clickhouse-connect and its client."""

    databases: set[str]
    told: list[str] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=dict)
    database: str = "default"

    def get_client(self, *, settings: Mapping[str, Any], **_: Any) -> "Server":
        """As ``clickhouse_connect.get_client``."""
        self.settings = settings
        return self

    def command(self, sql: str, parameters: Mapping[str, str] | None = None) -> int:
        """Counts databases, or notes a statement."""
        if sql.startswith("SELECT count() FROM system.databases"):
            return int((parameters or {})["name"] in self.databases)
        named = (parameters or {}).get("name", "")
        self.told.append(sql.replace("{name:Identifier}", f"`{named}`"))
        return 0


def settings_with(cluster: str) -> Settings:
    """Settings of a role."""
    dsn = SecretStr("http://mailpulse:x@clickhouse:8123/mail")
    return Settings(clickhouse_dsn=dsn, clickhouse_cluster=cluster)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server without our database."""
    made = Server({"default"})
    monkeypatch.setattr(clickhouse_connect, "get_client", made.get_client)
    return made


@pytest.mark.parametrize(
    ("cluster", "statement"),
    [
        ("", "CREATE DATABASE IF NOT EXISTS `mail`"),
        ("main", "CREATE DATABASE IF NOT EXISTS `mail` ON CLUSTER 'main'"),
    ],
)
def test_a_missing_database_is_created(cluster: str, statement: str, server: Server) -> None:
    """On a cluster on every server."""
    client = connect(settings_with(cluster))
    assert server.told == [statement]
    assert client.database == "mail"


@pytest.mark.parametrize("cluster", ["", "main"])
def test_where_the_database_is_nothing_is_created(cluster: str, server: Server) -> None:
    """Who may not create databases can connect, and one dead replica holds nobody up."""
    server.databases.add("mail")
    connect(settings_with(cluster))
    assert server.told == []


def test_readers_create_nothing_and_change_no_setting(server: Server) -> None:
    """A user with ``readonly = 1`` may not even set a setting."""
    reader(settings_with("main"))
    assert (server.told, server.settings) == ([], {})


def test_on_a_cluster_inserts_wait_for_the_shards(server: Server) -> None:
    """The sink commits offsets after an insert's answer; elsewhere nothing is set."""
    connect(settings_with("main"))
    assert server.settings == {"distributed_foreground_insert": 1}
    connect(settings_with(""))
    assert server.settings == {}
