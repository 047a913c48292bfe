"""Whether the extra ``embedded`` is installed: the database."""

from importlib.util import find_spec


def has_engine() -> bool:
    """Whether ClickHouse's embedded engine is installed."""
    return find_spec("chdb") is not None
