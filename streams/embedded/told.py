"""What the supervisor tells its children, whatever their caller's settings are. Pure.

Faust joins its group quickly only with a short session time-out.
"""

from schemas.settings import Settings

SESSION_MS = 6_000


def told(settings: Settings, bootstrap: str) -> dict[str, str]:
    """Settings that the supervisor determines, by name without prefix.

    Args:
        settings: of the whole pipeline.
        bootstrap: address of its broker.
    """
    out = {
        "KAFKA_BOOTSTRAP": bootstrap,
        "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
        "KAFKA_SASL_PASSWORD": "",
        "KAFKA_REPLICATION_FACTOR": "1",
        "LOG_ID": "",
        "PARTITIONS": str(settings.partitions),
        "SESSION_TIMEOUT_MS": str(SESSION_MS),
        "REBALANCE_TIMEOUT_MS": str(SESSION_MS),
        "DATA_DIR": str(settings.data_dir.resolve()),
        "INGEST_HOST": "127.0.0.1",
        "METRICS_HOST": "127.0.0.1",
        "DOOR_HOST": "127.0.0.1",
        "DASHBOARD_HOST": "127.0.0.1",
        "LOG_LEVEL": settings.log_level,
    }
    if settings.config_file is not None:
        out["CONFIG_FILE"] = str(settings.config_file.resolve())
    return out


def local_settings(settings: Settings, bootstrap: str) -> Settings:
    """``settings`` for the broker of this machine."""
    return settings.model_copy(
        update={
            "kafka_bootstrap": bootstrap,
            "kafka_security_protocol": "PLAINTEXT",
            "kafka_replication_factor": 1,
            "log_id": "",
        }
    )
