"""``mailpulse sources add``: a source in ``mailpulse.toml``, and what to do at its provider.

Invariants:
1. Whoever follows it goes to the provider's console first: what is asked for comes from there.
2. A value is written only if the provider's own check takes it.
3. No secret is asked for or written: the file refers to environment variables, a new one for each
   secret: two sources with one variable could not have different secrets.
4. The file is added to, never changed, and only if all of it is right with the lines: ingress and
   every other command read it too. Two commands at once both add their source.
"""

import fcntl
import os
import re
import sys
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer
from pydantic import SecretStr, ValidationError

from schemas.errors import ConfigError
from schemas.settings import PREFIX, Source
from schemas.sources import SecretUnset, is_source_name, load_sources, resolve_secret
from streams.cli.context import READABLE, config_text, say, settings_of

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
    "generic": "post to this URL, with the HMAC-SHA256 of the raw body, in hex, as"
    " X-Webhook-Signature; other forms, and where its fields are: ingest/README.md",
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

SHARED = {"generic": "secret", "klaviyo": "secret"}
"""Provider -> its field that you choose and tell the sender."""


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
    configured = _configured(text, path, chosen)
    found = REGISTRY[provider]
    given = _given(value or ())
    wanted = _wanted(found, given)
    base = _base(url)
    hook = _hook(base, chosen, found, wanted)
    _say_first_steps(found, hook)
    if "public_url" in wanted and base != UNKNOWN:
        given.setdefault("public_url", f"{base}/hooks/{chosen}")
    fields, variables = _fields(found, chosen, wanted, given, set(_texts(configured)))
    block = [f"[sources.{chosen}]", f'provider = "{provider}"']
    block += [f'{field} = "{_escaped(content)}"' for field, content in fields.items()]
    _append(path, chosen, block)
    say(f"2. Added to {path}:")
    for line in block:
        say(f"     {line}")
    if variables:
        say("3. Set for the process that runs ingress, or 'mailpulse up', and for send-test:")
        for field, variable in variables.items():
            say(f"     export {variable}=…   # {_origin(provider, field)}")
    say(f"{3 + bool(variables)}. Start that (again), then try it: mailpulse send-test {chosen}")
    say(told(provider))


def _say_first_steps(provider: "Provider", hook: str) -> None:
    """Where to go, and what to enter there: first of all."""
    from ingest.providers.preset import Preset

    where = provider.where if isinstance(provider, Preset) else WHERE[provider.name]
    title = "your own sender" if provider.name == "generic" else provider.title
    say(f"1. At {title}: {where}")
    say(f"   Webhook URL: {hook}")
    if UNKNOWN in hook:
        say("   (the address at which the provider reaches ingress; --url puts it in)")
    if isinstance(provider, Preset):
        say(f"   Proven by: {provider.verification}")
        say(f"   Not verified by its documentation: {provider.unverified}")


def _origin(provider: str, field: str) -> str:
    """Where the value of a secret comes from, in words."""
    if SHARED.get(provider) == field:
        return "a secret that you choose and the sender signs with: 'openssl rand -hex 32'"
    return CHOSEN.get(field, "from the console")


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
    scheme, _, host = base.partition("://")
    before = "USER:PASSWORD@" if "username" in wanted else ""
    kind, _, parameter = provider.token_at.partition(":") if "token" in wanted else ("", "", "")
    after = {"query": f"?{parameter}=TOKEN", "path": "/TOKEN"}.get(kind, "")
    return f"{scheme}://{before}{host}/hooks/{name}{after}"


def _given(values: Collection[str]) -> dict[str, str]:
    """What ``--set`` says.

    Raises:
        BadParameter: it sets a secret, or what is no field of a source that is set here.
    """
    given = dict(one.partition("=")[::2] for one in values)
    for field, content in given.items():
        told = Source.model_fields.get(field)
        if told is None or field in ("name", "provider", "unset"):
            raise typer.BadParameter(f"--set {field}: no field of a source")
        is_secret = told.annotation == tuple[SecretStr, ...]
        if not is_secret and field not in PUBLIC:
            raise typer.BadParameter(f"--set {field}: write it into the file, below the source")
        if is_secret and content and not content.startswith(("env:", "file:")):
            raise typer.BadParameter(
                f"--set {field}: a secret is not written here; --set {field}=env:NAME or"
                f" {field}=file:PATH says where it is, or leave it out"
            )
        if problem := _reference_problem(content):
            raise typer.BadParameter(f"--set {field}: {problem}")
    return given


def _reference_problem(content: str) -> str:
    """Why a text can't be written, or refers to nothing; empty: it can, or is no reference."""
    try:
        content.encode()
        if content.startswith(("env:", "file:")):
            resolve_secret(content, {}, lambda path: str(path))
            return '"file:" is followed by a path' if content == "file:" else ""
    except UnicodeEncodeError:
        return "not UTF-8"
    except SecretUnset:
        return ""  # it may be set later
    except ValueError as error:
        return str(error)
    return ""


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
    provider: "Provider", name: str, wanted: Collection[str], given: Mapping[str, str],
    used: Collection[str],
) -> tuple[dict[str, str], dict[str, str]]:  # fmt: skip
    """Field -> what stands in the file; secret field -> the variable that it refers to.

    Args:
        used: texts of the file, with the references of other sources.

    Raises:
        ConfigError: a value is wrong, or missing and there is no terminal to ask on.
    """
    fields: dict[str, str] = {}
    variables: dict[str, str] = {}
    for field in wanted:
        if field not in PUBLIC:
            variable = _variable(name, field, used)
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


def _variable(name: str, field: str, used: Collection[str]) -> str:
    """A variable that no other source refers to: ``a-b``, ``a_b`` and ``A_B`` would share one."""
    first = f"{PREFIX}SECRET_{name}_{field}".upper().replace("-", "_")
    number, variable = 1, first
    while f"env:{variable}" in used:
        number += 1
        variable = f"{first}_{number}"
    return variable


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


# --- the file -------------------------------------------------------------------------------------


def _configured(text: str, path: Path, name: str) -> object:
    """The sources that a file has already.

    Raises:
        ConfigError: the file is not TOML, or ``name`` is one of them.
    """
    try:
        found = tomllib.loads(text).get("sources", {})
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: {error}"]) from None
    if isinstance(found, dict) and name in found:
        raise ConfigError([f"sources.{name}: is in {path} already; choose another --name"])
    return found


def _texts(value: object) -> Iterator[str]:
    """All texts of a document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def _append(path: Path, name: str, block: Collection[str]) -> None:
    """Adds a source to the file (invariant 4).

    Raises:
        ConfigError: it can't be written, or the lines can't stand in it.
    """
    try:
        with path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            before = file.read()
            if not before:
                os.fchmod(file.fileno(), READABLE)
            added = _added(before, path, name, block)
            try:
                _write(file, added)
            except OSError:  # such as a disk that is full: half a line would break the file
                os.truncate(file.fileno(), len(before))
                raise
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None


def _write(file: IO[bytes], content: bytes) -> None:
    """Writes all of it to the disk."""
    file.write(content)
    file.flush()
    os.fsync(file.fileno())


def _added(before: bytes, path: Path, name: str, block: Collection[str]) -> bytes:
    """What is to be added to a file of this content.

    Raises:
        ConfigError: with the lines in it the file would not be right.
    """
    try:
        text = before.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: not UTF-8; save it in that encoding"]) from None
    _configured(text, path, name)  # another command may have added it meanwhile
    line_end = "\r\n" if "\r\n" in text else "\n"
    ended = "" if not text else line_end if text.endswith("\n") else 2 * line_end
    added = ended + line_end.join(block) + line_end
    known = _problems(text)
    problems = [one for one in _problems(text + added) if one not in known]
    if problems or not _is_added(text, added, name):
        lines = " ".join(("these lines can't be added at its end; write them in yourself:", *block))
        raise ConfigError([f"{path}: {lines}", *problems])
    return added.encode()


def _is_added(text: str, added: str, name: str) -> bool:
    """Whether the lines are a source of this name in the file, and nothing else in it changed."""
    before, after, alone = (tomllib.loads(one) for one in (text, text + added, added))
    others = before.get("sources", {})
    both = {**others, name: alone["sources"][name]} if isinstance(others, dict) else None
    return after == {**before, "sources": both}


def _problems(text: str) -> list[str]:
    """What is wrong with a file, but for secrets that are not set."""
    try:
        load_sources(text, {}, lambda path: str(path), whole=False)
    except ConfigError as error:
        return list(error.problems)
    return []


def _escaped(text: str) -> str:
    """Text as the content of a TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\u{ord(found[0]):04x}", escaped)
