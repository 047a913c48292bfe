"""``mailpulse``: the command line, and the one place that sees every package.

Laws of this file:
1. It only puts commands together and turns errors into exit codes; what commands do is in
   ``streams.commands``.
2. Nothing heavy is imported before a command needs it.
"""

import logging
import sys
from typing import Annotated

import typer

from schemas.errors import MailpulseError
from streams.commands import (
    data,
    letters,
    load,
    reading,
    replay,
    roles,
    secret_files,
    setup,
    sources,
    topics,
)
from streams.commands.context import EXIT_CODES, exit_code, explain, say

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
    data,
    topics,
    reading,
    replay,
    letters,
    sources,
    setup,
    secret_files,
    load,
):
    module.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"mailpulse {version('mailpulse')}")
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
    try:
        # typer shows usage errors itself and ends the process with 2; what it does not know is ours
        typer.main.get_command(app).main(args=arguments, prog_name="mailpulse")
    except MailpulseError as error:
        for line in explain(error):
            say(line)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
