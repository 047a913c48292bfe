"""Tokens for Amazon MSK by IAM: a request that AWS could check, signed and never sent.

The broker takes it by SASL's mechanism OAUTHBEARER: a presigned GET of
``https://kafka.REGION.amazonaws.com/?Action=kafka-cluster:Connect`` (Signature Version 4, service
``kafka-cluster``), in unpadded base64url. botocore finds the credentials as every AWS program does
(environment, profile, the role of a pod, a container or a machine), and renews them.

Sources: AWS, «IAM access control» of Amazon MSK; its signer for Python
(aws-msk-iam-sasl-signer-python 1.0.2, Apache-2.0), which does the same with boto3 on top; «Create a
signed AWS API request». Not tried on a live cluster: ``tests/schemas/test_kafka_msk.py`` checks the
signature by the page's own recipe.
"""

import base64
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from schemas.errors import ConfigError
from schemas.kafka_tokens import FreshTokens, TokenRefused

__all__ = ["MECHANISM", "MskTokens", "tokens_of"]

MECHANISM = "AWS_MSK_IAM"
LIFE_S = 900
"""How long a token may open connections, seconds."""
EXTRA = "Amazon MSK by IAM needs botocore: pip install 'mailpulse[msk]'"


class MskTokens(FreshTokens):
    """Tokens of the AWS identity that this process has.

    Args:
        region: of the cluster, such as ``eu-west-1``.
        session: a ``botocore.session.Session``; default: one of this environment.

    Raises:
        ConfigError: botocore is not installed.
    """

    def __init__(
        self, region: str, session: Any = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(clock)
        try:
            from botocore.session import Session
        except ImportError as error:
            raise ConfigError([f"MAILPULSE_KAFKA_SASL_MECHANISM: {EXTRA}"]) from error
        self._region = region
        self._session = session or Session()

    def _asked(self) -> tuple[str, float]:
        from botocore.auth import SigV4QueryAuth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError

        try:
            found = self._session.get_credentials()
            if found is None:
                raise TokenRefused("AWS: no credentials in the environment, a profile or a role")
            host = f"kafka.{self._region}.amazonaws.com"
            signed = AWSRequest("GET", f"https://{host}/?Action=kafka-cluster%3AConnect")
            frozen = found.get_frozen_credentials()
            SigV4QueryAuth(frozen, "kafka-cluster", self._region, expires=LIFE_S).add_auth(signed)
        except BotoCoreError as error:
            raise TokenRefused(f"AWS: {type(error).__name__}") from None
        url = f"{signed.url}&User-Agent=mailpulse"
        return base64.urlsafe_b64encode(url.encode()).decode().rstrip("="), LIFE_S


@lru_cache(maxsize=8)
def tokens_of(region: str) -> MskTokens:
    """The tokens of a region, the same for each who asks."""
    return MskTokens(region)
