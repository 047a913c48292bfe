"""Bounces: who is refused, what a relay quotes, and providers' published codes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.event import BounceClass, BounceReason
from streams.classify.tables.provider_codes import PROVIDER_CODES, explained
from tests.streams.diagnostics import bounce

CLASSES = {str(value) for value in BounceClass}
REASONS = {str(value) for value in BounceReason}


def test_words_of_time_are_those_of_the_quoted_reply() -> None:
    """A relay's «temporarily» says nothing of a quoted 5.1.1; a quoted «try again later» counts."""
    relay = "451 temporarily deferred, will retry later; host mx.example.net said: "
    assert bounce(relay + "550 5.1.1 no such user") == ("hard", "no_mailbox")
    assert bounce(relay + "550 try again later")[0] == "soft"
    assert (
        bounce("delivery temporarily suspended: host mx said: 550 5.1.1 no such user")[0] == "hard"
    )
    assert bounce("421 permanently deferred -> 450 4.2.0 greylisted") == ("soft", "policy")


QUOTED = (
    ("550 5.1.1 no such user", ("hard", "no_mailbox")),
    ("550 5.2.1 account disabled", ("hard", "inactive")),
    ("554 5.7.1 message classified as spam", ("block", "content")),
    ("552 5.2.2 mailbox full", ("soft", "mailbox_full")),
)
RELAYS = (
    "{} -> ", "{} host mx.example.net said: ", "{} host mx.example.net [192.0.2.1]: ",
)  # fmt: skip


@given(
    st.sampled_from(RELAYS),
    st.sampled_from(["temporarily unavailable", "try again later", "permanently deferred", "today",
                     "daily limit", "user unknown", "mailbox full"]),
    st.sampled_from(QUOTED),
)  # fmt: skip
def test_whatever_a_relay_says_the_quoted_reply_decides(
    relay: str, own: str, quoted: tuple[str, tuple[str, str]]
) -> None:
    """The words of a relay, of time or of any cause, do not change what it quotes."""
    reply, verdict = quoted
    assert bounce(relay.format(own) + reply) == verdict


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("5.1.0 - Unknown address error 550-'5.7.1 <a@example.com>... Access denied'",
         ("block", "policy")),
        ("5.1.0 - Unknown address error 550-'5.2.2 <a@example.com> full' (delivery attempts: 0)",
         ("soft", "mailbox_full")),
        ("5.3.0 - Other mail system problem 554-'5.7.1 spam' (delivery attempts: 0)",
         ("block", "content")),
        ("5.1.0 - Unknown address error 554-'Message rejected' (delivery attempts: 0)",
         ("block", "policy")),
    ],
)  # fmt: skip
def test_reply_that_a_cisco_gateway_quotes_counts(said: str, verdict: tuple[str, str]) -> None:
    """It calls every refusal at RCPT an unknown address; the reply is in quotation marks."""
    assert bounce(said) == verdict


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("550 5.1.0 sender rejected. AUP#In-1310", ("soft", "policy")),
        ("550 5.1.0 sender rejected. AUP#I-1220", ("block", "reputation")),
        ("550 rejected AUP#CXSNDR", ("block", "auth")),
        ("550 denied, see http://postmaster.comcast.net/smtp-error-codes.php#DM000001",
         ("block", "auth")),
        ("554 blocked IB105", ("block", "reputation")),
        ("552 Service refuse OFR_417 [417]", ("soft", "mailbox_full")),
        ("550 Refused. LPN007_401", ("block", "auth")),
        ("550 MI:SPF mx1", ("block", "auth")),
        ("554 HL:REP", ("soft", "reputation")),
        ("554 Message not allowed [PH01] not accepted for policy reasons", ("block", "content")),
        ("554 (RTR:BL)", ("block", "reputation")),
        ("550 no. https://service.mail.qq.com/detail/122/66", ("block", "reputation")),
        ("550 DY-001 (BAY0-MC1) not sent", ("block", "policy")),
        ("550 busy (S3150)", ("block", "reputation")),
        ("421 sender rejected AUP#In-1210", ("soft", "reputation")),
        ("550 5.1.1 no such user -> 554 denied IB104", ("block", "reputation")),
        # no such code, or none at all
        ("550 5.1.1 no such user IB999", ("hard", "no_mailbox")),
        ("550 5.1.1 no such user OFR_000", ("hard", "no_mailbox")),
        ("550 5.1.1 <ib104@example.com> no such user", ("hard", "no_mailbox")),
    ],
)  # fmt: skip
def test_published_code_counts_before_the_words(said: str, verdict: tuple[str, str]) -> None:
    """Codes that a provider explains on its pages; the words around them are general."""
    assert bounce(said) == verdict


def test_published_codes_are_found_and_speak_the_vocabulary() -> None:
    """Every table has codes that its pattern can find, and verdicts that the schema knows."""
    for codes in PROVIDER_CODES:
        assert codes.verdicts
        assert {verdict[0] for verdict in codes.verdicts.values()} <= CLASSES
        assert {verdict[1] for verdict in codes.verdicts.values()} <= REASONS
        assert codes.pattern.groups == 1


@given(st.text(st.characters(categories=["L", "P", "Zs"]), max_size=80))
def test_text_without_digits_or_marks_has_no_published_code(text: str) -> None:
    """Codes are marks with digits, brackets or colons: prose has none."""
    prose = "".join(letter for letter in text.lower() if letter.isalpha() or letter == " ")
    assert explained(prose) is None


@pytest.mark.parametrize("stage", ["MAIL FROM", "EHLO", "HELO"])
@pytest.mark.parametrize("text", ["550 5.1.1 no such user", "550 account disabled",
                                  "553 5.1.3 bad address syntax"])  # fmt: skip
def test_refusal_before_the_recipient_was_named_is_not_of_the_mailbox(
    stage: str, text: str
) -> None:
    """In reply to MAIL FROM the unknown user is the sender."""
    assert bounce(f"host mx said: {text} (in reply to RCPT TO command)")[0] == "hard"
    assert bounce(f"host mx said: {text} (in reply to {stage} command)") == ("block", "policy")


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        # the client, a kind of client, a list
        ("554 Your IP address is not allowed to connect to this server", ("block", "reputation")),
        ("550 access denied to your IP address", ("block", "reputation")),
        ("550 mail from your country not accepted", ("block", "policy")),
        ("550 dynamic IP addresses are not accepted", ("block", "policy")),
        ("554 your network is on our deny list", ("block", "reputation")),
        ("550 Your IP is listed in SBL", ("block", "reputation")),
        ("554 5.7.1 The sender address is on the recipient's blacklist", ("block", "policy")),
        # who the sender is, and which address it is
        ("550 envelope sender does not match header from", ("block", "auth")),
        ("550 SPF MAIL FROM check failed", ("block", "auth")),
        ("553 5.1.7 malformed address", ("block", "policy")),
        ("550 5.1.8 no such user", ("block", "policy")),
        ("501 MAIL FROM domain has null MX", ("block", "policy")),
        ("550 message sending for this account is disabled", ("block", "policy")),
        # general words and a code that says more
        ("550 5.2.1 mailbox not available", ("hard", "inactive")),
        ("550 mailbox not available", ("hard", "no_mailbox")),
        ("451 4.7.1 try again later", ("soft", "policy")),
        ("451 4.3.0 try again later", ("soft", "other")),
        ("554 5.1.3 no valid recipients", ("hard", "no_mailbox")),
        ("501 5.1.3 invalid recipient", ("hard", "invalid_address")),
        # one thing or the other: the one that costs no address
        ("550 mailbox unavailable or access denied", ("block", "policy")),
        ("552 quota exceeded or account disabled", ("soft", "mailbox_full")),
        # the recipient, without a cause
        ("550 recipient rejected", ("undetermined", "other")),
        ("550 5.1.1 recipient rejected", ("hard", "no_mailbox")),
        ("554 5.7.1 Recipient address rejected: Access denied", ("block", "policy")),
        ("550 5.4.1 Recipient address rejected: Access denied", ("hard", "no_mailbox")),
        ("550 <a@example.com:blocked>", ("block", "policy")),
        # limits, sizes, wrong commands
        ("550 message threshold exceeded", ("soft", "policy")),
        ("454 too many login attempts", ("soft", "policy")),
        ("552 too much mail data", ("soft", "too_large")),
        ("503 need RCPT command", ("soft", "other")),
        ("503 5.5.1 no recipients", ("soft", "other")),
        ("554 rejected, message permanently refused", ("block", "policy")),
        # either half of a DNS answer
        ("DNS Error: Domain name not found", ("hard", "dns")),
        ("450 Host or domain name not found, try again", ("soft", "dns")),
        ("Host or domain name not found. Host not found, try again", ("soft", "dns")),
    ],
)
def test_who_is_refused_and_which_evidence_wins(said: str, verdict: tuple[str, str]) -> None:
    """The cases of ``LABELLING.md``, «Where two readings were possible»."""
    assert bounce(said) == verdict


@pytest.mark.parametrize(
    "said",
    [
        "550 Email address is not verified. The following identities failed the check",
        "550 Sender user@example.com not found",
        "450 Host or domain name not found. Name service error: Host not found, try again",
        "550 the message-id is invalid",
        "550 Subject contains invalid characters",
        "550 https://mail.example.net/help/help_spam_16.htm",
        "550 Giving up on 192.0.2.1",
        "550 Sender's mailbox is unavailable",
        "550 your domain does not exist",
        "550 your account does not exist",
        "550 Sending account is locked",
        "550 account outbounds disabled",
        "550 From address does not exist",
        "550 Reply-To address invalid",
        "550 Attachment not found",
        "550 template not found",
        "550 policy not found",
        "550 URL in message does not exist",
        "550 the service you requested does not exist",
        "550 API key disabled",
        "550 TLS disabled",
        "550 unknown user agent",
        "550 Recipient quota unknown",
        "550 recipient's server is not available",
        "550 you are not a member of this list",
        "550 user does not accept email in this character set",
        "501 Invalid domain name",
        "503 No recipient specified",
        "504 5.7.4 XOAUTH is no longer supported",
        "550 5.6.11 invalid characters",
        "550 5.3.190 archive is disabled",
        "550 5.1.20 several senders",
        "550 5.1.5 flurbl",
        "550 error desconocido",
        "550 erreur inconnue",
        "550 unbekannter Fehler",
        "554 No SMTP service here",
    ],
)
def test_what_is_said_of_others_than_the_recipient_is_not_hard(said: str) -> None:
    """Senders, hosts and messages can be invalid or unknown too."""
    assert bounce(said)[0] != "hard"
