"""Any sender that signs its JSON with an HMAC: verified by a header, read by a mapping.

Invariants:
1. ``X-Webhook-Signature`` is the HMAC-SHA256 of the raw body in lower-case hexadecimal, with or
   without ``sha256=`` before it. With ``X-Webhook-Timestamp`` (seconds) the signed bytes are
   ``timestamp.body``. Without it the body may not begin with a digit: otherwise a request with a
   timestamp could be replayed without it, with the timestamp moved into the body.
2. A source that sets ``tolerance_s`` requires the timestamp.
3. ``mapping.signature`` renames the headers and picks encoding and hash; ``mapping`` finds the
   fields (``ingest.providers.mapping``). Without it the default shape is expected:

    {"event": "bounced", "id": "…", "time": 1795521600, "message_id": "…",
     "recipient": "a@b.example", "campaign_id": "…", "tags": ["…"], "metadata": {…},
     "url": "…", "user_agent": "…", "ip": "…",
     "bounce": {"class": "hard", "reason": "no_mailbox", "smtp_code": 550, "status": "5.1.1",
                "diagnostic": "…"}, "machine": "scanner", "first": true, "country": "SE"}

   A campaign is also stored as ``metadata.campaign_id``.
   One such object, a list of them, or ``{"events": [them]}``; event names are the normalised types.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from ingest import verify
from ingest.providers import fields, items
from ingest.providers.base import Certificates, Parsed, Provider, Request, newest, post_json
from ingest.providers.mapping import (
    DEFAULT,
    MACHINE_KINDS,
    SYMBOLS,
    FieldMapping,
    Verdict,
    find,
    look_up,
    read_mapping,
)
from ingest.verify import SignatureError
from schemas.errors import BadInput
from schemas.event import Event
from schemas.settings import Source

EVENTS: Mapping[str, str] = {name: name for name in sorted(SYMBOLS["type"] - {"unknown"})}
_SIGNATURE_DEFAULTS = {
    "header": "x-webhook-signature",
    "timestamp_header": "x-webhook-timestamp",
    "encoding": "hex",
    "algorithm": "sha256",
}
_SIGNATURE_CHOICES = {"encoding": ("hex", "base64"), "algorithm": ("sha256", "sha512", "sha1")}
_UNKNOWN = Verdict("unknown")


class Generic(Provider):
    """See the module."""

    name = "generic"
    title = "Any sender with an HMAC"
    required = ("secret",)
    tolerance_s = 300
    events = EVENTS
    id_recipe = "the mapped event_id; else message, event, recipient, time, url, ip"
    verification = "HMAC-SHA256 over raw body, with timestamp where one is sent"
    batch = "by mapping"
    bounces = "by mapping"
    machine = "by mapping"

    def verify(
        self, request: Request, source: Source, now: float, certificates: Certificates
    ) -> None:
        """See ``Provider.verify``."""
        how = signature_settings(source)
        signature = verify.given(request.header(how["header"]))
        names = [name for name, _ in request.headers]
        signed = request.body
        if how["timestamp_header"] in names:
            timestamp = verify.given(request.header(how["timestamp_header"]), "missing_timestamp")
            verify.check_timestamp(timestamp, now, self.tolerance(source))
            signed = timestamp.encode() + b"." + request.body
        elif source.tolerance_s:
            raise SignatureError("missing_timestamp")
        elif request.body[:1].isdigit():
            raise SignatureError(verify.BAD_SIGNATURE)
        check = verify.check_hmac_base64 if how["encoding"] == "base64" else verify.check_hmac_hex
        bare = signature.removeprefix(f"{how['algorithm']}=")
        check(source.secrets("secret"), signed, bare, how["algorithm"])

    def parse(self, request: Request, source: Source, received_at: int) -> Parsed:
        """See ``Provider.parse``."""
        return parse_mapped(request, source, received_at, None)

    def sample(
        self, source: Source, now: float, number: int, signing_key: str | None = None
    ) -> Request:
        """See ``Provider.sample``: in the default shape, whatever the mapping says."""
        how = signature_settings(source)
        timestamp = str(int(now))
        body = orjson.dumps(sample_event(int(now), number))
        sign = verify.hmac_base64 if how["encoding"] == "base64" else verify.hmac_hex
        signed = f"{timestamp}.".encode() + body
        signature = sign(newest(source, "secret"), signed, how["algorithm"])
        return post_json(
            body,
            (how["header"], f"{how['algorithm']}={signature}"),
            (how["timestamp_header"], timestamp),
        )

    def check(self, source: Source) -> list[str]:
        """See ``Provider.check``."""
        problems = super().check(source) + mapping_problems(source)
        given = source.mapping.get("signature", {})
        where = f"sources.{source.name}.mapping.signature"
        if not isinstance(given, dict):
            return [*problems, f"{where}: a table"]
        for key, value in given.items():
            if key not in _SIGNATURE_DEFAULTS or not isinstance(value, str) or not value:
                problems.append(f"{where}.{key}: one of {', '.join(_SIGNATURE_DEFAULTS)}, a text")
            elif key in _SIGNATURE_CHOICES and value not in _SIGNATURE_CHOICES[key]:
                problems.append(f"{where}.{key}: one of {', '.join(_SIGNATURE_CHOICES[key])}")
        return problems


def signature_settings(source: Source) -> dict[str, str]:
    """How a source's requests are signed; invalid entries keep their default (see ``check``)."""
    how = dict(_SIGNATURE_DEFAULTS)
    for key, value in fields.as_dict(source.mapping.get("signature")).items():
        if key in how and isinstance(value, str) and value in _SIGNATURE_CHOICES.get(key, (value,)):
            how[key] = value.lower() if key.endswith("header") else value
    return how


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
    request: Request, source: Source, received_at: int, request_id: str | None
) -> Parsed:
    """The events of a body, found by the source's mapping.

    Args:
        request_id: the sender's id of the request, the same on retries; part of the event's id if
            the items have none.

    Raises:
        BadInput: not JSON, or no items at the mapping's path.
    """
    mapping = read_mapping(source.mapping)[0] if source.mapping else DEFAULT
    body = items.read_json(request.body)
    found: object = body
    if mapping.items:
        found = look_up(body, mapping.items)
    elif isinstance(body, dict) and isinstance(body.get("events"), list):
        found = body["events"]
    if isinstance(found, dict):
        found = [found]
    if not isinstance(found, list):
        raise BadInput("no_items", "no list or object at the mapping's path of items")
    return items.parse_items(
        found, lambda item: _build(item, body, mapping, request, source, received_at, request_id)
    )


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
        return find(mapping.paths[name], item, body, request)

    native = get("event")
    if not isinstance(native, str) or not native:
        raise BadInput("no_event_type", "no text at the path of event")
    verdict = mapping.events.get(native, _UNKNOWN)
    moment = get("time")
    message_id, recipient, url, ip = get("message_id"), get("recipient"), get("url"), get("ip")
    own = get("event_id")
    composite = (message_id, native, recipient, moment, url, ip)
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
        time=_in_unit(moment, mapping.microseconds),
        message_id=message_id,
        rfc_message_id=get("rfc_message_id"),
        recipient=recipient,
        tags=get("tags"),
        metadata=metadata,
        provider_campaign=campaign,
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
    first = get("first")
    items.set_client(
        event,
        user_agent=get("user_agent"),
        ip=ip,
        click_url=url,
        machine_kind=_machine(get("machine")),
        provider_first=first if isinstance(first, bool) else None,
        geo_country=get("country"),
    )
    return event


def _in_unit(moment: object, unit_us: int | None) -> object:
    """A numeric time in a configured unit as an unambiguous one; others unchanged."""
    if unit_us is None or not isinstance(moment, int | float | str):
        return moment
    try:
        at = float(moment) * unit_us
        return fields.iso(at / fields.SECOND_US) if at >= fields.YEAR_2000_US else None
    except (ValueError, OverflowError):
        return moment


def _symbol(value: object, kind: str, otherwise: str) -> str:
    """The sender's value if it is a symbol of the schema, else the mapping's."""
    return value if isinstance(value, str) and value in SYMBOLS[kind] else otherwise


def _machine(value: object) -> str:
    if value is True:
        return "unknown"
    return value if isinstance(value, str) and value in MACHINE_KINDS else "none"


PROVIDER = Generic()
