"""Any sender that proves its requests: read by a mapping, without code.

Invariants:
1. The proof is an HMAC, a token or Basic, whatever the source has: ``ingest.providers.signing``.
   By default ``X-Webhook-Signature`` is the HMAC-SHA256 of the raw body in lower-case hexadecimal,
   with or without ``sha256=`` before it; with ``X-Webhook-Timestamp`` (seconds) the signed bytes
   are ``timestamp.body``.
2. A source that sets ``tolerance_s`` requires the timestamp.
3. ``mapping`` finds the fields (``ingest.providers.mapping``). Without it the default shape is
   expected:

    {"event": "bounced", "id": "…", "time": 1795521600, "message_id": "…",
     "recipient": "a@b.example", "campaign_id": "…", "tags": ["…"], "metadata": {…},
     "url": "…", "user_agent": "…", "ip": "…",
     "bounce": {"class": "hard", "reason": "no_mailbox", "smtp_code": 550, "status": "5.1.1",
                "diagnostic": "…"}, "machine": "scanner", "method": "GET", "first": true,
     "country": "SE", "unsubscribe_link": false, "suppression_scope": "list:news"}

   A campaign is also stored as ``metadata.campaign_id``.
   One such object, a list of them, or ``{"events": [them]}``; event names are the normalised types.
4. A call that only tests the URL (``mapping.handshake``, ``mapping.answers_get``) has no events.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from ingest.providers import fields, items, shaping, signing
from ingest.providers.base import Certificates, Parsed, Provider, Request, given_values
from ingest.providers.mapping import (
    DEFAULT,
    MACHINE_KINDS,
    SYMBOLS,
    FieldMapping,
    known_mapping,
    look_up,
    read_mapping,
)
from schemas.errors import BadInput
from schemas.event import ID_CHARS_MAX, Event
from schemas.settings import Source

EVENTS: Mapping[str, str] = {name: name for name in sorted(SYMBOLS["type"] - {"unknown"})}


ECHOED_CHARS_MAX = 512
"""Most characters of a value that the answer to a handshake repeats."""


class Generic(Provider):
    """See the module."""

    name = "generic"
    title = "Any other sender"
    required = ("secret|token|username",)
    tolerance_s = 300
    events = EVENTS
    reads_path = True
    campaign = "sender's: by mapping"
    id_recipe = "the mapped event_id; else message, event, recipient, time, url, ip"
    verification = "HMAC over what mapping.signature says, token, or Basic"
    batch = "by mapping"
    bounces = "by mapping"
    machine = "by mapping"
    other_calls = "mapping.handshake: answered; mapping.answers_get: 200"

    def mapping_of(self, source: Source) -> Mapping[str, Any]:
        """The mapping that counts for a source."""
        return source.mapping

    def verify(
        self, request: Request, source: Source, now: float, certificates: Certificates
    ) -> None:
        """See ``Provider.verify``."""
        signing.check(request, source, self.mapping_of(source), now, self.tolerance(source))

    def what_is_signed(self, source: Source) -> str:
        """See ``Provider.what_is_signed``."""
        how = signing.read_signing(self.mapping_of(source).get("signature"))[0]
        if not (given_values(source, "secret") or how.algorithm == signing.ED25519):
            return ""
        return f"{how.parts} by {how.algorithm} in {how.encoding}, in the header {how.header}"

    def parse(self, request: Request, source: Source, received_at: int) -> Parsed:
        """See ``Provider.parse``."""
        return parse_mapped(request, source, received_at, None, self.mapping_of(source))

    def probe(self, request: Request, source: Source) -> int | None:
        """See ``Provider.probe``."""
        return 200 if self.mapping_of(source).get("answers_get") is True else None

    def resigned(self, request: Request, source: Source, signing_key: str | None = None) -> Request:
        """See ``Provider.resigned``."""
        raw = self.mapping_of(source)
        return signing.proven_again(request, source, raw, signing_key)

    def sample(
        self, source: Source, now: float, number: int, signing_key: str | None = None
    ) -> Request:
        """See ``Provider.sample``: in the shape of the mapping."""
        raw = self.mapping_of(source)
        mapping = read_mapping(raw)[0] if raw else DEFAULT
        made = shaping.made(mapping, now, number)
        return signing.proven(made, source, raw, now, signing_key)

    def check(self, source: Source) -> list[str]:
        """See ``Provider.check``."""
        raw = self.mapping_of(source)
        problems = super().check(source)
        if given_values(source, "username") and not given_values(source, "password"):
            problems.append(f"sources.{source.name}: username needs password")
        lines = read_mapping(raw)[1] + signing.problems_of(source, raw, self.tolerance(source))
        return problems + [f"sources.{source.name}.mapping.{line}" for line in lines]


def mapping_problems(source: Source) -> list[str]:
    """One line per problem of the source's mapping."""
    problems = read_mapping(source.mapping)[1]
    return [f"sources.{source.name}.mapping.{problem}" for problem in problems]


def sample_event(moment: object, number: int) -> dict[str, Any]:
    """An event in the default shape."""
    return {
        "event": "delivered",
        "id": f"sample-{number}",
        "time": moment,
        "message_id": f"sample-message-{number}",
        "recipient": f"reader{number}@example.com",
        "tags": ["sample"],
    }


def parse_mapped(
    request: Request,
    source: Source,
    received_at: int,
    request_id: str | None,
    raw: Mapping[str, Any] | None = None,
) -> Parsed:
    """The events of a body, found by the source's mapping.

    Args:
        request_id: the sender's id of the request, the same on retries; part of the event's id if
            the items have none.
        raw: the mapping, if it is not the source's own.

    Raises:
        BadInput: not JSON or no form, or no items at the mapping's path.
    """
    raw = source.mapping if raw is None else raw
    mapping = known_mapping(raw)
    body = shaping.read_body(request.body, mapping)
    found = shaping.read_items(body, mapping)
    if mapping.handshake[0] and len(found) == 1:
        answer = _handshake(found[0], body, mapping, request)
        if answer is not None:
            return answer
    return items.parse_items(
        found, lambda item: _build(item, body, mapping, request, source, received_at, request_id)
    )


def _handshake(
    item: object, body: object, mapping: FieldMapping, request: Request
) -> Parsed | None:
    """The answer to a call that tests the URL; ``None`` if it is not one."""
    event, answer = mapping.handshake
    if mapping.find("event", item, body, request) != event:
        return None
    told = {name: look_up(item, tuple(path.split("."))) for name, path in answer.items()}
    # only short texts go back, so that a caller can't have long bodies echoed
    short = {
        name: fields.text(one, ECHOED_CHARS_MAX)
        for name, one in told.items()
        if isinstance(one, str)
    }
    return Parsed(note="handshake", answer=orjson.dumps(short) if short else b"")


def _build(
    item: items.Item,
    body: object,
    mapping: FieldMapping,
    request: Request,
    source: Source,
    received_at: int,
    request_id: str | None,
) -> Event:
    """One event of a request."""

    def get(name: str) -> object:
        return mapping.find(name, item, body, request)

    native = get("event")
    if not isinstance(native, str) or not native:
        paths = " or ".join(mapping.paths["event"])
        raise BadInput("no_event_type", f"no text at the path of event: {paths}")
    verdict = mapping.verdict(native)
    moment = get("time")
    message_id, recipient, url, ip = get("message_id"), get("recipient"), get("url"), get("ip")
    own = get("event_id")
    scope = fields.text(get("suppression_scope"), ID_CHARS_MAX)
    composite = (message_id, native, recipient, moment, url, ip, *([scope] if scope else ()))
    campaign, metadata = get("campaign"), fields.as_dict(get("metadata"))
    if campaign is not None:  # mapped explicitly, so it precedes tags in the default precedence
        metadata = {"campaign_id": campaign, **metadata}
    event = items.make_event(
        source,
        received_at,
        event_type=verdict.event_type,
        native_type=native,
        id_parts=(own,) if own else (request_id, *composite) if request_id else composite,
        native_id=bool(own or request_id),
        time=_time(moment, mapping),
        message_id=message_id,
        rfc_message_id=get("rfc_message_id"),
        recipient=recipient,
        tags=get("tags"),
        metadata=metadata,
        campaign_name=campaign,
        batch_id=request_id,
    )
    items.set_reply(
        event,
        diagnostic=get("diagnostic"),
        smtp_code=get("smtp_code"),
        enhanced_status=get("enhanced_status"),
        bounce_class=_symbol(get("bounce_class"), "bounce_class", verdict.bounce_class),
        bounce_reason=_symbol(get("bounce_reason"), "bounce_reason", verdict.bounce_reason),
    )
    event["suppression_scope"] = scope
    first, unsubscribe = get("first"), get("unsubscribe_link")
    items.set_client(
        event,
        user_agent=get("user_agent"),
        ip=ip,
        click_url=url,
        unsubscribe_link=unsubscribe if isinstance(unsubscribe, bool) else None,
        machine_kind=_machine(get("machine"), get("method")),
        provider_first=first if isinstance(first, bool) else None,
        geo_country=get("country"),
    )
    return event


def _time(moment: object, mapping: FieldMapping) -> object:
    """A time in the mapping's unit, format or zone as an unambiguous one; others unchanged."""
    if isinstance(moment, str) and (mapping.time_format or mapping.zone):
        return _in_format(moment[: fields.TIME_CHARS_MAX].strip(), mapping) or moment
    if mapping.microseconds is None or not isinstance(moment, int | float | str):
        return moment
    try:
        at = float(moment) * mapping.microseconds
        return fields.iso(at / fields.SECOND_US) if at >= fields.YEAR_2000_US else None
    except (ValueError, OverflowError):
        return moment


def _in_format(moment: str, mapping: FieldMapping) -> str | None:
    """A text by the mapping's format, in its zone, as ISO 8601; ``None`` if it does not fit."""
    try:
        if mapping.time_format:
            read = datetime.strptime(moment, mapping.time_format)
        else:
            read = datetime.fromisoformat(moment)
        if read.tzinfo is None:
            read = read.replace(tzinfo=mapping.zone or UTC)
        return read.astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        return None


def _symbol(value: object, kind: str, otherwise: str) -> str:
    """The sender's value if it is a symbol of the schema, else the mapping's."""
    return value if isinstance(value, str) and value in SYMBOLS[kind] else otherwise


def _machine(value: object, method: object) -> str:
    """The sender's own word; a HEAD request is never a person's: browsers send none for a click."""
    if isinstance(method, str) and method.upper() == "HEAD":
        return "scanner"
    if value is True:
        return "unknown"
    return value if isinstance(value, str) and value in MACHINE_KINDS else "none"


PROVIDER = Generic()
