"""Versions of events, rows and counts; of several versions the highest is valid.

- Revision of an event: ``epoch << REVISION_EPOCH_SHIFT | corrections``. So everything that an epoch
  of the rules writes supersedes what earlier ones wrote.
- Version of its row in ClickHouse, 64 bits: ``revision << ROW_OFFSET_BITS | offset``.
- Version of a minute's counts, 63 bits: ``epoch << COUNTS_OFFSET_BITS | offset``.
"""

FOLD_VERSION = 4
"""Of the code that folds raw records into counts and enrichments; raised whenever the same records
would give others. A rebuild folds old records by today's code, so a release that raises it begins
an epoch (``mailpulse reprocess``)."""
REVISION_EPOCH_SHIFT = 12
"""4,095 corrections of one event fit in an epoch. Verdicts change in one direction and a campaign
is learned once, so an event is corrected a few times at most."""
ROW_OFFSET_BITS = 40
"""Offsets of the raw topic stay below 2^40."""
COUNTS_OFFSET_BITS = 48
"""Leaves 32,767 epochs."""
EPOCH_MAX = 4_095
"""Highest epoch that a row's version holds: 64 bits less those of offset and corrections."""
