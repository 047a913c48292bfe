"""What people are told of a record, for any channel.

Invariants:
1. Pure, and only from the body of a request: the same body gives the same message.
2. Every line is one printable line of bounded length, whatever the record says: campaign names and
   diagnostics come from outside. What else a channel needs escaped, it escapes itself.
3. Of an incident each change is told once: records that only bring newer figures are left out.
4. All messages of an incident have the same ``thread``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Template
from typing import Any
from urllib.parse import quote

from schemas.codec import AvroRecord

LINE_CHARS_MAX = 300
TEXT_CHARS_MAX = 2_500
"""Of a text that a template makes."""
LEVELS = ("watch", "warning", "critical")
CLOSED = "closed"
FAILING, WORKING = "destination.failing", "destination.working"
"""Types of what ``deliver`` itself tells of a destination."""
_SKIPPED = frozenset(("log_id", "partition", "offset", "places", "windows", "event", "enrichment"))
"""Fields that say nothing to people, or are no single value."""


@dataclass(frozen=True, slots=True)
class Message:
    """What a channel shows.

    Attributes:
        title: one line.
        lines: below it.
        link: to the view; ``None``: the channel has no address of the dashboard.
        thread: what it belongs to; the same for all changes of an incident.
        first: it begins its thread.
        level: watch, warning or critical; empty: it is no incident.
        over: the incident is closed.
        campaign: empty if there is none.
        fields: of the record, for a template.
    """

    title: str
    lines: tuple[str, ...]
    link: str | None
    thread: str
    first: bool = True
    level: str = ""
    over: bool = False
    campaign: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)


def line(text: object, most: int = LINE_CHARS_MAX) -> str:
    """A text from outside as one printable line."""
    shown = "".join(one if one.isprintable() else " " for one in str(text)[: 4 * most])
    shown = " ".join(shown.split())
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def is_told(record: AvroRecord, least: str) -> bool:
    """Whether people are told of a record of an alerts' topic (invariant 3).

    Args:
        least: level that an incident must have reached; one that was told is told to its end.
    """
    is_change = record["as_of"] == record["changed_at"]
    reached = record.get("worst_level", record["level"])  # a source's has one level for life
    return is_change and (reached not in LEVELS or LEVELS.index(reached) >= LEVELS.index(least))


def message_of(body: Mapping[str, Any], dashboard: str) -> Message:
    """The message of a body.

    Args:
        body: the document of ``streams.deliver.bodies``.
        dashboard: its public address without a slash at the end; empty: not known.
    """
    kind, data = str(body["type"]), body["data"]
    if kind.startswith("incident."):
        return _incident(kind.removeprefix("incident."), data, dashboard)
    if kind.startswith("silence."):
        return _silence(data, dashboard)
    if kind in (FAILING, WORKING):
        return _destination(kind, data, dashboard)
    return _other(kind, body, dashboard)


def _incident(state: str, data: Mapping[str, Any], dashboard: str) -> Message:
    campaign, rate = line(data["campaign_id"], 120), str(data["rate"]).replace("_", " ")
    place = f" at {line(data['mailbox_provider'], 80)}" if data["mailbox_provider"] else ""
    level, over = line(data["level"], 20), state == CLOSED
    what = f"{rate} of {campaign}{place}"
    value, bad, of = _percent(data["value"]), data["numerator"], data["denominator"]
    heads = {
        "opened": f"{level}: {what} is {value}",
        "escalated": f"now {level}: {what} is {value}",
        "eased": f"eased to {level}: {what} is {value}",
        CLOSED: f"over: {what} is {value}",
    }
    began = (
        f"Opened {_moment(data['opened_at'])} at {_percent(data['opened_value'])}"
        f" ({data['opened_numerator']:,} of {data['opened_denominator']:,})."
    )
    against = f"the line for {level} is {_percent(data['line'])}" if data["line"] else "no line"
    lines = [f"{bad:,} of {of:,} messages ({_window(data['window'])}); {against}.", began]
    if data["advice"] and not over:
        lines.append(line(data["advice"], 600))
    lines.append(f"In a terminal: mailpulse alerts show {data['incident_id']}")
    fields = _fields(data)
    return Message(
        line(heads.get(state, f"{state}: {what} is {value}"), 250), tuple(lines),
        _campaign_link(dashboard, data["campaign_id"]), str(data["incident_id"]),
        state == "opened", level, over, campaign, fields,
    )  # fmt: skip


_SILENCES = {
    "refused": "all requests to source {source} are refused",
    "unreadable": "nothing that source {source} posts can be read",
}
"""Cause -> what is wrong; of others nothing comes."""


def _silence(data: Mapping[str, Any], dashboard: str) -> Message:
    source, level = line(data["source"], 80), line(data["level"], 20)
    what = _SILENCES.get(data["cause"], "nothing comes from source {source}").format(source=source)
    if data["event_type"]:
        what = f"source {source} reports no «{line(data['event_type'], 40)}»"
    over, since = data["state"] == CLOSED, _moment(data["silent_since"])
    if over:
        title, lines = f"over: {what}", [f"Silent since {since}.", _ended(data)]
    else:
        begins = _moment(data["refused_since"]) if data["cause"] in _SILENCES else since
        title = f"{'now ' if data['state'] == 'changed' else ''}{level}: {what} since {begins}"
        lines = [line(data["advice"], 600)]
        if data["explained_s"]:
            usual, most = _length(data["usual_gap_s"]), _length(data["explained_s"])
            lines.insert(0, f"The longest gap of a usual week would have ended after {usual};"
                            f" {most} would still have been within its rhythm.")  # fmt: skip
    lines.append(f"In a terminal: mailpulse alerts show {data['incident_id']}")
    link = f"{dashboard}/pipeline" if dashboard else None
    return Message(
        line(title, 250), tuple(lines), link, str(data["incident_id"]), data["state"] == "opened",
        level, over, fields=_fields(data),
    )  # fmt: skip


def _ended(data: Mapping[str, Any]) -> str:
    if data["resumed_at"]:
        return f"It came again {_moment(data['resumed_at'])}."
    if data["cause"] in _SILENCES:
        return "Nothing came, but nothing is posted any more either."
    return "Nothing came, but it has been silent for so long that no rhythm is known any more."


def _length(seconds: int) -> str:
    """A length of time in words, in two units at most."""
    minutes = max(1, round(seconds / 60))
    if minutes < 120:
        return f"{minutes} minutes"
    hours = round(minutes / 60)
    return f"{hours} hours" if hours < 72 else f"{round(hours / 24)} days"


def _destination(kind: str, data: Mapping[str, Any], dashboard: str) -> Message:
    name, failing = line(data["destination"], 80), kind == FAILING
    host = line(data["host"], 120)
    title = f"destination {name} ({host}) " + ("does not work" if failing else "works again")
    lines = [f"Since {_moment(data['since'])}."]
    if failing:
        lines = [
            f"Since {_moment(data['since'])}; it says: {line(data['said'])}",
            "It is only probed; nothing is lost while its topics hold it.",
            "In a terminal: mailpulse deliver ls",
        ]
    link = f"{dashboard}/pipeline" if dashboard else None
    thread = f"destination-{name}-{data['since']}".replace(":", "")
    return Message(title, tuple(lines), link, thread, failing, "critical", not failing,
                   fields=_fields(data))  # fmt: skip


def _other(kind: str, body: Mapping[str, Any], dashboard: str) -> Message:
    """Any other record: its type, its campaign and its plain fields."""
    data = body["data"]
    nested = {**data.get("event", {}), **data.get("enrichment", {})} if "event" in data else {}
    fields = _fields({**nested, **data})
    campaign = fields.get("campaign_id", "")
    where = f" in {campaign}" if campaign else ""
    who = f": {fields['recipient']}" if "recipient" in fields else ""
    lines = tuple(f"{name.replace('_', ' ')}: {value}" for name, value in fields.items())
    link = _campaign_link(dashboard, campaign) if campaign else None
    title = line(f"{kind.replace('.', ' ').replace('_', ' ')}{where}{who}", 250)
    return Message(title, lines[:20], link, str(body["id"]), campaign=campaign, fields=fields)


def _fields(data: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: line(value)
        for name, value in data.items()
        if name not in _SKIPPED and value not in (None, "") and not isinstance(value, dict | list)
    }


def filled(template: str, message: Message) -> str:
    """The text that a template makes of a message; a name without a value gives «–».

    Its names are ``title``, ``text``, ``link`` and those of the record's fields.
    """
    known = {**message.fields, "title": message.title, "text": "\n".join(message.lines),
             "link": message.link or ""}  # fmt: skip

    class _Known(dict[str, str]):
        def __missing__(self, _name: str) -> str:
            return "–"

    return Template(template).substitute(_Known(known))[:TEXT_CHARS_MAX]


def _campaign_link(dashboard: str, campaign: str) -> str | None:
    return f"{dashboard}/campaign?campaign={quote(campaign, safe='')}" if dashboard else None


def _percent(ratio: float) -> str:
    digits = 1 if ratio >= 0.1 else 2 if ratio >= 0.001 else 3
    return f"{100 * ratio:.{digits}f} %"


def _moment(text: object) -> str:
    """``2026-12-01T08:00:12.5Z`` as ``2026-12-01 08:00 UTC``."""
    return f"{str(text)[:16].replace('T', ' ')} UTC"


_WINDOWS = {"24h": "sent in the last 24 hours", "7d": "delivered in the last 7 days"}


def _window(name: str) -> str:
    return _WINDOWS.get(name, line(name, 40))
