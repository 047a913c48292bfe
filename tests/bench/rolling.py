"""Rolling rates for peers: what the agent ``campaigns`` does, without its state on disk.

Invariant: the same code merges, sums and encodes as in mailpulse; who delivers the counts and sends
the rates is the peer's. Partials are kept in memory alone, so a peer has less to write.
"""

import time

from schemas.codec import PREFIX_BYTES, Codec
from streams.campaigns.rates import MINUTE_US, encode_rates
from streams.campaigns.state import CampaignState
from streams.campaigns.windows import Partial, PartialKey, Windows
from streams.enrich.minute_counts import read_record

INTERVAL_S = 0.25
"""As mailpulse publishes."""


class Rolling:
    """Windows over minute counts, and when to publish them.

    Attributes:
        written: minute counts that were sent, told by who sends them.
        merged: minute counts that were merged.
    """

    def __init__(self, codec: Codec) -> None:
        self._prefix = codec.prefix("campaign_rates")
        state = CampaignState(lambda keys: [None] * len(keys), lambda _begin, _end: iter(()))
        self._windows = Windows(state, int(time.time() // 60))
        self._due_at = 0.0
        self.written = self.merged = 0

    def merge(self, value: bytes) -> None:
        """One minute count."""
        (campaign, mailbox, minute), log, partition, offset, counts = read_record(
            value, PREFIX_BYTES
        )
        key = PartialKey(campaign, mailbox, minute, log, partition)
        self._windows.apply([Partial(key, offset, counts)])
        self.merged += 1

    def rates(self, *, last: bool = False) -> list[tuple[bytes, bytes]]:
        """Key and value of each rate record to be sent now; ``last``: of all that changed."""
        now = time.monotonic()
        if now < self._due_at and not last:
            return []
        self._due_at = now + INTERVAL_S
        now_us = time.time_ns() // 1000
        self._windows.advance(now_us // MINUTE_US)
        changed, self._windows.changed = sorted(self._windows.changed), set()
        return [
            (
                campaign.encode(),
                self._prefix
                + encode_rates(
                    self._windows, campaign, as_of_us=now_us, complete_through_us=0,
                    revision=now_us // 1000,
                ),
            )
            for campaign in changed
        ]  # fmt: skip

    @property
    def is_done(self) -> bool:
        """Whether all that was written is merged."""
        return self.merged >= self.written
