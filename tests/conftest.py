"""For every test: Hypothesis' profile, the broker fixtures, and what parallel runs need.

``MAILPULSE_TEST_EXAMPLES`` sets the number of examples per property.
"""

import os
from collections.abc import Iterator

os.putenv("TZ", "UTC")  # before a test loads chDB: see analytics.warehouse.utc

import pytest
import structlog
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.live.fixtures"]

settings.register_profile(
    "mailpulse",
    max_examples=int(os.environ.get("MAILPULSE_TEST_EXAMPLES", "60")),
    deadline=None,  # a busy machine is no defect
    suppress_health_check=[HealthCheck.too_slow],  # the same
    print_blob=True,
)
settings.load_profile("mailpulse")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names bytes by their argument: gzip writes the time into them, and every process of a
    parallel run has to collect the same names."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True)
def _log_as_by_default() -> Iterator[None]:
    """Undoes what a test or a command that it ran set: the next one looks where logs go."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
