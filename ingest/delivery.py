"""Keeps parcels in Kafka, or on the spool while Kafka is down.

Invariants:
1. ``keep`` returns only when the parcel is kept, and says where; else it raises.
2. While anything is on the spool, new parcels go to the spool too, so order survives an outage.
3. One forwarder sends the spool to Kafka, in order, as soon as Kafka acknowledges again; a stretch
   is deleted only when Kafka has all of it. No error of Kafka or the disk ends the forwarder. After
   a crash a stretch may be sent twice, with the same event ids, which the streams deduplicate.
"""

import asyncio
import time
from collections.abc import Callable
from enum import StrEnum

import structlog

from ingest.metrics import IngestMetrics
from ingest.parcel import Parcel, from_bytes, to_bytes
from ingest.producer import Log
from ingest.sparing_log import SparingLog
from ingest.spool import Spool, Stretch
from schemas.errors import Unavailable

FORWARD_BYTES = 500_000
"""How much of the spool is read at once."""
FORWARD_EVENTS = 2_000
"""How many events of it are in flight to Kafka at once."""
RETRY_S = 0.5


class Kept(StrEnum):
    """Where a parcel is kept."""

    KAFKA = "kafka"
    SPOOL = "spool"


class Keeper:
    """Keeps every request's parcel.

    Args:
        log: Kafka.
        spool: ``None``: no spool, requests are refused while Kafka is down.
        ack_timeout_s: longest wait for Kafka when the spool is forwarded.
        metrics: where spooling is counted.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        log: Log,
        spool: Spool | None,
        ack_timeout_s: float,
        metrics: IngestMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._spool = spool
        self._timeout_s = ack_timeout_s
        self._metrics = metrics
        self._forwarder: asyncio.Task[None] | None = None
        self._logger = structlog.get_logger("mailpulse.ingest.keeper")
        self._sparing_log = SparingLog("mailpulse.ingest.keeper", clock)

    async def start(self) -> None:
        """Opens the spool and starts connecting to Kafka.

        Raises:
            ConfigError: the spool's directory can't be used.
        """
        if self._spool is not None:
            await self._spool.open()
            self._metrics.spool_bytes.set_function(lambda: float(self.spooled_bytes))
            self._forwarder = asyncio.create_task(self._forward(self._spool), name="forwarder")
        await self._log.start()

    async def stop(self) -> None:
        """Waits for outstanding acknowledgements and closes; the spool stays for the next start."""
        if self._forwarder is not None:
            self._forwarder.cancel()
            await asyncio.gather(self._forwarder, return_exceptions=True)
        await self._log.stop()
        if self._spool is not None:
            await self._spool.close()
        self._sparing_log.close()

    @property
    def ready(self) -> bool:
        """Whether a request would be kept right now, as far as can be told."""
        return self._log.up or (self._spool is not None and self._spool.has_room)

    @property
    def spooled_bytes(self) -> int:
        """Bytes on the spool."""
        return 0 if self._spool is None else self._spool.size

    async def keep(self, parcel: Parcel, timeout_s: float) -> Kept:
        """Keeps a parcel, within ``timeout_s``: with a spool Kafka gets half of that.

        Raises:
            Unavailable: neither Kafka nor the spool has all of it in time.
        """
        spool = self._spool
        if spool is None:
            await self._log.send(parcel, timeout_s)
            return Kept.KAFKA
        if parcel.count == 0:
            return Kept.KAFKA
        if self._log.up and not spool.busy:
            try:
                await self._log.send(parcel, timeout_s / 2)
            except Unavailable as error:
                # The error's text contains figures, so it can't be part of the kind.
                kind = {"error": type(error).__name__}
                self._sparing_log.say("info", "to_spool", kind, reason=str(error))
            else:
                return Kept.KAFKA
        try:
            async with asyncio.timeout(timeout_s / 2):
                await spool.append(to_bytes(parcel))
        except TimeoutError:
            raise Unavailable("the disk is too slow") from None
        self._metrics.spooled.inc()
        return Kept.SPOOL

    async def _forward(self, spool: Spool) -> None:
        while True:
            await spool.wait_filled()
            await self._log.wait_up()
            stretch: Stretch | None = None
            try:
                stretch = await spool.read(FORWARD_BYTES)
                if stretch is None:
                    continue
                await self._send(self._parcels(spool, stretch))
            except (Unavailable, OSError) as error:  # of Kafka, or of the disk
                kind = {"error": type(error).__name__}
                self._sparing_log.say("warning", "forwarding_stopped", kind, reason=str(error))
                if stretch is not None:
                    spool.rewind(stretch)
                await asyncio.sleep(RETRY_S)
                continue
            spool.release()

    def _parcels(self, spool: Spool, stretch: Stretch) -> list[Parcel]:
        """The parcels of a stretch; payloads that can't be read are set aside, not dropped."""
        parcels = []
        for number, payload in enumerate(stretch.payloads):
            try:
                parcels.append(from_bytes(payload))
            except ValueError as error:
                name = f"{stretch.segment:020d}.{stretch.start}.{number}.unreadable"
                self._logger.error("spool_unreadable", file=name, reason=str(error))
                self._metrics.spool_damaged_bytes.inc(len(payload))
                spool.set_aside(name, payload)
        return parcels

    async def _send(self, parcels: list[Parcel]) -> None:
        """Sends all parcels in order, in groups that fit into the producer's limits."""
        group: list[Parcel] = []
        events = 0
        for parcel in parcels:
            if group and events + parcel.count > FORWARD_EVENTS:
                await self._send_group(group)
                group, events = [], 0
            group.append(parcel)
            events += parcel.count
        await self._send_group(group)

    async def _send_group(self, group: list[Parcel]) -> None:
        tasks = [asyncio.ensure_future(self._log.send(one, self._timeout_s)) for one in group]
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
