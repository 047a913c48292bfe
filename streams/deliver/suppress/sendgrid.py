"""Twilio SendGrid: global unsubscribes and unsubscribe groups. **Not tried on a live account.**

Invariants:
1. A group is looked up before each write to it: SendGrid puts the addresses of a group that does
   not exist on the global list, which would stop all mail to them.
2. Only unsubscribes are written. Bounces, blocks, invalid addresses and spam reports can be read
   and removed, not added: hard bounces and complaints go nowhere unless ``lists`` says that they
   go to the unsubscribes.
3. Nothing shows who put an address on a list, so nothing is taken off unless ``lifts = "all"``.

Sources: github.com/twilio/sendgrid-oai, ``tsg_suppressions_v3.yaml``; rate limits:
https://www.twilio.com/docs/sendgrid/api-reference/how-to-use-the-sendgrid-v3-api/rate-limits. How
many addresses one call takes is not documented.
"""

from collections.abc import Generator, Hashable, Sequence

from streams.deliver.outcomes import DELIVERED, Outcome
from streams.deliver.suppress import exchange
from streams.deliver.suppress.changes import Change, Target
from streams.deliver.suppress.exchange import Answer, Call, Entry, Exchange, Listing, Unreadable

BATCH_MAX = 100
PAGE = 500
WAIT_S = 10.0
"""Pause after 429 without a header."""
UNSUBSCRIBES = "unsubscribes"


def message(answer: Answer) -> str:
    """What SendGrid says of an error."""
    return exchange.text_at(answer.document, "errors", 0, "message")


def entry(target: Target) -> Hashable:
    """Each list has entries of its own."""
    return target


def apply(changes: Sequence[Change], *, may_remove: bool) -> Exchange:
    """Puts addresses on lists, and takes them off.

    Args:
        changes: one for each entry.
        may_remove: whether entries are taken off (invariant 3).
    """
    for target in dict.fromkeys(change.target for change in changes):
        mine = [change for change in changes if change.target == target]
        on = [change.address for change in mine if change.on]
        off = [change.address for change in mine if not change.on] if may_remove else []
        if target.place and (on or off):
            missing = yield from _without_group(target)
            if missing is not None:
                return missing
        for part in exchange.parts(on, BATCH_MAX):
            answer = yield exchange.write("POST", _path(target), {"recipient_emails": list(part)})
            if not answer.ok:
                return exchange.failure(answer, message(answer), WAIT_S)
        for address in off:
            path = f"{_path(target)}/{exchange.encoded(address)}"
            answer = yield exchange.write("DELETE", path)
            if not answer.ok and answer.status != 404:
                return exchange.failure(answer, message(answer), WAIT_S)
    return DELIVERED


def _path(target: Target) -> str:
    if target.place:
        return f"/v3/asm/groups/{exchange.encoded(target.place_id)}/suppressions"
    return "/v3/asm/suppressions/global"


def _without_group(target: Target) -> Generator[Call, Answer, Outcome | None]:
    """Why nothing can be written to a group; ``None``: it is there."""
    answer = yield exchange.read(f"/v3/asm/groups/{exchange.encoded(target.place_id)}")
    if answer.ok:
        if isinstance(answer.document, dict) and str(answer.document.get("id")) == target.place_id:
            return None
        return exchange.no_such_list(f"the answer does not show {target.place}: nothing is written")
    if answer.status == 404:
        return exchange.no_such_list(
            f"{target.place} does not exist: nothing is written, since SendGrid would stop all mail"
            " to these addresses"
        )
    return exchange.failure(answer, message(answer), WAIT_S)


def listed(target: Target) -> Listing:
    """The addresses on a list."""
    if target.place:
        missing = yield from _without_group(target)
        if missing is not None:
            raise Unreadable(missing.said)
        answer = yield exchange.read(_path(target))
        return [Entry(one) for one in _items(answer) if isinstance(one, str)]
    found: list[Entry] = []
    while True:
        answer = yield exchange.read("/v3/suppression/unsubscribes", limit=PAGE, offset=len(found))
        page = [exchange.text_at(one, "email") for one in _items(answer)]
        found += [Entry(address) for address in page]
        if len(page) < PAGE:
            return found


def _items(answer: Answer) -> list[object]:
    if not answer.ok or not isinstance(answer.document, list):
        raise Unreadable(f"{answer.status}: {message(answer)}")
    return answer.document
