"""Signature primitives accept what the key made, in its one spelling, and nothing else."""

import base64
import hmac
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from ingest import verify
from ingest.signing_certificate import read_certificate
from ingest.verify import SignatureError
from tests.ingest.keys import certificate, key_pair, whsec

NOW = 1_795_521_600
BODY = b'{"a": 1}\r\n'
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def refused(code: str) -> pytest.RaisesExc[SignatureError]:
    return pytest.raises(SignatureError, check=lambda error: error.code == code)


# --- shared secrets ------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
def test_hmac_agrees_with_the_standard_library(algorithm: str) -> None:
    """Hexadecimal and base64 of the same digest that ``hmac.new`` makes."""
    digest = hmac.new(b"key", BODY, algorithm)
    assert verify.hmac_hex("key", BODY, algorithm) == digest.hexdigest()
    assert verify.hmac_base64("key", BODY, algorithm) == base64.b64encode(digest.digest()).decode()


@given(secrets=st.lists(st.text(min_size=1), min_size=1, max_size=4), body=st.binary(max_size=50))
def test_any_of_several_secrets_is_enough(secrets: list[str], body: bytes) -> None:
    """While keys rotate, requests by each of them pass, in both encodings."""
    encoded = [one.encode("utf-8", "replace").decode() for one in secrets]
    for secret in encoded:
        verify.check_hmac_hex(encoded, body, verify.hmac_hex(secret, body))
        verify.check_hmac_base64(encoded, body, verify.hmac_base64(secret, body))


@pytest.mark.parametrize("secrets", [[], [""], ["", ""]])
def test_no_secret_or_an_empty_one_opens_nothing(secrets: list[str]) -> None:
    """Even the signature made with the empty key is refused."""
    with refused("bad_signature"):
        verify.check_hmac_hex(secrets, BODY, verify.hmac_hex("", BODY))
    with refused("bad_signature"):
        verify.check_hmac_base64(secrets, BODY, verify.hmac_base64("", BODY))
    with refused("bad_token"):
        verify.check_token(secrets, "x")


def test_a_hexadecimal_signature_may_be_all_capitals() -> None:
    """Some senders' libraries write it so; case says nothing. Mixed case stays a changed text."""
    small = verify.hmac_hex("k", BODY)
    verify.check_hmac_hex(["k"], BODY, small.upper())
    letter = next(place for place, one in enumerate(small) if one.isalpha())
    mixed = small[:letter] + small[letter].upper() + small[letter + 1 :]
    for other in (mixed, small.upper()[:-1], f"{small.upper()} "):
        with refused("bad_signature"):
            verify.check_hmac_hex(["k"], BODY, other)


@pytest.mark.parametrize("value", ["é" * 64, "\udcff" * 64, "\x00" * 64])
def test_a_signature_of_odd_characters_is_refused_not_an_error(value: str) -> None:
    """Headers come in latin-1: anything may stand there."""
    with refused("bad_signature"):
        verify.check_hmac_hex(["k"], BODY, value)
    with refused("bad_encoding"):
        verify.check_ecdsa([], BODY, value)


@given(accepted=st.lists(st.text(max_size=5), max_size=5), value=st.text(max_size=5))
def test_same_as_any_is_membership(accepted: list[str], value: str) -> None:
    """The constant-time comparison says what ``in`` says."""
    assert verify.same_as_any(value, accepted) == (value in accepted)


def test_basic_takes_any_user_with_any_password_and_the_scheme_in_any_case() -> None:
    """RFC 7617; the scheme's name has no case, user and password do."""
    users, passwords = ["new", "old"], ["p:1", "p2"]
    for user in users:
        for password in passwords:
            verify.check_basic(users, passwords, verify.basic_header(user, password))
    verify.check_basic(["u"], ["p"], "bAsIc " + base64.b64encode(b"u:p").decode())
    for wrong in ("Basic " + base64.b64encode(b"U:p").decode(), "Basic dTpw=", "Basic dTpw dTpw"):
        with refused("bad_credentials"):
            verify.check_basic(["u"], ["p"], wrong)
    for wrong in ("Bearer dTpw", "dTpw"):
        with refused("missing_credentials"):
            verify.check_basic(["u"], ["p"], wrong)


def test_a_configured_user_without_password_opens_nothing() -> None:
    """Half of the credentials is none."""
    with refused("bad_credentials"):
        verify.check_basic(["u"], [""], verify.basic_header("u", ""))


def test_bearer_tokens() -> None:
    """Any configured token, by RFC 6750; another scheme is no token."""
    verify.check_bearer(["b", "a"], "bearer a")
    with refused("bad_token"):
        verify.check_bearer(["a"], "Bearer  a")
    with refused("missing_token"):
        verify.check_bearer(["a"], "Basic a")
    with refused("missing_token"):
        verify.check_bearer(["a"], None)


# --- time ----------------------------------------------------------------------------------------


@given(age=st.integers(-2_000, 200_000), tolerance=st.integers(1, 100_000))
def test_a_time_passes_exactly_within_its_tolerance(age: int, tolerance: int) -> None:
    """Old by at most the tolerance; ahead by at most five minutes, or the tolerance if less."""
    if age > tolerance:
        wanted = "stale_timestamp"
    elif -age > min(300, tolerance):
        wanted = "future_timestamp"
    else:
        verify.check_timestamp(str(NOW - age), NOW, tolerance)
        return
    with refused(wanted):
        verify.check_timestamp(str(NOW - age), NOW, tolerance)


@pytest.mark.parametrize(
    "value", ["", "x", "-1", "1.5", "+1795521600", " 1795521600", "١٧٩٥", "1" * 17]
)
def test_a_time_that_is_no_plain_number_is_refused(value: str) -> None:
    """Also with the check turned off: the signed bytes must have one reading."""
    with pytest.raises(SignatureError):
        verify.check_timestamp(value, NOW, 0)


def test_tolerance_zero_turns_the_age_check_off() -> None:
    """Documented meaning of ``tolerance_s = 0``."""
    verify.check_timestamp("1", NOW, 0)


# --- public keys ---------------------------------------------------------------------------------


def test_ecdsa_by_any_of_several_keys() -> None:
    """A rotated key, one that does not parse and one of another kind do not stand in the way."""
    private, public = key_pair("ecdsa", 0)
    others = ["no key", key_pair("rsa", 0)[1], key_pair("ecdsa", 1)[1]]
    verify.check_ecdsa([*others, public], BODY, verify.sign_ecdsa(private, BODY))
    with refused("bad_signature"):
        verify.check_ecdsa(others, BODY, verify.sign_ecdsa(private, BODY))
    with refused("bad_signature"):
        verify.check_ecdsa([public], BODY.rstrip(), verify.sign_ecdsa(private, BODY))


def test_base64_must_be_canonical() -> None:
    """Neither white space nor other unused bits: else a changed header would still pass."""
    private, public = key_pair("ecdsa", 0)
    signature = verify.sign_ecdsa(private, BODY)
    for spelling in (
        f"{signature} ",
        f"{signature}\n",
        f"{signature}==",
        signature.replace("=", ""),
    ):
        if spelling != signature:
            with refused("bad_encoding"):
                verify.check_ecdsa([public], BODY, spelling)
    with refused("bad_encoding"):
        verify.canonical_base64("QQ=" + "=" + "\n")
    with refused("bad_encoding"):
        verify.canonical_base64("QR==")  # decodes to "A" as "QQ==" does


def test_the_other_half_of_an_ecdsa_signature_proves_the_same_key() -> None:
    """(r, n - s) verifies as well, as in every ECDSA: ids, not signatures, tell duplicates."""
    private, public = key_pair("ecdsa", 0)
    r, s = utils.decode_dss_signature(base64.b64decode(verify.sign_ecdsa(private, BODY)))
    mirrored = base64.b64encode(utils.encode_dss_signature(r, P256_ORDER - s)).decode()
    verify.check_ecdsa([public], BODY, mirrored)


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_public_keys_load_with_and_without_armour(kind: str) -> None:
    """As SendGrid and Postal show them, or as PEM, broken over lines."""
    public = key_pair(kind, 0)[1]
    lines = "\n".join(public[i : i + 64] for i in range(0, len(public), 64))
    armoured = f"-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n"
    wanted = verify.load_public_key(public).public_numbers()
    assert verify.load_public_key(armoured).public_numbers() == wanted


def test_keys_of_other_kinds_are_refused() -> None:
    """Neither another curve nor ed25519 counts where P-256 or RSA belongs."""
    for key in (
        ec.generate_private_key(ec.SECP384R1()).public_key(),
        ed25519.Ed25519PrivateKey.generate().public_key(),
    ):
        spki = key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        with pytest.raises(ValueError, match="neither"):
            verify.load_public_key(base64.b64encode(spki).decode())


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_rsa_by_key_and_hash(algorithm: str) -> None:
    """The right key with the right hash; the other hash is refused."""
    private, public = key_pair("rsa", 0)
    keys = verify.rsa_keys(["no key", key_pair("ecdsa", 0)[1], key_pair("rsa", 1)[1], public])
    assert len(keys) == 2
    signature = verify.sign_rsa(private, BODY, algorithm)
    verify.check_rsa(keys, BODY, signature, algorithm)
    other = "sha256" if algorithm == "sha1" else "sha1"
    for wrong in ((keys, BODY, signature, other), (keys[:1], BODY, signature, algorithm)):
        with refused("bad_signature"):
            verify.check_rsa(*wrong)


def test_what_counts_of_a_certificate() -> None:
    """Its key, its time, and its names: the common one only where it has no others."""
    plain = read_certificate(certificate(0))
    assert (
        plain.key.public_numbers() == verify.rsa_keys([key_pair("rsa", 0)[1]])[0].public_numbers()
    )
    assert plain.names == {"sns.amazonaws.com"}
    assert (plain.first_s, plain.last_s) == (1_577_836_800, 4_733_510_400)
    assert read_certificate(certificate(0, names=("A.example", "b.example"))).names == {
        "a.example", "b.example",
    }  # fmt: skip
    with pytest.raises(ValueError, match=r".+"):
        read_certificate(b"no certificate")


def test_signing_needs_the_right_kind_of_private_key() -> None:
    """A wrong ``--key`` is said to be wrong."""
    with pytest.raises(ValueError, match="not an ECDSA"):
        verify.sign_ecdsa(key_pair("rsa", 0)[0], BODY)
    with pytest.raises(ValueError, match="not an RSA"):
        verify.sign_rsa(key_pair("ecdsa", 0)[0], BODY, "sha256")


# --- Standard Webhooks ---------------------------------------------------------------------------


def standard(signatures: str, *, secrets: list[str], keys: list[str] | None = None) -> None:
    headers = ("msg_1", str(NOW), signatures)
    verify.check_standard(secrets, keys or [], headers, BODY, NOW, 300)


def test_our_signature_is_the_reference_librarys() -> None:
    """The ``standardwebhooks`` package makes the same text."""
    secret = whsec("t", 0)
    theirs = Webhook(secret).sign("msg_1", datetime.fromtimestamp(NOW, UTC), BODY.decode())
    assert verify.standard_signature(secret, "msg_1", str(NOW), BODY) == theirs


def test_one_good_signature_among_several_is_enough() -> None:
    """Both sides may be rotating at once."""
    old, new, strange = whsec("t", 0), whsec("t", 1), whsec("t", 2)
    sign = [verify.standard_signature(s, "msg_1", str(NOW), BODY) for s in (old, new, strange)]
    standard(f"{sign[2]} v9,xyz {sign[0]}", secrets=[new, old])
    standard(sign[1], secrets=[new, old])
    with refused("bad_signature"):
        standard(sign[2], secrets=[new, old])


def test_the_number_of_signatures_is_limited() -> None:
    """Sixteen are looked at; a header full of them would cost a public-key operation each."""
    good = verify.standard_signature(whsec("t", 0), "msg_1", str(NOW), BODY)
    standard(" ".join(["v1,x"] * 15 + [good]), secrets=[whsec("t", 0)])
    with refused("too_many_signatures"):
        standard(" ".join(["v1,x"] * 16 + [good]), secrets=[whsec("t", 0)])


@pytest.mark.parametrize("prefix", ["v2,", "v1a,", "V1,", ""])
def test_only_version_1_is_an_hmac(prefix: str) -> None:
    """The same digest under another version is refused."""
    secret = whsec("t", 0)
    digest = verify.standard_signature(secret, "msg_1", str(NOW), BODY).removeprefix("v1,")
    with refused("bad_signature"):
        standard(prefix + digest, secrets=[secret])


def test_secrets_may_lack_prefix_and_padding_and_bad_ones_are_skipped() -> None:
    """What is not base64 is no key; the others still count."""
    secret = whsec("t", 0)
    signature = verify.standard_signature(secret, "msg_1", str(NOW), BODY)
    bare = secret.removeprefix("whsec_")
    for spelling in (bare, bare.rstrip("="), "whsec_" + bare.rstrip("=")):
        standard(signature, secrets=["whsec_not base64!", spelling])
    with refused("bad_signature"):
        standard(verify.standard_signature("whsec_", "msg_1", str(NOW), BODY), secrets=["whsec_"])


def test_id_and_time_cannot_trade_characters() -> None:
    """``msg.1`` at ``2`` and ``msg`` at ``1.2`` would be signed alike."""
    secret = whsec("t", 0)
    signature = verify.standard_signature(secret, "msg.1", str(NOW), BODY)
    headers = ("msg.1", str(NOW), signature)
    with refused("bad_id"):
        verify.check_standard([secret], [], headers, BODY, NOW, 300)


def test_ed25519_signatures_count_where_a_public_key_is_configured() -> None:
    """Version ``v1a`` of the specification."""
    key = ed25519.Ed25519PrivateKey.generate()
    raw = key.public_key().public_bytes_raw()
    public = "whpk_" + base64.b64encode(raw).decode()
    signed = f"msg_1.{NOW}.".encode() + BODY
    signature = "v1a," + base64.b64encode(key.sign(signed)).decode()
    standard(f"v1,AAAA {signature}", secrets=[], keys=["whpk_broken!", public])
    with refused("bad_signature"):
        standard(signature, secrets=[], keys=[])
    with refused("bad_signature"):
        standard("v1a," + base64.b64encode(key.sign(b"else")).decode(), secrets=[], keys=[public])


def test_every_header_is_needed() -> None:
    """Each missing one has its own code for the log."""
    good = ("msg_1", str(NOW), "v1,x")
    for place, code in enumerate(("missing_id", "missing_timestamp", "missing_signature")):
        headers = tuple(None if at == place else value for at, value in enumerate(good))
        with refused(code):
            verify.check_standard(["x"], [], headers, BODY, NOW, 300)  # type: ignore[arg-type]
