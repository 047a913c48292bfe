"""``mailpulse workers``: members of the workers' consumer group."""

import asyncio
from typing import Annotated

import typer

from streams.cli.context import FAILED, Json, emit, say, settings_of

group = typer.Typer(help="Workers in their consumer group.", no_args_is_help=True)


@group.callback()
def workers() -> None:
    """Workers in their consumer group."""


@group.command("remove")
def remove(
    instances: Annotated[
        list[str], typer.Argument(help="MAILPULSE_GROUP_INSTANCE_ID of each; a pod's name.")
    ],
    json: Json = False,
) -> None:
    """Takes workers that won't come back out of their group, so that the others go on at once.

    Stop them first. Without this their partitions stand still for the session time-out
    (MAILPULSE_SESSION_TIMEOUT_MS). Exit code 1 if one is no member, as after its time-out.

    Example: mailpulse workers remove mailpulse-worker-2
    """
    from streams.kafka.membership import take_out

    settings = settings_of()
    found = asyncio.run(take_out(settings, instances))
    if json:
        emit([{"instance": name, "removed": was} for name, was in found.items()])
    else:
        for name, was in found.items():
            say(f"{'removed' if was else 'no member'}  {name}")
    if not all(found.values()):
        raise typer.Exit(FAILED)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(group, name="workers", rich_help_panel="Kafka")
