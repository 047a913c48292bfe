"""Settings of ClickHouse: how to reach it, and the role that runs one (``warehouse``)."""

import ipaddress
from pathlib import Path

from pydantic import BaseModel, Field, SecretStr, field_validator

from schemas.addresses import clickhouse_address


class ClickHouseSettings(BaseModel):
    """How the roles reach ClickHouse."""

    clickhouse_dsn: SecretStr = Field(
        SecretStr("http://127.0.0.1:8123/mailpulse"),
        description="http(s)://user:password@host:port/database",
    )
    clickhouse_cluster: str = Field(
        "", description="cluster name for replicated tables; empty: none"
    )
    clickhouse_timeout_s: int = Field(30, ge=1, description="longest wait for one answer")
    clickhouse_compress: bool = Field(True, description="compress traffic with a server")
    clickhouse_manage_access: bool = Field(
        True, description="create roles and a quota on a server; needs that privilege"
    )

    @field_validator("clickhouse_dsn")
    @classmethod
    def _names_a_server(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value().startswith("chdb:"):
            raise ValueError(
                "chdb: directories are not supported any more: start 'mailpulse warehouse' with"
                " MAILPULSE_WAREHOUSE_DIR, and set MAILPULSE_CLICKHOUSE_DSN_FILE to the"
                " data_dir/warehouse.dsn that it writes"
            )
        clickhouse_address(value.get_secret_value())
        return value


class WarehouseSettings(BaseModel):
    """The engine's process."""

    warehouse_dir: Path | None = Field(
        None, description="where the role warehouse keeps its data; default: data_dir/clickhouse"
    )
    warehouse_database: str = Field("mailpulse", pattern=r"^\w{1,64}$")
    warehouse_host: str = Field("127.0.0.1", description="where the sink reaches the warehouse")
    warehouse_port: int = Field(8124, ge=0, le=65535)
    warehouse_token_sha256: str = Field(
        "",
        pattern=r"^([0-9a-f]{64})?$",
        description="of the password in the sink's DSN; default: one is made at the start, and the"
        " DSN written to data_dir/warehouse.dsn",
    )
    warehouse_memory_bytes_max: int = Field(4 << 30, ge=1 << 30, description="of the engine")
    door_obey_s_max: float = Field(
        10.0,
        gt=0,
        description="how long beyond its limit a query may hold the engine; then the process ends",
    )

    @field_validator("warehouse_host")
    @classmethod
    def _is_loopback(cls, value: str) -> str:
        try:
            if ipaddress.ip_address(value).is_loopback:
                return value
        except ValueError:
            pass
        raise ValueError("a loopback address, such as 127.0.0.1: the token goes over it in clear")
