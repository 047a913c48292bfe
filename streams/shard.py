"""State of one input partition in memory: a cache over what is stored, and what must be stored.

Laws of this file:
1. Pure: ``load`` is handed in; ``writes`` says what a checkpoint must store, and stores nothing.
2. State is a fold of the log's prefix up to ``applied``, in one incarnation after another: ids seen
   in an earlier log are still known, minute counts begin anew with each log.
3. A message expires ``message_ttl_s`` of log time after its last event, whether or not its bytes
   were removed yet.
"""

import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from streams import message as messages
from streams import recipients
from streams.message import Message
from streams.minutes import MinuteTable, pack_key, pack_vector
from streams.recipients import Recipient

Load = Callable[[list[bytes]], list[bytes | None]]
CACHED_MAX = 20_000
"""Messages and recipients kept in memory between checkpoints, each."""

META_KEY = b"!meta"
_META = struct.Struct("<BqQq")
_META_FORM = 1


class Shard:
    """State of ``enrich`` for one partition.

    Attributes:
        log_id: incarnation of the raw topic that ``applied`` belongs to.
        applied: offset of the last record folded in, -1 for none.
        log_time: highest record timestamp seen, seconds.
        outputs_end: position in the enriched partition from which a restore must read: whoever
            went on from a later commit wrote behind it.
    """

    def __init__(self, partition: int, load: Load) -> None:
        self.partition = partition
        self.log_id = ""
        self.applied = -1
        self.log_time = 0
        self.outputs_end = 0
        self.messages: dict[bytes, Message] = {}
        self.recipients: dict[bytes, Recipient] = {}
        self.touched_messages: dict[bytes, Message] = {}
        self.touched_recipients: dict[bytes, Recipient] = {}
        self.minutes = MinuteTable(load)
        self._load = load
        self.new_log = False
        self._unconfirmed: deque[tuple[int, int]] = deque()

    def wrote_up_to(self, end: int) -> None:
        """Everything up to ``applied`` was acknowledged, the newest of it at ``end``."""
        if not self._unconfirmed or self._unconfirmed[-1][0] != self.applied + 1:
            self._unconfirmed.append((self.applied + 1, end))

    def committed(self, offset: int) -> None:
        """``offset`` is committed by us, so whoever goes on from there writes behind our outputs.

        Without that a position is worth nothing: a worker frozen past its session may write long
        behind the records of the one that took over, and would later look for them too far on.
        """
        while self._unconfirmed and self._unconfirmed[0][0] <= offset:
            self.outputs_end = max(self.outputs_end, self._unconfirmed.popleft()[1])

    def begin_log(self, log_id: str) -> bool:
        """Goes on with incarnation ``log_id``; from its first record if it is another one.

        Returns:
            Whether another log begins.
        """
        if log_id == self.log_id:
            return False
        self.new_log = bool(self.log_id)
        self.log_id = log_id
        self.applied = -1
        self.outputs_end = 0
        self._unconfirmed.clear()
        self.minutes.reset()
        return True

    def fetch(self, message_keys: Iterable[bytes], recipient_keys: Iterable[bytes]) -> None:
        """Brings messages and recipients into memory, in at most two reads."""
        wanted = [key for key in dict.fromkeys(message_keys) if key not in self.messages]
        people = [key for key in dict.fromkeys(recipient_keys) if key not in self.recipients]
        values = self._load([b"m" + key for key in wanted] + [b"r" + key for key in people])
        pending = []
        for key, value in zip(wanted, values, strict=False):
            if value is None:
                self.messages[key] = Message()
            else:
                message = self.messages[key] = messages.unpack(value)
                if message.pending_saved:
                    pending.append(key)
        for key, value in zip(people, values[len(wanted) :], strict=True):
            self.recipients[key] = Recipient() if value is None else recipients.unpack(value)
        if pending:
            loaded = self._load([b"p" + key for key in pending])
            for key, value in zip(pending, loaded, strict=True):
                self.messages[key].pending = messages.unpack_pending(value or b"")

    def writes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Keys and values that a checkpoint must store (``None``: delete), the offset among them."""
        for key, message in self.touched_messages.items():
            yield b"m" + key, messages.pack(message)
            if message.pending:
                yield b"p" + key, messages.pack_pending(message.pending)
            elif message.pending_saved:
                yield b"p" + key, None
        for key, recipient in self.touched_recipients.items():
            yield b"r" + key, recipients.pack(recipient) or None
        for minute, vector in self.minutes.changed():
            yield pack_key(minute), pack_vector(vector)
        yield META_KEY, self.pack_meta()

    def pack_meta(self) -> bytes:
        """Log, offset, log time and output position in their stored form."""
        return _META.pack(_META_FORM, self.applied, self.log_time, self.outputs_end) + (
            self.log_id.encode()
        )

    def load_meta(self) -> None:
        """Reads what ``pack_meta`` stored, if anything is stored."""
        (data,) = self._load([META_KEY])
        if data is None:
            return
        form, self.applied, self.log_time, self.outputs_end = _META.unpack_from(data)
        if form != _META_FORM:
            raise messages.StateError(f"state has form {form}, this version reads {_META_FORM}")
        self.log_id = data[_META.size :].decode()

    def saved(self) -> None:
        """What ``writes`` gave is stored; memory is bounded."""
        for message in self.touched_messages.values():
            message.dirty = False
            message.pending_saved = bool(message.pending)
        for recipient in self.touched_recipients.values():
            recipient.dirty = False
        self.touched_messages = {}
        self.touched_recipients = {}
        self.minutes.saved()
        self.new_log = False
        if len(self.messages) > CACHED_MAX:
            self.messages = {}
        if len(self.recipients) > CACHED_MAX:
            self.recipients = {}
