"""Amazon SNS envelopes and SES bodies: who is let in, and from where certificates are fetched."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from ingest import verify
from ingest.providers import REGISTRY, sns
from ingest.providers.base import Provider, Request, post
from ingest.providers.ses import sample_certificate_url
from ingest.verify import NeedsCertificate, SignatureError
from schemas.settings import Source
from tests.ingest.keys import Example, certificate, example, key_pair
from tests.ingest.provider_suite import NOW, RECEIVED_AT, accepted

CONFIRM = "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription"
PEM = "SimpleNotificationService-0123456789abcdef.pem"


def refused(code: str) -> pytest.RaisesExc[SignatureError]:
    return pytest.raises(SignatureError, check=lambda error: error.code == code)


def sample(name: str, one: Example) -> tuple[Provider, Request]:
    provider = REGISTRY[name]
    return provider, provider.sample(one.source, NOW, 1, one.signing_key)


def envelope(kind: str = "Notification", version: str = "2", **fields: Any) -> dict[str, Any]:
    """A signed envelope of the example topic."""
    private, _ = key_pair("rsa", 0)
    content: dict[str, Any] = {
        "Type": kind,
        "MessageId": "m-1",
        "TopicArn": "arn:aws:sns:us-east-1:123456789012:mail-events",
        "Message": '{"eventType": "Send"}\n',
        "Timestamp": "2026-11-24T11:59:59.000Z",
        "SignatureVersion": version,
        "SigningCertURL": sample_certificate_url(private),
        **fields,
    }
    if kind != "Notification":
        url = f"{CONFIRM}&TopicArn={content['TopicArn']}&Token=t"
        content = {"SubscribeURL": url, "Token": "t", **content}
    algorithm = "sha1" if version == "1" else "sha256"
    content["Signature"] = verify.sign_rsa(private, sns.signed_text(content), algorithm)
    return content


def check_sns(content: dict[str, Any], certificates: dict[str, bytes] | None = None) -> None:
    one = example("ses")
    body = orjson.dumps(content)
    known = one.certificates if certificates is None else certificates
    REGISTRY["ses"].verify(post(body), one.source, NOW, known)


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("kind", list(sns.TYPES))
def test_sns_envelopes_of_every_type_and_signature_version(kind: str, version: str) -> None:
    """SHA-1 and SHA-256; notifications with and without a subject, and both confirmations."""
    check_sns(envelope(kind, version))
    if kind == "Notification":
        check_sns(envelope(kind, version, Subject="Amazon SES Email Event Notification"))


@pytest.mark.parametrize(
    "field", ["Message", "MessageId", "Timestamp", "TopicArn", "Type", "Signature"]
)
def test_sns_every_signed_field_counts(field: str) -> None:
    """Changed, missing, or of another kind, each is refused."""
    good = envelope()
    for bad in (good[field] + "x", good[field][:-1], None, 7, [good[field]]):
        with pytest.raises(SignatureError):
            check_sns({**good, field: bad})
    with pytest.raises(SignatureError):
        check_sns({key: value for key, value in good.items() if key != field})


def test_sns_a_subject_put_in_later_is_refused() -> None:
    """It would be signed if it were there."""
    with refused("bad_signature"):
        check_sns({**envelope(), "Subject": "later"})


@pytest.mark.parametrize("version", ["3", "", 2, None, "02"])
def test_sns_unknown_signature_versions_are_refused(version: object) -> None:
    """Nothing falls back to an older hash; the number 2 is not the text SNS sends."""
    with refused("unknown_signature_version"):
        check_sns({**envelope(), "SignatureVersion": version})


@pytest.mark.parametrize(
    "url",
    [
        f"http://sns.us-east-1.amazonaws.com/{PEM}",
        f"https://sns.us-east-1.amazonaws.com.example.com/{PEM}",
        f"https://example.com/sns.us-east-1.amazonaws.com/{PEM}",
        f"https://sns.us-east-1.amazonaws.com@example.com/{PEM}",
        f"https://user@sns.us-east-1.amazonaws.com/{PEM}",
        f"https://sns.us-east-1.amazonaws.com:444/{PEM}",
        f"https://s3.us-east-1.amazonaws.com/{PEM}",
        f"https://sns.a.b.amazonaws.com/{PEM}",
        f"https://sns..amazonaws.com/{PEM}",
        f"https://SNS.us-east-1.amazonaws.com/{PEM}",
        f"https://sns.us-east-1.amazonaws.com/{PEM}?x=1",
        f"https://sns.us-east-1.amazonaws.com/{PEM}#x",
        f"https://sns.us-east-1.amazonaws.com/../{PEM}",
        f"https://sns.us-east-1.amazonaws.com//{PEM}",
        "https://sns.us-east-1.amazonaws.com/a.txt",
        f"https://sns.us-east-1.amazonaws.com/%2e/{PEM}",
        f"https://sns.us-east-1.amazonaws.com/{PEM}\n",
        f"https://[sns.us-east-1.amazonaws.com/{PEM}",
        f"https:\\\\sns.us-east-1.amazonaws.com/{PEM}",
        f"https://sns.s3-us-west-2.amazonaws.com/{PEM}",
        f"https://sns.s3.amazonaws.com/{PEM}",
        f"https://sns.dualstack.amazonaws.com/{PEM}",
        f"https://sns.us-west-2.amazonaws.com.cn/{PEM}",
        f"https://sns.cn-north-1.amazonaws.com/{PEM}",
        f"https://sns.us-west-0.amazonaws.com/{PEM}",
        f"https://sns.us-west-2x.amazonaws.com/{PEM}",
        f"https://sns.u2-west-2.amazonaws.com/{PEM}",
        f"https://sns.us-west.amazonaws.com/{PEM}",
        f"https://sns.us-west-2.amazonaws.com/x/{PEM}",
        "https://sns.us-west-2.amazonaws.com/a.pem",
        "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-x.pem",
        f"https://sns.us-west-2.amazonaws.com:443/{PEM}",
        f"https://sns.us-west-2.amazonaws.com./{PEM}",
        "",
        None,
    ],
)
def test_sns_certificates_from_anywhere_else_are_not_fetched(url: object) -> None:
    """Host, scheme, port and path are pinned; refused before anything is asked for."""
    with refused("bad_certificate_url"):
        check_sns({**envelope(), "SigningCertURL": url}, {})


@pytest.mark.parametrize("host", ["sns.eu-west-1.amazonaws.com", "sns.cn-north-1.amazonaws.com.cn"])
def test_sns_asks_for_a_certificate_it_does_not_have(host: str) -> None:
    """The shell fetches it and calls again."""
    url = f"https://{host}/SimpleNotificationService-0123.pem"
    with pytest.raises(NeedsCertificate) as caught:
        check_sns({**envelope(), "SigningCertURL": url}, {})
    assert caught.value.url == url


REGIONS = (
    "af-south-1 ap-east-1 ap-east-2 ap-northeast-1 ap-northeast-2 ap-northeast-3 ap-south-1 "
    "ap-south-2 ap-southeast-1 ap-southeast-2 ap-southeast-3 ap-southeast-4 ap-southeast-5 "
    "ap-southeast-6 ap-southeast-7 ca-central-1 ca-west-1 eu-central-1 eu-central-2 eu-north-1 "
    "eu-south-1 eu-south-2 eu-west-1 eu-west-2 eu-west-3 il-central-1 me-central-1 me-south-1 "
    "mx-central-1 sa-east-1 us-east-1 us-east-2 us-gov-east-1 us-gov-west-1 us-west-1 us-west-2"
).split()


@pytest.mark.parametrize("region", REGIONS)
def test_sns_every_region_is_known(region: str) -> None:
    """And China's two under their own domain."""
    assert sns.is_sns_host(f"https://sns.{region}.amazonaws.com/x")
    assert not sns.is_sns_host(f"https://sns.{region}.amazonaws.com.cn/x")
    for chinese in ("cn-north-1", "cn-northwest-1"):
        assert sns.is_sns_host(f"https://sns.{chinese}.amazonaws.com.cn/x")


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("sns.us-east-1.amazonaws.com", "sns.amazonaws.com"),
        ("sns.us-east-1.amazonaws.com", "sns.us-east-1.amazonaws.com"),
        ("sns.ap-east-1.amazonaws.com", "sns-signing.ap-east-1.amazonaws.com"),
        ("sns.us-gov-east-1.amazonaws.com", "sns-us-gov-west-1.amazonaws.com"),
        ("sns.cn-north-1.amazonaws.com.cn", "sns-cn-north-1.amazonaws.com.cn"),
    ],
)
def test_sns_a_certificate_is_for_sns(host: str, name: str) -> None:
    """By its DNS names, or by its common name where it has none."""
    url = f"https://{host}/{PEM}"
    content = envelope(SigningCertURL=url)
    check_sns(content, {url: certificate(0, common=name)})
    check_sns(content, {url: certificate(0, common="x", names=("other.example", name))})
    for bad in (
        certificate(0, common=name, names=("other.example",)),
        certificate(0, common="sns.amazonaws.com.example.com"),
        certificate(0, common="*.amazonaws.com"),
        certificate(0, common="sns.sa-east-1.amazonaws.com"),
    ):
        with refused("certificate_of_another"):
            check_sns(content, {url: bad})


def test_sns_a_certificate_holds_for_a_time() -> None:
    """One that is over, or not begun, proves nothing."""
    content = envelope()
    now = datetime.fromtimestamp(NOW, UTC)
    day = timedelta(days=1)
    for first, last, good in (
        (now - day, now + day, True), (now - 2 * day, now - day, False),
        (now + day, now + 2 * day, False),
    ):  # fmt: skip
        known = {content["SigningCertURL"]: certificate(0, first=first, last=last)}
        if good:
            check_sns(content, known)
        else:
            with refused("certificate_not_valid_now"):
                check_sns(content, known)


TOPIC = "arn:aws:sns:us-east-1:123456789012:mail-events"


@pytest.mark.parametrize(
    "url",
    [
        f"{CONFIRM}&TopicArn={TOPIC}",
        f"{CONFIRM}&TopicArn={TOPIC}&Token=other",
        f"{CONFIRM}&TopicArn={TOPIC}x&Token=t",
        f"{CONFIRM}&TopicArn={TOPIC}&Token=t&Token=t",
        f"{CONFIRM}&TopicArn={TOPIC}&Token=t&More=1",
        f"{CONFIRM}&TopicArn={TOPIC}&Token=t#x",
        f"{CONFIRM.replace('Confirm', 'Delete')}&TopicArn={TOPIC}&Token=t",
        f"{CONFIRM.replace('/?', '/x?')}&TopicArn={TOPIC}&Token=t",
        f"{CONFIRM.replace('https', 'http')}&TopicArn={TOPIC}&Token=t",
        f"{CONFIRM.replace('sns.us', 'sns.s3-us')}&TopicArn={TOPIC}&Token=t",
        f"{CONFIRM.replace('.com/', '.com:8443/')}&TopicArn={TOPIC}&Token=t",
        f"{CONFIRM.replace('sns', 'user@sns')}&TopicArn={TOPIC}&Token=t",
        "https://[sns.us-east-1.amazonaws.com/", "", None, 7,
    ],
)  # fmt: skip
def test_sns_nothing_but_this_subscription_is_confirmed(url: object) -> None:
    """Whoever is let in by a token sends envelopes that nobody signed."""
    content = {**envelope("SubscriptionConfirmation"), "SubscribeURL": url}
    assert sns.confirmation_url(content) is None
    good = envelope("SubscriptionConfirmation")
    assert sns.confirmation_url(good) == good["SubscribeURL"]


def test_sns_a_file_that_is_no_certificate_is_refused() -> None:
    """What was fetched may be an error page."""
    content = envelope()
    with refused("bad_certificate"):
        check_sns(content, {content["SigningCertURL"]: b"<html>"})
    with refused("bad_signature"):
        check_sns(content, {content["SigningCertURL"]: certificate(5)})


def test_sns_another_topic_is_refused_before_its_signature_is_looked_at() -> None:
    """A signature proves «some AWS topic»; anyone can have one."""
    with refused("unknown_topic"):
        check_sns(envelope(TopicArn="arn:aws:sns:us-east-1:999999999999:theirs"))


@pytest.mark.parametrize(
    ("header", "value", "good"),
    [
        ("x-amz-firehose-access-key", "the-token", True),
        ("x-api-key", "the-token", True),
        ("authorization", "Bearer the-token", True),
        ("x-amz-firehose-access-key", "another", False),
        ("x-api-key", "", False),
        ("authorization", "the-token", False),
        ("x-other", "the-token", False),
    ],
)
def test_ses_eventbridge_and_firehose_come_in_by_token(header: str, value: str, good: bool) -> None:
    """They sign nothing; the token alone decides, wherever their senders can put it."""
    source = Source(name="s", provider="ses", token=("the-token",))
    request = post(b'{"detail": {"eventType": "Send"}}', (header, value))
    assert accepted(REGISTRY["ses"], request, Example(source)) is good
    assert not accepted(REGISTRY["ses"], request, Example(example("ses").source))


def test_ses_a_bad_token_is_not_saved_by_a_good_envelope() -> None:
    """One proof per request: what brings a token is judged by it."""
    one = example("ses")
    request = replace(post(orjson.dumps(envelope())), headers=(("x-api-key", "guess"),))
    assert not accepted(REGISTRY["ses"], request, one)


def test_ses_basic_credentials_in_the_subscription_neither_help_nor_hurt() -> None:
    """SNS shows them when it was challenged; its signature decides."""
    one = example("ses")
    basic = ("authorization", verify.basic_header("u", "p"))
    assert accepted(REGISTRY["ses"], post(orjson.dumps(envelope()), basic), one)
    assert not accepted(REGISTRY["ses"], post(b"{}", basic), one)


def test_ses_samples_by_token_where_there_is_no_topic() -> None:
    """``send-test`` works without a certificate then."""
    source = Source(name="s", provider="ses", token=("the-token",))
    provider, request = sample("ses", Example(source))
    assert accepted(provider, request, Example(source))
    assert len(provider.parse(request, source, RECEIVED_AT).events) == 1


def test_firehose_is_answered_with_its_request_id() -> None:
    """Else it takes the delivery for failed and sends it again."""
    body = orjson.dumps({"requestId": "r-1", "records": []})
    parsed = REGISTRY["ses"].parse(post(body), example("ses").source, RECEIVED_AT)
    assert orjson.loads(parsed.answer) == {"requestId": "r-1", "timestamp": NOW * 1000}
