"""Signatures of AWS against those that AWS publishes (its signing test suite for version 4)."""

import pytest

from streams.deliver.suppress.sigv4 import Credentials, signed

AT = 1_440_938_160
"""2015-08-30T12:36:00Z, the time of the suite."""
KEY = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = (
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSP"
    "fIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT"
    "7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlz"
    "m8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
)


@pytest.mark.parametrize(
    ("method", "path", "query", "token", "signature"),
    [
        ("GET", "/", "", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "/", "", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ("GET", "/", "Param2=value2&Param1=value1", "",
         "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
        ("GET", "/example space/", "", "",
         "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"),
        ("POST", "/", "", TOKEN,
         "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"),
    ],
    ids=["get-vanilla", "post-vanilla", "get-vanilla-query-order-key-case",
         "get-space-normalized", "post-sts-header-before"],
)  # fmt: skip
def test_the_signature_is_that_of_the_suite(
    method: str, path: str, query: str, token: str, signature: str
) -> None:
    """Requests without and with a query, a path to encode, and a session token."""
    headers = signed(
        Credentials(*KEY, token), method, "example.amazonaws.com", path, query, b"", "us-east-1",
        "service", AT,
    )  # fmt: skip
    names = "host;x-amz-date" + (";x-amz-security-token" if token else "")
    assert headers["x-amz-date"] == "20150830T123600Z"
    assert headers["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request,"
        f" SignedHeaders={names}, Signature={signature}"
    )


def test_every_part_of_the_request_changes_the_signature() -> None:
    """None is left out."""
    whole = ("PUT", "h.example", "/a%40b", "x=1", b"{}", "eu-north-1", "ses")
    others = ("POST", "i.example", "/a%41b", "x=2", b"{ }", "eu-north-2", "sts")
    seen = set()
    for at in range(-1, len(whole)):
        changed = [*whole]
        if at >= 0:
            changed[at] = others[at]
        method, host, path, query, body, region, service = changed
        made = signed(
            Credentials(*KEY), str(method), str(host), str(path), str(query),
            body if isinstance(body, bytes) else b"", str(region), str(service), AT,
        )  # fmt: skip
        seen.add(made["authorization"].partition("Signature=")[2])
    assert len(seen) == len(whole) + 1
