"""What an unsubscribe or a re-subscription is limited to: a list, group, topic, channel or stream.

Invariants:
1. A scope is ``KIND:ID``, in the provider's own words, at most ``ID_CHARS_MAX`` characters.
2. Without an id there is no scope: the event concerns all mail to the address.
3. A notification of several scopes becomes one event for each. Its id is made of the
   notification's and the scope: it is the same on a retry, in whatever order the scopes come, and
   two notifications of one second that differ in the scope alone are two events.
"""

from collections.abc import Iterable

from ingest.providers import fields
from schemas.event import ID_CHARS_MAX, Event, event_id

SCOPES_MAX = 256
"""Most scopes of one notification that become events of their own."""


def scope(kind: str, value: object) -> str | None:
    """The scope of an id; ``None`` for 0, empty ones, and what is neither text nor an integer."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    found = (fields.text(value) or "").strip()
    return f"{kind}:{found}"[:ID_CHARS_MAX] if found not in ("", "0") else None


def scopes(kind: str, values: object) -> list[str]:
    """The scopes of a list of ids, or of one."""
    given = values if isinstance(values, list) else [values]
    return [found for one in given if (found := scope(kind, one)) is not None]


def by_scope(event: Event, found: Iterable[str]) -> list[Event]:
    """The event once for each scope; without any the event itself.

    Of more than ``SCOPES_MAX`` an unsubscribe concerns the address, since leaving so many lists is
    leaving; a re-subscription lifts nothing, since it is not for all mail.
    """
    different = dict.fromkeys(found)
    if not different:
        return [event]
    if len(different) > SCOPES_MAX:
        if event["event_type"] == "subscribed":
            event["event_type"] = "unknown"
        return [event]
    return [_limited(event, one) for one in different]


def by_choice(
    event: Event,
    left: Iterable[str],
    joined: Iterable[str],
    words: tuple[str, str] = ("unsubscribed", "subscribed"),
) -> list[Event]:
    """An unsubscribe from each scope that was left, a re-subscription to each that was joined.

    Without either the event itself.

    Args:
        words: the provider's for the two, added to the native name.
    """
    made: list[Event] = []
    for chosen, found in zip(all_mail(event, words), (list(left), list(joined)), strict=True):
        if found:
            made += by_scope(chosen, found)
    return made or [event]


def all_mail(event: Event, words: tuple[str, str]) -> tuple[Event, Event]:
    """The unsubscribe from all mail, and the re-subscription to it; ``words`` as above."""
    left, joined = (another(event, word) for word in words)
    left["event_type"], joined["event_type"] = "unsubscribed", "subscribed"
    for made, word in zip((left, joined), words, strict=True):
        made["native_type"] = f"{event['native_type']}.{word}"
    return left, joined


def another(event: Event, what: str) -> Event:
    """A second event of a notification, told apart by ``what``."""
    made = event.copy()
    made["tags"], made["metadata"] = list(event["tags"]), dict(event["metadata"])
    made["event_id"] = event_id(event["provider"], "", event["event_id"], what)
    return made


def _limited(event: Event, to: str) -> Event:
    made = another(event, to)
    made["suppression_scope"] = to
    return made
