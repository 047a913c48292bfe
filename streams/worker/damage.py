"""What is damage to a store of state, and what only looks like it.

Invariants:
1. Damage is what another try will not mend: bytes that are not what was written, files that are
   gone, a store that holds less than it said. A full disk, a missing permission, a lock that
   another process holds, too many open files: these are not damage, and nothing is given up for
   them.
2. No I/O but ``disk_of``, which only reads.

RocksDB's errors are known by their text alone, which begins with the kind of status
(``util/status.cc``) and ends with the operating system's words (``env/io_posix.cc``, ``IOError``).
"""

import errno
import os
from pathlib import Path

from schemas.errors import MailpulseError, Unavailable

_PASSING = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EMFILE,
    errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ENOLCK,
    errno.ETXTBSY, errno.ESTALE,
)  # fmt: skip
"""What the surroundings of a store may be at fault for."""
_PASSING_TEXTS = tuple(os.strerror(number) for number in _PASSING)
_DAMAGE = ("Corruption", "IO error", "Invalid argument", "NotFound", "Not implemented")
"""Kinds of RocksDB's status that are damage, unless the surroundings are at fault; «not
implemented» is what it says of a number that it does not know."""


class DamagedState(MailpulseError):
    """A store of state can't be trusted: it is to be set aside and built again from Kafka.

    Attributes:
        path: of the store.
        reason: for a person.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"state {path} is damaged: {reason}")
        self.path = path
        self.reason = reason


class LastingDamage(MailpulseError):
    """A store was built again and is damaged again: a person must look at the disk."""

    def __init__(self, damage: DamagedState) -> None:
        super().__init__(
            f"state {damage.path} was set aside and built again, and is damaged again "
            f"({damage.reason}): look at the disk, {disk_of(damage.path)}, or move "
            "MAILPULSE_STATE_DIR to another one"
        )


def error_of(path: Path, error: BaseException) -> DamagedState | Unavailable:
    """What an error of the store at ``path`` means (invariant 1).

    Args:
        error: RocksDB's, by its text, or the operating system's.
    """
    text = str(error).replace(str(path), path.name)
    number = error.errno if isinstance(error, OSError) else None  # rocksdict's have none
    passing = number in _PASSING or any(words in text for words in _PASSING_TEXTS)
    if not passing and (isinstance(error, OSError) or text.startswith(_DAMAGE)):
        return DamagedState(path, text)
    return Unavailable(f"state {path}: {text} (the disk: {disk_of(path)})")


def disk_of(path: Path) -> str:
    """The mounted disk that ``path`` lies on, for a person: where it is mounted, and its device.

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
