"""The certificate and key of the front door, looked at before it opens.

uvicorn would end with a traceback that names neither file nor setting, and OpenSSL would ask a
terminal for the passphrase of an encrypted key.
"""

import ssl
from pathlib import Path

from schemas.errors import ConfigError
from schemas.settings import PREFIX

CERTIFICATE, KEY = f"{PREFIX}TLS_CERT_FILE", f"{PREFIX}TLS_KEY_FILE"


def check_pair(certificate: Path, key: Path) -> None:
    """Passes a certificate chain and its private key that TLS can be served with.

    Raises:
        ConfigError: a file can't be read or is not PEM, the key is encrypted, or the two do not
            belong together.
    """
    texts = {name: _text(name, path) for name, path in ((CERTIFICATE, certificate), (KEY, key))}
    for name, path, label in (
        (CERTIFICATE, certificate, "CERTIFICATE-----"),
        (KEY, key, "PRIVATE KEY-----"),
    ):
        if label not in texts[name]:
            raise ConfigError([f"{name}: {path}: no {label.strip('-').lower()} in PEM"])

    def ask() -> str:
        raise ConfigError([f"{KEY}: {key}: is encrypted: give it without a passphrase"])

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, ask)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError([f"{KEY}: {key}: is not the key of {certificate}"]) from None
        reason = error.reason or "not PEM that OpenSSL reads"
        raise ConfigError([f"{CERTIFICATE}, {KEY}: {certificate}, {key}: {reason}"]) from None


def _text(name: str, path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise ConfigError([f"{name}: {path}: {error.strerror}"]) from None
