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
from streams.classify.tables.statuses import (
    COARSE,
    COARSE_SUBJECTS,
    PRECISE,
    SMTP_COARSE,
    SMTP_PRECISE,
)
from tests.bench.diagnostics import agreement
from tests.streams.diagnostics import (
    PARTS,
    Labelled,
    RuleExample,
    bounce,
    labelled,
    part_of,
    rule_examples,
)

CLASSES = {str(value) for value in BounceClass}
REASONS = {str(value) for value in BounceReason}
FLOORS = {"diagnostics_agreement": 0.92, "diagnostics_agreement_also": 0.94,
          "diagnostics_agreement_class": 0.965, "diagnostics_agreement_old": 0.89,
          "diagnostics_agreement_develop": 0.99,
          "diagnostics_agreement_class_develop": 0.99}  # fmt: skip
CEILINGS = {"diagnostics_false_hard": 0.003, "diagnostics_false_hard_develop": 0.0,
            "diagnostics_false_soft": 0.008, "diagnostics_missed_hard": 0.017}  # fmt: skip


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
