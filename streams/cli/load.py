"""Commands for sizing: ``load`` sends simulated traffic, ``capacity`` calculates resources."""

import asyncio
import os
import re
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from schemas.errors import BadInput
from streams.cli.context import Json, emit, now, put, say, table
from streams.cli.roles import run_until_stopped

if TYPE_CHECKING:
    from streams.simulation.accounts import Keys

EVENTS_PER_DAY_MAX = 1_000_000_000_000


def load(
    rate: Annotated[float, typer.Option(help="Events per second.", min=1)] = 200,
    seconds: Annotated[
        float | None, typer.Option(help="Stop after this long. Default: until Ctrl-C.")
    ] = 30,
    url: Annotated[str, typer.Option(help="Of the ingress.")] = "http://127.0.0.1:8080",
    accounts: Annotated[
        Path, typer.Option(help="Keys of the simulated accounts; a secret file.")
    ] = Path("load-accounts.json"),
    init: Annotated[
        bool, typer.Option("--init", help="Create the accounts and print their sources.")
    ] = False,
    ledger: Annotated[
        Path, typer.Option(help="File to which a JSON line per answered event is appended.")
    ] = Path("load-ledger.jsonl"),
    seed: Annotated[int, typer.Option(help="Same seed, same events.")] = 1,
    duplicates: Annotated[float, typer.Option(help="Share of events sent again.")] = 0.0,
    repeats: Annotated[int, typer.Option(help="How often again, at most.", min=1)] = 4,
    shuffled: Annotated[int, typer.Option(help="Report events up to N seconds late.")] = 0,
    late: Annotated[float, typer.Option(help="Share of messages three days late.")] = 0.0,
    hot: Annotated[float, typer.Option(help="Share of one campaign.", max=0.99)] = 0.0,
    burst_every: Annotated[float, typer.Option(help="Seconds between bursts; 0: none.")] = 0.0,
    json: Json = False,
) -> None:
    """Sends signed traffic of five simulated providers to an ingress, and keeps a ledger.

    The events are invented: use it on a pipeline that you can delete. Every answer is written to
    the ledger, so that you can check that each event answered 200 was stored.

    Example: mailpulse load --init && mailpulse load --rate 500 --seconds 60 --duplicates 0.3
    """
    from streams.simulation import load as loading
    from streams.simulation.accounts import open_accounts

    if init:
        _init(accounts)
        return
    shape = loading.Shape(
        duplicates=duplicates, repeats_max=repeats, shuffled_s=shuffled, late=late, hot=hot,
        burst_every_s=burst_every,
    )  # fmt: skip
    wanted = loading.Load(url, rate, seconds, ledger, seed, secrets.token_hex(3), shape)
    opened = open_accounts(_keys(accounts))

    async def send(stop: asyncio.Event) -> loading.Sent:
        return await loading.send(wanted, opened, now(), stop)

    sent = run_until_stopped(send)
    if json:
        emit({"run": wanted.run, "ledger": str(ledger), **asdict(sent)})
        return
    say(f"{sent.accepted:,} events answered 200, {sent.duplicates:,} repeats, {sent.unsure:,} "
        f"unsure, in {sent.requests:,} requests")  # fmt: skip
    for what, number in sent.trouble.items():
        say(f"note: {number} × {what}")
    say(f"Message ids begin with m{wanted.run}; the ledger is {ledger}")


def _keys(path: Path) -> "Keys":
    """The keys of ``--accounts``.

    Raises:
        BadInput: no such file, or not one of ``load --init``.
    """
    from streams.simulation.accounts import Keys

    try:
        return Keys(**orjson.loads(path.read_bytes()))
    except OSError:
        raise BadInput("no_accounts", f"{path}: 'mailpulse load --init' creates it") from None
    except (ValueError, TypeError):
        raise BadInput("no_accounts", f"{path}: not a file of 'mailpulse load --init'") from None


def _init(path: Path) -> None:
    """Writes new keys, readable only by their owner, and prints what ingress needs."""
    from streams.simulation.accounts import new_keys, open_accounts

    if path.exists():
        raise BadInput("accounts_exist", f"{path}: exists already")
    keys = new_keys()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(handle, "wb") as file:
        file.write(orjson.dumps(asdict(keys)))
    opened = open_accounts(keys)
    say(f"Wrote {path}. Add to the pipeline's mailpulse.toml:")
    for line in opened.toml.splitlines():
        put(line)
    say("Add to the ingress's environment:")
    for name, value in opened.environ.items():
        put(f"export {name}={value}")


def number_of(text: str) -> int:
    """A number as people write it: ``5M``, ``1.5B``, ``250k``, ``100_000``.

    Raises:
        BadParameter: it is none, or below 1.
    """
    found = re.fullmatch(r"(\d[\d_,]*(?:\.\d+)?)\s*([kMGB]?)", text.strip())
    if not found:
        raise typer.BadParameter(f"{text!r} is no number of events, such as 5M or 250000")
    number = float(found[1].replace("_", "").replace(",", ""))
    events = round(number * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "B": 1e9}[found[2]])
    if not 1 <= events <= EVENTS_PER_DAY_MAX:
        raise typer.BadParameter(f"{text}: from 1 to {EVENTS_PER_DAY_MAX:,} events a day")
    return events


def capacity(
    events: Annotated[
        str | None, typer.Argument(help="Events per day, of all types: 250000, 5M, 1.5B.")
    ] = None,
    events_per_day: Annotated[
        str | None, typer.Option(help="The same, as an option.", hidden=True)
    ] = None,
    peak: Annotated[
        float, typer.Option(help="Busiest minute relative to the day's average.", min=1)
    ] = 5.0,
    replicas: Annotated[int, typer.Option(help="Copies that Kafka keeps.", min=1)] = 3,
    json: Json = False,
) -> None:
    """Says how many processes, partitions and bytes of disk a load needs, and what limits it.

    Calculated from measured figures (python -m tests.bench.capacity); yours will differ by machine,
    so leave room.

    Example: mailpulse capacity 100M
    """
    from streams.cli import capacity as sizing

    asked = events or events_per_day
    if asked is None:
        raise typer.BadParameter("how many events a day? Such as: mailpulse capacity 5M")
    daily = number_of(asked)
    plan = sizing.plan(daily, peak=peak, replicas=replicas)
    if json:
        emit(asdict(plan))
        return
    table(f"{daily:,} events a day", ("what", "value"), plan.lines())
    say(f"First limit: {plan.bottleneck}")


def register(app: typer.Typer) -> None:
    """Adds these commands to ``app``."""
    app.command(rich_help_panel="Set-up")(load)
    app.command(rich_help_panel="Set-up")(capacity)
