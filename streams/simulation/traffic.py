"""Sends simulated events to the real ingress, as providers do.

Invariants:
1. A request is retried until it is answered 200; an event without an answer is unsure, never
   counted as accepted.
2. One request in ten is sent twice or more, some events are repeated in another request, some
   bodies are shuffled; no count may change because of that.
3. A few requests are forged, and ingress must refuse them; a few are signed but are not JSON, and
   ingress must store them as dead letters.
"""

import asyncio
import random
import ssl
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx

from streams.simulation.ledger import Ledger
from streams.simulation.senders import Sender, Wire
from streams.simulation.simulator import Happening, Simulator

REPEATED_SHARE = 0.10
REPEATS_MAX = 4
AGAIN_SHARE = 0.02
"""Share of events that are repeated in another request."""
SHUFFLED_SHARE = 0.3
FORGED_EVERY = 150
"""One forged request per this many valid ones, the first after half as many."""
MALFORMED_EVERY = 300
HOLD_S_MAX = 0.4
"""Longest wait for a batch to fill, seconds."""
IN_FLIGHT_MAX = 24
WAITING_MAX = 4 * IN_FLIGHT_MAX
"""Requests that are open or wait for a retry; beyond it nothing new is sent."""
STEP_S_MAX = 0.5
"""Most traffic that is made up for at once, seconds. A sender that made up for all of a stall would
send a burst that takes still longer, and the next one would be larger."""
GIVE_UP_S = 10.0
_BROKEN = b'[{"event": "open", "email": '


@dataclass(slots=True)
class Refusal:
    """The answer to the first forged request that was refused, for display."""

    source: str
    status: int
    document: str


@dataclass(slots=True)
class _Buffer:
    """Events of one source that wait for the next request."""

    events: list[Happening]
    target: int
    since: float = 0.0


class Traffic:
    """The sending side of a demo.

    Args:
        simulator: generates the events.
        senders: source -> provider.
        base_url: of the ingress.
        dice: randomness of batches, repeats and forgeries.
        answered: called with the new events of each request that was answered 200.
        give_up_s: how long requests are retried after the traffic has ended, seconds.
        ledger: where answers are noted; default: in memory.
        tls: whom to trust; default: public authorities.
    """

    def __init__(
        self,
        simulator: Simulator,
        senders: dict[str, Sender],
        base_url: str,
        dice: random.Random,
        answered: Callable[[Sequence[Happening]], None],
        give_up_s: float = GIVE_UP_S,
        ledger: Ledger | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.ledger = ledger or Ledger()
        self.refusal: Refusal | None = None
        self.trouble: dict[str, int] = {}
        self._simulator = simulator
        self._senders = senders
        self._dice = dice
        self._answered = answered
        self._give_up_s = give_up_s
        self._buffers = {name: _Buffer([], self._size(s)) for name, s in senders.items()}
        self._recent: dict[str, deque[Happening]] = {n: deque(maxlen=500) for n in senders}
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._ends_at = float("inf")
        self._forged = 0
        self._batches = 0
        self._client = httpx.AsyncClient(
            base_url=base_url,
            timeout=10.0,
            trust_env=False,
            verify=tls or True,
            limits=httpx.Limits(max_connections=IN_FLIGHT_MAX),
        )

    def _size(self, sender: Sender) -> int:
        """Number of events in the next request: often few, sometimes as many as allowed."""
        return 1 + int((sender.batch_max - 1) * self._dice.random() ** 1.5)

    async def run(self, seconds: float | None, stop: asyncio.Event) -> None:
        """Sends for ``seconds`` (``None``: until ``stop``), then waits for open requests."""
        began = last = time.monotonic()
        sent_s = 0.0

        def over() -> bool:
            return stop.is_set() or (seconds is not None and time.monotonic() - began >= seconds)

        while not over():
            now = time.monotonic()
            sent_s, last = sent_s + min(now - last, STEP_S_MAX), now
            self._simulator.behind_s = now - began - sent_s
            for event in self._simulator.advance(sent_s):
                self._buffers[event.source].events.append(event)
            self._flush(time.monotonic())
            await asyncio.sleep(0.03)
            # a slow ingress slows the senders down; requests must not pile up here
            while len(self._tasks) > WAITING_MAX and not over():
                await asyncio.wait(self._tasks, timeout=0.2, return_when=asyncio.FIRST_COMPLETED)
        await self._finish()

    async def _finish(self) -> None:
        self._ends_at = time.monotonic() + self._give_up_s
        self._flush(float("inf"))
        while self._tasks:
            await asyncio.wait(set(self._tasks))
        await self._client.aclose()

    def _flush(self, now: float) -> None:
        """Sends every buffer that is full or has waited long enough."""
        for name, buffer in self._buffers.items():
            sender = self._senders[name]
            if buffer.events and not buffer.since:
                buffer.since = now
            while buffer.events and (
                len(buffer.events) >= buffer.target or now - buffer.since > HOLD_S_MAX
            ):
                batch = buffer.events[: buffer.target]
                del buffer.events[: buffer.target]
                buffer.target = self._size(sender)
                buffer.since = now if buffer.events and now != float("inf") else 0.0
                self._dispatch(sender, batch)

    def _dispatch(self, sender: Sender, batch: list[Happening]) -> None:
        dice = self._dice
        recent = self._recent[sender.source]
        again = [
            recent[dice.randrange(len(recent))]
            for _ in batch
            if recent and sender.batch_max > 1 and dice.random() < AGAIN_SHARE
        ]
        again = [event for event in again if event not in batch]
        events = (batch + list(dict.fromkeys(again)))[: max(1, sender.batch_max)]
        left = batch[len(events) :]
        if left:
            self._buffers[sender.source].events[:0] = left
        recent.extend(batch[:3])
        if dice.random() < SHUFFLED_SHARE:
            dice.shuffle(events)
        repeats = dice.randint(1, REPEATS_MAX) if dice.random() < REPEATED_SHARE else 0
        self._start(self._deliver(sender, events, repeats, 3.0 * dice.random()))
        self._batches += 1
        if self._batches % FORGED_EVERY == FORGED_EVERY // 2:
            self._start(self._forge(sender, batch))
        if self._batches % MALFORMED_EVERY == MALFORMED_EVERY // 2:
            self._start(self._malformed(sender))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._note(f"{type(error).__name__}: {error}")

    def _note(self, what: str) -> None:
        self.trouble[what] = self.trouble.get(what, 0) + 1

    async def _deliver(
        self, sender: Sender, events: list[Happening], repeats: int, pause_s: float
    ) -> None:
        body = sender.items(events)
        for copy in range(1 + repeats):
            if copy:
                await asyncio.sleep(pause_s)
            if not await self._until_accepted(sender, events, body):
                return

    async def _until_accepted(self, sender: Sender, events: list[Happening], body: bytes) -> bool:
        """Sends until the request is accepted; ``False`` if it was refused or given up."""
        pause = 0.5
        while True:
            status, _ = await self._send(sender, sender.sign(body, time.time()))
            if status == 200:
                new = [e for e in events if e.native_id not in self.ledger.accepted]
                self.ledger.accept(events)
                if new:
                    self._answered(new)
                return True
            if 400 <= status < 500 and status != 429:
                self._note(f"a good request to {sender.source} was answered {status}")
                return False
            # without an answer, or deferred, it may have been stored all the same
            self.ledger.doubt(events)
            if status:
                self._note(f"{sender.source} was answered {status} and retries")
            if time.monotonic() > self._ends_at:
                self._note(f"a request to {sender.source} was given up")
                return False
            await asyncio.sleep(pause)
            pause = min(4.0, pause * 2)

    async def _forge(self, sender: Sender, like: list[Happening]) -> None:
        """Sends plausible events with a wrong signature, as an attacker would."""
        events = []
        for event in like[: sender.batch_max]:
            self._forged += 1
            stem = event.message_id.split(".")[0][:7]
            fake = f"{stem}-forged-{self._forged}"
            events.append(replace(event, native_id=fake, message_id=fake, told=True))
        wire = sender.sign(sender.items(events), time.time(), forged=True)
        status, document = await self._send(sender, wire)
        if status == 200:
            self.ledger.forged_accepted += 1
            self._note(f"a forged request to {sender.source} was accepted")
        elif 400 <= status < 500:
            self.ledger.forged_refused += 1
            if self.refusal is None:
                self.refusal = Refusal(sender.source, status, document)

    async def _malformed(self, sender: Sender) -> None:
        status, _ = await self._send(sender, sender.sign(_BROKEN, time.time()))
        if status == 200:
            self.ledger.malformed_accepted += 1
        elif status:
            self._note(f"a malformed but signed body to {sender.source} was answered {status}")

    async def _send(self, sender: Sender, wire: Wire) -> tuple[int, str]:
        """Sends one request; returns status and body, status 0 without an answer."""
        async with self._slots:
            self.ledger.sent_requests += 1
            try:
                answer = await self._client.post(
                    f"/hooks/{sender.source}", headers=wire.headers, content=wire.body
                )
            except httpx.HTTPError as error:
                self._note(f"no answer: {type(error).__name__}")
                return 0, ""
        if answer.status_code == 200:
            self.ledger.accepted_requests += 1
        elif 400 <= answer.status_code < 500 and answer.status_code != 429:
            self.ledger.refused_requests += 1
        return answer.status_code, answer.text
