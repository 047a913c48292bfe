"""The providers whose suppression lists can be written, and what each can hold.

**None of them was tried on a live account.** Pure.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from streams.deliver.suppress import mailgun, postmark, sendgrid, ses, sparkpost
from streams.deliver.suppress.changes import Change, Target
from streams.deliver.suppress.exchange import Answer, Exchange, Listing


@dataclass(frozen=True, slots=True)
class Provider:
    """What one provider's API does.

    Attributes:
        apply: changes lists; called with ``may_remove``.
        listed: reads one list.
        message: what an answer says of an error.
        entry: what entries are kept by, beside the address.
        batch_max: records in one conversation.
        calls_per_s: calls a second unless the destination says otherwise: cautious ones, since no
            provider documents its limit.
        lists: all that can be written.
        defaults: reason -> lists; a reason that is not there can't be held.
        place: kind of the places that scopes can be mapped to.
        shows_own: the provider's entries show which of them were put there through its API.
    """

    apply: Callable[..., Exchange]
    listed: Callable[[Target], Listing]
    message: Callable[[Answer], str]
    entry: Callable[[Target], Hashable]
    batch_max: int
    calls_per_s: float
    lists: tuple[str, ...]
    defaults: Mapping[str, tuple[str, ...]]
    place: str
    shows_own: bool

    def changes(self, changes: Sequence[Change], *, may_remove: bool) -> Exchange:
        """The conversation that makes the changes."""
        return self.apply(changes, may_remove=may_remove)


_ALL_TYPES = (sparkpost.TRANSACTIONAL, sparkpost.NON_TRANSACTIONAL)
PROVIDERS: Mapping[str, Provider] = {
    "sendgrid": Provider(
        sendgrid.apply, sendgrid.listed, sendgrid.message, sendgrid.entry, sendgrid.BATCH_MAX, 5.0,
        (sendgrid.UNSUBSCRIBES,),
        {"unsubscribe": (sendgrid.UNSUBSCRIBES,), "manual": (sendgrid.UNSUBSCRIBES,)},
        "group", shows_own=False,
    ),
    "mailgun": Provider(
        mailgun.apply, mailgun.listed, mailgun.message, mailgun.entry, mailgun.BATCH_MAX, 5.0,
        (mailgun.BOUNCES, mailgun.COMPLAINTS, mailgun.UNSUBSCRIBES),
        {
            "hard_bounce": (mailgun.BOUNCES,), "complaint": (mailgun.COMPLAINTS,),
            "unsubscribe": (mailgun.UNSUBSCRIBES,), "manual": (mailgun.UNSUBSCRIBES,),
        },
        "domain", shows_own=True,
    ),
    "postmark": Provider(
        postmark.apply, postmark.listed, postmark.message, postmark.entry, postmark.BATCH_MAX, 5.0,
        (postmark.SUPPRESSIONS,),
        dict.fromkeys(
            ("hard_bounce", "complaint", "unsubscribe", "manual"), (postmark.SUPPRESSIONS,)
        ),
        "stream", shows_own=True,
    ),
    "sparkpost": Provider(
        sparkpost.apply, sparkpost.listed, sparkpost.message, sparkpost.entry,
        sparkpost.BATCH_MAX, 5.0,
        _ALL_TYPES,
        {
            "hard_bounce": _ALL_TYPES, "complaint": _ALL_TYPES, "manual": _ALL_TYPES,
            "unsubscribe": (sparkpost.NON_TRANSACTIONAL,),
        },
        "list", shows_own=True,
    ),
    "ses": Provider(
        ses.apply, ses.listed, ses.message, ses.entry, ses.BATCH_MAX, 1.0,
        (ses.BOUNCE, ses.COMPLAINT),
        {"hard_bounce": (ses.BOUNCE,), "complaint": (ses.COMPLAINT,)},
        "tenant", shows_own=True,
    ),
}  # fmt: skip
"""Name in ``kind = "suppress:NAME"`` -> provider."""
