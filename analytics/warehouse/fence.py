"""Restrictions by the operating system, whatever a query makes the engine try.

Invariants:
1. It holds for the threads that are made afterwards, so it is put up before the engine is loaded,
   and after all addresses are bound.
2. Linux's Landlock: files are read under the given paths alone and written under fewer; no TCP
   connection is made; nothing outside gets a signal. seccomp, on top: no new socket, no other
   program, no look into other processes.
3. The process also starts on a kernel that lacks one of these: ``raised`` says what is in force.

Sources: landlock(7), ``include/uapi/linux/landlock.h``; seccomp(2); prctl(2); setrlimit(2).
"""

import ctypes
import os
import platform
import resource
import struct
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_PR_SET_NO_NEW_PRIVS = 38

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_ABI_VERSION = 1
_PATH_BENEATH = 1
_FS_OF_ABI = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""Landlock's ABI -> how many kinds of access to files it knows."""
_READ_FILE, _READ_DIR, _EXECUTE = 1 << 2, 1 << 3, 1 << 0
_WRITE_FILE, _TRUNCATE = 1 << 1, 1 << 14
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | 1 << 15
_NET = 0b11  # bind, connect: TCP; since ABI 4
_SCOPES = 0b11  # abstract unix sockets, signals; since ABI 6

_SECCOMP_SET_MODE_FILTER, _SECCOMP_TSYNC = 1, 1
_ALLOW, _DENY = 0x7FFF0000, 0x00050001  # SECCOMP_RET_ALLOW; SECCOMP_RET_ERRNO with EPERM
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_X32 = 0x40000000


@dataclass(frozen=True, slots=True)
class _Machine:
    """Numbers of an architecture: its audit name, seccomp itself, and the calls to deny."""

    audit: int
    seccomp: int
    denied: tuple[int, ...]


# socket, connect, execve, execveat, ptrace, process_vm_readv, process_vm_writev, io_uring_setup,
# bpf, perf_event_open, userfaultfd, mount, kexec_load
_MACHINES = {
    "x86_64": _Machine(
        0xC000003E, 317, (41, 42, 59, 322, 101, 310, 311, 425, 321, 298, 323, 165, 246)
    ),
    "aarch64": _Machine(
        0xC00000B7, 277, (198, 203, 221, 281, 117, 270, 271, 425, 280, 241, 282, 40, 104)
    ),
}


@dataclass(frozen=True, slots=True)
class Fence:
    """What is held back.

    Attributes:
        files: reads and writes outside the given paths.
        network: TCP connections.
        calls: new sockets, other programs.
    """

    files: bool = False
    network: bool = False
    calls: bool = False


def set_limits(descriptors_max: int) -> None:
    """No core files, no new rights; so many file descriptors, or as many as are allowed."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = descriptors_max if hard == resource.RLIM_INFINITY else min(hard, descriptors_max)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def raised(read: Iterable[Path], write: Iterable[Path]) -> Fence:
    """Puts the fence up around this thread and those that it makes from now on.

    Args:
        read: paths that may be read, with everything below them; those that are missing are left
            out.
        write: paths that may be written and read.

    Returns:
        What there is of it on this kernel.
    """
    if _LIBC is None:
        return Fence()
    files, network = _landlock(list(read), list(write))
    return Fence(files, network, _seccomp())


def _landlock(read: Sequence[Path], write: Sequence[Path]) -> tuple[bool, bool]:
    assert _LIBC is not None
    abi = int(_LIBC.syscall(_CREATE_RULESET, None, 0, _ABI_VERSION))
    if abi < 1:
        return False, False
    known = (1 << _FS_OF_ABI.get(abi, 16)) - 1
    attributes = [known, _NET if abi >= 4 else 0, _SCOPES if abi >= 6 else 0]
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    rules = struct.pack("QQQ", *attributes)
    ruleset = int(_LIBC.syscall(_CREATE_RULESET, rules, size, 0))
    if ruleset < 0:
        return False, False
    try:
        for path in read:
            _allow(ruleset, path, known & (_READ_FILE | _READ_DIR))
        for path in write:
            _allow(ruleset, path, known & ~_EXECUTE)
        holds = int(_LIBC.syscall(_RESTRICT_SELF, ruleset, 0)) == 0
    finally:
        os.close(ruleset)
    return holds, holds and abi >= 4


def _allow(ruleset: int, path: Path, access: int) -> None:
    assert _LIBC is not None
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not path.is_dir():
            access &= _OF_A_FILE
        rule = struct.pack("=Qi", access, descriptor)
        _LIBC.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(descriptor)


def _seccomp() -> bool:
    assert _LIBC is not None
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return False
    program = _program(machine)
    instructions = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    filter_ = Program(len(program) // 8, ctypes.addressof(instructions))
    done = _LIBC.syscall(
        machine.seccomp, _SECCOMP_SET_MODE_FILTER, _SECCOMP_TSYNC, ctypes.byref(filter_)
    )
    return int(done) == 0


def _program(machine: _Machine) -> bytes:
    """The filter: calls of another architecture and those on the list are denied (EPERM)."""
    count = len(machine.denied)
    steps = [
        (_LOAD, 0, 0, 4),  # seccomp_data.arch
        (_EQUAL, 0, count + 3, machine.audit),  # else: deny
        (_LOAD, 0, 0, 0),  # seccomp_data.nr
        (_AT_LEAST, count + 1, 0, _X32),
        *((_EQUAL, count - at, 0, number) for at, number in enumerate(machine.denied)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _DENY),
    ]
    return b"".join(struct.pack("HBBI", *step) for step in steps)
