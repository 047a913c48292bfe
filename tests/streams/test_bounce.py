"""Bounces: order of evidence, the labelled set, every rule, and any input."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.event import BounceClass, BounceReason, EventType
from streams.classify.bounce import (
    RULES_VERSION,
    classify_bounce,
    links_of,
    matches,
    rule_of,
    words_of,
)
from streams.classify.tables.bounces import RULES
from streams.classify.tables.provider_codes import PROVIDER_CODES, explained
from streams.classify.tables.statuses import (
    COARSE,
    COARSE_SUBJECTS,
    PRECISE,
    SMTP_COARSE,
    SMTP_PRECISE,
)
from tests.bench.diagnostics import agreement
from tests.streams.diagnostics import PARTS, Labelled, RuleExample, labelled, part_of, rule_examples

CLASSES = {str(value) for value in BounceClass}
REASONS = {str(value) for value in BounceReason}
FLOORS = {"diagnostics_agreement": 0.92, "diagnostics_agreement_also": 0.94,
          "diagnostics_agreement_class": 0.965, "diagnostics_agreement_old": 0.89,
          "diagnostics_agreement_develop": 0.99,
          "diagnostics_agreement_class_develop": 0.99}  # fmt: skip
CEILINGS = {"diagnostics_false_hard": 0.003, "diagnostics_false_hard_develop": 0.0,
            "diagnostics_false_soft": 0.008, "diagnostics_missed_hard": 0.017}  # fmt: skip


def bounce(
    diagnostic: str | None = None,
    *,
    flag: str = "none",
    reason: str = "none",
    status: str | None = None,
    code: int | None = None,
    event_type: str = "bounced",
) -> tuple[str, str]:
    return classify_bounce(event_type, flag, reason, status, code, diagnostic)


def test_provider_flag_wins_over_every_code() -> None:
    """SendGrid reports 5.0.0 and 5.1.1 for blocked mail; its own flag «blocked» counts."""
    assert bounce("550 5.1.1 user unknown", flag="block", status="5.1.1", code=550)[0] == "block"
    assert bounce("452 4.2.2 mailbox full", flag="hard", status="4.2.2", code=452)[0] == "hard"
    assert bounce(None, flag="suppressed", reason="suppressed_bounce") == (
        "suppressed", "suppressed_bounce",
    )  # fmt: skip


def test_text_gives_the_reason_that_the_provider_leaves_open() -> None:
    """«Permanent» gives the class; the server's words give the reason."""
    assert bounce("552 5.2.2 over quota", flag="hard", reason="other") == ("hard", "mailbox_full")
    assert bounce("552 over quota", flag="hard", reason="inactive") == ("hard", "inactive")
    assert bounce("hmm", flag="soft", reason="other") == ("soft", "other")


def test_status_and_words_that_agree_outrank_the_providers_category() -> None:
    """But not its class, and not what it says of its own suppression list."""
    full = "552 5.2.2 user is over quota"
    assert bounce(full, flag="hard", reason="no_mailbox") == ("hard", "mailbox_full")
    assert bounce("552 over quota", flag="hard", reason="no_mailbox") == ("hard", "no_mailbox")
    assert bounce("552 5.2.2 hmm", flag="hard", reason="no_mailbox") == ("hard", "no_mailbox")
    suppressed = ("suppressed", "suppressed_bounce")
    assert bounce(full, flag="suppressed", reason="suppressed_bounce") == suppressed
    full_list = ("suppressed", "mailbox_full")
    assert bounce(full, flag="suppressed", reason="mailbox_full") == full_list


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("Daily sending quota exceeded", ("soft", "policy")),
        ("Recipient List over Package Quota", ("soft", "policy")),
        ("monthly email quota reached", ("soft", "policy")),
        ("452 hourly quota exceeded", ("soft", "policy")),
        ("552 mailbox over quota", ("soft", "mailbox_full")),
        ("quota exceeded", ("soft", "mailbox_full")),
        ("Unable to find MX for nowhere.example", ("hard", "dns")),
        ("550 MX record not found", ("hard", "dns")),
        ("554 You have exceeded the maximum number of connections", ("soft", "policy")),
        ("421 4.7.0 exceeded the maximum number of connections", ("soft", "policy")),
        ("Unknown reason", ("undetermined", "other")),
        ("reason unknown", ("undetermined", "other")),
        ("Unknown delivery problem", ("undetermined", "other")),
        ("550 unknown", ("undetermined", "other")),
        ("550 Mailbox name unknown", ("hard", "no_mailbox")),
        ("550 Unknown Recipient", ("hard", "no_mailbox")),
    ],
)
def test_whose_quota_which_domain_and_how_many(said: str, verdict: tuple[str, str]) -> None:
    """The sender's quota is no full mailbox; an unknown reason is no unknown mailbox."""
    assert bounce(said) == verdict


def test_undetermined_flag_is_improved() -> None:
    """SES's «Undetermined» leaves the verdict to codes and words."""
    assert bounce("550 no such user", flag="undetermined") == ("hard", "no_mailbox")
    assert bounce(None, flag="undetermined") == ("undetermined", "none")


def test_precise_status_beats_words_unless_they_are_certain() -> None:
    """5.7.133 is more precise than «authentication required»; 5.1.1 before a sending limit is
    wrong."""
    assert bounce("550 5.7.133 authentication required; sender not authenticated for group") == (
        "block", "policy",
    )  # fmt: skip
    limit = "550 5.1.1 <user@example.com> has sent to too many recipients this hour. IB607"
    assert bounce(limit) == ("soft", "policy")


def test_vague_status_leaves_it_to_the_words() -> None:
    """5.7.1 and 5.0.0 precede all kinds of messages."""
    assert bounce("550 5.7.1 User unknown") == ("hard", "no_mailbox")
    assert bounce("550 5.0.0 mailbox is full") == ("soft", "mailbox_full")
    assert bounce(None, status="5.7.1") == ("block", "policy")


def test_status_is_found_in_the_text_but_not_in_addresses_of_hosts() -> None:
    """192.5.1.1 contains «5.1.1», which means nothing."""
    assert bounce("something odd from 192.5.1.1 today") == ("undetermined", "other")
    assert bounce("said: 5.1.1 whatever") == ("hard", "no_mailbox")


def test_unavailable_means_busy_after_450_and_absent_after_550() -> None:
    """RFC 5321, 4.2.2 gives both replies the same text."""
    assert bounce("450 Requested mail action not taken: mailbox unavailable") == ("soft", "other")
    assert bounce("550 Requested action not taken: mailbox unavailable") == ("hard", "no_mailbox")


@pytest.mark.parametrize("text", ["421 4.7.0 dmarc", "450 user unknown", "451 blocked using rbl"])
def test_passing_refusals_are_soft(text: str) -> None:
    """A reply that starts with 4 asks to try again (RFC 5321, 4.2.1)."""
    assert bounce(text)[0] == "soft"


def test_bare_code_counts_only_without_words() -> None:
    """With words that match no rule, a 550 proves nothing, and hard would suppress the address."""
    assert bounce("550") == bounce(None, code=550) == ("hard", "other")
    assert bounce("550 flurbl wobbled") == ("undetermined", "other")
    assert bounce(None, code=450) == ("soft", "other")
    assert bounce(None, code=554) == ("undetermined", "none")
    assert bounce(None, code=200) == ("undetermined", "none")


def test_codes_alone() -> None:
    """Unambiguous codes need no words; a success status is no evidence."""
    assert bounce(None, code=556) == ("hard", "dns")  # RFC 7504
    assert bounce("535 whatever flurbl") == ("block", "auth")  # RFC 4954
    assert bounce(None, status="5.7.606") == bounce(None, status="5.7.649")
    assert bounce(None, status="5.7.649") == ("block", "reputation")  # Microsoft: banned IP
    assert bounce(None, status="5.7.650") == ("block", "policy")
    assert bounce(None, status="2.1.1") == ("undetermined", "none")
    assert bounce(None, status="5.999.999") == ("undetermined", "none")


def test_what_is_no_bounce_has_no_class() -> None:
    """A deferral keeps its reason; opens have neither; a rejection has only what is proven."""
    assert bounce("421 4.7.28 unusual rate", event_type="deferred") == ("none", "reputation")
    assert bounce("550 5.1.1 no such user", event_type="opened") == ("none", "none")
    assert bounce("odd", event_type="rejected") == ("none", "other")
    assert bounce("Bounced Address", event_type="rejected") == ("suppressed", "suppressed_bounce")
    assert bounce("550 5.1.1 no such user", event_type="failed") == ("hard", "no_mailbox")


DSN = """\
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

Your message could not be delivered.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mta.example.org

Final-Recipient: rfc822; user@example.com
Action: failed
Status: {status}
{more}
--b--
"""


def test_delivery_status_notification_is_read() -> None:
    """Fields of RFC 3464 count, not the rest of the mail."""
    full = DSN.format(status="5.0.0", more="Diagnostic-Code: smtp; 550 mailbox\n is full")
    assert bounce(full) == ("soft", "mailbox_full")
    assert bounce(DSN.format(status="5.1.1", more="")) == ("hard", "no_mailbox")
    cut = DSN.partition("Status:")[0]
    assert bounce(cut) == ("hard", "other")  # «Action: failed» is permanent, more is not said
    assert bounce(cut.replace("failed", "delayed")) == ("soft", "other")
    assert bounce(cut.partition("Final-")[0]) == ("undetermined", "other")


def test_flufl_tells_a_notification_without_codes() -> None:
    """A qmail bounce has no fields: flufl.bounce recognises it."""
    text = (
        "Subject: failure notice\nContent-Type: text/plain\n\n"
        "Hi. This is the qmail-send program at example.org.\n\n<user@example.com>:\nOdd words.\n"
    )
    assert bounce(text) == ("hard", "other")


def test_labelled_set_is_split_by_hash_and_large_enough() -> None:
    """At least 300 texts, no duplicates, each in the part that its hash says, each with a
    source."""
    seen: Counter[str] = Counter()
    for part in PARTS:
        for one in labelled(part):
            seen[one.text] += 1
            assert part_of(one.text) == part
            assert one.bounce_class in CLASSES
            assert one.bounce_reason in REASONS
            assert one.source
    assert len(seen) >= 300
    assert max(seen.values()) == 1
    assert all(len(labelled(part)) > 0.4 * len(seen) for part in PARTS)


def test_labels_follow_the_readings() -> None:
    """Where both readers agree that is the label; where not, a note says which rule decided."""
    for one in [one for part in PARTS for one in labelled(part)]:
        label = (one.bounce_class, one.bounce_reason)
        first, second = one.readings
        if first == second:
            assert label == first
        else:
            assert label in one.readings
            assert one.note
        assert label not in (one.also, one.open)
        assert not (one.also and one.open)


def test_open_texts_are_hard_by_their_code_alone() -> None:
    """A text that the labelling rules do not decide is hard only where 5.1.z or 5.4.4 says so."""
    hard = [
        one for part in PARTS for one in labelled(part) if one.open and one.bounce_class == "hard"
    ]
    assert all((one.enhanced_status or "").startswith(("5.1.", "5.4.4")) for one in hard)


def test_agreement_with_the_labels_holds() -> None:
    """Class and reason agree with the labels at least as often as at the last measurement."""
    figures = agreement()
    assert {name: figures[name] for name, floor in FLOORS.items() if figures[name] < floor} == {}
    assert {name: figures[name] for name, top in CEILINGS.items() if figures[name] > top} == {}


def test_every_rule_has_an_example() -> None:
    """No rule without an example; no two rules of the same name."""
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    assert [example.rule for example in rule_examples()] == names
    assert RULES_VERSION >= 1


@pytest.mark.parametrize("example", rule_examples(), ids=lambda example: example.rule)
def test_rule_fits_its_example_and_not_its_near_miss(example: RuleExample) -> None:
    """Positive and negative example of each rule, from named sources."""
    fits = rule_of(example.fits)
    assert fits is not None
    assert fits.name == example.rule
    missed = rule_of(example.near_miss)
    assert missed is None or missed.name != example.rule
    assert example.fits_source
    assert example.near_miss_source


def test_index_finds_the_rule_that_trying_them_all_finds() -> None:
    """Rules are looked up by three letters of their wording; short wordings would be lost."""
    assert all(len(needle) >= 3 for rule in RULES for needle in rule.any_of)
    for one in [one for part in PARTS for one in labelled(part)]:
        text = " ".join(one.text.split()).lower()
        words = words_of(text)
        both = f"{words} {links_of(text)}"
        tried = (rule for rule in RULES if matches(rule, both if rule.links else words))
        assert rule_of(one.text) == next(tried, None)


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("421 4.7.0 All messages will be permanently deferred; Retrying will NOT succeed",
         ("block", "reputation")),
        ("550 Mailbox unavailable. Failure sending mail. Try again later", ("soft", "other")),
        ("554 This IP has been temporarily blocked", ("soft", "reputation")),
        ("550 5.4.5 Daily limit of messages", ("soft", "policy")),
    ],
)  # fmt: skip
def test_words_of_time_outrank_the_digit(said: str, verdict: tuple[str, str]) -> None:
    """«Try again later» after 550 must not suppress an address for good."""
    assert bounce(said) == verdict


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("550 5.0.350 Remote server returned an error -> 550 5.1.1 no such user",
         ("hard", "no_mailbox")),
        ("554 5.7.1 blocked; Remote host said: 452 4.2.2 mailbox full", ("soft", "mailbox_full")),
        ("550 5.1.1 host mx.example.net said: 554 5.7.1 message classified as spam",
         ("block", "content")),
    ],
)  # fmt: skip
def test_quoted_reply_counts_before_the_relays_own(said: str, verdict: tuple[str, str]) -> None:
    """What the recipient's server says beats what the relay adds, also in the provider's status."""
    assert bounce(said) == bounce(said, status="5.0.0", code=550) == verdict


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


def test_tables_speak_the_vocabulary() -> None:
    """Every verdict of every table is a class and a reason that the schema knows."""
    tables: list[tuple[str, str]] = [(rule.bounce_class, rule.bounce_reason) for rule in RULES]
    for statuses in (PRECISE, COARSE, COARSE_SUBJECTS):
        tables += statuses.values()
    for replies in (SMTP_PRECISE, SMTP_COARSE):
        tables += replies.values()
    assert {verdict[0] for verdict in tables} <= CLASSES
    assert {verdict[1] for verdict in tables} <= REASONS
    assert not set(PRECISE) & set(COARSE)


def test_same_message_is_same_words_whatever_its_ids() -> None:
    """Addresses, IP numbers and links are removed, so that the cache recognises a message."""
    one = words_of("550-5.1.1 <a@example.com> [192.0.2.1] no such user, see http://x.example/1")
    assert one == words_of(
        "550 5.1.1 b@example.org 198.51.100.7 no such user, see http://y.example/"
    )
    assert one == "no such user, see"


odd_text = st.one_of(
    st.none(),
    st.text(max_size=400),
    st.text(st.characters(categories=["Cs", "Cc", "Nd", "Po"]), max_size=100),
    st.sampled_from([one.text for one in labelled("develop")]).flatmap(
        lambda text: st.integers(0, len(text)).map(lambda cut: text[:cut])
    ),
    st.sampled_from(["Final-Recipient:", "Status: ", "multipart/report", "Diagnostic-Code: smtp;"])
    .flatmap(lambda mark: st.text(max_size=100).map(lambda rest: mark + "\n" + rest)),
)  # fmt: skip


@given(
    st.sampled_from([*map(str, EventType), "", "nonsense"]),
    st.sampled_from([*sorted(CLASSES), "", "nonsense"]),
    st.sampled_from([*sorted(REASONS), ""]),
    st.one_of(st.none(), st.text(max_size=12), st.from_regex(r"[245]\.\d{1,3}\.\d{1,3}")),
    st.one_of(st.none(), st.integers(-5, 10_000)),
    odd_text,
)
def test_never_raises_and_stays_in_the_vocabulary(
    event_type: str, flag: str, reason: str, status: str | None, code: int | None, text: str | None
) -> None:
    """For any input the result is a class and a reason of the schema, the same each time."""
    first = classify_bounce(event_type, flag, reason, status, code, text)
    assert first[0] in CLASSES
    assert first[1] in REASONS
    assert first == classify_bounce(event_type, flag, reason, status, code, text)
    if event_type == "bounced":
        assert first[0] != "none"


WRAPPINGS = (
    "  {} ",
    "host mx.example.net[203.0.113.9] said: {} (in reply to end of DATA)",
    "{}\r\n",
)


@given(
    st.sampled_from([one for part in PARTS for one in labelled(part)]),
    st.sampled_from(WRAPPINGS),
)
def test_wrapping_does_not_change_the_class(one: Labelled, form: str) -> None:
    """Postfix's «host … said:» and extra white space do not change the class."""
    assert bounce(form.format(one.text))[0] == bounce(one.text)[0]
