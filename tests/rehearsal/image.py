"""What each image of ``docker-compose.yml`` is here: a real program of the same name.

mailpulse's own image is read from the ``Dockerfile``. Users and folders of the others are those of
their published Dockerfiles, as far as known; their programs come from Maven, PyPI and Debian.

Where a program stands for another: ClickHouse is the role ``warehouse`` on the engine of the pinned
version behind ``clickhouse.py``; Prometheus and Alertmanager are Debian's, older by a major
version; Java runs with its quick compiler alone, the registry with a heap of its own size; Kafka
runs as root, who alone may read the jars that ``mailpulse kafka install`` fetched.
"""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from streams.broker.data import new_id
from tests.live.maven import Missing, java, unpacked
from tests.live.registry import APICURIO_VERSION
from tests.live.software import software
from tests.rehearsal.project import Service

ROOT = Path(__file__).parents[2]
VENV = ROOT / ".venv"
PINNED = VENV / "pinned"
SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OWN = "mailpulse:"
NOT_HERE = ("grafana/grafana:", "redpandadata/console:")
"""Images of which this machine has no program."""
_QUICK_JAVA = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
_KAFKA_LOG = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
_KAFKA_OWN = {"KAFKA_HEAP_OPTS", "KAFKA_OPTS", "KAFKA_LOG4J_OPTS", "KAFKA_JMX_OPTS"}
"""Variables of Kafka's image that are no properties (its ``KafkaDockerWrapper``)."""

_API_VERSIONS = """\
import sys
from confluent_kafka.admin import AdminClient
AdminClient({"bootstrap.servers": sys.argv[2], "log_level": 0}).list_topics(timeout=8)
"""
"""What stands for ``kafka-broker-api-versions.sh``, whose jar is not among those that mailpulse
fetches: it too connects to the broker and asks it."""

_CURL = "import sys, urllib.request\nurllib.request.urlopen(sys.argv[-1], timeout=4)\n"
"""What stands for the curl of the registry's image."""


@dataclass(frozen=True, slots=True)
class Image:
    """What a container has before the compose file says anything.

    Attributes:
        entrypoint: program and first arguments; a service's command follows.
        command: follows where the service has none.
        user: ``uid:gid``.
        binds: path in the container -> file or folder here, read-only.
        owned: folders that belong to the user, as a new volume takes them over.
        files: path in the container -> text.
        links: path in the container -> what it points to.
    """

    entrypoint: tuple[str, ...]
    user: str
    environment: Mapping[str, str]
    command: tuple[str, ...] = ()
    workdir: str = "/"
    binds: Mapping[str, Path] = field(default_factory=dict)
    owned: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)


def dockerfile(text: str) -> dict[str, list[str]]:
    """Instruction -> its arguments, of the last stage of a Dockerfile."""
    last = text.replace("\\\n", " ").rpartition("\nFROM ")[2]
    found: dict[str, list[str]] = {}
    for line in last.splitlines()[1:]:
        name, _, rest = line.strip().partition(" ")
        if name.isupper():
            found.setdefault(name, []).append(rest.strip())
    return found


def _words(text: str) -> tuple[str, ...]:
    return tuple(shlex.split(text.strip("[]").replace(",", " ")))


def environment_of(instructions: Mapping[str, list[str]]) -> dict[str, str]:
    """The variables that ``ENV`` sets, ``$PATH`` replaced."""
    pairs = (pair for line in instructions.get("ENV", ()) for pair in shlex.split(line))
    named = dict(pair.split("=", 1) for pair in pairs)
    return {name: value.replace("$PATH", SYSTEM) for name, value in named.items()}


def _python() -> dict[str, Path]:
    """Where this interpreter, its packages and the code are: at their own paths."""
    base = Path(sys.base_prefix)
    return {str(ROOT): ROOT} | ({} if base.is_relative_to("/usr") else {str(base): base})


def _mailpulse(_service: Service) -> Image:
    lines = dockerfile((ROOT / "Dockerfile").read_text("utf-8"))
    [user], [workdir], [entrypoint] = lines["USER"], lines["WORKDIR"], lines["ENTRYPOINT"]
    return Image(
        _words(entrypoint), user, environment_of(lines), _words(lines["CMD"][0]), workdir,
        # the image's /opt/mailpulse is such an environment
        binds={**_python(), "/opt/mailpulse": VENV},
        owned=(workdir,),
    )  # fmt: skip


def kafka_properties(environment: Mapping[str, str]) -> dict[str, str]:
    """Properties from the variables of Kafka's image, by its ``KafkaDockerWrapper``."""
    marks = {1: ".", 2: "_", 3: "-"}
    named = {
        variable.removeprefix("KAFKA_").lower(): value
        for variable, value in environment.items()
        if variable.startswith("KAFKA_") and variable not in _KAFKA_OWN
    }
    return {
        re.sub("_{1,3}", lambda run: marks[len(run[0])], name): value
        for name, value in named.items()
    }


def _kafka(service: Service) -> Image:
    kafka, command = software(), java(17)
    told = kafka_properties(service.environment)
    folder = Path(kafka.class_path.partition(os.pathsep)[0]).parent
    properties, logs = "/opt/kafka/config/server.properties", told["log.dirs"]
    heap = shlex.split(service.environment.get("KAFKA_HEAP_OPTS", ""))
    run = shlex.join([command, *_QUICK_JAVA, _KAFKA_LOG, *heap, "-cp", "/opt/kafka/libs/*"])
    # as the image formats an empty volume, without a Java of its own for it
    start = (
        f"[ -e {logs}/meta.properties ] || printf 'version=1\\ncluster.id={new_id()}\\n"
        f"node.id={told['node.id']}\\ndirectory.id={new_id()}\\n' > {logs}/meta.properties\n"
        f"exec {run} kafka.Kafka {properties}"
    )
    check = f"#!{VENV}/bin/python -I\n{_API_VERSIONS}"
    return Image(
        ("/bin/sh", "-ec", start), "0:0", {"PATH": SYSTEM, "LC_ALL": "C.UTF-8"},
        binds={**_python(), "/opt/kafka/libs": folder},
        owned=(logs,),
        files={
            properties: "".join(f"{name}={value}\n" for name, value in told.items()),
            "/opt/kafka/bin/kafka-broker-api-versions.sh": check,
        },
    )  # fmt: skip


def _registry(service: Service) -> Image:
    folder = unpacked(
        f"apicurio-{APICURIO_VERSION}",
        f"io.apicurio:apicurio-registry-app:{APICURIO_VERSION}:tar.gz:all",
    )
    run = (java(21), "-Xmx448m", *_QUICK_JAVA, "-jar", "/deployments/quarkus-run.jar")
    return Image(
        run, "1001:1001", {"PATH": f"/opt/curl:{SYSTEM}"},
        binds={**_python(), "/deployments": folder},
        files={"/opt/curl/curl": f"#!{VENV}/bin/python -I\n{_CURL}"},
    )  # fmt: skip


def _caddy(_service: Service) -> Image:
    program = VENV / "bin" / "caddy"
    if not program.exists():
        raise Missing("needs Caddy, which comes with make .venv/installed-dev")
    run = ("caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile")
    return Image(
        run, "0:0",
        {"PATH": f"/opt/caddy:{SYSTEM}", "XDG_CONFIG_HOME": "/config", "XDG_DATA_HOME": "/data"},
        binds={"/opt/caddy/caddy": program},
        owned=("/config", "/data"),
    )  # fmt: skip


def _debian(name: str, folder: str) -> Callable[[Service], Image]:
    """A program of Debian's that keeps its data in ``folder``."""

    def made(service: Service) -> Image:
        program = shutil.which(name)
        if program is None:
            raise Missing(f"needs {name} (Debian: prometheus, prometheus-alertmanager)")
        return Image((program,), "65534:65534", {"PATH": SYSTEM}, workdir=folder, owned=(folder,))

    return made


def _clickhouse(_service: Service) -> Image:
    program = PINNED / "bin" / "python"
    if not program.exists():
        raise Missing("needs the engine of the pinned version: make .venv/pinned/installed")
    return Image(
        (str(program), "-P", "-m", "tests.rehearsal.clickhouse"), "101:101",
        {"PATH": SYSTEM, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        binds=_python(),
        owned=("/var/lib/clickhouse",),
    )  # fmt: skip


_MADE: Mapping[str, Callable[[Service], Image]] = {
    OWN: _mailpulse,
    "apache/kafka:": _kafka,
    "apicurio/apicurio-registry:": _registry,
    "caddy:": _caddy,
    "clickhouse/clickhouse-server:": _clickhouse,
    "prom/prometheus:": _debian("prometheus", "/prometheus"),
    "prom/alertmanager:": _debian("prometheus-alertmanager", "/alertmanager"),
}


def image_of(service: Service) -> Image:
    """What the service's image is here.

    Raises:
        Missing: a program is not on this machine.
        ValueError: an image that nothing here stands for.
    """
    for name, made in _MADE.items():
        if service.image.startswith(name):
            return made(service)
    raise ValueError(f"{service.name}: nothing here stands for the image {service.image}")
