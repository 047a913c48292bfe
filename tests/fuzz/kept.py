"""Where what the fuzzing found stays: a folder beside the tests, tried first by every run.

``MAILPULSE_FUZZ_KEEP=1``, as ``make fuzz`` sets it, writes there; other runs only read it, and keep
their own finds in ``.hypothesis`` as all tests do. A find is Hypothesis' record of its choices, so
it holds for the test as it stands: a bug that was mended gets a test of its own as well.
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
