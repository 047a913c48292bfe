"""Problem documents (RFC 9457) that tell an attacker nothing.

Invariants:
1. A document depends on its status and code alone, never on the request: every refused signature
   gets the same bytes, whatever was wrong.
2. No document names a setting, a secret, a version or a library.
"""

from http import HTTPStatus

import orjson

MEDIA_TYPE = b"application/problem+json"

DETAILS: dict[str, str] = {
    "unauthorized": "The request could not be verified as the provider's.",
    "forbidden": "This address is not allowed.",
    "https_required": "HTTPS is required.",
    "not_found": "Not found.",
    "method_not_allowed": "This method is not allowed.",
    "body_timeout": "The body did not arrive in time.",
    "body_too_large": "The body is too large.",
    "decompressed_too_large": "The decompressed body is too large.",
    "decompression_ratio": "The body decompresses to too large a multiple of its size.",
    "content_broken": "The body does not decode by its Content-Encoding.",
    "content_coding": "The Content-Encoding is not supported: gzip, deflate or br, once.",
    "not_http": "This is not an HTTP/1.1 request.",
    "host_invalid": "An HTTP/1.1 request needs exactly one Host header.",
    "transfer_coding": "The Transfer-Encoding is not supported: chunked, once, in HTTP/1.1.",
    "upgrade": "Upgrades from HTTP/1.1 are not supported.",
    "too_many_ahead": "Too many requests were sent before the first was answered.",
    "too_many_headers": "The request has too many headers.",
    "length_invalid": "The Content-Length is not a number.",
    "too_deep": "The JSON is nested too deep.",
    "too_many_values": "The body contains too many values.",
    "too_many_events": "The body contains too many events.",
    "record_too_large": "One of the body's items is too large to be stored.",
    "rate_limited": "Too many requests.",
    "overloaded": "The server is overloaded. Try again later.",
    "unavailable": "The events can't be stored right now. Try again later.",
    "internal": "Internal error. Try again later.",
}
"""Code -> text for a person."""


def problem(status: int, code: str) -> bytes:
    """The document for ``status`` and ``code`` (a key of ``DETAILS``)."""
    return orjson.dumps(
        {
            "type": "about:blank",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": DETAILS[code],
            "code": code,
        }
    )
