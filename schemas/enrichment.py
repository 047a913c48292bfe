"""Encodes enrichments in parts: parts that repeat are encoded once and kept in bounded caches.

Invariants:
1. Pure. The parts of one enrichment, joined in the order below, are exactly what fastavro writes
   for the same record; a property test compares them.
2. The arguments of a part are the values of its fields, in the schema's order.
"""

from functools import lru_cache

from schemas.codec import LATEST, schema_json
from schemas.compiled_writer import Usual, Writers

_origin, coordinates, _campaign, _mailbox, _verdict, since, client = Writers(
    schema_json(LATEST["enriched_event"])["fields"][1]["type"],
    Usual(fresh=frozenset(("message_key",)), same={"version": "offset"}),
).parts(
    "log_id", "offset", "campaign_id", "mailbox_provider", "bounce_class",
    "seconds_since_delivery", "device",
)  # fmt: skip

origin = lru_cache(maxsize=1024)(_origin)
"""``log_id`` and ``partition``; followed by the ``coordinates``, to ``message_key``."""
campaign = lru_cache(maxsize=16_384)(_campaign)
"""``campaign_id``, ``campaign_source`` and ``previous_campaign_id``."""
mailbox = lru_cache(maxsize=65_536)(_mailbox)
"""``mailbox_provider``."""
verdict = lru_cache(maxsize=4096)(_verdict)
"""From ``bounce_class`` to ``unsubscribe_link``; followed by ``since`` and ``client``."""
NOBODY = since(None) + client("", "", "", "")
"""From ``seconds_since_delivery`` to the end, of an event that nobody opened or clicked."""
