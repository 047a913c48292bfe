"""The token of the analysts' door, as ClickHouse's clients send a password.

Invariants:
1. Pure. The comparison takes the same time whatever is given.
2. Any user name is accepted: there is one reader.

Source: ClickHouse documentation, «HTTP Interface», «Authentication»: Basic, ``X-ClickHouse-User``
with ``X-ClickHouse-Key``; codes 194 (401, with a challenge) and 516 (403) of its HTTP handler.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping

from analytics.door.denied import Denied

PASSWORD_MISSING = (194, "REQUIRED_PASSWORD")
PASSWORD_WRONG = (516, "AUTHENTICATION_FAILED")
DOOR_HEADER, DOOR_VALUE = "x-mailpulse-door", "read-only"
"""On every answer of the door, and on no other listener's: who passes queries on looks for it."""
CHALLENGE = 'Basic realm="ClickHouse server HTTP API"'


def proves(token: str, headers: Mapping[str, str]) -> bool:
    """Whether a request brings the token; where there is none, nobody proves anything.

    Args:
        token: the setting ``door_token``.
        headers: of the request, by lower-case name.
    """
    given = password_of(headers)
    return bool(token) and given is not None and hmac.compare_digest(given, token.encode())


def refusal(headers: Mapping[str, str]) -> Denied:
    """What a request that does not prove itself is told, as ClickHouse words it."""
    if password_of(headers) is None:
        return Denied(
            PASSWORD_MISSING, "This door needs its token (MAILPULSE_DOOR_TOKEN) as password"
        )
    return Denied(PASSWORD_WRONG, "The password is not this door's token")


def password_of(headers: Mapping[str, str]) -> bytes | None:
    """The password that a request brings, ``None`` when it brings none."""
    key = headers.get("x-clickhouse-key")
    if key is not None:
        return key.encode("latin-1")
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return value.strip().encode("latin-1")
    if kind.lower() != "basic":
        return None
    try:
        _, colon, password = base64.b64decode(value.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return password if colon else None
