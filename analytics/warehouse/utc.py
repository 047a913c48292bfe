"""chDB, loaded with UTC as its time zone.

Invariants:
1. Nothing else in this package imports ``chdb``. The library reads ``TZ`` once, when it is loaded,
   and takes no notice of ``<timezone>`` in its configuration (tried on 26.9). In another zone,
   ``{at:DateTime}`` and ``toDateTime('2026-11-24 00:00:00')`` would be read as local times, and
   clients would be told that zone.
2. Python's ``os.environ`` keeps the caller's ``TZ``; the C library's copy is changed.
"""

import os
from collections.abc import Callable
from typing import Any

ZONE = "UTC"
os.putenv("TZ", ZONE)

import chdb  # noqa: E402  # invariant 1

connect: Callable[[str], Any] = chdb.connect  # its type hints are incomplete
