"""A compose file as Compose itself reads it (``loading.py``), in the parts that a rehearsal
needs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Extent = Literal["whole", "brief", "short"]
"""How much of a rehearsal is done: everything; every kill, and restarts of what has a twin; or one
kill alone."""
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


@dataclass(frozen=True, slots=True)
class Health:
    """A health check; times in seconds.

    Attributes:
        test: command line, ``sh -c`` included where the file gives a shell's text.
        start_every_s: between checks until the first success, within ``start_s``.
        retries: failures in a row after which the service is unhealthy.
    """

    test: tuple[str, ...]
    every_s: float
    start_every_s: float
    start_s: float
    timeout_s: float
    retries: int


@dataclass(frozen=True, slots=True)
class Mount:
    """What lies at ``target``: a named volume, or a file or folder of this machine."""

    source: str
    target: str
    read_only: bool
    named: bool


@dataclass(frozen=True, slots=True)
class Port:
    """A port of this machine that leads to one of the service's."""

    host: str
    published: int
    target: int


@dataclass(frozen=True, slots=True)
class Service:
    """One service.

    Attributes:
        command, entrypoint: ``None``: the image's.
        tmpfs: target -> mount options.
        needs: other service -> condition under which this one starts.
        user: ``None``: the image's.
    """

    name: str
    image: str
    command: tuple[str, ...] | None
    entrypoint: tuple[str, ...] | None
    environment: Mapping[str, str]
    networks: tuple[str, ...]
    user: str | None
    read_only: bool
    drops_all: bool
    capabilities: tuple[str, ...]
    no_new_privileges: bool
    tmpfs: Mapping[str, str]
    mounts: tuple[Mount, ...]
    ports: tuple[Port, ...]
    needs: Mapping[str, str]
    restarts: bool
    grace_s: float
    health: Health | None

    @property
    def is_job(self) -> bool:
        """Whether it runs once and ends."""
        return not self.restarts


def seconds(text: str) -> float:
    """A duration as Go writes it, such as ``1m30s``.

    Raises:
        ValueError: no duration.
    """
    parts = _DURATION.findall(text)
    if "".join(map("".join, parts)) != text:
        raise ValueError(f"no duration: {text}")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def services_of(document: Mapping[str, Any]) -> dict[str, Service]:
    """Every service of a loaded project, by name."""
    files = {
        kind: {name: one["file"] for name, one in document.get(kind, {}).items()}
        for kind in ("configs", "secrets")
    }
    return {name: _service(name, one, files) for name, one in document["services"].items()}


def _service(name: str, one: Mapping[str, Any], files: Mapping[str, Mapping[str, str]]) -> Service:
    return Service(
        name=name,
        image=one["image"],
        command=_words(one.get("command")),
        entrypoint=_words(one.get("entrypoint")),
        environment={key: value or "" for key, value in one.get("environment", {}).items()},
        networks=tuple(one["networks"]),
        user=one.get("user"),
        read_only=one.get("read_only", False),
        drops_all="ALL" in one.get("cap_drop", ()),
        capabilities=tuple(one.get("cap_add", ())),
        no_new_privileges="no-new-privileges:true" in one.get("security_opt", ()),
        tmpfs=dict(_tmpfs(text) for text in one.get("tmpfs", ())),
        mounts=(*map(_volume, one.get("volumes", ())), *_files(one, files)),
        ports=tuple(
            Port(port.get("host_ip", "0.0.0.0"), int(port["published"]), port["target"])
            for port in one.get("ports", ())
        ),
        needs={other: how["condition"] for other, how in one.get("depends_on", {}).items()},
        restarts=one.get("restart", "no") != "no",
        grace_s=seconds(one.get("stop_grace_period", "10s")),
        health=_health(one["healthcheck"]) if "healthcheck" in one else None,
    )


def _words(value: list[str] | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(value)


def _tmpfs(text: str) -> tuple[str, str]:
    target, _, options = text.partition(":")
    return target, options


def _volume(one: Mapping[str, Any]) -> Mount:
    return Mount(one["source"], one["target"], one.get("read_only", False), one["type"] == "volume")


def _files(one: Mapping[str, Any], files: Mapping[str, Mapping[str, str]]) -> list[Mount]:
    """Secrets and configs. Compose mounts their files as they are: a mode in the compose file does
    not change a file of this machine."""
    return [
        Mount(files[kind][named["source"]], named["target"], read_only=True, named=False)
        for kind in ("configs", "secrets")
        for named in one.get(kind, ())
    ]


def _health(one: Mapping[str, Any]) -> Health:
    kind, *rest = one["test"]
    every = seconds(one.get("interval", "30s"))
    return Health(
        test=("/bin/sh", "-c", *rest) if kind == "CMD-SHELL" else tuple(rest),
        every_s=every,
        start_every_s=seconds(one.get("start_interval", "5s")),
        start_s=seconds(one.get("start_period", "0s")),
        timeout_s=seconds(one.get("timeout", "30s")),
        retries=one.get("retries", 3),
    )
