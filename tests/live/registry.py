"""A real schema registry for tests: Apicurio Registry 3.3, with the Confluent API.

It keeps schemas in memory, or where an environment says, such as that of ``docker-compose.yml``.

It comes from Maven (158 MB) like Kafka and needs Java 21 or newer (class file version 65); it is
ready in about ten seconds and takes about 300 MB. Its own default is compatibility NONE, so a
subject has no rule until a client sets one.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.live.maven import java, unpacked
from tests.live.process import Process, free_port

APICURIO_VERSION = "3.3.3"


class Registry:
    """One registry process. A context manager: started on entry, ended on exit.

    Args:
        port: where it listens; default: any that is free.
        environment: more of it, for the registry's own settings.

    Attributes:
        url: base of its Confluent-compatible API.

    Raises:
        Missing: no Java 21 or Maven on this machine.
    """

    def __init__(
        self, port: int | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        command = java(21)
        software = unpacked(
            f"apicurio-{APICURIO_VERSION}",
            f"io.apicurio:apicurio-registry-app:{APICURIO_VERSION}:tar.gz:all",
        )
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}/apis/ccompat/v7"
        self.folder = Path(tempfile.mkdtemp(prefix="mailpulse-registry-"))
        self.process = Process(
            "registry",
            [
                command,
                "-Xmx512m",
                "-Dquarkus.http.host=127.0.0.1",
                f"-Dquarkus.http.port={self.port}",
                # its management interface would take port 9000 of every address
                "-Dquarkus.management.host=127.0.0.1",
                f"-Dquarkus.management.port={free_port()}",
                "-jar",
                str(software / "quarkus-run.jar"),
            ],
            self.folder / "registry.log",
            env={**os.environ, **(environment or {})},
            cwd=self.folder,
        )

    def start(self) -> Self:
        """Starts the registry and waits until it answers.

        Raises:
            ProcessFailed: it ended or did not answer within two minutes.
        """
        self.process.start()
        self.process.wait_until(self._answers, "answering", timeout_s=120)
        return self

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/subjects", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        """Ends the registry; what it held is gone."""
        self.process.stop(10)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
