"""Commands about incidents: what is wrong, why, and what other lines would have told."""

from collections.abc import Container, Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

import typer

from schemas.errors import BadInput, ConfigError
from schemas.settings import Settings
from streams.cli.clickhouse import rows_of, table_of
from streams.cli.context import Json, emit, lines_of, now, say, settings_of, table
from streams.cli.source_incidents import listed, shown
from streams.cli.tail import moment

alerts = typer.Typer(help="Incidents: rates above their lines.", no_args_is_help=True)

CAMPAIGNS_AT_ONCE = 50
"""Campaigns whose history is read by one query."""

_LIST = """\
SELECT opened_at, campaign_id, rate, level, state, mailbox_provider, value, numerator, denominator,
    opened_value, line, cause, cause_name, toString(incident_id) AS incident_id
FROM incidents
WHERE ({campaign:String} = '' OR campaign_id = {campaign:String})
    AND ({every:String} = '1' OR state != 'closed')
ORDER BY opened_at DESC
LIMIT {last:UInt32}"""
_ONE = """\
SELECT * EXCEPT (`places.mailbox_provider`, `places.level`, `places.line`, `places.numerator`,
    `places.denominator`, `places.value`)
FROM incidents
WHERE replaceAll(toString(incident_id), '-', '') = {id:String}"""
_PLACE = """\
SELECT campaign_id, rate, window, toUnixTimestamp(opened_at), toUnixTimestamp(as_of), advice
FROM incidents
WHERE replaceAll(toString(incident_id), '-', '') = {id:String}"""
_HISTORY = """\
SELECT sequence, state, level, changed_at, mailbox_provider, value, numerator, denominator, line
FROM incident_changes FINAL
WHERE campaign_id = {campaign:String} AND replaceAll(toString(incident_id), '-', '') = {id:String}
ORDER BY sequence"""
_STANDING_OUT = """\
SELECT kind, name, bad, round(bad / all_bad, 3) AS share_of_bad,
    round(messages / nullIf(all_messages, 0), 3) AS share_of_all
FROM
(
    SELECT pair.1 AS kind, pair.2 AS name, countIf(is_bad) AS bad, countIf(is_outcome) AS messages,
        sum(bad) OVER (PARTITION BY kind) AS all_bad,
        sum(messages) OVER (PARTITION BY kind) AS all_messages
    FROM
    (
        SELECT
            event_type IN ('delivered', 'bounced') AS is_outcome,
            multiIf(
                {rate:String} = 'complaint_rate', event_type = 'complained' AND first_of_kind,
                {rate:String} = 'unsubscribe_rate', event_type = 'unsubscribed' AND first_of_kind,
                {rate:String} = 'hard_bounce_rate', bounce_class = 'hard',
                {rate:String} = 'soft_bounce_rate', bounce_class = 'soft',
                {rate:String} = 'block_bounce_rate', bounce_class = 'block',
                {rate:String} = 'late_bounce_rate', seconds_since_delivery IS NOT NULL,
                1
            ) AND (event_type = 'bounced'
                OR {rate:String} IN ('complaint_rate', 'unsubscribe_rate')) AS is_bad,
            arrayConcat(
                [('bounce reason', toString(bounce_reason)), ('source', toString(source)),
                 ('mailbox provider', toString(mailbox_provider)),
                 ('recipient domain', toString(recipient_domain))],
                arrayMap(tag -> ('tag', toString(tag)), tags)
            ) AS pairs
        FROM events FINAL
        WHERE campaign_id = {campaign:String}
            AND event_time >= toDateTime({from:UInt32}, 'UTC')
            AND event_time <= toDateTime({to:UInt32}, 'UTC')
            AND event_type IN ('delivered', 'bounced', 'complained', 'unsubscribed')
    )
    ARRAY JOIN pairs AS pair
    WHERE pair.2 NOT IN ('', 'none')
    GROUP BY kind, name
)
WHERE bad > 0
ORDER BY kind, bad DESC, name
LIMIT 3 BY kind"""
_CAMPAIGNS = """\
SELECT DISTINCT campaign_id FROM campaign_minutes
WHERE minute >= toDateTime({from:UInt32}, 'UTC') AND campaign_id LIKE {like:String}
    AND campaign_id != ''
ORDER BY campaign_id"""
_WITHIN = "campaign_id >= {first:String} AND campaign_id <= {last:String}"
_MINUTES = f"""\
SELECT campaign_id, mailbox_provider, intDiv(toUnixTimestamp(minute), 60) AS at,
    sum(attempt_sent), sum(attempt_bounced_hard), sum(attempt_bounced_soft),
    sum(attempt_bounced_block), sum(attempt_bounced_undetermined), sum(delivered),
    sum(delivered_stale)
FROM campaign_minutes FINAL
WHERE minute >= toDateTime({{from:UInt32}}, 'UTC') AND {_WITHIN}
GROUP BY campaign_id, mailbox_provider, at"""
_FEEDBACK = f"""\
SELECT campaign_id, mailbox_provider, intDiv(toUnixTimestamp(received_at), 60) AS arrived,
    intDiv(toUnixTimestamp64Milli(event_time) - toInt64(seconds_since_delivery * 1000), 60000)
        AS at,
    countIf(event_type = 'complained' AND first_of_kind), countIf(event_type = 'bounced'),
    countIf(event_type = 'unsubscribed' AND first_of_kind)
FROM events FINAL
WHERE received_at >= toDateTime({{from:UInt32}}, 'UTC') AND {_WITHIN}
    AND event_type IN ('complained', 'bounced', 'unsubscribed')
    AND seconds_since_delivery IS NOT NULL
    AND message_key NOT IN (
        SELECT message_key FROM events FINAL
        WHERE received_at >= toDateTime({{from:UInt32}}, 'UTC') AND {_WITHIN}
            AND event_type = 'delivered' AND first_of_kind
            AND dateDiff('millisecond', occurred_at, received_at) > {{old_ms:Int64}}
    )
GROUP BY campaign_id, mailbox_provider, arrived, at"""
"""Without that of stale deliveries (``glossary.STALE``): no incident rests on them."""
_OUTCOMES = (
    "attempt_sent", "attempt_bounced_hard", "attempt_bounced_soft", "attempt_bounced_block",
    "attempt_bounced_undetermined", "delivered", "delivered_stale",
)  # fmt: skip
_LATER = ("cohort_complained", "cohort_bounced_late", "cohort_unsubscribed")


class _Outcomes(NamedTuple):
    """A row of ``_MINUTES``; its last fields are ``_OUTCOMES``."""

    campaign: str
    mailbox: str
    minute: int
    sent: int
    hard: int
    soft: int
    block: int
    undetermined: int
    delivered: int
    stale: int


class _Later(NamedTuple):
    """A row of ``_FEEDBACK``; its last fields are ``_LATER``."""

    campaign: str
    mailbox: str
    arrived: int
    minute: int
    complained: int
    bounced: int
    unsubscribed: int


@alerts.command("ls")
def alerts_ls(
    json: Json = False,
    last: Annotated[int, typer.Option("--last", "-n", help="How many.", min=1)] = 20,
    campaign: Annotated[str | None, typer.Option(help="Only this campaign.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Closed ones too.")] = False,
) -> None:
    """Lists incidents, newest first: of campaigns by their rate, then of sources by their silence.

    With --json each is an object: those of sources have 'source', the others 'campaign_id'.
    """
    settings = settings_of()
    parameters = {"campaign": campaign or "", "last": str(last), "every": "1" if every else ""}
    columns, rows = table_of(settings, _LIST, parameters)
    names, silent = listed(settings, every=every, last=last) if campaign is None else ([], [])
    if json:
        emit([dict(zip(columns, row, strict=True)) for row in rows]
             + [dict(zip(names, row, strict=True)) for row in silent])  # fmt: skip
        return
    table("", columns, rows)
    if silent:
        table("Silent sources", names, silent)


@alerts.command("show")
def alerts_show(incident: str, json: Json = False) -> None:
    """Shows one incident: its history, what stands out in its events, and what to do.

    INCIDENT is the id that 'alerts ls' prints, or 'incident_id' of the topic's records.
    """
    settings = settings_of()
    identity = incident.strip().replace("-", "").lower()  # ls prints it with hyphens
    columns, rows = table_of(settings, _ONE, {"id": identity})
    places = rows_of(settings, _PLACE, {"id": identity}, tuple[str, str, str, int, int, str])
    if not rows or not places:
        if shown(settings, identity, json=json):
            return
        raise BadInput("no_such_incident", incident)
    facts = dict(zip(columns, rows[0], strict=True))
    campaign, rate, window, opened_s, as_of_s, advice = places[0]
    changes = table_of(settings, _HISTORY, {"campaign": campaign, "id": identity})
    begin_s = max(0, opened_s - (7 if window == "7d" else 1) * 86_400)
    span = {"campaign": campaign, "rate": rate, "from": str(begin_s), "to": str(as_of_s + 60)}
    parts = table_of(settings, _STANDING_OUT, span)
    if json:
        listed = [[dict(zip(names, row, strict=True)) for row in found] for names, found in
                  (changes, parts)]  # fmt: skip
        emit({**facts, "changes": listed[0], "standing_out": listed[1]})
        return
    table(f"{campaign}: {rate}", ("fact", "value"), list(facts.items()))
    table("What happened", *changes)
    table("What stands out: share of the bad messages, and of all", *parts)
    say(advice)


@alerts.command("try")
def alerts_try(
    line: Annotated[
        list[str] | None,
        typer.Option(
            help="RATE=WATCH,WARNING,CRITICAL as ratios, or RATE=WATCH alone; may be repeated."
            " Default: the lines of mailpulse.toml."
        ),
    ] = None,
    since: Annotated[str, typer.Option(help="How far back, such as 30d, or a time.")] = "30d",
    campaign: Annotated[str, typer.Option(help="Pattern of campaign ids, with * and ?.")] = "*",
    mailbox: Annotated[str, typer.Option(help="The line is for this mailbox provider alone.")] = "",
    json: Json = False,
) -> None:
    """Says when lines would have opened incidents, judging ClickHouse's history anew.

    Complaints and late bounces are taken as they arrived; deliveries and bounces in the minute in
    which they happened. A campaign that began more than 8 days before is judged as if it began
    then, so an incident may open sooner than it did.

    Example: mailpulse alerts try --line complaint_rate=0.002 --since 30d
    """
    from streams.campaigns.rehearsal import PATIENCE_MIN, rehearse

    settings = settings_of()
    lines = _lines(settings, line or [], mailbox)
    end_s = int(now())
    begin_s = max(0, int(moment(since, end_s)))
    if begin_s >= end_s:
        raise typer.BadParameter(f"--since {since}: a time before now is expected")
    told, number, mailboxes = list[dict[str, Any]](), 0, set[str]()
    for name, arrivals in _history(settings, max(0, begin_s - PATIENCE_MIN * 60), campaign):
        number += 1
        mailboxes.update(one.mailbox for one in arrivals)
        told += rehearse(name, arrivals, lines, end_s // 60)
    told.sort(key=lambda one: (one["changed_at"], one["campaign_id"], one["rate"]))
    found = [one for one in told if one["changed_at"] >= begin_s * 1_000_000]
    _warn(campaign, number, mailbox, mailboxes)
    if json:
        emit([{**one, "changed_at": _moment(one["changed_at"]),
               "opened_at": _moment(one["opened_at"]), "as_of": _moment(one["as_of"])}
              for one in found])  # fmt: skip
        return
    table("", ("when", "campaign", "rate", "what", "level", "mailboxes", "rate then", "line"), [
        (
            _moment(one["changed_at"]), one["campaign_id"], one["rate"], one["state"],
            one["level"], one["mailbox_provider"] or "all",
            f"{one['value']:.2%} ({one['numerator']:,} of {one['denominator']:,})",
            f"{one['line']:.2%}",
        )
        for one in found
    ])  # fmt: skip
    opened = sum(one["state"] == "opened" for one in found)
    newest = {one["incident_id"]: one["state"] for one in told}
    still = sum(state != "closed" for state in newest.values())
    say(
        f"{number:,} campaigns since {_moment(begin_s * 1_000_000)}: {opened:,} incidents would"
        f" have been opened; {still:,} would be open now."
    )


def _warn(campaign: str, number: int, mailbox: str, mailboxes: Container[str]) -> None:
    """Says so if nothing could be found, because there is no such mail."""
    if not number:
        say(f"No campaign that fits {campaign!r} has mail in this period.")
    elif mailbox and mailbox not in mailboxes:
        say(f"No mail to mailbox provider {mailbox!r} in this period.")


def _lines(settings: Settings, given: Sequence[str], mailbox: str) -> Any:
    """The lines to try: those given and no others, or those of ``mailpulse.toml``."""
    from streams.campaigns.lines import Lines
    from streams.campaigns.measures import MEASURES

    lines = lines_of(settings)
    if not given:
        if mailbox:
            raise typer.BadParameter("--mailbox says where --line holds: it needs one")
        return lines
    wished = dict(_line(text) for text in given)
    if len(wished) < len(given):
        raise typer.BadParameter("--line: each rate at most once")
    silent: dict[str, Any] = dict.fromkeys(MEASURES, "off")
    document = {**silent, "hold_seconds": lines.hold_us // 1_000_000}
    if mailbox:
        document["mailbox"] = {mailbox: wished}
    else:
        document |= wished
    try:
        return Lines.load(document)
    except ConfigError as error:
        problems = "; ".join(one.removeprefix("alerts.") for one in error.problems)
        raise typer.BadParameter(f"--line {problems}") from None


def _line(text: str) -> tuple[str, list[float]]:
    rate, _, numbers = text.partition("=")
    try:
        levels = [float(one) for one in numbers.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"--line {text}: RATE=WATCH or RATE=WATCH,WARNING,CRITICAL is expected, as ratios"
        ) from None
    if len(levels) == 1:  # the higher levels between it and 1
        levels += [levels[0] + (1 - levels[0]) * part for part in (1 / 3, 2 / 3)]
    return rate, levels


def _history(settings: Settings, begin_s: int, pattern: str) -> Iterator[tuple[str, list[Any]]]:
    """The campaigns that a pattern fits, each with what became known of it.

    What belongs to deliveries before the beginning is left out: rates are of the same messages.
    """
    from streams.campaigns.rehearsal import Arrival
    from streams.enrich.derive import group_of
    from streams.enrich.minute_counts import OLD_S

    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    like = escaped.replace("*", "%").replace("?", "_")
    period = {"from": str(begin_s), "like": like}
    names = [name for (name,) in rows_of(settings, _CAMPAIGNS, period, tuple[str])]
    for begin in range(0, len(names), CAMPAIGNS_AT_ONCE):
        some = names[begin : begin + CAMPAIGNS_AT_ONCE]
        within = {"from": str(begin_s), "first": some[0], "last": some[-1]}
        of_fresh = {**within, "old_ms": str(OLD_S * 1_000)}
        arrivals: dict[str, list[Any]] = {name: [] for name in some}
        for row in rows_of(settings, _MINUTES, within, _Outcomes):
            if row.campaign in arrivals:
                counts = dict(zip(_OUTCOMES, row[3:], strict=True))
                arrivals[row.campaign].append(Arrival(row.minute, row.mailbox, row.minute, counts))
        for late in rows_of(settings, _FEEDBACK, of_fresh, _Later):
            if late.campaign in arrivals and late.minute * 60 >= begin_s:
                counts = dict(zip(_LATER, late[4:], strict=True))
                arrived = max(late.arrived, late.minute)
                arrivals[late.campaign].append(
                    Arrival(arrived, group_of(late.mailbox), late.minute, counts)
                )
        yield from arrivals.items()


def _moment(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")


def register(app: typer.Typer) -> None:
    """Adds these commands to ``app``."""
    app.add_typer(alerts, name="alerts", rich_help_panel="Figures")
