"""Where failing examples are kept: a folder that every run tries first.

With ``MAILPULSE_FUZZ_KEEP=1``, as ``make fuzz`` sets it, a run writes there; others only read it,
and keep their own in ``.hypothesis`` as all tests do. An example is Hypothesis' record of its
choices, valid for the test as it is: a fixed bug gets a test of its own as well.
"""

import os
from pathlib import Path

from hypothesis import settings
from hypothesis.database import (
    DirectoryBasedExampleDatabase,
    MultiplexedDatabase,
    ReadOnlyDatabase,
)

FOLDER = Path(__file__).parent / "corpus"
_FOUND = DirectoryBasedExampleDatabase(FOLDER)
_OWN = DirectoryBasedExampleDatabase(".hypothesis/examples")

kept = settings(
    database=_FOUND
    if os.environ.get("MAILPULSE_FUZZ_KEEP")
    else MultiplexedDatabase(_OWN, ReadOnlyDatabase(_FOUND))
)
"""Decorator of a property whose finds are kept."""
