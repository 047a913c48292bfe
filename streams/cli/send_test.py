"""``mailpulse send-test``: an event as a source's provider would send it."""

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from schemas.errors import Unavailable
from schemas.serving.origin import Networks
from schemas.settings import PREFIX, Settings, Source
from streams.cli.context import (
    FAILED,
    Json,
    emit,
    now,
    read_text,
    say,
    settings_of,
    source_named,
)
from streams.cli.recipients import compare as compare_recipients

if TYPE_CHECKING:
    from ingest.tryout import SendResult


def send_test(
    source: Annotated[str, typer.Argument(help="Source in mailpulse.toml.")],
    url: Annotated[
        str | None, typer.Option(help="URL of ingress. Default: the one running here.")
    ] = None,
    signing_key: Annotated[
        Path | None,
        typer.Option(help="Private key (PEM), if the source has only the public key."),
    ] = None,
    number: Annotated[int | None, typer.Option(help="Same number, same event.")] = None,
    json: Json = False,
) -> None:
    """Sends a correctly signed event as the source's provider would; exit code 0 if accepted.

    Where only the provider can sign, a temporary key does, for an ingress of this command that
    stores the event; the running one is asked with an unsigned request, which it has to refuse.

    Example: mailpulse send-test news && mailpulse tail raw --last 1
    """
    from ingest.trial import only_its_provider_signs
    from ingest.tryout import send_test as send
    from streams.embedded.data_dir import running

    settings = settings_of()
    found = running(settings.data_dir)
    target = url or (found.ingest_url if found else f"http://127.0.0.1:{settings.ingest_port}")
    configured: Source = source_named(settings, source)
    key = None if signing_key is None else read_text(signing_key)
    chosen = number if number is not None else int(now() * 1000) % 10**9
    if key is None and only_its_provider_signs(configured):
        return _send_trial(settings, configured, target, chosen, json)
    result = asyncio.run(
        send(
            target, configured, signing_key=key, trusted=Networks(settings.trusted_proxies),
            number=chosen,
        )
    )  # fmt: skip
    _answered(result, target)
    if json:
        emit(_document(result))
    else:
        _say_answer("", result)
    if not result.ok:
        raise typer.Exit(FAILED)


def _answered(result: "SendResult", target: str) -> None:
    """Raises an error if there was no answer."""
    if not result.status:
        raise Unavailable(f"no answer from {target}: {result.body}; is the ingress running?")


def _document(result: "SendResult") -> dict[str, object]:
    return {
        "status": result.status,
        "body": result.body,
        "seconds": round(result.seconds, 4),
        "event_ids": result.event_ids,
    }


def _say_answer(before: str, result: "SendResult") -> None:
    say(f"{before}{result.status} after {result.seconds * 1000:.0f} ms {result.body}".rstrip())
    if result.ok:
        say(f"event {', '.join(result.event_ids)}")


_HINTS = {
    404: "the running ingress does not know this source: start it again after a change of"
    " mailpulse.toml",
    403: "the running ingress refuses this address or plain HTTP: see allow_ips, and"
    f" {PREFIX}TRUSTED_PROXIES, which has to be set here as for ingress",
    503: "the running ingress can't store anything now, or a secret of this source is not set:"
    " mailpulse doctor",
    200: "another service answers there: an ingress accepts nothing unsigned",
}


def _send_trial(settings: Settings, source: Source, target: str, number: int, json: bool) -> None:
    """``send-test`` where only the provider can sign."""
    from ingest.providers import REGISTRY
    from ingest.trial import send_trial
    from streams.cli.context import codec_of

    codec = codec_of(settings)
    compare_recipients(settings, codec, needed=True)
    # its ingress's log would be mixed with the answer
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    title = REGISTRY[source.provider].title
    trial = asyncio.run(send_trial(target, source, settings, codec=codec, now=now, number=number))
    _answered(trial.refused, target)
    if json:
        kept = {} if trial.kept is None else _document(trial.kept)
        emit({"temporary_key": True, "running_status": trial.refused.status, **kept})
    else:
        say(f"Only {title} can sign for {source.name}, so a temporary key signs this event.")
        told = "as it must" if trial.kept is not None else "instead of 401; nothing is stored"
        say(f"An unsigned request to the ingress at {target}: {trial.refused.status}, {told}")
        if trial.kept is None:
            say(_HINTS.get(trial.refused.status, trial.refused.body))
        else:
            _say_answer("An ingress of this command, told the temporary key: ", trial.kept)
            say(f"Whether the key in mailpulse.toml is {title}'s, only an event from there shows.")
    if not trial.ok:
        raise typer.Exit(FAILED)


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command("send-test", rich_help_panel="Set-up")(send_test)
