"""Encodes enrichments in parts: parts that repeat are encoded once and kept in bounded caches.

Invariants:
1. Pure. The parts of one enrichment, joined in the order below, are exactly what fastavro writes
   for the same record; a property test compares them.
2. The arguments of a part are the values of its fields, in the schema's order.
"""

from functools import lru_cache

from schemas.codec import LATEST, schema_json
from schemas.compiled_writer import Usual, Writers
from schemas.primitives import text
from schemas.versions import FOLD_VERSION

_origin, _coordinates, _campaign, _mailbox, _verdict, since, client, _ = Writers(
    schema_json(LATEST["enriched_event"])["fields"][1]["type"],
    Usual(fresh=frozenset(("message_key",)), same={"version": "offset"}),
).parts(
    "log_id", "offset", "campaign_id", "mailbox_provider", "bounce_class",
    "seconds_since_delivery", "device", "click_url_group",
)  # fmt: skip


@lru_cache(maxsize=1024)
def origin(log_id: str, partition: int) -> bytes:
    """``log_id``, ``partition`` and ``fold_version``."""
    return _origin(log_id, partition, FOLD_VERSION)


coordinates = _coordinates
"""From ``offset`` to ``message_key``."""
campaign = lru_cache(maxsize=16_384)(_campaign)
"""From ``campaign_id`` to ``previous_message_key``."""
mailbox = lru_cache(maxsize=65_536)(_mailbox)
"""``mailbox_provider``."""
verdict = lru_cache(maxsize=4096)(_verdict)
"""From ``bounce_class`` to ``unsubscribe_link``; followed by ``since``, ``client`` and ``link``."""
link = text
"""``click_url_group``, of any length: it has up to twelve bytes for a character of the link."""
NOBODY = since(None) + client("", "", "", "") + link("")
"""From ``seconds_since_delivery`` to the end, of an event that nobody opened or clicked."""
