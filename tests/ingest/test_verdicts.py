"""From a provider's request to the verdict: what each failure is judged as.

Invariants:
1. A verdict is that of ``classify_bounce`` on the event that the provider's module makes, as the
   streams take it.
2. Cases are the files under ``payloads``; what is expected of them is written here by hand.
3. What holds for one provider is tested on all: see the last tests.
"""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from ingest.providers import REGISTRY
from ingest.providers.base import post
from schemas.event import Event
from streams.classify.bounce import classify_bounce
from tests.ingest.cases import Case, all_cases
from tests.ingest.keys import example
from tests.ingest.provider_suite import RECEIVED_AT
from tests.ingest.reading import case_of, events_of, judged, payload, strict_json

Verdict = tuple[str, str, str]
"""Event type, class, reason."""


def verdict(event: Event) -> Verdict:
    return (event["event_type"], *judged(event))


SUPPRESSED = "suppressed"
VERDICTS: dict[str, list[Verdict]] = {
    # categories, not words of a server
    "elastic_email/error_unknown": [("bounced", "undetermined", "none")],
    "elastic_email/error_manual_cancel": [("failed", "none", "other")],
    "mailtrap/reject_unknown": [("rejected", "none", "none"), ("deferred", "none", "none")],
    "mailersend/soft_bounced_unknown_reason": [("bounced", "soft", "none")],
    "iterable/email_send_skip": [("rejected", "none", "none")],
    "mailjet/bounce_of_unknown_error": [("bounced", "hard", "none")],
    # held back for a suppression list: neither reputation nor policy
    "brevo/blocked_blacklisted": [("rejected", SUPPRESSED, "other")],
    "sparkpost/suppressed": [
        ("bounced", SUPPRESSED, "suppressed_complaint"),
        ("bounced", SUPPRESSED, "suppressed_bounce"),
        ("bounced", SUPPRESSED, "suppressed_unsubscribe"),
        ("bounced", SUPPRESSED, "other"),
        ("rejected", SUPPRESSED, "suppressed_complaint"),
        ("rejected", SUPPRESSED, "suppressed_unsubscribe"),
        ("bounced", "block", "policy"),
    ],
    "postal/message_held": [("queued", "none", "none")],
    "postal/message_held_suppressed": [("rejected", SUPPRESSED, "suppressed_bounce")],
    "customer_io/dropped": [("rejected", SUPPRESSED, "other")],
    # given up after the last attempt: it was attempted
    "postal/delivery_given_up": [("failed", "soft", "timeout")],
    "postal/delivery_given_up_and_listed": [("failed", "soft", "timeout")],
    # the sender's quota is no full mailbox
    "resend/failed": [("failed", "none", "policy")],
    "sendgrid/dropped_over_package_quota": [("rejected", "none", "policy")],
    "sendgrid/bounce_over_quota": [("bounced", "hard", "mailbox_full")],
    # automatic replies are no bounces
    "ses/bounce_absence_note": [("autoresponded", "none", "none")],
    "ses/bounce_transient_with_a_reply": [("bounced", "soft", "timeout")],
    "resend/bounced_absence_note": [("autoresponded", "none", "none")],
    # without a type, the server's words decide
    "resend/bounced_without_type": [("bounced", "hard", "no_mailbox")],
}


@pytest.mark.parametrize("path", VERDICTS)
def test_a_failure_is_judged_as_written(path: str) -> None:
    """By class and reason, as it is counted and as suppressions begin."""
    assert [verdict(event) for event in events_of(case_of(path))] == VERDICTS[path]


# --- all providers -------------------------------------------------------------------------------

CATEGORIES: dict[str, dict[str, tuple[str, ...]]] = {
    "sendgrid": {
        "reason": (
            "Invalid SMTPAPI header", "Spam Content", "Unsubscribed Address", "Bounced Address",
            "Spam Reporting Address", "Invalid", "Recipient List over Package Quota",
        )
    },
    "ses": {"reason": ("Bad content",)},
    "mandrill": {
        "bounce_description": (
            "general", "bad_mailbox", "invalid_domain", "mailbox_full", "inactive", "spam",
            "blocked", "message_too_large", "undetermined", "unknown",
        ),
        "reject_reason": ("hard-bounce", "soft-bounce", "spam", "unsub", "custom", "unknown"),
    },
    "mailjet": {
        "error": (
            "user unknown", "mailbox inactive", "quota exceeded", "invalid domain", "no mail host",
            "relay/access denied", "sender blocked", "content blocked", "policy issue",
            "system issue", "protocol issue", "connection issue", "greylisted", "preblocked",
            "duplicate in campaign", "spam reporter", "unknown",
        )
    },
    "mailersend": {"reason": ("Unknown reason",)},
    "mailtrap": {"reason": ("unknown", "other"), "bounce_category": ("unknown", "badmailbox")},
    "elastic_email": {
        "category": (
            "Ignore", "Spam", "BlackListed", "NoMailbox", "GreyListed", "Throttled", "Timeout",
            "ConnectionProblem", "SPFProblem", "AccountProblem", "DNSProblem", "CodeError",
            "WhitelistingProblem", "ManualCancel", "ConnectionTerminated", "ContentFilter",
            "NotDelivered", "Unknown",
        )
    },
    "unisender_go": {
        "delivery_status": ("err_user_unknown", "err_unsubscribed", "err_lost", "unknown")
    },
    "postmark": {
        "Description": (
            "The server was unable to deliver your message (ex: unknown user, mailbox not found).",
            "Unsubscribe request", "Unknown error",
        )
    },
    "resend": {"reason": ("reached_daily_quota", "unknown", "domain_not_found")},
    "iterable": {"reason": ("DuplicateMarketingMessage", "UnknownRecipient", "unknown")},
}  # fmt: skip
"""Provider -> field -> documented values of it that are the provider's own, not a server's."""

ONLY = {"sendgrid": "rejected"}
"""Provider -> the events whose fields hold categories; the same field of others is a server's."""


def _changed(value: Any, key: str, other: str) -> Iterator[Any]:
    """Copies of a JSON value, each with one text under ``key`` replaced."""
    if isinstance(value, dict):
        for name, one in value.items():
            if name == key and isinstance(one, str):
                yield {**value, name: other}
            yield from ({**value, name: inner} for inner in _changed(one, key, other))
    elif isinstance(value, list):
        for place, one in enumerate(value):
            for inner in _changed(one, key, other):
                yield [*value[:place], inner, *value[place + 1 :]]


@pytest.mark.parametrize("name", CATEGORIES)
def test_no_documented_category_is_read_as_a_diagnostic(name: str) -> None:
    """In every payload that has such a field, whatever the rest says.

    A category may be mapped to class and reason by the provider's table, but it never becomes the
    text that the rules for servers' words are applied to.
    """
    replaced = 0
    for field, words in CATEGORIES[name].items():
        for case in all_cases():
            body = strict_json(case) if case.provider == name else None
            if body is not None:
                inner = _inner_message(name, body)
                for word in words:
                    for changed in _changed(body if inner is None else inner, field, word):
                        for event in _parse(name, body, changed, whole=inner is None):
                            if event["event_type"] == ONLY.get(name, event["event_type"]):
                                replaced += 1
                                assert event["diagnostic"] != word, (str(case), field)
            elif case.provider == name:
                replaced += _replaced_in_text(case, words)
    assert replaced


def _inner_message(name: str, body: Any) -> Any:
    """The event record inside an SNS envelope, else ``None``."""
    if name != "ses" or not isinstance(body, dict) or "Message" not in body:
        return None
    try:
        return orjson.loads(body["Message"])
    except ValueError:
        return {}


def _parse(name: str, body: Any, changed: Any, *, whole: bool) -> list[Event]:
    """The events of a body, or of an envelope with another message in it."""
    if not whole:
        changed = {**body, "Message": orjson.dumps(changed).decode()}
    request = post(orjson.dumps(changed))
    return REGISTRY[name].parse(request, example(name).source, RECEIVED_AT).events


def _replaced_in_text(case: Case, words: tuple[str, ...]) -> int:
    """For bodies that are no JSON: that none of their own categories is a diagnostic."""
    known = {word.lower() for word in words}
    events = events_of(case) if "bad_input" not in case.expected else []
    for event in events:
        assert (event["diagnostic"] or "").lower() not in known, str(case)
    return len(events)


LISTS: dict[str, tuple[str, str]] = {
    "brevo/blocked_blacklisted": ("reason", "blocked : due to blacklist user ({})"),
    "customer_io/dropped": ("failure_message", "dropped: {}"),
    "mailersend/suppressed": ("reason", "{}"),
    "mailtrap/reject_unsubscribed": ("reason", "Recipient in suppression list. Reason: {}"),
    "postal/message_held_suppressed": (
        "details", "Recipient (a@example.com) is on the suppression list (reason: {})",
    ),
    "sparkpost/policy_rejection": (
        "raw_reason", "554 5.7.1 recipient address was suppressed due to customer policy ({})",
    ),
}  # fmt: skip
"""Payload of a message that a list held back -> the field that says so, and how."""

CAUSES = {
    "unsubscribed": "suppressed_unsubscribe",
    "Unsubscribe Rule": "suppressed_unsubscribe",
    "spam complaint": "suppressed_complaint",
    "FBL": "suppressed_complaint",
    "hard_bounced": "suppressed_bounce",
    "Bounce Rule": "suppressed_bounce",
    "too many hard fails": "suppressed_bounce",
    "manual": "other",
}


@pytest.mark.parametrize("said", CAUSES)
@pytest.mark.parametrize("path", LISTS)
def test_why_a_list_held_a_message_back_is_read_alike(path: str, said: str) -> None:
    """By one table for all providers that say it in words."""
    field, form = LISTS[path]
    name = path.partition("/")[0]
    body = payload(path)
    for changed in _changed(body, field, form.format(said)):
        (event,) = _parse(name, body, changed, whole=True)
        cause = CAUSES[said]
        if name == "postal" and cause == "other":
            cause = "suppressed_bounce"  # Postal itself lists addresses for nothing else
        assert verdict(event) == ("rejected", "suppressed", cause)


@pytest.mark.parametrize("word", ["unknown", "Unknown", "UNKNOWN_USER", "unknown.", "disabled"])
def test_a_single_word_makes_no_hard_bounce(word: str) -> None:
    """Whichever provider, or sender without a module, gives it as its diagnostic."""
    assert classify_bounce("bounced", "none", "none", None, None, word)[0] != "hard"


@pytest.mark.parametrize("event_type", ["failed", "rejected"])
@pytest.mark.parametrize(
    "said",
    [
        "Template welcome does not exist", "User account not found", "Unknown sender",
        "Invalid user",
        "Attribute 'recipient' is not found", "Domain does not exist", "unknown",
    ],
)  # fmt: skip
def test_what_the_provider_did_not_send_is_no_hard_bounce(event_type: str, said: str) -> None:
    """Without a reply code no receiving server has said anything about the address."""
    assert classify_bounce(event_type, "none", "none", None, None, said)[0] == "none"
    assert classify_bounce(event_type, "none", "none", None, None, f"550 5.1.1 {said}")[0] == "hard"


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("554 5.3.3 [internal] Error while rendering: value 'name' did not exist", "other"),
        ("554 5.7.1 [internal] blacklisted: unconfigured sending domain <x.example>", "policy"),
        ("550 5.7.1 [internal] Exceed Sending Limit (daily)", "policy"),
    ],
)
def test_a_reply_that_sparkpost_made_itself_is_no_servers(said: str, verdict: str) -> None:
    """Its code looks like a server's; «[internal]» says that none was asked."""
    assert classify_bounce("failed", "none", "none", None, 554, said) == ("none", verdict)


@pytest.mark.parametrize("said", ["550 5.7.1 policy", "due to blacklist user", "spamhaus", "dmarc"])
def test_suppressed_by_flag_is_never_reputation_or_policy(said: str) -> None:
    """The address is on a list of the provider's: its words are not about the sender."""
    assert classify_bounce("rejected", "suppressed", "other", None, None, said) == (
        "suppressed", "other",
    )  # fmt: skip
