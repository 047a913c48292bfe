"""The tables of the pages, to download as CSV or Parquet.

Invariants:
1. Pure: a document in, text out. The figures are those of the page, with rates as ratios besides
   their numerators and denominators; times are in ISO 8601, in UTC, but for the begins of steps:
   those are in the time zone in which the steps are cut.
2. Text that a spreadsheet would execute as a formula is prefixed with an apostrophe.
"""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from analytics.dashboard.ages import KINDS
from analytics.dashboard.comparison import WHO_SHOWN
from analytics.dashboard.figures import FIELDS, METRICS, Metric, rate
from analytics.dashboard.formulas import harmless
from schemas.errors import BadInput

Document = Mapping[str, Any]
Line = Sequence[Any]


def csv_of(document: Document, table: str, search: str = "") -> str:
    """A table of a document, as CSV; arguments and errors are those of ``table_of``."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    for line in table_of(document, table, search):
        writer.writerow([_cell(value) for value in line])
    return out.getvalue()


def table_of(document: Document, table: str, search: str = "") -> Iterable[Line]:
    """A table of a document: the names of its columns, then its rows.

    Args:
        document: of a page.
        table: its name, as in the page's links.
        search: of the overview's campaigns, only those with this text in id, name or owner, as the
            page filters them; whatever belongs to no campaign is then left out.

    Raises:
        BadInput: the page has no such table.
    """
    maker = _TABLES.get((str(document["page"]), table))
    if maker is None:
        known = sorted(name for page, name in _TABLES if page == document["page"])
        raise BadInput("no_such_table", f"one of {', '.join(known)}")
    return maker(_found(document, search) if document["page"] == "overview" else document)


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return harmless(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return round(value, 8) if isinstance(value, float) else value


def _time(milliseconds: int | None) -> str:
    if milliseconds is None:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


def _metric_name(item: Metric) -> str:
    """The glossary's name, or one made like it."""
    basis = "flow_" if item.basis == "flow" else ""
    return f"{basis}{item.name}{_WITH.get(item.who, '')}"


_WITH = {"any": "_with_machine", "unknown": "_with_unknown"}


_FIGURES = (*FIELDS, *(_metric_name(item) for item in METRICS))


def _figures(values: Sequence[int]) -> list[Any]:
    return [*values, *(rate(values, item) for item in METRICS)]


def _found(document: Document, search: str) -> Document:
    """The document with those of its campaigns that a search finds; of no campaign last."""
    wished = search.strip().lower()
    campaigns = document["campaigns"]
    if wished:
        campaigns = [
            one for one in campaigns
            if one["id"] and wished in "\n".join((one["id"], one["name"], one["owner"])).lower()
        ]  # fmt: skip
    return {**document, "campaigns": sorted(campaigns, key=lambda one: one["id"] == "")}


def _campaigns(document: Document) -> Iterable[Line]:
    yield ("campaign_id", "name", "owner", "last_event_minute", *_FIGURES)
    for item in document["campaigns"]:
        head = (item["id"], item["name"], item["owner"], _time(item["last_ms"]))
        yield (*head, *_figures(item["counts"]))


def _timeline(document: Document) -> Iterable[Line]:
    yield ("step_start", *_FIGURES)
    for item in document["timeline"]:
        at = datetime.fromtimestamp(item["at_s"], ZoneInfo(document["zone"]))
        yield (at.isoformat(), *_figures(item["counts"]))


def _trend(document: Document) -> Iterable[Line]:
    trend = document["trend"]
    yield ("step_start", *_FIGURES, *(f"previous_{name}" for name in FIELDS))
    none = [""] * len(FIELDS)
    before = trend["before"] or [none] * len(trend["counts"])
    zone = ZoneInfo(document["zone"])
    for at_s, counts, was in zip(trend["steps_s"], trend["counts"], before, strict=True):
        yield (datetime.fromtimestamp(at_s, zone).isoformat(), *_figures(counts), *was)


def _funnel(document: Document) -> Iterable[Line]:
    yield _FIGURES
    yield _figures(document["totals"])


def _mailboxes(document: Document) -> Iterable[Line]:
    yield ("mailbox_provider", *_FIGURES)
    for item in document["mailboxes"]:
        yield (item["mailbox"], *_figures(item["counts"]))


def _plain(key: str, names: Sequence[str]) -> Callable[[Document], Iterable[Line]]:
    """A table of the rows in the document under ``key``; names ending in ``_ms`` are times."""

    def lines(document: Document) -> Iterable[Line]:
        yield [name.replace("_ms", "_at") for name in names]
        for row in document[key]:
            yield [_time(row[name]) if name.endswith("_ms") else row[name] for name in names]

    return lines


_INCIDENTS = _plain(
    "incidents",
    (
        "campaign_id", "rate", "state", "level", "worst_level", "mailbox_provider", "line",
        "window", "numerator", "denominator", "opened_numerator", "opened_denominator", "cause",
        "cause_name", "advice", "opened_ms", "closed_ms",
    ),
)  # fmt: skip

_COUNTED = (
    "opened",
    "opened_unknown",
    "opened_machine",
    "clicked",
    "clicked_unknown",
    "clicked_machine",
)


def _hours(document: Document) -> Iterable[Line]:
    yield ("weekday", "hour", *_FIGURES)
    for row in document["hours"]:
        yield (row["weekday"], row["hour"], *_figures(row["counts"]))


def _with(dimension: str) -> Callable[[Document], Iterable[Line]]:
    """A table of devices, or clients, and so on."""

    def lines(document: Document) -> Iterable[Line]:
        yield (dimension, *(f"{name}_messages" for name in _COUNTED))
        for row in document["with_what"]:
            if row["dimension"] == dimension:
                yield (row["value"], *(row[name] for name in _COUNTED))

    return lines


def _side_by_side(key: str, column: str) -> Callable[[Document], Iterable[Line]]:
    """Campaigns, or variants, at equal age."""

    def lines(document: Document) -> Iterable[Line]:
        found = document[key]
        wanted = [(kind, who) for kind in KINDS for who in WHO_SHOWN]
        names = ("", "_at_most", "_rate_low", "_rate_high")
        yield (
            column, "name", "age_s", "delivered",
            *(f"{kind}_{who}{name}" for kind, who in wanted for name in names),
        )  # fmt: skip
        for row in found["rows"]:
            cells = [row["rates"].get(kind, {}).get(who) for kind, who in wanted]
            yield (
                row["id"], found["names"].get(row["id"], ""), found["age_s"], row["delivered"],
                *(
                    value
                    for one in cells
                    for value in (
                        (one["above"], one["most"], one["low"], one["high"]) if one else ("",) * 4
                    )
                ),
            )  # fmt: skip

    return lines


def _growth(document: Document) -> Iterable[Line]:
    yield ("step_start", "reason", "addresses")
    zone = ZoneInfo(document["zone"])
    for one in document["suppressions"]:
        for at_s, addresses in zip(document["steps_s"], one["addresses"], strict=True):
            yield (datetime.fromtimestamp(at_s, zone).isoformat(), one["reason"], addresses)


def _courses(document: Document) -> Iterable[Line]:
    yield ("step_start", "mailbox_provider", *_FIGURES)
    zone = ZoneInfo(document["zone"])
    for one in document["courses"]:
        for at_s, counts in zip(document["steps_s"], one["counts"], strict=True):
            at = datetime.fromtimestamp(at_s, zone).isoformat()
            yield (at, one["mailbox"], *_figures(counts))


def _samples(document: Document) -> Iterable[Line]:
    yield ("at", "consumer_group", "lag", "behind_s")
    for one in document["samples"]:
        for group, lag in (one["lag"] or {"": ""}).items():
            yield (_time(one["at_ms"]), group, lag, one["behind_s"])


_TABLES: dict[tuple[str, str], Callable[[Document], Iterable[Line]]] = {
    ("overview", "campaigns"): _campaigns,
    ("overview", "trend"): _trend,
    ("overview", "incidents"): _INCIDENTS,
    ("campaign", "funnel"): _funnel,
    ("campaign", "timeline"): _timeline,
    ("campaign", "mailboxes"): _mailboxes,
    ("campaign", "incidents"): _INCIDENTS,
    ("campaign", "bounces"): _plain(
        "bounces",
        ("bounce_class", "bounce_reason", "smtp_code", "enhanced_status", "messages", "last_ms",
         "diagnostic"),
    ),
    ("campaign", "links"): _plain(
        "links",
        ("click_url_group", "unsubscribe_link", "messages", "clicks", "machine_messages",
         "machine_clicks", "unknown_clicks", "click_urls"),
    ),
    ("campaign", "machines"): _plain(
        "machines",
        ("event_type", "actor", "actor_reason", "actor_certainty", "events", "messages"),
    ),
    ("campaign", "recent"): _plain(
        "recent", ("at_ms", "event_type", "detail", "recipient", "mailbox_provider", "provider")
    ),
    ("deliverability", "mailboxes"): _mailboxes,
    ("deliverability", "courses"): _courses,
    ("deliverability", "suppressions"): _growth,
    ("deliverability", "bounces"): _plain(
        "bounces",
        ("bounce_class", "bounce_reason", "messages", "campaigns", "last_ms", "diagnostic"),
    ),
    ("compare", "campaigns"): _side_by_side("campaigns", "campaign_id"),
    ("compare", "variants"): _side_by_side("variants", "variant"),
    ("audience", "hours"): _hours,
    ("audience", "device"): _with("device"),
    ("audience", "client"): _with("client"),
    ("audience", "os"): _with("os"),
    ("audience", "country"): _with("country"),
    ("pipeline", "topics"): _plain("topics", ("topic", "records", "per_s")),
    ("pipeline", "throughput"): _plain("throughput", ("at_s", "seconds", "accepted", "stored")),
    ("pipeline", "samples"): _samples,
    ("pipeline", "lags"): _plain(
        "lags", ("group", "topic", "partition", "lag", "per_s", "committed", "end")
    ),
    ("pipeline", "dead_letters"): _plain(
        "dead_letters", ("stage", "reason", "source", "letters", "occurrences", "last_ms", "sample")
    ),
    ("pipeline", "reconciliation"): _plain(
        "reconciliation",
        (
            "source", "accepted", "stored", "repeated", "dead_letters", "missing",
            "missing_settled", "unexplained_settled",
        ),
    ),
    ("pipeline", "silences"): _plain(
        "silences",
        (
            "source", "event_type", "level", "cause", "since_ms", "accepted_ms", "refused_ms",
            "refused", "refusal", "usual_gap_s", "explained_s", "opened_ms", "closed_ms", "advice",
        ),
    ),
    ("pipeline", "parts"): _plain(
        "parts", ("part", "source", "newest_ms", "caught_up_ms", "seconds_silent")
    ),
    ("pipeline", "destinations"): _plain(
        "destinations",
        ("destination", "kind", "host", "topics", "state", "lag", "held", "delivered", "failed",
         "last_success_ms"),
    ),
    ("pipeline", "tries"): _plain(
        "tries", ("destination", "at_ms", "records", "result", "said", "seconds")
    ),
    ("pipeline", "requests"): _plain("requests", ("source", "result", "requests")),
}  # fmt: skip
