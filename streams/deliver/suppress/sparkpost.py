"""SparkPost and Bird Email: a suppression list of two types. **Not tried on a live account.**

Invariants:
1. Every removal names ``list_id``, empty for entries of the whole account: without it SparkPost
   removes all entries of an address, those of single lists too.
2. An unsubscribe stops non-transactional mail, as SparkPost's own do; everything else stops both.
3. What mailpulse wrote says so in its description. Only that is taken off, unless
   ``lifts = "all"``.
4. Entries of SparkPost's compliance team can't be changed: they are left as they are, and no error.
5. A server error may come after some entries were written: the whole call is repeated.

Source: github.com/SparkPost/developers.sparkpost.com, ``content/api/suppression-list.apib``. After
429 it asks for 1 to 5 s. An account holds 1,000,000 entries.
"""

from collections.abc import Hashable, Sequence
from typing import Any

from streams.deliver.outcomes import DELIVERED
from streams.deliver.suppress import exchange
from streams.deliver.suppress.changes import Change, Target
from streams.deliver.suppress.exchange import Answer, Call, Entry, Exchange, Listing, Unreadable

BATCH_MAX = 200
"""SparkPost takes 10,000."""
PAGE = 1_000
WAIT_S = 5.0
PATH = "/api/v1/suppression-list"
TRANSACTIONAL, NON_TRANSACTIONAL = "transactional", "non_transactional"
MARK = "mailpulse"
COMPLIANCE = "compliance"


def message(answer: Answer) -> str:
    """What SparkPost says of an error."""
    return exchange.text_at(answer.document, "errors", 0, "message")


def entry(target: Target) -> Hashable:
    """Each type has entries of its own, for the account and for each list."""
    return target


def apply(changes: Sequence[Change], *, may_remove: bool) -> Exchange:
    """Puts addresses on lists, and takes them off.

    Args:
        changes: one for each entry.
        may_remove: also what mailpulse did not write (invariant 3).
    """
    put = [_recipient(change) for change in changes if change.on]
    for part in exchange.parts(put, BATCH_MAX):
        answer = yield exchange.write("PUT", f"{PATH}/", {"recipients": list(part)})
        if not answer.ok:
            return exchange.failure(answer, message(answer), WAIT_S)
    for change in changes:
        if change.on:
            continue
        path, target = f"{PATH}/{exchange.encoded(change.address)}", change.target
        if not may_remove:
            answer = yield exchange.read(path)
            if not answer.ok and answer.status != 404:
                return exchange.failure(answer, message(answer), WAIT_S)
            results = _results(answer)
            if answer.ok and results is None:
                return exchange.not_understood(answer)
            if not _is_marked(results or [], target):
                continue
        kind = {"type": target.list}
        answer = yield exchange.write("DELETE", path, kind, list_id=target.place_id)
        if not (answer.ok or answer.status == 404 or _is_compliance(answer)):
            return exchange.failure(answer, message(answer), WAIT_S)
    return DELIVERED


def _is_compliance(answer: Answer) -> bool:
    return answer.status == 403 and COMPLIANCE in message(answer).lower()


def _recipient(change: Change) -> dict[str, str]:
    made = {
        "recipient": change.address, "type": change.target.list,
        "description": f"{MARK}: {change.reason} {change.event_id}".rstrip(),
    }  # fmt: skip
    return made | ({"list_id": change.target.place_id} if change.target.place else {})


def _is_marked(results: Sequence[Any], target: Target) -> bool:
    """Whether mailpulse wrote the entry of a target."""
    return any(
        exchange.text_at(one, "type") == target.list
        and exchange.text_at(one, "list_id") == target.place_id
        and exchange.text_at(one, "description").startswith(MARK)
        for one in results
    )


def _results(answer: Answer) -> list[Any] | None:
    found = answer.document.get("results") if isinstance(answer.document, dict) else None
    return found if isinstance(found, list) else None


def listed(target: Target) -> Listing:
    """The addresses of a type, of the account or of a list."""
    found: list[Entry] = []
    call: Call | None = exchange.read(
        PATH, cursor="initial", per_page=PAGE, list_id=target.place_id, types=target.list
    )
    while call is not None:
        answer = yield call
        results = _results(answer)
        if not answer.ok or results is None:
            raise Unreadable(f"{answer.status}: {message(answer)}")
        found += [
            Entry(exchange.text_at(one, "recipient"), exchange.text_at(one, "source"))
            for one in results
        ]
        call = _next(answer.document) if results else None
    return found


def _next(document: Any) -> Call | None:
    """The next page."""
    links = document.get("links")
    if isinstance(links, list):
        links = {exchange.text_at(one, "rel"): exchange.text_at(one, "href") for one in links}
    return exchange.next_page(exchange.text_at(links, "next"))
