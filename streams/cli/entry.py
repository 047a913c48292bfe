"""Where ``mailpulse`` begins: the commands are imported here, so that Ctrl-C meanwhile is a stop.

Importing them takes a second or more on a busy machine, and a traceback would look like a bug.
"""

import sys

INTERRUPTED = 130
"""Exit code after Ctrl-C, as in shells: 128 + SIGINT."""


def main() -> None:
    """Runs one command and ends the process with its exit code (``streams.cli.main``)."""
    try:
        from streams.cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
