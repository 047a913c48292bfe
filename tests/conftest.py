"""For every test: Hypothesis' profile and the broker fixtures.

``MAILPULSE_TEST_EXAMPLES`` sets the number of examples per property.
"""

import os

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
