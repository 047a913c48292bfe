"""A worker of a future release, which knows one schema id more than this one.

Under ``NEXT_ID`` it reads today's raw event: for a waiting record an upgrade changes only which ids
a worker knows. Run instead of the role, by ``COMMAND``.
"""

import sys
from pathlib import Path

from schemas.codec import LATEST, Codec
from streams.cli import logs
from streams.cli.context import settings_of
from streams.worker.worker import run_worker

NEXT_ID = 77
COMMAND = [
    sys.executable, "-P", "-c",
    f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r});"
    f" from {__name__} import main; main()",
]  # fmt: skip


class NextCodec(Codec):
    """Knows ``NEXT_ID`` as well."""

    def __init__(self) -> None:
        super().__init__()
        self._names[NEXT_ID] = LATEST["raw_event"]


def main() -> None:
    """The worker, configured by the environment."""
    settings = settings_of(attach=False)
    logs.configure(settings, "worker")
    sys.exit(run_worker(settings, codec=NextCodec()))
