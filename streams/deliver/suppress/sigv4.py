"""Signatures of requests to AWS, version 4.

Invariants:
1. Pure: the time is an argument.
2. What is signed is what is sent: path and query are given as they go out.

Source: AWS, «Create a signed AWS API request» (Signature Version 4); tested with signatures that
AWS publishes in its signing test suite. Own code since it is forty lines and botocore is 14 MB.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import quote

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Of one IAM user or role; ``token`` is that of temporary ones, else empty."""

    key_id: str
    secret: str
    token: str = ""


def signed(
    credentials: Credentials,
    method: str,
    host: str,
    path: str,
    query: str,
    body: bytes,
    region: str,
    service: str,
    now_s: float,
    headers: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The headers to add: ``x-amz-date``, ``authorization``, and ``x-amz-security-token`` if any.

    Args:
        host: as in the request's header, with the port if that has one.
        path: encoded, as it is sent; it is encoded once more for the signature, as for every
            service but S3.
        query: encoded, as it is sent.
        now_s: seconds since 1970; AWS accepts it for five minutes.
        headers: further ones to sign, names in lower case.
    """
    at = datetime.fromtimestamp(int(now_s), UTC).strftime("%Y%m%dT%H%M%SZ")
    added = {"x-amz-date": at}
    if credentials.token:
        added["x-amz-security-token"] = credentials.token
    all_headers = {"host": host, **(headers or {}), **added}
    names = ";".join(sorted(all_headers))
    canonical = "\n".join(
        (
            method,
            quote(path or "/", safe="/~"),
            _canonical_query(query),
            *(f"{name}:{' '.join(all_headers[name].split())}" for name in sorted(all_headers)),
            "",
            names,
            sha256(body).hexdigest(),
        )
    )
    scope = f"{at[:8]}/{region}/{service}/aws4_request"
    text = "\n".join((_ALGORITHM, at, scope, sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{credentials.secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    added["authorization"] = (
        f"{_ALGORITHM} Credential={credentials.key_id}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    return added


def _canonical_query(query: str) -> str:
    """Sorted by name, then value; a name without a value gets an empty one."""
    pairs = [part.partition("=") for part in query.split("&") if part]
    return "&".join(f"{name}={value}" for name, _, value in sorted(pairs))
