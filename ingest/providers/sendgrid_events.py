"""SendGrid's events of any form: tables, and the conversion of one item.

Invariants:
1. Pure and total: ``build`` raises only ``BadInput``, for an item without an event name.
2. Custom arguments are on the same level as SendGrid's own fields: all but ``OWN_FIELDS`` are
   metadata.
3. ``message_id`` is the beginning of ``sg_message_id``: the ``X-Message-Id`` that the send call
   returned, shared by the call's recipients. The rest names SendGrid's machines. An asynchronous
   bounce has no ``sg_message_id``; SendGrid's own ``smtp-id`` begins with the same text. Beside a
   sender's own ``Message-ID``, only ``rfc_message_id`` says which message bounced, which the
   streams know by the events that have both (``schemas.event.message_alias``).

Source: SendGrid documentation, «Event Webhook Reference».
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from ingest.providers import addresses, fields, items, scopes
from schemas.errors import BadInput
from schemas.event import SENDGRID_HOSTS, Event, event_id, new_event
from schemas.settings import Source

OWN_FIELDS = frozenset(
    (
        "asm_group_id attempt bounce_classification category cert_err email event ip "
        "marketing_campaign_id marketing_campaign_name marketing_campaign_split_id "
        "marketing_campaign_version mc_auto_id mc_auto_name mc_auto_step_id mc_pod_id mc_stats "
        "newsletter phase_id pool post_type reason response send_at sg_content_type sg_event_id "
        "sg_machine_open sg_message_id sg_template_id sg_template_name sg_user_id singlesend_id "
        "singlesend_name smtp-id status template_id timestamp tls type url url_offset useragent"
    ).split()
)
"""Fields that are SendGrid's own; all others are the sender's custom arguments."""

EVENTS: Mapping[str, str] = {
    "processed": "queued",
    "deferred": "deferred",
    "delivered": "delivered",
    "bounce": "bounced",
    "dropped": "rejected",
    "open": "opened",
    "click": "clicked",
    "spamreport": "complained",
    "unsubscribe": "unsubscribed",
    "group_unsubscribe": "unsubscribed",
    "group_resubscribe": "subscribed",
}

GROUP_EVENTS = frozenset(("group_unsubscribe", "group_resubscribe"))
"""Events about one unsubscribe group, ``asm_group_id``, which other events have too."""

CACHED_FIELDS_MAX = 64
"""Fields of an event above which its custom arguments are not cached."""

CLIENT_EVENTS = GROUP_EVENTS | {"open", "click", "unsubscribe"}
"""Events whose ``ip`` is the reader's; in the others it is SendGrid's sending address."""

MACHINES = (".recvd", ".filter", ".geopod")
"""Beginnings of the machine's part of an ``sg_message_id``."""
_SMTP_ID = re.compile(rf"\s*<?([^<>@\s]+)@(?:{'|'.join(SENDGRID_HOSTS)})[^<>@\s]*>?\s*$")
"""A ``smtp-id`` that SendGrid made; a sender's own ``Message-ID`` is unrelated to its ids."""

_BOUNCE_CLASS = {"bounce": "hard", "blocked": "block"}
_BOUNCE_REASON = {
    "invalid address": "invalid_address",
    "mailbox unavailable": "no_mailbox",
    "technical": "other",
    "technical failure": "other",
    "content": "content",
    "reputation": "reputation",
    "frequency/volume": "policy",
    "frequency or volume too high": "policy",
    "unclassified": "none",
}
_DROPPED = {
    "bounced address": ("suppressed", "suppressed_bounce"),
    "spam reporting address": ("suppressed", "suppressed_complaint"),
    "unsubscribed address": ("suppressed", "suppressed_unsubscribe"),
    "invalid": ("none", "invalid_address"),
    "spam content": ("none", "content"),
    "recipient list over package quota": ("none", "policy"),  # the sender's own quota
    "invalid smtpapi header": ("none", "other"),
}
"""``reason`` of ``dropped``, in lower case -> class and reason; no diagnostics."""


def build(
    item: items.Item,
    source: Source,
    received_at: int,
    identities: Callable[[Iterable[str]], list[str]],
    believed: tuple[int, int],
) -> Event:
    """One event of a request; ``believed``: first and last second of times that are accepted."""
    get = item.get
    native = get("event")
    if not isinstance(native, str) or not native:
        raise BadInput("no_event_type", "item has no event")
    moment = get("timestamp")
    if type(moment) is int and believed[0] <= moment <= believed[1]:
        occurred_at, suspect = moment * fields.SECOND_US, False
    else:
        occurred_at, suspect = fields.occurred(moment, received_at)
    smtp_id, own = get("smtp-id"), get("sg_event_id")
    own_id = own if isinstance(own, str) else ""
    category = get("category")
    tags = fields.tag_list(category) if category else []
    custom = _custom(tuple(item)) if len(item) <= CACHED_FIELDS_MAX else _custom_of(item)
    metadata = fields.metadata_map({key: item[key] for key in custom}) if custom else {}
    campaign_id, campaign_source = fields.campaign(
        source, tags, metadata, numbered=_own_campaign(item)
    )
    event_type = EVENTS.get(native)
    event = new_event(
        event_id=identities((own_id,))[0] if own_id else _composite_id(item, source.account),
        event_type=event_type or "unknown",
        occurred_at=occurred_at,
        received_at=received_at,
        provider="sendgrid",
        native_type=native if event_type else native_type_of(native),
    )
    event["time_suspect"] = suspect
    event["source"] = source.name
    event["message_id"] = message_id_of(get("sg_message_id"), smtp_id)
    addresses.set_recipient(event, get("email"))
    event["campaign_id"], event["campaign_source"] = campaign_id, campaign_source
    event["dedupe_quality"] = "native" if own_id else "composite"
    event["rfc_message_id"] = fields.identifier(smtp_id)
    event["tags"], event["metadata"] = tags, metadata
    if native in GROUP_EVENTS:
        event["suppression_scope"] = scopes.scope("group", get("asm_group_id"))
    if native in CLIENT_EVENTS:
        _add_client(event, item)
    else:
        _add_reply(event, item, native)
    return event


def _custom_of(names: Iterable[str]) -> tuple[str, ...]:
    """The sender's own field names among an event's, in their order."""
    return tuple(name for name in names if name not in OWN_FIELDS)


_custom = lru_cache(maxsize=1024)(_custom_of)
"""The same, cached: the events of a sender have few shapes."""


def _own_campaign(item: items.Item) -> object:
    if "mc_stats" in item or "marketing_campaign_id" in item or "singlesend_id" in item:
        names = ("marketing_campaign_id", "singlesend_id", "mc_auto_id")
        return next((item[name] for name in names if item.get(name)), None)
    return None


def _composite_id(item: items.Item, account: str) -> str:
    parts = ("sg_message_id", "smtp-id", "event", "email", "timestamp", "url", "ip")
    return event_id("sendgrid", account, *[fields.id_part(item.get(part)) for part in parts])


def native_type_of(native: str) -> str:
    """A native event's name, clean and short."""
    return fields.text(native, items.NATIVE_TYPE_CHARS_MAX) or ""


def message_id_of(own: object, smtp_id: object) -> str | None:
    """Invariant 3."""
    full = fields.identifier(own)
    if full is not None:
        for machine in MACHINES:
            end = full.find(machine, 1)
            if end > 0:
                return full[:end]
        return full
    given = _SMTP_ID.match(smtp_id) if isinstance(smtp_id, str) else None
    return None if given is None else fields.identifier(given.group(1))


def _add_client(event: Event, item: items.Item) -> None:
    text = fields.text
    event["user_agent"] = text(item.get("useragent"))
    event["ip"] = text(item.get("ip"), items.IP_CHARS_MAX)
    event["click_url"] = text(item.get("url"))
    if item.get("sg_machine_open") is True:
        event["machine_kind"] = "apple_mpp"


def _add_reply(event: Event, item: items.Item, native: str) -> None:
    """Sets the reply of the receiving server, or of SendGrid in its place."""
    said, kind = item.get("reason") or item.get("response"), item.get("type")
    category = category_of(native, said, kind)
    if category is not None:
        event["native_type"] = native_type_of(f"{native}.{category}")
    if said is None and native not in CLASSED and "status" not in item:
        return
    bounce_class, bounce_reason = class_of(native, said, kind, item.get("bounce_classification"))
    items.set_reply(
        event,
        diagnostic=None if category is said else said,
        enhanced_status=item.get("status"),
        bounce_class=bounce_class,
        bounce_reason=bounce_reason,
    )


CLASSED = frozenset(("bounce", "dropped"))
"""Events that have a class and a reason."""


def category_of(native: str, said: object, kind: object) -> str | None:
    """SendGrid's own word in an event, which is no diagnostic; arguments as in ``class_of``."""
    if native == "bounce":
        return kind if isinstance(kind, str) else None
    if native != "dropped" or not isinstance(said, str):
        return None
    return said if said.lower() in _DROPPED or fields.is_label(said) else None


def class_of(native: str, said: object, kind: object, classification: object) -> tuple[str, str]:
    """Class and reason of a bounce, by SendGrid's own classification.

    Args:
        native: SendGrid's name of the event.
        said: ``reason``, else ``response``.
        kind: ``type``.
        classification: ``bounce_classification``.
    """
    if native == "dropped" and isinstance(said, str):
        return _DROPPED.get(said.lower(), ("none", "none"))
    bounce_class = bounce_reason = "none"
    if native == "bounce":
        if isinstance(kind, str):
            bounce_class = _BOUNCE_CLASS.get(kind, "none")
        if isinstance(classification, str):
            bounce_reason = _BOUNCE_REASON.get(classification.lower(), "other")
    return bounce_class, bounce_reason
