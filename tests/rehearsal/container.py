"""One container: a process with a root, a network, a user and capabilities of its own.

Invariants:
1. Its root is a new file system with the machine's ``/usr``, what its image and its service name,
   and nothing else; read-only where the service says so.
2. Mounts are made as root, programs run as the container's user with the capabilities left to it.
3. Its environment is the image's and the service's; nothing of this process's.
"""

import hashlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.live.process import Process
from tests.rehearsal.image import Image
from tests.rehearsal.names import RESOLVER
from tests.rehearsal.project import Mount, Service

_ETC = (
    "passwd", "group", "nsswitch.conf", "ssl", "ca-certificates", "ld.so.cache", "ld.so.conf",
    "ld.so.conf.d", "alternatives", "localtime", "mime.types", "protocols", "services",
)  # fmt: skip
"""Of ``/etc``, besides Java's folders: what programs of any image expect."""
_LAYERS = ("bin", "sbin", "lib", "lib64")
TOOLS = "/tools"
_TOOLS = ("wget",)
"""What images have from BusyBox, and where it is here."""


class Container:
    """One service's container; it may be started again.

    Args:
        changed: environment variables that this machine needs otherwise than the file says.
        address: what its own host name stands for.
        folder: for root, volumes and log.
    """

    def __init__(
        self, service: Service, image: Image, changed: Mapping[str, str], address: str, folder: Path
    ) -> None:
        self.service = service
        self.image = image
        self.environment = {**image.environment, **service.environment, **changed}
        self.environment["PATH"] = f"{TOOLS}:{self.environment['PATH']}"
        # Docker names a container's host by its id, so that it is no service's name
        self._host = (hashlib.sha256(service.name.encode()).hexdigest()[:12], address)
        self._folder = folder
        self._root = folder / "roots" / service.name
        self._root.mkdir(parents=True, exist_ok=True)
        (folder / f"{service.name}.sh").write_text(self._script(), "utf-8")
        self.process = self._process()

    def _process(self) -> Process:
        name = self.service.name
        return Process(
            name,
            ["nsenter", f"--net=/run/netns/{name}", "unshare", "--mount", "--uts",
             "--propagation=private", "/bin/sh", str(self._folder / f"{name}.sh")],
            self._folder / "logs" / f"{name}.log",
            env=self.environment,
            cwd=self._folder,
        )  # fmt: skip

    def give(self, changed: Mapping[str, str]) -> None:
        """Other environment variables, from its next start on; it must not run."""
        self.environment |= changed
        self.process = self._process()

    @property
    def user(self) -> str:
        """``uid:gid`` of its processes."""
        return self.service.user or self.image.user

    def command(self) -> list[str]:
        """What runs in it."""
        service, image = self.service, self.image
        entrypoint = image.entrypoint if service.entrypoint is None else service.entrypoint
        return [*entrypoint, *(image.command if service.command is None else service.command)]

    def _as_user(self, command: Sequence[str]) -> list[str]:
        uid, _, gid = self.user.partition(":")
        words = ["setpriv", f"--reuid={uid}", f"--regid={gid or uid}", "--clear-groups"]
        if self.service.drops_all:
            kept = [f"+{one.lower()}" for one in self.service.capabilities]
            words += [f"--bounding-set={','.join(['-all', *kept])}", "--inh-caps=-all"]
        if self.service.no_new_privileges:
            words.append("--no-new-privs")
        enter = 'cd "$0" && exec "$@"'
        return [*words, "--", "/bin/sh", "-c", enter, self.image.workdir, *command]

    def start(self) -> None:
        """Starts it; returns at once."""
        self.process.start()

    def kill(self) -> None:
        """Ends it as a crash does."""
        self.process.kill()

    def stop(self) -> int | None:
        """SIGTERM, SIGKILL after the service's grace period; returns the exit code."""
        return self.process.stop(self.service.grace_s)

    def is_inside(self) -> bool:
        """Whether its program runs, and not the mounting before it."""
        try:
            return os.readlink(f"/proc/{self.process.pid}/root") != "/"
        except OSError:
            return False

    def run(self, command: Sequence[str], timeout_s: float) -> tuple[int, str]:
        """Runs a command in the container, as its user; exit code and output, 124: out of time."""
        entered = ["nsenter", f"--target={self.process.pid}", "--mount", "--net", "--root", "--wd"]
        child = subprocess.Popen(
            [*entered, *self._as_user(command)], env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            output, _ = child.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            return 124, f"no answer in {timeout_s:g} s"
        return child.returncode, output

    def _script(self) -> str:
        """Makes the root and starts the program in it."""
        root = shlex.quote(str(self._root))
        lines = ["set -eu", f"mount -t tmpfs -o mode=755 root {root}", f"cd {root}"]
        lines += ["mkdir -p usr proc sys dev run etc tmp var opt", "chmod 1777 tmp"]
        lines += [f"cp -P /{one} {one}" for one in _LAYERS if Path("/", one).is_symlink()]
        lines += _bound(Mount("/usr", "/usr", True, False))
        lines += [f"mount --rbind /{one} {one}" for one in ("proc", "sys", "dev")]
        lines += [f"cp -a /etc/{one} etc/" for one in _etc()]
        lines += [_written("/etc/resolv.conf", f"nameserver {RESOLVER}\noptions ndots:0\n")]
        host, address = self._host
        lines += [_written("/etc/hosts", f"127.0.0.1 localhost\n{address} {host}\n")]
        lines += [f"hostname {host}"]
        lines += ["mkdir tools", *(f"ln -s /usr/bin/busybox tools/{one}" for one in _TOOLS)]
        for path, text in self.image.files.items():
            lines += [_written(path, text), f"chmod 755 .{shlex.quote(path)}"]
        for path in self.image.owned:
            lines += [f"mkdir -p .{path}", f"chown {self.user} .{path}"]
        lines += [line for mount in self._mounts() for line in _bound(mount)]
        for target, options in self.service.tmpfs.items():
            lines += [f"mkdir -p .{target}", f"mount -t tmpfs -o {options} tmp .{target}"]
        if self.service.read_only:
            lines.append(f"mount -o remount,ro,mode=755 {root}")
        lines.append(f"exec chroot {root} {shlex.join(self._as_user(self.command()))}")
        return "\n".join(lines) + "\n"

    def _mounts(self) -> list[Mount]:
        """Of image and service, outer paths first."""
        mounts = [
            Mount(str(path), target, True, False) for target, path in self.image.binds.items()
        ]
        for mount in self.service.mounts:
            if not mount.named:
                mounts.append(mount)
                continue
            volume = self._folder / "volumes" / mount.source
            if not volume.exists():  # a new volume takes its owner from the image's folder
                volume.mkdir(parents=True)
                owned = mount.target in self.image.owned
                uid, _, gid = (self.user if owned else "0:0").partition(":")
                os.chown(volume, int(uid), int(gid or uid))
            mounts.append(Mount(str(volume), mount.target, mount.read_only, False))
        return sorted(mounts, key=lambda one: one.target)


def _etc() -> list[str]:
    java = [path.name for path in Path("/etc").glob("java-*")]
    return [name for name in (*_ETC, *java) if Path("/etc", name).exists()]


def _bound(mount: Mount) -> list[str]:
    source, target = shlex.quote(mount.source), f".{shlex.quote(mount.target)}"
    folder = Path(mount.source).is_dir()
    made = f"mkdir -p {target}" if folder else f"mkdir -p $(dirname {target}); : >> {target}"
    # a file within what is bound already is there, and may not be made
    lines = [f"[ -e {target} ] || {{ {made}; }}", f"mount --bind {source} {target}"]
    if mount.read_only:
        lines.append(f"mount -o remount,bind,ro {target}")
    return lines


def _written(path: str, text: str) -> str:
    target = f".{shlex.quote(path)}"
    return f"mkdir -p $(dirname {target}); printf %s {shlex.quote(text)} > {target}"


def wait_inside(container: Container, timeout_s: float = 20) -> None:
    """Waits until a container's program runs, or has ended.

    Raises:
        TimeoutError: neither.
    """
    end = time.monotonic() + timeout_s
    while container.process.running and not container.is_inside():
        if time.monotonic() > end:
            raise TimeoutError(f"{container.service.name} is not set up after {timeout_s:g} s")
        time.sleep(0.02)
