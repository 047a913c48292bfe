"""Commands for sources: configure one, check a captured request."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.errors import BadInput, Unavailable
from schemas.masking import masked
from schemas.settings import PREFIX, Settings
from streams.books.refusals import NOTHING_KNOWN
from streams.cli.context import (
    FAILED,
    OK,
    ConfigFile,
    Json,
    emit,
    now,
    say,
    settings_of,
    source_named,
    sources_of,
)
from streams.cli.tail import moment, readable, without_addresses
from streams.terminal.output import pair

if TYPE_CHECKING:
    from ingest.tryout import CheckResult

sources = typer.Typer(help="Sources: who may post webhooks.", no_args_is_help=True)


@sources.command("ls")
def ls(json: Json = False) -> None:
    """Lists the sources of mailpulse.toml, and the providers that can be added.

    With the requests of the last 24 hours, as ingress answered them, where ClickHouse can be asked:
    all since refused_since were refused, as 'refusal' says. A source whose secret is not set here
    is off; the others work.
    """
    from ingest.providers import REGISTRY
    from streams.cli.context import table_or_json

    settings = settings_of()
    plain = [
        (
            name,
            source.provider,
            f"POST /hooks/{name}",
            f"off: {'; '.join(source.unset)}" if source.unset else "on",
            REGISTRY[source.provider].verification,
        )
        for name, source in sources_of(settings, whole=False, all_off=True).items()
    ]
    names, more = _requests(settings, [row[0] for row in plain])
    rows = [(*row, *more[row[0]]) for row in plain]
    table_or_json(json, "", ("source", "provider", "hook", "state", "proven_by", *names), rows)
    if not json:
        say(f"Providers: {', '.join(sorted(REGISTRY))}")


_REQUESTS = ("accepted_24h", "refused_24h", "accepted_until", "refused_since", "refusal")
Cells = tuple[int | str | None, ...]


def _requests(settings: Settings, names: Sequence[str]) -> tuple[tuple[str, ...], dict[str, Cells]]:
    """Columns about requests, and each source's cells; none where nothing is known of any."""
    from streams.cli.source_requests import Day, last_day, refused

    try:
        days, since = last_day(settings), refused(settings)
    except (Unavailable, BadInput):
        return (), {name: () for name in names}
    cells: dict[str, Cells] = {}
    for name in names:
        day, found = days.get(name, Day(0, 0, 0)), since.get(name)
        facts = found.facts if found else NOTHING_KNOWN
        accepted = facts.accepted_until or day.accepted_us or None
        cells[name] = (
            day.accepted, day.refused, _moment(accepted), _moment(facts.refused_since),
            facts.refusal,
        )  # fmt: skip
    return _REQUESTS, cells


def _moment(at_us: int | None) -> str | None:
    if at_us is None:
        return None
    return f"{datetime.fromtimestamp(at_us // 1_000_000, UTC):%Y-%m-%d %H:%M:%S}"


def _header(line: str) -> tuple[str, str]:
    name, colon, content = line.partition(":")
    if not colon:
        raise typer.BadParameter(f"{line!r}: a header is 'Name: value'")
    return name.strip().lower(), content.strip()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput("not_readable", f"{path}: {error.strerror}") from None


def check(
    source: Annotated[
        str,
        typer.Argument(help="Source in mailpulse.toml; or a .request.json of 'mailpulse capture'."),
    ],
    body: Annotated[
        Path | None, typer.Option(help="File with the raw body, byte for byte; - is stdin.")
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", help="'Name: value'; may be repeated.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--now", help="Time of its arrival: 10m (ago) or ISO 8601. Default: now."),
    ] = None,
    query: Annotated[str, typer.Option(help="Query string of the request.")] = "",
    rest: Annotated[
        str, typer.Option("--path", help="What follows /hooks/SOURCE/ in the URL.")
    ] = "",
    certificate: Annotated[
        Path | None, typer.Option(help="PEM file of the certificate that Amazon SNS signed with.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also say how an accepted request was proven.")
    ] = False,
    config_file: ConfigFile = None,
    unmasked: Annotated[bool, typer.Option("--unmasked", help="Show whole addresses.")] = False,
    json: Json = False,
) -> None:
    """Says how ingress would answer a captured request, and which events it has; stores nothing.

    A refusal is explained: which header, which age against which limit, what was signed, whether
    the key of another source fits, usual causes.
    Addresses are masked.
    Exit code 0 if it is accepted, 1 if it is refused.

    Example: mailpulse check news --body request.bin -H "X-Twilio-Email-Event-Webhook-Signature: …"
    """
    from ingest.capture_files import DOCUMENT
    from ingest.providers.base import Request
    from ingest.tryout import check_request

    if source.endswith(DOCUMENT):
        result = _check_captured(Path(source), explain)
    else:
        if body is None:
            raise typer.BadParameter("--body FILE is needed, or the .request.json of a capture")
        settings = settings_of(config_file=config_file)
        when = now() if at is None else moment(at, now())
        raw = sys.stdin.buffer.read() if str(body) == "-" else _content(body)
        pem = None if certificate is None else _content(certificate)
        headers = tuple(_header(line) for line in header or ())
        request = Request("POST", query, headers, raw, "127.0.0.1", rest)
        result = check_request(
            source_named(settings, source), request, when, settings=settings, certificate=pem,
            others=list(sources_of(settings, whole=False).values()), explained=explain,
        )  # fmt: skip
    if json:
        document = result.as_json()
        emit(document if unmasked else without_addresses(document))
    else:
        _tell(result, unmasked)
    raise typer.Exit(OK if result.accepted else FAILED)


def _tell(result: "CheckResult", unmasked: bool) -> None:
    say(f"{'accepted' if result.accepted else 'refused'}: {result.status} {result.code}")
    for line in filter(None, (result.detail, result.note, *result.explanation)):
        say(f"  {line}")
    for event in result.events:
        shown = readable(dict(event), unmasked)
        names = ("event_type", "occurred_at", "message_id", "recipient", "campaign_id",
                 "campaign_source", "bounce_class", "machine_kind", "event_id")  # fmt: skip
        say("  event: " + " ".join(pair(n, shown[n]) for n in names if shown[n]))
    for reject in result.rejects:
        detail = reject.detail if unmasked else masked(reject.detail)
        say(f"  dead letter: {reject.reason} {detail}")


def _check_captured(path: Path, explained: bool) -> "CheckResult":
    """The verdict on a captured request, by its temporary keys, at the time that it came."""
    from ingest.capture_files import load
    from ingest.tryout import check_request

    request, keys, received_at, document = load(path)
    answered = document["answered"]
    say(f"answered when it came: {answered['status']} {answered['code']}")
    say(f"its proof: {document['proof']}")
    return check_request(
        keys.source, request, received_at, certificates=keys.certificates, explained=explained
    )


def register(app: typer.Typer) -> None:
    """Adds these commands to ``app``."""
    from streams.cli.addresses import refresh
    from streams.cli.source_setup import add

    sources.command("add")(add)
    sources.command("refresh")(refresh)
    app.add_typer(sources, name="sources", rich_help_panel="Set-up")
    app.command(rich_help_panel="Set-up")(check)


CONFIG_EXAMPLE = f"""\
# mailpulse.toml: who may post webhooks to mailpulse. No secrets here: "env:NAME" refers to an
# environment variable, "file:PATH" to a file. Give a list of several while a key is being changed.
# `mailpulse sources add PROVIDER` adds a block, `mailpulse doctor` checks this file.

# [sources.news]                  # the provider posts to /hooks/news
# provider = "sendgrid"
# public_key = "MFkw…"            # public keys are not secret
# allow_ips = ["203.0.113.0/24"]  # optional: networks that may post
# campaign_from = ["metadata.campaign_id", "tag", "provider"]   # where to find the campaign

# [sources.transactional]
# provider = "postmark"
# username = "env:{PREFIX}SECRET_POSTMARK_USER"
# password = "env:{PREFIX}SECRET_POSTMARK_PASSWORD"

# [sources.crm]                   # anything that can sign its JSON with an HMAC
# provider = "generic"
# secret = "env:{PREFIX}SECRET_CRM"

# [sources.scaleway]              # a sender that is known by a data file; `mailpulse sources ls`
# provider = "preset:scaleway"
# token = "env:{PREFIX}SECRET_SCALEWAY"

# [destinations.crm]              # where `mailpulse deliver` sends, signed (Standard Webhooks)
# url = "https://crm.example/hooks/mailpulse"
# topics = ["engagement", "suppressions"]   # also: alerts, rates, events
# topics can be filtered: by campaigns, events, sources and mailbox_providers, if they have these
# secret = "env:{PREFIX}SECRET_CRM_SIGNATURE"   # whsec_ and base64 of 24 to 64 random bytes

# [destinations.to_sendgrid]      # who must not be mailed, on the lists of another provider
# kind = "suppress:sendgrid"      # or mailgun, postmark, sparkpost, ses
# key = "env:{PREFIX}SECRET_SENDGRID_API"
# dry_run = true                  # only counts; `mailpulse deliver diff to_sendgrid`
"""
