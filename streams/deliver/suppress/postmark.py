"""Postmark: the suppressions of each message stream of one server. **Not tried on a live account.**

Invariants:
1. Lists are those of message streams: what concerns a whole address goes to every stream in
   ``streams``. An entry has no reason: Postmark calls each a manual suppression.
2. At most 50 addresses a call. The answer is 200 even if addresses were refused: each one's own
   ``Status`` is read. One that can't be added since it is there already, as by a spam complaint, is
   no error.
3. Spam complaints can't be taken off: they stay, and are no error. Of the other entries only manual
   ones of the customer are taken off, unless ``lifts = "all"``; to take off a hard bounce is to
   activate the address again.

Sources: https://postmarkapp.com/developer/api/suppressions-api; github.com/ActiveCampaign
(postmark-python; postmark-php, «Managing Suppressions»). Changes take up to a minute to show. How
many calls a second it takes is not documented; 429 has no header.
"""

from collections.abc import Generator, Hashable, Sequence
from typing import Any

from streams.deliver.outcomes import DELIVERED, Outcome
from streams.deliver.suppress import exchange
from streams.deliver.suppress.changes import Change, Target
from streams.deliver.suppress.exchange import Answer, Call, Entry, Exchange, Listing, Unreadable

BATCH_MAX = 50
WAIT_S = 10.0
SUPPRESSIONS = "suppressions"
MANUAL, CUSTOMER, COMPLAINT = "ManualSuppression", "Customer", "SpamComplaint"


def message(answer: Answer) -> str:
    """What Postmark says of an error."""
    return exchange.text_at(answer.document, "Message")


def entry(target: Target) -> Hashable:
    """Each stream has entries of its own."""
    return target


def apply(changes: Sequence[Change], *, may_remove: bool) -> Exchange:
    """Puts addresses on lists, and takes them off.

    Args:
        changes: one for each entry.
        may_remove: also what was not put there by the customer (invariant 3).
    """
    for target in dict.fromkeys(change.target for change in changes):
        mine = [change for change in changes if change.target == target]
        on = [change.address for change in mine if change.on]
        for part in exchange.parts(on, BATCH_MAX):
            answer = yield exchange.write("POST", _path(target), _document(part))
            if not answer.ok:
                return exchange.failure(answer, message(answer), WAIT_S)
            failed = yield from _failed_to_add(target, answer, part)
            if failed is not None:
                return failed
        off = []
        for address in [change.address for change in mine if not change.on]:
            answer = yield exchange.read(f"{_path(target)}/dump", EmailAddress=address)
            if not answer.ok:
                return exchange.failure(answer, message(answer), WAIT_S)
            if (entries := _entries(answer)) is None:
                return exchange.not_understood(answer)
            if _may_go(entries, address, may_remove=may_remove):
                off.append(address)
        for part in exchange.parts(off, BATCH_MAX):
            answer = yield exchange.write("POST", f"{_path(target)}/delete", _document(part))
            if (failed := _failed_to_delete(answer, part)) is not None:
                return failed
    return DELIVERED


def _failed_to_add(
    target: Target, answer: Answer, addresses: Sequence[str]
) -> Generator[Call, Answer, Outcome | None]:
    """What keeps an address off the list; ``None``: all are on it."""
    if _entries(answer) is None:
        return exchange.not_understood(answer)
    for address, said in _refused(answer, addresses, "Suppressed").items():
        found = yield exchange.read(f"{_path(target)}/dump", EmailAddress=address)
        if not found.ok:
            return exchange.failure(found, message(found), WAIT_S)
        if (entries := _entries(found)) is None:
            return exchange.not_understood(found)
        if _entry_of(entries, address) is None:
            return exchange.refused(said)
    return None


def _failed_to_delete(answer: Answer, addresses: Sequence[str]) -> Outcome | None:
    """What keeps an address on the list; ``None``: none is on it."""
    if not answer.ok:
        return exchange.failure(answer, message(answer), WAIT_S)
    if _entries(answer) is None:
        return exchange.not_understood(answer)
    refused = _refused(answer, addresses, "Deleted")
    return exchange.refused(next(iter(refused.values()))) if refused else None


def _path(target: Target) -> str:
    return f"/message-streams/{exchange.encoded(target.place_id)}/suppressions"


def _document(addresses: Sequence[str]) -> dict[str, list[dict[str, str]]]:
    return {"Suppressions": [{"EmailAddress": address} for address in addresses]}


def _entries(answer: Answer) -> list[Any] | None:
    document = answer.document
    found = document.get("Suppressions") if isinstance(document, dict) else None
    return found if isinstance(found, list) else None


def _refused(answer: Answer, asked: Sequence[str], good: str) -> dict[str, str]:
    """Address that was not taken -> what is said of it; one that is not named was not taken."""
    entries = _entries(answer) or []
    refused = {}
    for address in asked:
        one = _entry_of(entries, address)
        if one is None:
            refused[address] = "its answer does not name every address"
        elif (status := exchange.text_at(one, "Status")) != good:
            refused[address] = exchange.text_at(one, "Message") or status or "refused"
    return refused


def _entry_of(entries: Sequence[Any], address: str) -> Any:
    """The entry of an address; ``None``: there is none."""
    for one in entries:
        if exchange.text_at(one, "EmailAddress").lower() == address.lower():
            return one
    return None


def _may_go(entries: Sequence[Any], address: str, *, may_remove: bool) -> bool:
    one = _entry_of(entries, address)
    if one is None:
        return False
    reason = exchange.text_at(one, "SuppressionReason")
    if reason == COMPLAINT:
        return False
    return may_remove or (reason == MANUAL and exchange.text_at(one, "Origin") == CUSTOMER)


def listed(target: Target) -> Listing:
    """The addresses on the stream's list: one answer, without pages."""
    answer = yield exchange.read(f"{_path(target)}/dump")
    entries = _entries(answer)
    if not answer.ok or entries is None:
        raise Unreadable(f"{answer.status}: {message(answer)}")
    return [
        Entry(exchange.text_at(one, "EmailAddress"), exchange.text_at(one, "SuppressionReason"))
        for one in entries
    ]
