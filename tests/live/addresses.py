"""The ports and settings of a warehouse process and of its sink."""

import hashlib
import secrets

from tests.live.process import free_port


class Addresses:
    """Where a warehouse will listen, and the settings for it and its sink.

    Attributes:
        door: port of the analysts' listener; ``private``: of the sink's; ``health``: of both.
    """

    def __init__(self) -> None:
        self.door, self.private, self.health = free_port(), free_port(), free_port()
        self._token = secrets.token_urlsafe(32)

    @property
    def url(self) -> str:
        """The analysts' address."""
        return f"http://127.0.0.1:{self.door}"

    def dsn(self, port: int | None = None) -> str:
        """The sink's DSN; ``port``: of something in front of the listener."""
        return f"http://sink:{self._token}@127.0.0.1:{port or self.private}/mailpulse"

    def own_settings(self) -> dict[str, str]:
        """Settings of the role, by name without prefix."""
        return {
            "DOOR_PORT": str(self.door),
            "WAREHOUSE_PORT": str(self.private),
            "WAREHOUSE_TOKEN_SHA256": hashlib.sha256(self._token.encode()).hexdigest(),
            "METRICS_PORT": str(self.health),
        }

    def sink_settings(self) -> dict[str, str]:
        """Settings of its sink, by name without prefix."""
        return {
            "CLICKHOUSE_DSN": self.dsn(),
            "CLICKHOUSE_COMPRESS": "false",
            "CLICKHOUSE_MANAGE_ACCESS": "false",
        }
