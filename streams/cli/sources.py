"""Commands for sources: configure one, check a captured request."""

import re
import sys
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.errors import BadInput, ConfigError
from schemas.masking import masked
from schemas.settings import PREFIX
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
)
from streams.cli.tail import moment, readable, without_addresses
from streams.terminal.output import pair

if TYPE_CHECKING:
    from ingest.providers.base import Provider
    from ingest.tryout import CheckResult

sources = typer.Typer(help="Sources: who may post webhooks.", no_args_is_help=True)

_PUBLIC = ("public_key", "topic_arns", "account", "public_url", "allow_ips")
"""Fields that are not secret and are written to the file."""

WHERE: dict[str, str] = {
    "sendgrid": "Settings › Mail Settings › Event Webhook: post to this URL, turn on «Signed Event "
    "Webhook» and copy the public key",
    "mailgun": "Send › Sending › Webhooks: add this URL for each event; the signing key is under "
    "API security › HTTP webhook signing key",
    "ses": "a configuration set › Event destinations › Amazon SNS; then subscribe this URL to the "
    "topic over HTTPS. The subscription is confirmed by mailpulse",
    "postmark": "Server › Message stream › Webhooks: this URL with user and password, all events",
    "mandrill": "Settings › Webhooks: add this URL; copy the key of the webhook",
    "sparkpost": "Configuration › Webhooks: this URL, Basic authentication, all events",
    "mailjet": "Account › Event notifications: this URL with user and password, «group events» on",
    "brevo": "Transactional › Settings › Webhooks: this URL, with the token as a bearer token",
    "mailersend": "Domain › Webhooks: this URL; copy the signing secret",
    "resend": "Webhooks › Add endpoint: this URL; copy the signing secret (whsec_…)",
}
"""Provider -> where to enter the URL in its console. From the providers' documentation, 2026-11;
not tried with live accounts."""


@sources.command("ls")
def ls(json: Json = False) -> None:
    """Lists the sources of mailpulse.toml, and the providers that can be added."""
    from ingest.providers import REGISTRY
    from streams.cli.context import sources_of, table_or_json

    found = sources_of(settings_of())
    rows = [
        (name, source.provider, f"POST /hooks/{name}", REGISTRY[source.provider].verification)
        for name, source in found.items()
    ]
    table_or_json(json, "", ("source", "provider", "hook", "proven_by"), rows)
    if not json:
        say(f"Providers: {', '.join(sorted(REGISTRY))}")


@sources.command("add")
def add(
    provider: Annotated[str, typer.Argument(help="Provider, such as sendgrid.")],
    name: Annotated[str | None, typer.Option(help="Name of the source.")] = None,
    url: Annotated[
        str, typer.Option(help="Address at which providers reach ingress.")
    ] = "https://events.example.com",
    value: Annotated[
        list[str] | None,
        typer.Option("--set", help="FIELD=VALUE instead of a prompt; may be repeated."),
    ] = None,
) -> None:
    """Adds a source to mailpulse.toml: asks for the fields, says what to do at the provider.

    Secrets are never written to the file; it refers to environment variables instead.

    Example: mailpulse sources add sendgrid --name news --set public_key=MFkw…
    """
    from ingest.providers import REGISTRY
    from ingest.published import told

    if provider not in REGISTRY:
        raise typer.BadParameter(f"no provider {provider!r}: {', '.join(sorted(REGISTRY))}")
    chosen = name or provider.removeprefix("preset:")
    path = settings_of().config_path
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", chosen):
        raise typer.BadParameter(f"--name {chosen!r}: letters, digits, '-' and '_', 64 at most")
    if chosen in _configured(text, path):
        raise ConfigError([f"sources.{chosen}: is in {path} already; choose another --name"])
    given = dict(one.partition("=")[::2] for one in value or ())
    fields, variables = {}, []
    required = REGISTRY[provider].required
    if "username" in given and "password" not in required:  # one goes with the other
        required = (*required, "password")
    for wanted in required:
        field = next((one for one in wanted.split("|") if one in given), wanted.split("|")[0])
        if field in _PUBLIC:
            fields[field] = given.get(field) or _asked(f"{field} (from the provider's console)")
        else:
            variable = f"{PREFIX}SECRET_{chosen}_{field}".upper().replace("-", "_")
            fields[field] = f"env:{variable}"
            variables.append(variable)
    block = [f"[sources.{chosen}]", f'provider = "{provider}"']
    block += [f'{field} = "{_escaped(content)}"' for field, content in fields.items()]
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if text else "") + "\n".join(block) + "\n")
    say(f"Added to {path}:")
    for line in block:
        say(f"  {line}")
    for variable in variables:
        say(f"Set in the environment of the ingress: {variable}")
    if "token" in fields:
        say("A token is for you to choose: 'openssl rand -hex 24' makes one")
    say(f"Webhook URL: {url.rstrip('/')}/hooks/{chosen}{_token_in_url(REGISTRY[provider])}")
    for line in _at_the_provider(REGISTRY[provider]):
        say(line)
    say(told(provider))
    say(f"Then try it: mailpulse send-test {chosen}")


def _token_in_url(provider: "Provider") -> str:
    """What a preset's webhook URL ends with, if the token is a part of it."""
    from ingest.providers.preset import Preset

    kind, _, name = str(
        provider.mapping.get("token", "") if isinstance(provider, Preset) else ""
    ).partition(":")
    return {"query": f"?{name}=TOKEN", "path": "/TOKEN"}.get(kind, "")


def _at_the_provider(provider: "Provider") -> list[str]:
    """What to do at the provider, and what a preset does not know."""
    from ingest.providers.preset import Preset

    if isinstance(provider, Preset):
        return [
            f"At {provider.title}: {provider.where}",
            f"Proven by: {provider.verification}",
            f"Not verified by its documentation: {provider.unverified}",
        ]
    where = WHERE.get(provider.name)
    return [f"At {provider.title}: {where}"] if where else []


def _configured(text: str, path: Path) -> Collection[str]:
    """Names of the sources that a file has already."""
    try:
        found = tomllib.loads(text).get("sources", {})
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: {error}"]) from None
    return found if isinstance(found, dict) else ()


def _asked(question: str) -> str:
    if not sys.stdin.isatty():
        raise ConfigError([f"{question}: pass it with --set, as there is no terminal to ask on"])
    return str(typer.prompt(question))


def _escaped(text: str) -> str:
    """Text as the content of a TOML basic string."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


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
    config_file: ConfigFile = None,
    unmasked: Annotated[bool, typer.Option("--unmasked", help="Show whole addresses.")] = False,
    json: Json = False,
) -> None:
    """Says how ingress would answer a captured request, and which events it has; stores nothing.

    A refusal is explained: which header, which age against which limit, usual causes.
    Addresses are masked.
    Exit code 0 if it is accepted, 1 if it is refused.

    Example: mailpulse check news --body request.bin -H "X-Twilio-Email-Event-Webhook-Signature: …"
    """
    from ingest.capture_files import DOCUMENT
    from ingest.providers.base import Request
    from ingest.tryout import check_request

    if source.endswith(DOCUMENT):
        result = _check_captured(Path(source))
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
            source_named(settings, source), request, when, settings=settings, certificate=pem
        )
    if json:
        document = result.as_json()
        emit(document if unmasked else without_addresses(document))
    else:
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
    raise typer.Exit(OK if result.accepted else FAILED)


def _check_captured(path: Path) -> "CheckResult":
    """The verdict on a captured request, by its temporary keys, at the time that it came."""
    from ingest.capture_files import load
    from ingest.tryout import check_request

    request, keys, received_at, document = load(path)
    answered = document["answered"]
    say(f"answered when it came: {answered['status']} {answered['code']}")
    say(f"its proof: {document['proof']}")
    return check_request(keys.source, request, received_at, certificates=keys.certificates)


def register(app: typer.Typer) -> None:
    """Adds these commands to ``app``."""
    from streams.cli.addresses import refresh

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
