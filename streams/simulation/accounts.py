"""The simulated provider accounts and the sources that trust them.

Invariants:
1. No secret is written to disk here: ``mailpulse.toml`` holds the public key and the names of
   environment variables, as a user's file does.
2. The sources are configured through the same file that a user writes.
"""

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from schemas.settings import PREFIX
from streams.simulation.senders import (
    GenericSender,
    PostmarkSender,
    ResendSender,
    Sender,
    SendGridSender,
    SparkPostSender,
)

_SECRET = f"{PREFIX}SECRET_DEMO_"


@dataclass(frozen=True, slots=True)
class Accounts:
    """The senders, and the configuration with which ingress accepts them.

    Attributes:
        senders: source name -> its provider.
        toml: text of the ``mailpulse.toml``.
        environ: the secrets that the file refers to.
    """

    senders: dict[str, Sender]
    toml: str
    environ: dict[str, str]


@dataclass(frozen=True, slots=True)
class Keys:
    """Secrets of the accounts; ``sendgrid`` is a private key in PEM."""

    sendgrid: str
    postmark: str
    sparkpost: str
    crm: str
    resend: str


def new_keys() -> Keys:
    """Fresh keys."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    resend = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
    postmark, sparkpost, crm = (secrets.token_urlsafe(24) for _ in range(3))
    return Keys(pem, postmark, sparkpost, crm, resend)


def open_accounts(keys: Keys | None = None) -> Accounts:
    """Accounts at five providers, with ``keys`` or fresh ones."""
    keys = keys or new_keys()
    key = load_pem_private_key(keys.sendgrid.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    wrong = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    postmark, sparkpost, crm, resend = keys.postmark, keys.sparkpost, keys.crm, keys.resend
    senders: Sequence[Sender] = (
        SendGridSender("news", key, wrong),
        PostmarkSender("transactional", "postmark", postmark),
        GenericSender("crm", crm),
        SparkPostSender("partner", "sparkpost", sparkpost),
        ResendSender("app", resend),
    )
    return Accounts(
        senders={sender.source: sender for sender in senders},
        toml=_TOML.format(public_key=base64.b64encode(public).decode(), secret=_SECRET),
        environ={
            f"{_SECRET}POSTMARK_USER": "postmark",
            f"{_SECRET}POSTMARK_PASSWORD": postmark,
            f"{_SECRET}SPARKPOST_USER": "sparkpost",
            f"{_SECRET}SPARKPOST_PASSWORD": sparkpost,
            f"{_SECRET}CRM": crm,
            f"{_SECRET}RESEND": resend,
        },
    )


_TOML = """\
# Written by `mailpulse demo`; the secrets are in its environment only.
[sources.news]
provider = "sendgrid"
public_key = "{public_key}"

[sources.transactional]
provider = "postmark"
username = "env:{secret}POSTMARK_USER"
password = "env:{secret}POSTMARK_PASSWORD"

[sources.crm]
provider = "generic"
secret = "env:{secret}CRM"

[sources.partner]
provider = "sparkpost"
username = "env:{secret}SPARKPOST_USER"
password = "env:{secret}SPARKPOST_PASSWORD"

[sources.app]
provider = "resend"
secret = "env:{secret}RESEND"
"""
