"""``mailpulse``: puts the commands together and turns errors into exit codes.

Invariant: no large library is imported before a command needs it.
"""

import logging
import os
import sys
from typing import Annotated, Any

import typer
from typer import rich_utils
from typer.core import TyperGroup

from schemas import compiled_build
from schemas.errors import MailpulseError
from streams.cli import (
    alerts,
    backfill,
    backup,
    capture,
    deliver,
    dlq,
    doctor,
    export_person,
    figures,
    forget,
    import_history,
    kafka,
    load,
    repair,
    report,
    reprocess,
    roles,
    rules,
    secret_files,
    send_test,
    sources,
    status,
    suppressions,
    tail,
    topics,
    trace,
    why,
    workers,
)
from streams.cli.context import EXIT_CODES, FAILED, OK, exit_code, explain, put, say
from streams.terminal.output import LogLines, say_traceback
from streams.terminal.visible import visible

UsageError: Any = typer.BadParameter.__mro__[2]
"""``ClickException``, the base class of usage errors, which typer does not export."""
PRIVATE = 0o077
"""umask: new files are for this user alone, as they hold recipients and secrets."""
NICENESS = {"import": 10}
"""Added to that of a command's process and those that it starts: live events go before history."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as in shells: 128 + SIGINT."""

ROLES = ("up", "demo", "dev", "ingest", "worker", "sink", "warehouse", "dashboard", "deliver")

BY_USE = (
    "demo", "up", "status", "dev", "doctor", "kafka",
    "config", "sources", "send-test", "check", "capture", "backfill", "import", "migrate", "backup",
    "restore", "repair", "load", "capacity", "bench",
    "campaigns", "report", "query", "export", "why", "trace", "alerts", "suppressions", "rules",
    "forget", "export-person",
    "tail", "lag", "dlq", "topics", "workers", "reprocess",
)  # fmt: skip
"""Commands in the order of ``--help``: those that are needed first and most often come first. Roles
come last: 'mailpulse up' starts them."""


class ByUse(TyperGroup):
    """Lists commands by use."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order of ``BY_USE``; others behind them, as they were added."""
        places = {name: place for place, name in enumerate(BY_USE)}
        return sorted(self.commands, key=lambda name: places.get(name, len(places)))


app = typer.Typer(
    name="mailpulse",
    cls=ByUse,
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
    deliver,
    figures,
    alerts,
    suppressions,
    topics,
    workers,
    kafka,
    tail,
    trace,
    why,
    repair,
    report,
    export_person,
    forget,
    reprocess,
    rules,
    dlq,
    sources,
    send_test,
    backfill,
    import_history,
    backup,
    capture,
    doctor,
    status,
    secret_files,
    load,
):
    module.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        put(f"mailpulse {version('mailpulse')} ({compiled_build.state()})")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Email delivery events, from signed webhooks to exact campaign rates."""
    # their messages about an unavailable broker; the error that follows reports it
    for library in ("aiokafka", "kafka"):
        logging.getLogger(library).setLevel(logging.CRITICAL)


def command_name(arguments: list[str] | None) -> str:
    """The first word of what was asked for."""
    words = sys.argv[1:] if arguments is None else arguments
    return words[0] if words else ""


def main(arguments: list[str] | None = None) -> None:
    """Runs one command and ends the process with its exit code (``EXIT_CODES``)."""
    logging.lastResort = LogLines(logging.WARNING)
    os.umask(PRIVATE)
    if arguments is None:  # a process of its own, not a test's
        os.nice(NICENESS.get(command_name(None), 0))
    command = typer.main.get_command(app)
    try:
        code = command.main(args=arguments, prog_name="mailpulse", standalone_mode=False)
    except MailpulseError as error:
        for line in explain(error):
            say(line)
        sys.exit(exit_code(error))
    except UsageError as error:
        error.message = visible(error.message)  # it quotes what was typed or pasted
        rich_utils.rich_format_error(error)
        sys.exit(error.exit_code)
    except typer.Abort:
        say("Stopped.")
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except OSError as error:
        # a path that can't be used; of a role's own disk in trouble the traceback is told
        if error.filename is None or command_name(arguments) in ROLES:
            say_traceback(error)
        else:
            say(f"{error.filename}: {error.strerror}")
        sys.exit(FAILED)
    except Exception as error:  # a bug: its traceback, with values from outside escaped
        say_traceback(error)
        sys.exit(FAILED)
    sys.exit(code if isinstance(code, int) else OK)


if __name__ == "__main__":
    main()
