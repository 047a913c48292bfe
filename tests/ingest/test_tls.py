"""Certificates and keys that the front door can't be opened with are said by file and setting."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from ingest.tls import check_pair
from schemas.errors import ConfigError
from tests.live.certificates import Authority

Pair = tuple[Path, Path]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """A certificate and its key."""
    certificate, key = Authority(tmp_path).issue("door", "127.0.0.1")
    return Path(certificate), Path(key)


def encrypt(pair: Pair) -> None:
    """Puts a passphrase on the key."""
    key = load_pem_private_key(pair[1].read_bytes(), None)
    secret = BestAvailableEncryption(b"secret")
    pair[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))


def swap(pair: Pair) -> None:
    """Puts the key of another certificate in place of the key."""
    _, other = Authority(pair[0].parent / "other", "other").issue("door", "127.0.0.1")
    shutil.copy(other, pair[1])


def make_a_directory(pair: Pair) -> None:
    """Of the certificate's path."""
    pair[0].unlink()
    pair[0].mkdir()


def cut(pair: Pair) -> None:
    """The certificate loses its end."""
    pair[0].write_text(pair[0].read_text()[:200])


def test_a_pair_passes(pair: Pair) -> None:
    """As ``openssl`` and certificate authorities give them."""
    check_pair(*pair)


@pytest.mark.parametrize(
    ("damage", "setting", "words"),
    [
        (lambda pair: pair[0].unlink(), "TLS_CERT_FILE", "No such file"),
        (lambda pair: pair[1].unlink(), "TLS_KEY_FILE", "No such file"),
        (make_a_directory, "TLS_CERT_FILE", "Is a directory"),
        (lambda pair: pair[0].write_text(""), "TLS_CERT_FILE", "no certificate in PEM"),
        (lambda pair: pair[1].write_bytes(b"\xff\x00"), "TLS_KEY_FILE", "no private key in PEM"),
        (cut, "TLS_CERT_FILE", ""),
        (encrypt, "TLS_KEY_FILE", "without a passphrase"),
        (swap, "TLS_KEY_FILE", "is not the key of"),
    ],
)
def test_what_cannot_be_served_with_is_said(
    pair: Pair, damage: Callable[[Pair], object], setting: str, words: str
) -> None:
    """The setting, the file, and what is the matter with it; nobody is asked for a passphrase."""
    damage(pair)
    with pytest.raises(ConfigError) as refused:
        check_pair(*pair)
    [problem] = refused.value.problems
    assert problem.startswith("MAILPULSE_TLS_")
    assert setting in problem
    assert str(pair[setting == "TLS_KEY_FILE"]) in problem
    assert words in problem
