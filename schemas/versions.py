"""How versions are made of an epoch of the rules, of corrections and of offsets: the highest holds.

- Revision of an event: ``epoch << REVISION_EPOCH_SHIFT | corrections``. So whatever an epoch writes
  outranks all that earlier ones wrote.
- Version of its row in ClickHouse, 64 bits: ``revision << ROW_OFFSET_BITS | offset``.
- Version of a minute's counts, 63 bits: ``epoch << COUNTS_OFFSET_BITS | offset``.
"""

REVISION_EPOCH_SHIFT = 12
"""4,095 corrections of one event fit in an epoch. Verdicts go one way, a campaign is learned once:
an event is corrected a few times, never thousands."""
ROW_OFFSET_BITS = 40
"""Offsets of the raw topic stay below 2^40."""
COUNTS_OFFSET_BITS = 48
"""Leaves 32,767 epochs."""
EPOCH_MAX = 4_095
"""What a row's version leaves for epochs: 64 bits less those of offset and corrections."""
