"""Amazon SES v2: the suppression list of an account in one region, or of a tenant.

**Not tried on a live account.**

Invariants:
1. An entry has one reason, BOUNCE or COMPLAINT; there is none for unsubscribes and entries by hand,
   which go nowhere unless ``lists`` says under which of the two.
2. Each address is a call of its own.
3. A 400 about the credentials or the pace, as AWS answers some, never counts against an address.
4. Entries that SES made itself show the message they came from. Only those without are taken off,
   unless ``lifts = "all"``.

Source: github.com/boto/botocore, ``sesv2/2019-09-27/service-2.json``. Whether mail is stopped is up
to the account's ``SuppressedReasons``, or those of the configuration set. How many calls a second
it takes is not documented; 429 has no header.
"""

from collections.abc import Hashable, Sequence
from dataclasses import replace

from streams.deliver.outcomes import DELIVERED, Blame, Outcome
from streams.deliver.suppress import exchange
from streams.deliver.suppress.changes import Change, Target
from streams.deliver.suppress.exchange import Answer, Entry, Exchange, Listing, Unreadable

BATCH_MAX = 1
PAGE = 1_000
WAIT_S = 2.0
_WAIT = frozenset(("Throttling", "ThrottlingException", "TooManyRequestsException",
                   "LimitExceededException", "RequestLimitExceeded"))  # fmt: skip
_ACCOUNT = frozenset((
    "ExpiredToken", "ExpiredTokenException", "IncompleteSignature", "InvalidClientTokenId",
    "InvalidSignatureException", "MissingAuthenticationToken", "RequestExpired",
    "UnrecognizedClientException",
))  # fmt: skip
"""Types of errors, common to all of AWS."""
PATH = "/v2/email/suppression/addresses"
BOUNCE, COMPLAINT = "BOUNCE", "COMPLAINT"


def message(answer: Answer) -> str:
    """What SES says of an error."""
    return exchange.text_at(answer.document, "message") or answer.headers.get(
        "x-amzn-errortype", ""
    )


def entry(target: Target) -> Hashable:
    """An address has one entry, whatever its reason."""
    return target.place


def apply(changes: Sequence[Change], *, may_remove: bool) -> Exchange:
    """Puts addresses on the list, and takes them off.

    Args:
        changes: one for each place of an address.
        may_remove: also what SES put there itself (invariant 4).
    """
    for change in changes:
        one = f"{PATH}/{exchange.encoded(change.address)}"
        tenant = {"TenantName": change.target.place_id} if change.target.place else {}
        if change.on:
            entry = {"EmailAddress": change.address, "Reason": change.target.list, **tenant}
            answer = yield exchange.write("PUT", PATH, entry)
        else:
            if not may_remove:
                answer = yield exchange.read(one, **tenant)
                if _is_absent(answer):
                    continue
                if not answer.ok:
                    return _failure(answer)
                if not isinstance(answer.document, dict):
                    return exchange.not_understood(answer)
                if _is_its_own(answer):
                    continue
            answer = yield exchange.write("DELETE", one, **tenant)
            if _is_absent(answer):
                continue
        if not answer.ok:
            return _failure(answer)
    return DELIVERED


def _failure(answer: Answer) -> Outcome:
    """What an error means (invariant 3)."""
    kind = answer.headers.get("x-amzn-errortype", "").partition(":")[0].rpartition("#")[2]
    if kind in _WAIT:
        answer = replace(answer, status=429)
    outcome = exchange.failure(answer, message(answer), WAIT_S)
    if kind in _ACCOUNT and outcome.blame is Blame.RECORD:
        return replace(outcome, blame=Blame.DESTINATION)
    return outcome


def _is_absent(answer: Answer) -> bool:
    return answer.status == 404 and "tenant" not in message(answer).lower()


def _is_its_own(answer: Answer) -> bool:
    document = answer.document
    return any(
        exchange.text_at(document, "SuppressedDestination", "Attributes", name)
        for name in ("MessageId", "FeedbackId")
    )


def listed(target: Target) -> Listing:
    """The addresses on the list with the target's reason."""
    found: list[Entry] = []
    given = {"TenantName": target.place_id} if target.place else {}
    token = ""
    while True:
        more = {"NextToken": token} if token else {}
        answer = yield exchange.read(PATH, PageSize=PAGE, Reason=target.list, **given, **more)
        document = answer.document
        items = document.get("SuppressedDestinationSummaries") if isinstance(document, dict) else 0
        if not answer.ok or not isinstance(items, list):
            raise Unreadable(f"{answer.status}: {message(answer)}")
        found += [
            Entry(exchange.text_at(one, "EmailAddress"), exchange.text_at(one, "Reason"))
            for one in items
        ]
        token = exchange.text_at(document, "NextToken")
        if not token:
            return found
