"""Tells damage to a state store from errors that only look like it.

Invariants:
1. Damage is what a retry can't fix: bytes that differ from what was written, files that are gone, a
   store that holds less than was noted. A full disk, a missing permission, a lock that another
   process holds, too many open files are not damage, and no state is given up because of them.
2. No I/O but ``disk_of``, which only reads.

RocksDB's errors are known by their text alone, which begins with the kind of status
(``util/status.cc``) and ends with the operating system's words (``env/io_posix.cc``, ``IOError``).
"""

import errno
import os
from pathlib import Path

from schemas.errors import MailpulseError, Unavailable
from streams.enrich.message_bytes import StateError

_PASSING = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EMFILE,
    errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ENOLCK,
    errno.ETXTBSY, errno.ESTALE,
)  # fmt: skip
"""Errors whose cause lies outside the store."""
_PASSING_TEXTS = tuple(os.strerror(number) for number in _PASSING)
_DAMAGE = ("Corruption", "IO error", "Invalid argument", "NotFound", "Not implemented")
"""Kinds of RocksDB's status that are damage unless the text names one of those errors. RocksDB says
«Not implemented» of a format number that it does not know."""


class DamagedState(MailpulseError):
    """A state store can't be trusted: it has to be set aside and rebuilt from Kafka.

    Attributes:
        path: of the store.
        reason: for a person.
        is_foreign: nothing is broken: another version of mailpulse wrote it in its own form.
    """

    def __init__(self, path: Path, reason: str, *, is_foreign: bool = False) -> None:
        super().__init__(f"state {path} is damaged: {reason}")
        self.path = path
        self.reason = reason
        self.is_foreign = is_foreign

    @classmethod
    def of(cls, error: "DamagedState | StateError", path: Path) -> "DamagedState":
        """What an error means, without its traceback, whose frames would keep the store open."""
        if isinstance(error, DamagedState):
            return cls(error.path, error.reason, is_foreign=error.is_foreign)
        return cls(path, str(error), is_foreign=True)


class LastingDamage(MailpulseError):
    """A store was rebuilt and is damaged again: a person must look at the disk."""

    def __init__(self, damage: DamagedState) -> None:
        super().__init__(
            f"state {damage.path} was set aside and rebuilt, and is damaged again "
            f"({damage.reason}): look at the disk, {disk_of(damage.path)}, or move "
            "MAILPULSE_STATE_DIR to another one"
        )


def error_of(path: Path, error: BaseException) -> DamagedState | Unavailable:
    """What an error of the store at ``path`` means (invariant 1).

    Args:
        error: RocksDB's, known by its text, or the operating system's.
    """
    text = str(error).replace(str(path), path.name)
    number = error.errno if isinstance(error, OSError) else None  # rocksdict's have none
    passing = number in _PASSING or any(words in text for words in _PASSING_TEXTS)
    if not passing and (isinstance(error, OSError) or text.startswith(_DAMAGE)):
        return DamagedState(path, text)
    return Unavailable(f"state {path}: {text} (the disk: {disk_of(path)})")


def disk_of(path: Path) -> str:
    """The disk that ``path`` is on, for a person: its mount point and device.

    Source: proc(5), ``/proc/self/mountinfo``. Elsewhere than on Linux, the mount point alone.
    """
    mount = Path(os.path.realpath(path))
    while not os.path.ismount(mount):
        mount = mount.parent
    device = ""
    try:
        for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
            fields, _, about = line.partition(" - ")
            if fields.split()[4] == str(mount):
                device = about.split()[1]
    except (OSError, IndexError):
        device = ""
    return f"{device} mounted at {mount}" if device else f"mounted at {mount}"
