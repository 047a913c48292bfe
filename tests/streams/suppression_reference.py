"""Who must not be mailed, recounted from the glossary's table: the reference for the fold.

It takes whole histories of up to two weeks, in the order in which they were told, and keeps every
sign: no window ends meanwhile.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from schemas.event import Event, recipient_identity
from streams.classify.bounce import classify_bounce
from streams.enrich.suppressions import (
    COMPLAINT,
    HARD,
    MANUAL,
    PRECEDENCE,
    REASONS,
    SOFT,
    SOFT_BOUNCES,
    SOFT_SPAN_S,
    UNSUBSCRIBE,
    Sign,
)
from streams.enrich.telling import Addressee
from tests.streams.reference import alias

LISTED = {
    "suppressed_bounce": HARD, "suppressed_complaint": COMPLAINT,
    "suppressed_unsubscribe": UNSUBSCRIBE, "other": MANUAL, "none": MANUAL,
}  # fmt: skip
FUTURE_US = 86_400_000_000
"""So far after its arrival an event may be dated."""
SINCE_US = 946_684_800_000_000  # 2000-01-01
OF_THE_SENDER = ("reputation", "policy", "content", "auth", "relay_denied")
SCOPED = ("subscribed", "unsubscribed", "suppression_added", "suppression_removed")


def gives(one: Sign) -> int:
    """The suppression that a sign is evidence for."""
    if one.kind == "bounced":
        if one.bounce[0] == "hard" and one.bounce[1] not in OF_THE_SENDER:
            return HARD
        ours = one.bounce[1] in OF_THE_SENDER
        return SOFT if one.bounce[0] == "soft" and not ours else 0
    if one.kind == "suppression_added":
        return LISTED[one.listed]
    return {"complained": COMPLAINT, "unsubscribed": UNSUBSCRIBE}.get(one.kind, 0)


def contradicts(one: Sign) -> set[int]:
    """The suppressions that a sign speaks against."""
    if one.kind == "suppression_removed":
        reason = LISTED[one.listed]
        every = {*PRECEDENCE} if one.listed == "none" else {reason}
        return {HARD, SOFT} if reason == HARD else every
    return {"delivered": {SOFT}, "subscribed": {UNSUBSCRIBE, SOFT}}.get(one.kind, set())


def reference(signs: Sequence[Sign]) -> int:
    """What holds, from the glossary alone."""

    def last(reason: int) -> int:
        """The newest sign against it."""
        against = [one.at for one in signs if reason in contradicts(one)]
        return max(against + [one.read_of for one in signs if reason == HARD], default=0)

    for reason in PRECEDENCE[:-1]:
        evidence = [one.at for one in signs if gives(one) == reason]
        if evidence and max(evidence) >= last(reason):
            return reason
    bounced = [(one.unit, one.at) for one in signs if gives(one) == SOFT]
    units = {unit for unit, at in bounced if at > last(SOFT)}
    since = sorted(at for _, at in bounced if at > last(SOFT))
    enough = len(units) >= SOFT_BOUNCES and since[-1] - since[0] >= SOFT_SPAN_S
    return SOFT if enough else 0


@dataclass
class Mail:
    """What is known of one message to one recipient."""

    delivered: int = 0
    was_read: bool = False


def standing(events: Iterable[Event]) -> dict[Addressee, str | None]:
    """The suppression that holds for each address and scope after all of these, ``None``: none.

    Args:
        events: in the order of their partition; each recipient's are in one.
    """
    signs: dict[Addressee, list[Sign]] = defaultdict(list)
    mails: dict[tuple[str, str, str], Mail] = defaultdict(Mail)
    seen: set[str] = set()
    for number, event in enumerate(events):
        if event["event_id"] in seen:
            continue
        seen.add(event["event_id"])
        identity = recipient_identity(event)
        if identity and event["recipient_certain"]:
            mail = mails[event["provider"], event["message_id"] or f"event {number}", identity]
            _take(event, mail, signs[_addressee(event, identity)], number)
    return {whom: REASONS.get(reference(some)) for whom, some in signs.items() if some}


def _addressee(event: Event, identity: str) -> Addressee:
    scope = event["suppression_scope"] if event["event_type"] in SCOPED else None
    return Addressee(identity, event["source"], scope) if scope else Addressee(identity)


def _take(event: Event, mail: Mail, signs: list[Sign], number: int) -> None:
    """Adds what the event says of its recipient, if it says anything."""
    kind, occurred, received = event["event_type"], event["occurred_at"], event["received_at"]
    plausible = occurred >= SINCE_US and occurred <= received + FUTURE_US
    at = (occurred if plausible else received) // 1_000_000
    if kind == "delivered":
        mail.delivered = min(mail.delivered or at, at)
    mail.was_read |= kind in ("opened", "clicked")
    bounce = ("none", "none")
    if kind == "bounced":
        bounce = classify_bounce(
            kind, event["bounce_class"], event["bounce_reason"], event["enhanced_status"],
            event["smtp_code"], event["diagnostic"],
        )  # fmt: skip
    is_life = kind in ("delivered", "opened", "clicked")
    read_of = mail.delivered if is_life and mail.was_read else 0
    unit = hash((event["provider"], alias(event) or event["message_id"] or number))
    sign = Sign(kind, bounce, event["bounce_reason"], at, number, unit, read_of)
    if is_life:
        # nothing is remembered of an address that never bounced, nor of reading before a hard one
        known = {gives(one) for one in signs}
        if known & {HARD, SOFT}:
            signs.append(sign if HARD in known else sign._replace(read_of=0))
    elif gives(sign) or contradicts(sign):
        signs.append(sign)
