"""``mailpulse sources add``: a source in ``mailpulse.toml``, and what to do at its provider.

Invariants:
1. Whoever follows it goes to the provider's console first: what is asked for comes from there.
2. A value is written only if the provider's own check takes it.
3. No secret is asked for or written: the file refers to environment variables.
"""

import re
import sys
import tomllib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer
from pydantic import ValidationError

from schemas.errors import ConfigError
from schemas.settings import PREFIX, Source
from schemas.sources import is_source_name
from streams.cli.context import config_text, say, settings_of

if TYPE_CHECKING:
    from ingest.providers.base import Provider

PUBLIC = ("public_key", "topic_arns", "account", "public_url", "allow_ips")
"""Fields that are not secret and are written to the file."""
UNKNOWN = "https://YOUR-HOST"
"""The base of addresses as long as the public address of ingress is not known."""

WHERE: dict[str, str] = {
    "brevo": "Transactional › Settings › Webhooks: this URL, with the token as a bearer token",
    "customer_io": "Data & Integrations › Integrations › Reporting Webhooks › Add: this URL; the"
    " secret is its signing key",
    "elastic_email": "Settings › Notifications: this URL as the webhook's notification URL",
    "generic": "your own sender signs its body with HMAC-SHA256, or shows the token; see"
    " ingest/README.md",
    "iterable": "Integrations › System Webhooks › Create Webhook: this URL, the token as its Auth"
    " Token",
    "klaviyo": "a system webhook made by its API (POST /api/webhooks): this URL as endpoint_url,"
    " the secret as secret_key",
    "loops": "Settings › Webhooks: this URL; copy the signing secret (whsec_…)",
    "mailersend": "Domain › Webhooks: this URL; copy the signing secret",
    "mailgun": "Send › Sending › Webhooks: add this URL for each event; the signing key is under "
    "API security › HTTP webhook signing key",
    "mailjet": "Account › Event notifications: this URL with user and password, «group events» on",
    "mailtrap": "Settings › Webhooks › Create New Webhook: this URL, area «Email Sending»; copy the"
    " signature's secret as the signing key",
    "mandrill": "Settings › Webhooks: add this URL; copy the key of the webhook",
    "postal": "Server › Webhooks: this URL; the public key is what 'postal default-dkim-record'"
    " prints after «p=»",
    "postmark": "Server › Message stream › Webhooks: this URL with user and password, all events",
    "resend": "Webhooks › Add endpoint: this URL; copy the signing secret (whsec_…)",
    "sendgrid": "Settings › Mail Settings › Event Webhook: post to this URL, turn on «Signed Event "
    "Webhook» and copy the public key",
    "ses": "a configuration set › Event destinations › Amazon SNS; then subscribe this URL to the "
    "topic over HTTPS. The subscription is confirmed by mailpulse",
    "sparkpost": "Configuration › Webhooks: this URL, Basic authentication, all events",
    "standard_webhooks": "your sender's webhook settings: this URL; copy the signing secret"
    " (whsec_…), or its public key (whpk_…)",
    "unisender_go": "the API's method webhook/set, or the account's webhooks: this URL; events are"
    " signed with the account's API key",
}
"""Provider -> where to enter the URL in its console. From the providers' documentation, 2026-11;
not tried with live accounts."""

FIRST = {"brevo": "token", "elastic_email": "token"}
"""Provider -> which of its proofs ``WHERE`` tells of, if not the first of ``Provider.required``."""

CHOSEN = {
    "username": "a name that you choose", "password": "a password that you choose",
    "token": "a token that you choose: 'openssl rand -hex 24' makes one",
}  # fmt: skip
"""Field -> what its variable holds, where that does not come from the provider."""


def add(
    provider: Annotated[str, typer.Argument(help="Provider, such as sendgrid.")],
    name: Annotated[str | None, typer.Option(help="Name of the source.")] = None,
    url: Annotated[
        str | None,
        typer.Option(help="Address at which providers reach ingress, such as https://e.example."),
    ] = None,
    value: Annotated[
        list[str] | None,
        typer.Option("--set", help="FIELD=VALUE instead of a prompt; may be repeated."),
    ] = None,
) -> None:
    """Adds a source to mailpulse.toml: says what to do at the provider, asks for what that shows.

    Secrets are never asked for or written to the file; it refers to environment variables instead.

    Example: mailpulse sources add sendgrid --name news --set public_key=MFkw…
    """
    from ingest.providers import REGISTRY
    from ingest.published import told

    if provider not in REGISTRY:
        raise typer.BadParameter(f"no provider {provider!r}: {', '.join(sorted(REGISTRY))}")
    chosen = name or provider.removeprefix("preset:")
    if not is_source_name(chosen):
        raise typer.BadParameter(f"--name {chosen!r}: letters, digits, '-' and '_', 64 at most")
    path = settings_of().config_path
    text = config_text(path) or ""
    if chosen in _configured(text, path):
        raise ConfigError([f"sources.{chosen}: is in {path} already; choose another --name"])
    found = REGISTRY[provider]
    given = _given(value or (), found)
    wanted = _wanted(found, given)
    base = _base(url)
    hook = _hook(base, chosen, found, wanted)
    _say_first_steps(found, hook)
    if "public_url" in wanted and base != UNKNOWN:
        given.setdefault("public_url", f"{base}/hooks/{chosen}")
    fields, variables = _fields(found, chosen, wanted, given)
    block = [f"[sources.{chosen}]", f'provider = "{provider}"']
    block += [f'{field} = "{_escaped(content)}"' for field, content in fields.items()]
    _append(path, text, block)
    say(f"2. Added to {path}:")
    for line in block:
        say(f"     {line}")
    if variables:
        say("3. Set for the process that runs ingress, or 'mailpulse up':")
        for field, variable in variables.items():
            say(f"     export {variable}=…   # {CHOSEN.get(field, 'from the console')}")
    say(f"{3 + bool(variables)}. Start that (again), then try it: mailpulse send-test {chosen}")
    say(told(provider))


def _say_first_steps(provider: "Provider", hook: str) -> None:
    """Where to go, and what to enter there: first of all."""
    from ingest.providers.preset import Preset

    where = provider.where if isinstance(provider, Preset) else WHERE[provider.name]
    say(f"1. At {provider.title}: {where}")
    say(f"   Webhook URL: {hook}")
    if UNKNOWN in hook:
        say("   (the address at which the provider reaches ingress; --url puts it in)")
    if isinstance(provider, Preset):
        say(f"   Proven by: {provider.verification}")
        say(f"   Not verified by its documentation: {provider.unverified}")


def _base(url: str | None) -> str:
    """The public address of ingress: as given, as typed, or ``UNKNOWN``.

    Raises:
        BadParameter: ``url`` is no such address.
    """
    if url is not None:
        problem = _url_problem(url)
        if problem:
            raise typer.BadParameter(f"--url: {problem}")
        return url.rstrip("/")
    if not sys.stdin.isatty():
        return UNKNOWN
    question = (
        "Public address of ingress, such as https://events.example.com (Enter: not known yet)"
    )
    typed = _asked_until_right(question, lambda one: _url_problem(one) if one else "", default="")
    return typed.rstrip("/") or UNKNOWN


def _url_problem(url: str) -> str:
    """What is wrong with the public address of ingress; empty: nothing."""
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("https", "http") and parts.hostname and parts.port != 0
    except ValueError:
        right = False
        parts = urlsplit("")
    if not right:
        return f"{url!r} is no address; it begins with https:// and has a host"
    if parts.path.strip("/") or parts.query or parts.fragment:
        return f"{url!r}: without a path; /hooks/NAME is added"
    return ""


def _hook(base: str, name: str, provider: "Provider", wanted: Collection[str]) -> str:
    """The URL to enter in the console, with whatever a provider has to show in it."""
    from ingest.providers.preset import Preset

    scheme, _, host = base.partition("://")
    before = "USER:PASSWORD@" if "username" in wanted else ""
    mapping = provider.mapping if isinstance(provider, Preset) else {}
    kind, _, parameter = str(mapping.get("token", "")).partition(":")
    after = {"query": f"?{parameter}=TOKEN", "path": "/TOKEN"}.get(kind, "")
    if provider.name == "elastic_email" and "token" in wanted:
        after = "?token=TOKEN"
    return f"{scheme}://{before}{host}/hooks/{name}{after}"


def _given(values: Collection[str], provider: "Provider") -> dict[str, str]:
    """What ``--set`` says.

    Raises:
        BadParameter: it sets a secret, or a field that no source has.
    """
    given = dict(one.partition("=")[::2] for one in values)
    for field, content in given.items():
        if field not in Source.model_fields or field in ("name", "provider", "unset"):
            raise typer.BadParameter(f"--set {field}: no field of a source")
        if field not in PUBLIC and content and not content.startswith(("env:", "file:")):
            raise typer.BadParameter(
                f"--set {field}: a secret is not written here; --set {field}=env:NAME or"
                f" {field}=file:PATH says where it is, or leave it out"
            )
    return given


def _wanted(provider: "Provider", given: Mapping[str, str]) -> list[str]:
    """The fields to write: what the provider needs, of alternatives the one given, or the usual."""
    usual = FIRST.get(provider.name)
    required = provider.required
    if "username" in given and "password" not in required:  # one goes with the other
        required = (*required, "password")
    wanted = []
    for entry in required:
        either = entry.split("|")
        first = usual if usual in either else either[0]
        wanted.append(next((one for one in either if one in given), first))
    return list(dict.fromkeys([*wanted, *given]))


def _fields(
    provider: "Provider", name: str, wanted: Collection[str], given: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Field -> what stands in the file; secret field -> the variable that it refers to.

    Raises:
        ConfigError: a value is wrong, or missing and there is no terminal to ask on.
    """
    fields: dict[str, str] = {}
    variables: dict[str, str] = {}
    for field in wanted:
        if field not in PUBLIC:
            variable = f"{PREFIX}SECRET_{name}_{field}".upper().replace("-", "_")
            fields[field] = given.get(field) or f"env:{variable}"
            if not given.get(field):
                variables[field] = variable
            continue

        def problem_of(content: str, field: str = field) -> str:
            return _problem(provider, name, field, content)

        content = given.get(field, "")
        if not content:
            if not sys.stdin.isatty():
                raise ConfigError(
                    [f"{field}: pass it with --set {field}=…, as there is no terminal to ask on"]
                )
            content = _asked_until_right(f"   {field}, from there", problem_of)
        problem = problem_of(content)
        if problem:
            raise ConfigError([f"{field}: {problem}"])
        fields[field] = content
    return fields, variables


def _problem(provider: "Provider", name: str, field: str, content: str) -> str:
    """Why the provider does not take a value of a field; empty: it does."""
    if content.startswith(("env:", "file:")):
        return ""  # what that holds is checked when it is read
    try:
        source = Source.model_validate({"name": name, "provider": provider.name, field: content})
    except ValidationError as error:
        return str(error.errors(include_input=False, include_url=False)[0]["msg"])
    begins = f"sources.{name}.{field}: "
    found = (line for line in provider.check(source) if line.startswith(begins))
    return next(found, "").removeprefix(begins).removeprefix("number 1 ")


def _asked_until_right(
    question: str, problem_of: Callable[[str], str], default: str | None = None
) -> str:
    while True:
        answer = str(typer.prompt(question, default=default, show_default=False)).strip()
        problem = problem_of(answer)
        if not problem:
            return answer
        say(f"   That {problem}" if problem.startswith("is ") else f"   {problem}")


def _configured(text: str, path: Path) -> Collection[str]:
    """Names of the sources that a file has already."""
    try:
        found = tomllib.loads(text).get("sources", {})
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: {error}"]) from None
    return found if isinstance(found, dict) else ()


def _append(path: Path, text: str, block: Collection[str]) -> None:
    """Adds lines to the file.

    Raises:
        ConfigError: it can't be written.
    """
    before = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(before + "\n".join(block) + "\n")
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None


def _escaped(text: str) -> str:
    """Text as the content of a TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\u{ord(found[0]):04x}", escaped)
