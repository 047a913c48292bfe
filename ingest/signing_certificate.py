"""The certificate that a provider signs with: its key, its names and its period of validity.

Invariants:
1. Pure: the certificate's bytes and the time are arguments.
2. Its chain of trust is not checked here: it was fetched by HTTPS from a host that the provider
   module pins, so that host's own certificate vouches for it.

Source: RFC 5280 §4.1.2.5 (validity), RFC 6125 §6.4.4 (the common name counts only where there are
no DNS names).
"""

from dataclasses import dataclass
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509 import (
    DNSName,
    ExtensionNotFound,
    SubjectAlternativeName,
    load_pem_x509_certificate,
)
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class SigningCertificate:
    """The parts of a certificate that are used.

    Attributes:
        key: its RSA key.
        names: hosts that it is for, in lower case.
        first_s, last_s: period of validity in seconds since 1970, both included.
    """

    key: rsa.RSAPublicKey
    names: frozenset[str]
    first_s: float
    last_s: float


@lru_cache(maxsize=256)
def read_certificate(pem: bytes) -> SigningCertificate:
    """A PEM certificate.

    Raises:
        ValueError: not a certificate, or one without an RSA key.
    """
    certificate = load_pem_x509_certificate(pem)
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise ValueError("certificate does not hold an RSA key")
    try:
        found = certificate.extensions.get_extension_for_class(SubjectAlternativeName)
        names = found.value.get_values_for_type(DNSName)
    except ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        names = [str(one.value) for one in common]
    return SigningCertificate(
        key,
        frozenset(name.lower() for name in names),
        certificate.not_valid_before_utc.timestamp(),
        certificate.not_valid_after_utc.timestamp(),
    )
