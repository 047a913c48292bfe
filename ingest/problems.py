"""Answers that are problems: RFC 9457 documents that tell an attacker nothing.

Invariants:
1. A document depends on its status and code alone, never on the request: every refused signature
   gets the same bytes, whatever was wrong with it.
2. No document names a setting, a secret, a version or a library.
"""

from http import HTTPStatus

import orjson

MEDIA_TYPE = b"application/problem+json"

DETAILS: dict[str, str] = {
    "unauthorized": "The request is not proven to come from the provider.",
    "forbidden": "This address may not post here.",
    "https_required": "Post here by HTTPS.",
    "not_found": "There is nothing here.",
    "method_not_allowed": "This method is not taken here.",
    "body_timeout": "The body did not arrive in time.",
    "body_too_large": "The body is larger than what is taken here.",
    "decompressed_too_large": "The decompressed body is larger than what is taken here.",
    "decompression_ratio": "The body decompresses to too many times its size.",
    "content_broken": "The body is not what its Content-Encoding says.",
    "content_coding": "The body's Content-Encoding is not taken here: gzip, deflate or br, once.",
    "not_http": "This is no HTTP/1.1 request.",
    "host_invalid": "An HTTP/1.1 request has one Host.",
    "transfer_coding": "The Transfer-Encoding is not taken here: chunked, once, in HTTP/1.1.",
    "upgrade": "This is HTTP/1.1, without upgrades.",
    "too_many_ahead": "Too many requests were sent before the first was answered.",
    "too_many_headers": "The request has too many headers.",
    "length_invalid": "The Content-Length is not a number.",
    "too_deep": "The JSON is nested too deep.",
    "too_many_values": "The body holds too many values.",
    "too_many_events": "The body holds too many events.",
    "record_too_large": "One of the body's items is larger than what can be kept.",
    "rate_limited": "Too many requests.",
    "overloaded": "Too much is under way. Try again later.",
    "unavailable": "The events can't be kept right now. Try again later.",
    "internal": "Something went wrong here. Try again later.",
}
"""Code -> what a person is told."""


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
