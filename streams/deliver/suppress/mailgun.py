"""Mailgun: bounces, complaints and unsubscribes of each domain. **Not tried on a live account.**

Invariants:
1. Lists are those of domains: what concerns a whole address goes to every domain in ``domains``.
2. Unsubscribes are written for all of a domain's mail (tag ``*``). Tags are not written: whether a
   second entry of an address replaces the first one's tags is not documented, and replacing ``*``
   by a tag would let mail through. A tag of another source is mapped to a domain, or not written.
3. A path always ends with an address: the same call without one clears the list.
4. Only bounces show that mailpulse wrote them (their ``error`` begins with ``MARK``). The other
   entries are taken off only with ``lifts = "all"``.

Source: github.com/mailgun/mailgun-mcp-server, ``src/openapi.yaml``. How many calls a second it
takes is not documented.
"""

from collections.abc import Hashable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from streams.deliver.outcomes import DELIVERED
from streams.deliver.suppress import exchange
from streams.deliver.suppress.changes import Change, Target
from streams.deliver.suppress.exchange import Answer, Call, Entry, Exchange, Listing, Unreadable

BATCH_MAX = 200
"""Mailgun takes fewer than 1,000."""
PAGE = 1_000
WAIT_S = 10.0
BOUNCES, COMPLAINTS, UNSUBSCRIBES = "bounces", "complaints", "unsubscribes"
MARK = "mailpulse"
CODE = "550"
"""What Mailgun itself takes for a bounce without a code."""


def message(answer: Answer) -> str:
    """What Mailgun says of an error."""
    return exchange.text_at(answer.document, "message")


def entry(target: Target) -> Hashable:
    """Each list has entries of its own."""
    return target


def apply(changes: Sequence[Change], *, may_remove: bool) -> Exchange:
    """Puts addresses on lists, and takes them off.

    Args:
        changes: one for each entry.
        may_remove: also what does not show that mailpulse wrote it (invariant 4).
    """
    for target in dict.fromkeys(change.target for change in changes):
        mine = [change for change in changes if change.target == target]
        for part in exchange.parts([change for change in mine if change.on], BATCH_MAX):
            answer = yield exchange.write("POST", _path(target), [_entry(one) for one in part])
            if not answer.ok:
                return exchange.failure(answer, message(answer), WAIT_S)
        for change in mine:
            if change.on or not (may_remove or target.list == BOUNCES):
                continue
            path = f"{_path(target)}/{exchange.encoded(change.address)}"
            if not may_remove:
                answer = yield exchange.read(path)
                if _is_absent(answer):
                    continue
                if not answer.ok:
                    return exchange.failure(answer, message(answer), WAIT_S)
                if not isinstance(answer.document, dict):
                    return exchange.not_understood(answer)
                if not _is_marked(answer):
                    continue
            answer = yield exchange.write("DELETE", path)
            if not answer.ok and not _is_absent(answer):
                return exchange.failure(answer, message(answer), WAIT_S)
    return DELIVERED


def _is_marked(answer: Answer) -> bool:
    return exchange.text_at(answer.document, "error").startswith(MARK)


def _is_absent(answer: Answer) -> bool:
    """Whether a 404 is about the address, not about the domain."""
    return answer.status == 404 and "domain" not in message(answer).lower()


def _path(target: Target) -> str:
    return f"/v3/{exchange.encoded(target.place_id)}/{target.list}"


def _entry(change: Change) -> dict[str, Any]:
    at = datetime.fromtimestamp(change.since_us // 1_000_000, UTC)
    made: dict[str, Any] = {"address": change.address, "created_at": _rfc2822(at)}
    if change.target.list == BOUNCES:
        made["code"] = CODE
        made["error"] = f"{MARK}: {change.reason} {change.event_id}".rstrip()
    if change.target.list == UNSUBSCRIBES:
        made["tags"] = ["*"]
    return made


def _rfc2822(at: datetime) -> str:
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[at.weekday()]
    month = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov",
             "Dec")[at.month - 1]  # fmt: skip
    return f"{day}, {at:%d} {month} {at.year:04} {at:%H:%M:%S} UTC"


def listed(target: Target) -> Listing:
    """The addresses on a list: unsubscribes, those of all mail of the domain."""
    found: list[Entry] = []
    call: Call | None = exchange.read(_path(target), limit=PAGE)
    while call is not None:
        answer = yield call
        items = answer.document.get("items") if isinstance(answer.document, dict) else None
        if not answer.ok or not isinstance(items, list):
            raise Unreadable(f"{answer.status}: {message(answer)}")
        found += _entries(target, items)
        link = exchange.text_at(answer.document, "paging", "next")
        call = exchange.next_page(link) if items else None
    return found


def _entries(target: Target, items: Iterable[Any]) -> Iterable[Entry]:
    for one in items:
        tags = one.get("tags") if isinstance(one, dict) else None
        if target.list == UNSUBSCRIBES and isinstance(tags, list) and tags and "*" not in tags:
            continue
        yield Entry(exchange.text_at(one, "address"), exchange.text_at(one, "error"))
