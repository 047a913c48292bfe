"""Tokens for Amazon MSK: the signature is checked by AWS's written recipe, not by its library."""

import base64
import hashlib
import hmac
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from botocore.exceptions import CredentialRetrievalError
from botocore.session import Session

from schemas.addresses import msk_region
from schemas.errors import ConfigError
from schemas.kafka_msk import LIFE_S, MskTokens
from schemas.kafka_tokens import PAUSE_S, TokenRefused
from schemas.settings import Settings, load_settings
from tests.schemas.test_kafka_tokens import Clock

KEY, SECRET, SESSION_TOKEN = "AKIDEXAMPLE", "s3cret/+key", "session+token/=="
SERVERLESS = "boot-abc.c1.kafka-serverless.eu-west-1.amazonaws.com:9098"


def session(token: str | None = None) -> Session:
    """With credentials of its own."""
    made = Session()
    made.set_credentials(KEY, SECRET, token)
    return made


def url_of(token: str) -> str:
    """What a token stands for."""
    assert "=" not in token
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()


def signature(url: str, region: str) -> str:
    """The signature that AWS computes for a presigned GET.

    Source: AWS, «Create a signed AWS API request», steps 1 to 4, with the authentication in the
    query.
    """
    parts = urlsplit(url)
    pairs = dict(parse_qsl(parts.query, keep_blank_values=True))
    # the broker takes the signer's name off before it checks
    signed = {k: v for k, v in pairs.items() if k not in ("X-Amz-Signature", "User-Agent")}
    query = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in sorted(signed.items()))
    empty = hashlib.sha256(b"").hexdigest()
    canonical = "\n".join(["GET", "/", query, f"host:{parts.netloc}", "", "host", empty])
    at = signed["X-Amz-Date"]
    scope = f"{at[:8]}/{region}/kafka-cluster/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", at, scope, digest])
    key = f"AWS4{SECRET}".encode()
    for part in (*scope.split("/"), text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key.hex()


@pytest.mark.parametrize("region", ["eu-west-1", "us-gov-east-1"])
@pytest.mark.parametrize("session_token", [None, SESSION_TOKEN])
async def test_a_token_is_a_request_that_aws_can_check(
    region: str, session_token: str | None
) -> None:
    """With long-lived credentials and with those of a role."""
    url = url_of(await MskTokens(region, session(session_token)).token())
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc, parts.path) == (
        "https", f"kafka.{region}.amazonaws.com", "/",
    )  # fmt: skip
    pairs = dict(parse_qsl(parts.query, keep_blank_values=True))
    assert pairs["Action"] == "kafka-cluster:Connect"
    assert pairs["X-Amz-Expires"] == str(LIFE_S)
    assert pairs["X-Amz-SignedHeaders"] == "host"
    assert pairs.get("X-Amz-Security-Token") == session_token
    assert pairs["User-Agent"] == "mailpulse"
    assert pairs["X-Amz-Signature"] == signature(url, region)
    assert pairs["X-Amz-Signature"] != signature(url, "eu-west-2")


async def test_a_token_is_made_anew_before_it_ends() -> None:
    """As others are: well before."""
    clock, own = Clock(), session()
    tokens = MskTokens("eu-west-1", own, clock)
    first = await tokens.token()
    own.set_credentials("AKIDOTHER", SECRET)
    clock.now += 0.79 * LIFE_S
    assert await tokens.token() == first
    clock.now += 0.02 * LIFE_S
    assert "AKIDOTHER" in url_of(await tokens.token())


class Without:
    """A session without credentials, or one whose role can't be asked."""

    def __init__(self, error: Exception | None) -> None:
        self._error, self.asked = error, 0

    def get_credentials(self) -> Any:
        self.asked += 1
        if self._error is not None:
            raise self._error
        return None


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (None, "no credentials in the environment, a profile or a role"),
        (CredentialRetrievalError(provider="iam", error_msg="secret-canary"), "AWS: Credential"),
    ],
)
async def test_who_is_nobody_in_aws_is_told_so(error: Exception | None, says: str) -> None:
    """Without what AWS said, which may hold anything; asked again after a pause."""
    clock, own = Clock(), Without(error)
    tokens = MskTokens("eu-west-1", own, clock)
    for _ in range(3):
        with pytest.raises(TokenRefused, match=says) as refused:
            await tokens.token()
        assert "canary" not in str(refused.value)
    assert own.asked == 1
    clock.now += PAUSE_S
    with pytest.raises(TokenRefused):
        await tokens.token()
    assert own.asked == 2


@pytest.mark.parametrize(
    ("bootstrap", "region"),
    [
        (SERVERLESS, "eu-west-1"),
        ("b-1.mail.x1.c2.kafka.us-gov-west-1.amazonaws.com:9098,b-2.mail.x1.c2.kafka"
         ".us-gov-west-1.amazonaws.com:9098", "us-gov-west-1"),
        ("kafka:9092", ""),
        ("kafka.example.com:9092", ""),
        ("b-1.kafka.nowhere.amazonaws.com:9098", ""),
    ],
)  # fmt: skip
def test_the_region_is_in_the_names_of_brokers(bootstrap: str, region: str) -> None:
    """Amazon's «Bootstrap brokers» of provisioned and of serverless clusters."""
    assert msk_region(bootstrap) == region


def test_clients_sign_in_with_such_a_token() -> None:
    """By OAUTHBEARER; every client of the process with the same one."""
    given = {"kafka_security_protocol": "SASL_SSL", "kafka_sasl_mechanism": "AWS_MSK_IAM"}
    options = [Settings(kafka_bootstrap=SERVERLESS, **given).kafka_client_options()  # type: ignore[arg-type]
               for _ in range(2)]  # fmt: skip
    assert {one["sasl_mechanism"] for one in options} == {"OAUTHBEARER"}
    first, second = (one["sasl_oauth_token_provider"] for one in options)
    assert first is second
    assert isinstance(first, MskTokens)
    assert first.extensions() == {}


def test_a_region_that_nobody_knows_is_asked_for_at_the_start() -> None:
    """A private name of a broker has none in it."""
    environ = {
        "MAILPULSE_KAFKA_SASL_MECHANISM": "AWS_MSK_IAM",
        "MAILPULSE_KAFKA_BOOTSTRAP": "kafka.internal:9098",
    }

    def read(path: Path) -> str:
        raise FileNotFoundError(path)

    with pytest.raises(ConfigError, match="MAILPULSE_KAFKA_AWS_REGION: needed"):
        load_settings(environ, read)
    environ["MAILPULSE_KAFKA_AWS_REGION"] = "eu-central-1"
    assert load_settings(environ, read).aws_region == "eu-central-1"
    environ["MAILPULSE_KAFKA_AWS_REGION"] = "Frankfurt"
    with pytest.raises(ConfigError, match="MAILPULSE_KAFKA_AWS_REGION"):
        load_settings(environ, read)
