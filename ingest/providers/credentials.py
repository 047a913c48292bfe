"""Proof by something that the sender was told once: user and password, or a bearer token.

Invariants:
1. Such a proof says who calls, not that the body is what was sent: only TLS holds the body.
2. Both kinds may be configured side by side; the header's own scheme says which one is meant.
3. What is not configured proves nothing: no values, no entry.

Sources: RFC 7617 (Basic), RFC 6750 (Bearer).
"""

from ingest import verify
from ingest.providers.base import Request, given_values, newest
from schemas.errors import BadInput
from schemas.settings import Source

AUTHORIZATION = "authorization"

BASIC = ("username", "password")
"""``required`` of a provider that only knows Basic."""
BASIC_OR_TOKEN = ("username|token", "password|token")
"""``required`` of a provider that knows Basic and bearer tokens."""


def check_authorization(request: Request, source: Source) -> None:
    """Holds the ``Authorization`` header against the source's users, passwords and tokens.

    Raises:
        SignatureError: absent, sent twice, another scheme, or wrong.
    """
    value = verify.given(request.header(AUTHORIZATION), "missing_credentials")
    if value.partition(" ")[0].lower() == "bearer":
        verify.check_bearer(source.secrets("token"), value)
    else:
        verify.check_basic(source.secrets("username"), source.secrets("password"), value)


def authorization(source: Source) -> tuple[str, str]:
    """The header that a sender configured like ``source`` would send.

    Raises:
        BadInput: ``not_configured``.
    """
    if given_values(source, "username"):
        value = verify.basic_header(newest(source, "username"), newest(source, "password"))
        return AUTHORIZATION, value
    if given_values(source, "token"):
        return AUTHORIZATION, f"Bearer {newest(source, 'token')}"
    raise BadInput("not_configured", "source has neither username nor token")
