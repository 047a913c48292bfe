"""Verification by a shared credential: user and password, or a bearer token.

Invariants:
1. It proves who calls, not the content of the body: that is protected by TLS only.
2. Both kinds may be configured together; the header's scheme selects one.
3. A kind that is not configured is refused.

Sources: RFC 7617 (Basic), RFC 6750 (Bearer).
"""

from ingest import verify
from ingest.providers.base import Certificates, Request, given_values, newest, with_headers
from ingest.providers.shapes import ItemProvider
from schemas.errors import BadInput
from schemas.settings import Source

AUTHORIZATION = "authorization"

BASIC = ("username", "password")
"""``required`` of a provider that supports Basic only."""
BASIC_OR_TOKEN = ("username|token", "password|token")
"""``required`` of a provider that supports Basic and bearer tokens."""


def check_authorization(request: Request, source: Source) -> None:
    """Checks the ``Authorization`` header by the source's users, passwords and tokens.

    Raises:
        SignatureError: missing, sent twice, of another scheme, or wrong.
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


def again(request: Request, source: Source) -> Request:
    """The request with the credentials of ``source``, by the scheme that it used.

    Raises:
        BadInput: ``not_configured``.
    """
    scheme = (request.header(AUTHORIZATION) or "").partition(" ")[0]
    if scheme.lower() == "bearer":
        value = f"Bearer {newest(source, 'token')}"
    else:
        value = verify.basic_header(newest(source, "username"), newest(source, "password"))
    return with_headers(request, (AUTHORIZATION, value))


class CredentialProvider(ItemProvider):
    """A provider that is verified by its ``Authorization`` header only."""

    signs = "nothing"

    def verify(
        self, request: Request, source: Source, now: float, certificates: Certificates
    ) -> None:
        """See ``Provider.verify``."""
        check_authorization(request, source)

    def resigned(self, request: Request, source: Source, signing_key: str | None = None) -> Request:
        """See ``Provider.resigned``."""
        return again(request, source)
