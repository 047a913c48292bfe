"""``mailpulse why``: how the opens and clicks of a campaign were judged, and why.

Invariant: recipients are masked, and of IP addresses only the network is shown.
"""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from schemas.errors import BadInput
from streams.cli.clickhouse import dicts_of
from streams.cli.context import Json, emit, now, put, settings_of, table

DAYS_DEFAULT, DAYS_MAX = 30, 3_650


def why(
    campaign: Annotated[str, typer.Argument(help="The campaign's id, as 'campaigns ls' has it.")],
    days: Annotated[
        int, typer.Option(help="Days of events to explain, back from now.", min=1, max=DAYS_MAX)
    ] = DAYS_DEFAULT,
    examples: Annotated[int, typer.Option(help="Examples of each verdict.", min=0, max=10)] = 3,
    json: Json = False,
) -> None:
    """Says why a campaign's opens and clicks were judged as human, machine or unknown.

    It shows each verdict by reason and certainty, with masked examples, and what stricter and
    looser ways of counting would give.

    Example: mailpulse why spring-sale --examples 10
    """  # fmt: skip
    from analytics.verdicts import questions, words

    settings, until = settings_of(), int(now()) + 60
    named = {"campaign": campaign}
    period = {**named, "since": str(max(0, until - days * 86_400)), "until": str(until)}
    counts = dicts_of(settings, questions.COUNTS, named, questions.COUNT_COLUMNS)
    if not counts:
        raise BadInput("no_such_campaign", f"{campaign}; 'mailpulse campaigns ls' lists them")
    sure = dicts_of(settings, questions.SURE, named, questions.SURE_COLUMNS)
    groups = dicts_of(settings, questions.GROUPS, period, questions.GROUP_COLUMNS)
    shown = dicts_of(
        settings, questions.EXAMPLES, {**period, "examples": str(examples)},
        questions.EXAMPLE_COLUMNS,
    )  # fmt: skip
    answer = {
        "campaign": campaign, "delivered": counts[0]["delivered"], "days": days,
        "ways": words.ways(counts[0], sure[0]), "verdicts": words.explained(groups, shown),
    }  # fmt: skip
    if json:
        emit(answer)
    else:
        _say(answer)


def _say(answer: dict[str, Any]) -> None:
    table(
        f"{answer['campaign']}: {answer['delivered']:,} delivered; rates by way of counting",
        ("what", "counts", "messages", "rate", "that is"),
        [
            (way["event_type"], way["counts"], way["messages"], _percent(way["rate"]), way["says"])
            for way in answer["ways"]
        ],
    )
    if not answer["verdicts"]:
        put(f"No opens or clicks in the last {answer['days']} days.")
    for verdict in answer["verdicts"]:
        put("")
        put(
            f"{verdict['event_type']} by {verdict['actor']}, {verdict['actor_certainty']}:"
            f" {verdict['says']} ({verdict['actor_reason'] or 'no reason'})"
        )
        put(f"  {verdict['messages']:,} messages, {verdict['events']:,} events")
        for example in verdict["examples"]:
            put(f"    {_example(example)}")


def _percent(rate: float | None) -> str:
    return "–" if rate is None else f"{rate:.2%}"


def _example(one: dict[str, Any]) -> str:
    since = one["seconds_since_delivery"]
    parts = [
        f"{datetime.fromtimestamp(one['at_ms'] / 1000, UTC):%Y-%m-%d %H:%M:%S}",
        "delivery unknown" if since is None else f"{since:+,.1f} s after the delivery",
        one["recipient"] or "recipient not kept", one["network"],
        "" if one["machine_kind"] == "none" else f"the provider says {one['machine_kind']}",
        one["user_agent"], one["link"],
    ]  # fmt: skip
    return " · ".join(part for part in parts if part)


def register(app: typer.Typer) -> None:
    """Adds these commands to ``app``."""
    app.command(rich_help_panel="Figures")(why)
