"""Reads the recipient of an event from what a provider gives.

Invariants:
1. Pure and total, as ``ingest.providers.fields``.
2. An event that names several recipients has none: no address is put together from two, and no
   event is put down to the first of them.

Sources: RFC 5321 §2.4 (case of addresses), RFC 5322 §3.4 (lists, quotes and comments).
"""

import re

from ingest.providers import fields
from schemas.event import ID_CHARS_MAX, Event
from schemas.identity import address_identity

_DOMAIN = re.compile(r"[^\s@.]+(?:\.[^\s@.]+)+\.?")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\([^()]*\)')


def address(value: object) -> tuple[str | None, str]:
    """``(address, domain)`` of ``a@B.example`` or ``Name <a@B.example>``.

    The domain is in lower case in both; the local part is unchanged (RFC 5321 §2.4). Without an
    ``@`` the text is kept and the domain is empty.
    """
    if not isinstance(value, str):
        return None, ""
    plain = value.strip()
    if plain.endswith(">"):
        plain = plain[plain.rfind("<") + 1 : -1].strip()
    if not plain.isascii() or len(plain) > ID_CHARS_MAX or "\0" in plain:
        plain = fields.text(plain, ID_CHARS_MAX) or ""
    local, at, domain = plain.rpartition("@")
    if not at:
        return plain or None, ""
    lower = domain.lower()
    return plain if lower == domain else f"{local}@{lower}"[:ID_CHARS_MAX], lower


def domain(value: object) -> str:
    """The domain that a provider gives where it gives no address, as in an address; else empty."""
    if not isinstance(value, str) or not _DOMAIN.fullmatch(value.strip()):
        return ""
    return address_identity(f"x@{value.strip()}").rpartition("@")[2]


def are_several(value: object) -> bool:
    """Whether a value holds more than one address: a list, or the text of a ``To`` header.

    Commas within quotes and comments separate nothing (RFC 5322 §3.4).
    """
    if isinstance(value, list):
        return len(value) > 1
    if not isinstance(value, str) or value.count("@") < 2:
        return False
    parts = re.split("[,;]", _QUOTED.sub("", value[:ID_CHARS_MAX]))
    return sum("@" in part for part in parts) > 1


def set_recipient(event: Event, value: object) -> None:
    """Sets an event's recipient from the address that the provider gives, with its identity.

    Of several addresses (``are_several``), none is the recipient, and ``recipient_certain`` is
    false: the event does not say whom it is about.
    """
    if are_several(value):
        event["recipient_certain"] = False
        return
    if isinstance(value, list):
        value = value[0] if value else None
    event["recipient"], event["recipient_domain"] = address(value)
    if event["recipient"]:
        identity = event["recipient_identity"] = address_identity(event["recipient"])
        event["recipient_domain"] = identity.rpartition("@")[2] if "@" in identity else ""
