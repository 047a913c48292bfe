"""``mailpulse``: the command line, and the one place that sees every package.

Invariants:
1. It only puts commands together and turns errors into exit codes; what commands do is in
   ``streams.cli``.
2. Nothing heavy is imported before a command needs it.
"""

import logging
import os
import sys
from typing import Annotated, Any

import typer
from typer import rich_utils

from schemas.errors import MailpulseError
from streams.cli import (
    dlq,
    doctor,
    figures,
    kafka,
    load,
    reprocess,
    roles,
    secret_files,
    sources,
    tail,
    topics,
)
from streams.cli.context import EXIT_CODES, FAILED, OK, exit_code, explain, put, say
from streams.terminal.output import LogLines, say_traceback
from streams.terminal.visible import visible

UsageError: Any = typer.BadParameter.__mro__[2]
"""Of every wrong use: ``ClickException``, which typer has and does not export."""
PRIVATE = 0o077
"""Files that are made are for this user alone: they hold recipients, and secrets some of them."""
INTERRUPTED = 130
"""Ctrl-C, as shells have it: 128 + SIGINT."""

app = typer.Typer(
    name="mailpulse",
    help=(
        "Email delivery events, from signed webhooks to exact campaign rates.\n\n"
        "Start with [bold]mailpulse demo[/bold]. " + EXIT_CODES
    ),
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
for module in (
    roles,
    figures,
    topics,
    kafka,
    tail,
    reprocess,
    dlq,
    sources,
    doctor,
    secret_files,
    load,
):
    module.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        put(f"mailpulse {version('mailpulse')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Email delivery events, from signed webhooks to exact campaign rates."""
    # a library's own words about a peer that is away; the error that follows says it for people
    for library in ("aiokafka", "kafka"):
        logging.getLogger(library).setLevel(logging.CRITICAL)


def main(arguments: list[str] | None = None) -> None:
    """Runs one command and ends the process with its exit code (``EXIT_CODES``)."""
    logging.lastResort = LogLines(logging.WARNING)
    os.umask(PRIVATE)
    command = typer.main.get_command(app)
    try:
        code = command.main(args=arguments, prog_name="mailpulse", standalone_mode=False)
    except MailpulseError as error:
        for line in explain(error):
            say(line)
        sys.exit(exit_code(error))
    except UsageError as error:
        error.message = visible(error.message)  # it repeats what was typed, or pasted
        rich_utils.rich_format_error(error)
        sys.exit(error.exit_code)
    except typer.Abort:
        say("Stopped.")
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:  # a bug: as Python shows one, but for what it repeats from outside
        say_traceback(error)
        sys.exit(FAILED)
    sys.exit(code if isinstance(code, int) else OK)


if __name__ == "__main__":
    main()
