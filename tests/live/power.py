"""A file system of its own that can lose power: what was not synced by then is gone.

It is ext4 in a file, mounted through a loop device. A power cut is ext4's own shutdown with the
journal left unflushed (``EXT4_IOC_SHUTDOWN``, ``EXT4_GOING_FLAGS_NOLOGFLUSH``: what xfstests calls
``godown``): from that moment nothing reaches the file any more, whatever the page cache holds, and
every call of every process on it fails. Mounting it again replays the journal, as after a real cut.

Invariants:
1. What was fsynced is there after a cut. What was not is not: the journal is committed every five
   minutes only, and data waits for allocation until then.
2. What ext4 does more than POSIX promises stays: an fsync of one file commits the names of all.

Mounting needs root. Page cache and mmap are the kernel's, so a JVM runs on it as on any disk.

Sources: Linux fs/ext4/ioctl.c (``ext4_ioctl_shutdown``), fs/ext4/ext4.h; xfstests src/godown.c.
"""

import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.live.maven import Missing

_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
_NO_LOG_FLUSH = 2
_OPTIONS = "loop,commit=300,noatime"
UNMOUNT_S_MAX = 20.0
KERNEL_LACKS = [
    what
    for what, there in {
        "loop devices": Path("/dev/loop-control").exists(),
        "ext4": "ext4" in Path("/proc/filesystems").read_text("utf-8").split(),
    }.items()
    if not there
]
"""What no package can bring."""


class Disk:
    """An ext4 file system at ``folder``, in the file ``image``.

    A context manager: made and mounted on entry, unmounted and removed on exit.

    Args:
        folder: where it is mounted; made.
        megabytes: its size; the image is sparse.

    Raises:
        Missing: this machine or this user can't mount it.
    """

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        self.image = folder.with_name(f"{folder.name}.ext4")
        self._megabytes = megabytes
        self._mounted = False

    def __enter__(self) -> "Disk":
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.image.open("wb") as file:
            file.truncate(self._megabytes << 20)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1", str(self.image))
        self.mount()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.unmount()
        except Missing:  # somebody still has a file of it open: it goes with the last one
            with suppress(Missing):
                _run("umount", "--lazy", str(self.folder))
        self.image.unlink(missing_ok=True)

    def mount(self, *options: str) -> None:
        """Mounts it, replaying its journal where that is due."""
        _run("mount", "-o", ",".join((_OPTIONS, *options)), str(self.image), str(self.folder))
        self._mounted = True

    def unmount(self) -> None:
        """Unmounts it; whoever has a file of it open must be gone, or go within 20 s."""
        end = time.monotonic() + UNMOUNT_S_MAX
        while self._mounted:
            try:
                _run("umount", str(self.folder))
            except Missing:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
            else:
                self._mounted = False

    def cut(self) -> None:
        """Cuts the power. Returns at once; processes that use it get errors from now on."""
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(handle)

    def restore(self) -> None:
        """Gives the power back: the file system as the disk holds it. Its users must be gone."""
        self.unmount()
        self.mount()

    @contextmanager
    def full(self) -> Iterator[None]:
        """Filled to the last block inside the ``with`` block."""
        ballast = self.folder / "ballast"
        with ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 4096):
                with suppress(OSError):  # no space left: what is wanted
                    while True:
                        file.write(b"x" * size)
            os.fsync(file.fileno())
        try:
            yield
        finally:
            ballast.unlink()

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Mounted read-only inside the block; nobody may use it at its begin and end."""
        self.unmount()
        self.mount("ro")
        try:
            yield
        finally:
            self.unmount()
            self.mount()


def _run(*argv: str) -> None:
    """Runs a program of the system.

    Raises:
        Missing: it is not there, or fails.
    """
    done: subprocess.CompletedProcess[str] | None = None
    with suppress(FileNotFoundError):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done is None or done.returncode:
        said = "not installed" if done is None else done.stderr.strip()
        raise Missing(f"needs to mount a file system of its own: {_words(argv)}: {said}")


def _words(argv: Sequence[str]) -> str:
    return " ".join(argv[:1])
