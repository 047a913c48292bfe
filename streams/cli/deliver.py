"""``mailpulse deliver``: the role that sends records to other systems, and the commands for it."""

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

from schemas.errors import BadInput, ConfigError
from schemas.settings import Settings
from streams.cli.context import (
    FAILED,
    Json,
    codec_of,
    destinations_of,
    emit,
    now,
    say,
    settings_of,
    table_or_json,
)
from streams.cli.roles import begin, run_until_stopped
from streams.cli.tail import moment
from streams.kafka.groups import destination_group

if TYPE_CHECKING:
    from streams.deliver.destinations import AnyDestination
    from streams.deliver.orders import Order
    from streams.kafka.admin import Lag

group = typer.Typer(
    help="Sends what the topics say to other systems, as signed HTTP requests: a role.",
    invoke_without_command=True,
)
Name = Annotated[str, typer.Argument(help="Destination in mailpulse.toml.")]


@group.callback()
def deliver(context: typer.Context) -> None:
    """Sends what the topics say to other systems, as signed HTTP requests. Without a command: runs.

    Destinations are the sections [destinations.NAME] of mailpulse.toml. Several processes share
    the work. Each record is sent at least once; a repeat has the same webhook-id.
    """
    if context.invoked_subcommand is not None:
        return
    from streams.deliver.role import serve
    from streams.deliver.suppress.accounts import problems_with

    settings = begin("deliver")
    found = destinations_of(settings)
    if not any(one.topics for one in found.values()):
        raise ConfigError([f"{settings.config_path}: no [destinations.NAME], nothing to deliver"])
    if problems := problems_with(settings.recipients, found):
        raise ConfigError(problems)
    codec = codec_of(settings)
    run_until_stopped(lambda stop: serve(settings, found, codec=codec, stop=stop))


def _named(settings: Settings, name: str) -> "AnyDestination":
    """One destination of ``mailpulse.toml``.

    Raises:
        ConfigError: the file has problems, or no such destination.
    """
    found = destinations_of(settings)
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise ConfigError([f"destinations.{name}: no such destination (there are: {known})"])
    return found[name]


@group.command("ls")
def ls(json: Json = False) -> None:
    """Lists the destinations: where to, what, whether paused, and how far behind.

    Lag counts the records from the first that is not delivered; filters may leave out many. Whether
    a destination fails, or asked to be left alone (Retry-After), is known to the processes alone:
    the dashboard's pipeline page shows it, and the metric mailpulse_deliver_waits_seconds.
    """
    settings = settings_of()
    found = destinations_of(settings)
    codec = codec_of(settings)

    async def run() -> "tuple[dict[str, Order], list[Lag]]":
        from streams.deliver.orders import current
        from streams.kafka import admin

        groups = {
            destination_group(settings, one.group_names[0]): one.topic_names
            for one in found.values()
            if one.topics
        }
        return await current(settings, codec), await admin.lag(settings, groups)

    orders, lags = asyncio.run(run())
    columns = ("destination", "kind", "host", "topics", "state", "lag")
    rows = [
        (name, one.kind, one.host, ", ".join(one.topics), *_state(settings, one, orders, lags))
        for name, one in found.items()
    ]
    table_or_json(json, f"{len(rows)} destinations", columns, rows)


def _state(
    settings: Settings, one: "AnyDestination", orders: "dict[str, Order]", lags: "list[Lag]"
) -> tuple[str, int | None]:
    group = destination_group(settings, one.group_names[0])
    own = [row for row in lags if row.group == group]
    begun = [row.lag for row in own if row.committed is not None]
    if not begun:
        return "never started", None
    if one.name in orders and orders[one.name].paused:
        return "paused", sum(begun)
    return "dry run" if one.dry_run_only else "on", sum(begun)


def _order(name: str, change: Any) -> "Order":
    """Changes what is ordered of a destination."""
    settings = settings_of()
    _named(settings, name)
    codec = codec_of(settings)

    async def run() -> "Order":
        from streams.deliver import orders

        return await orders.change(
            settings, codec, name, lambda known: change(known, int(now() * 1e6))
        )

    return asyncio.run(run())


@group.command("pause")
def pause(name: Name) -> None:
    """Stops sending to a destination until it is resumed; nothing is lost while its topics hold it.

    Engagement is kept for 7 days, alerts for 90, events for 32; suppressions and rates for ever.
    """
    _order(name, lambda order, now_us: order.with_pause(True, now_us))
    say(f"{name} is paused. 'mailpulse deliver resume {name}' goes on where it stopped.")


@group.command("resume")
def resume(name: Name) -> None:
    """Goes on sending to a paused destination, where it stopped."""
    _order(name, lambda order, now_us: order.with_pause(False, now_us))
    say(f"{name} goes on.")


@group.command("resend")
def resend(
    name: Name,
    since: Annotated[
        str, typer.Option("--from", help="10m, 2h, 1d or an ISO 8601 time: the first record's.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only say what.")] = False,
) -> None:
    """Sends a destination again what its topics hold from a time on, in order.

    Records have the same webhook-id as before, so a receiver that goes by it takes each once. What
    had not been sent yet is not left out: it follows in its turn.

    Example: mailpulse deliver resend crm --from 2h --yes
    """
    from_s = moment(since, now())
    if from_s > now():
        raise BadInput("in_the_future", "--from is a time in the past")
    shown = datetime.fromtimestamp(from_s, UTC).isoformat(timespec="seconds")
    if not yes:
        _named(settings_of(), name)
        say(f"{name} would get all records of its topics from {shown} on. Add --yes to send them.")
        return
    _order(name, lambda order, now_us: order.with_resend(int(from_s * 1e6), now_us))
    say(f"{name} gets all records of its topics from {shown} on.")


@group.command("test")
def send_test(name: Name, json: Json = False) -> None:
    """Sends a destination one signed request of type «test», and shows its answer.

    A provider is asked for each list that would be written to; nothing is changed there. Exit code
    1 unless it answers 2xx.
    """
    settings = settings_of()
    destination = _named(settings, name)

    async def run() -> "tuple[bool, str]":
        from streams.deliver.senders import try_out

        outcome = await try_out(destination, uuid4().hex, int(now() * 1e6))
        return outcome.delivered, outcome.said

    delivered, said = asyncio.run(run())
    if json:
        emit({"destination": name, "delivered": delivered, "said": said})
    else:
        say(f"{name} at {destination.host}: {'delivered' if delivered else said}")
    if not delivered:
        raise typer.Exit(FAILED)


@group.command("diff")
def diff(
    name: Name,
    addresses: Annotated[
        bool, typer.Option("--addresses", help="Name each address that is missing there.")
    ] = False,
    json: Json = False,
) -> None:
    """Compares a provider's suppression lists with the suppressions that hold; changes nothing.

    For destinations of kind suppress:PROVIDER. What is missing there is written as soon as records
    of it come, or by 'mailpulse deliver resend'. Exit code 1 if anything is.

    Example: mailpulse deliver diff to_sendgrid
    """
    from streams.cli.provider_lists import compare
    from streams.deliver.suppress.accounts import Account, problems_with

    settings = settings_of()
    account = _named(settings, name)
    if not isinstance(account, Account):
        raise typer.BadParameter(f"{name} is a {account.kind}: only suppress:PROVIDER has lists")
    if problems := problems_with(settings.recipients, {name: account}):
        raise ConfigError(problems)
    if compare(settings, account, addresses=addresses, json=json):
        raise typer.Exit(FAILED)


def register(app: typer.Typer) -> None:
    """Adds these commands to ``app``."""
    app.add_typer(group, name="deliver", rich_help_panel="Roles, one process each")
