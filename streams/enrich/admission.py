"""Which raw records are folded: one that can't be becomes a dead letter before it changes anything.

Invariants:
1. Pure. A record that was admitted raises nothing later, and what follows from it fits into a batch
   of records (``BESIDE_BYTES_MAX`` larger than the largest raw record).
2. What only other producers' records can be is checked as well: mailpulse's own have texts of
   bounded length, a head that says what the fields say, and a sound timestamp.
3. Small records, which nearly all are, cost a few comparisons.
"""

from typing import Final

from schemas.errors import BadInput
from schemas.raw_head import Head

SMALL_BYTES_MAX: Final = 65_535
"""Below this no text is too long to be stored, and nothing that follows too large to be sent."""
REPEATED_BYTES_MAX: Final = 4_096
"""Longest of the texts that are stored, or repeated in what follows from a larger record. Those of
mailpulse's own are at most 512 characters."""
LINK_BYTES_MAX: Final = 8_192
"""Longest link of a larger record, 2,048 characters; its group may be three times as long."""
BESIDE_BYTES_MAX: Final = 47_000
"""What an enriched record or a dead letter has beside its raw record, at most."""
NEWEST_MS: Final = 4_102_444_800_000
"""2100-01-01. Log time never goes back, so a later timestamp would expire all that is kept."""

_REPEATED: Final = (
    "event_id", "campaign_id", "recipient_domain", "geo_country", "provider", "source",
    "message_id", "recipient", "recipient_identity", "suppression_scope",
)  # fmt: skip


def is_large(key: bytes | None, value: bytes) -> bool:
    """Whether ``check_large`` is needed."""
    return len(value) > SMALL_BYTES_MAX or (key is not None and len(key) > SMALL_BYTES_MAX)


def check_large(key: bytes | None, value: bytes, head: Head, bytes_max: int) -> None:
    """Checks a large record.

    Args:
        bytes_max: of key and value together.

    Raises:
        BadInput: it, or one of its texts, is too large.
    """
    size = len(value) + len(key or b"")
    if size > bytes_max:
        raise BadInput("record_too_large", f"{size} bytes; at most {bytes_max} can be processed")
    if len(key or b"") > SMALL_BYTES_MAX:
        raise BadInput("key_too_long", f"the key has {len(key or b'')} bytes")
    if len((head["click_url"] or "").encode("utf-8", "replace")) > LINK_BYTES_MAX:
        raise BadInput("text_too_long", f"click_url is longer than {LINK_BYTES_MAX} bytes")
    for name in _REPEATED:
        if len((head[name] or "").encode("utf-8", "replace")) > REPEATED_BYTES_MAX:
            raise BadInput("text_too_long", f"{name} is longer than {REPEATED_BYTES_MAX} bytes")
