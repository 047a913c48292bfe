"""Says what happened in words for people who are no engineers.

Invariants:
1. Pure. Every text from outside is masked unless the caller may see addresses; escaping is the
   business of who shows it.
2. Nothing is claimed that was not reported: a delivery is that of the receiving server, an open by
   a machine says nothing about a person.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from analytics.history.answer import History, Message
from analytics.history.questions import SUPPRESSIONS_SHOWN_MAX
from schemas.masking import DOTS, masked_field, masked_id, masked_recipient

Row = Mapping[str, Any]
TEXT_CHARS_MAX = 400
"""Of a diagnostic or link that is shown."""

_REASONS = {
    "invalid_address": "the address is not valid", "no_mailbox": "there is no such mailbox",
    "mailbox_full": "the mailbox is full", "inactive": "the mailbox is not in use",
    "too_large": "the message is too large", "dns": "the domain can't be reached",
    "timeout": "the receiving server did not answer in time",
    "content": "of what the message says or links to", "reputation": "of the sender's reputation",
    "policy": "of a rule of the receiving server", "auth": "the sender could not be authenticated",
    "relay_denied": "the receiving server takes no mail for this address",
    "suppressed_bounce": "earlier messages bounced", "suppressed_complaint": "of a spam report",
    "suppressed_unsubscribe": "of an unsubscribe",
}  # fmt: skip
_BOUNCES = {
    "hard": "Not delivered, and it will not be: the address does not work",
    "soft": "Not delivered, for a passing reason; a later message may arrive",
    "block": "Refused because of the sender or the content, not because of the address",
    "suppressed": "Not sent: the address is on the suppression list of {provider}",
    "undetermined": "Not delivered; the report gives no usable reason",
}
_PLAIN = {
    "queued": "{provider} took the message to send it.",
    "sent": "{provider} sent it to the receiving server.",
    "delivered": "Delivered: the receiving server took it. Inbox or spam folder is not reported.",
    "rejected": "Not sent: {provider} rejected it.",
    "failed": "Not sent: {provider} could not make the message.",
    "complained": "The recipient reported it as spam.",
    "unsubscribed": "The recipient unsubscribed{scope}.",
    "subscribed": "The recipient subscribed{scope}.",
    "suppression_added": "The address was put on the suppression list of {provider}{scope}",
    "suppression_removed": "The address was taken off the suppression list of {provider}{scope}",
    "autoresponded": "An automatic reply came back, such as an absence note.",
}
_ACTORS = {
    "human": "a person", "machine": "a machine", "scanner": "a link scanner", "unknown": "somebody",
    "none": "somebody",
}  # fmt: skip
_TONES = {
    "delivered": "good", "bounced": "critical", "rejected": "critical", "failed": "critical",
    "complained": "critical", "deferred": "warning",
}  # fmt: skip


_IN_BRACKETS = "in angle brackets if it has an @: <...>"


class Words:
    """Sentences about a history.

    Args:
        whole: show whole addresses.
    """

    def __init__(self, *, whole: bool) -> None:
        self._text: Callable[[str], str] = str if whole else lambda text: masked_field(text, DOTS)
        self._id: Callable[[str], str] = str if whole else lambda text: masked_id(text, DOTS)
        self._whole = whole

    def recipient(self, row: Row) -> str:
        """Who a row is about."""
        name = str(row["recipient"])
        return (name if self._whole else masked_recipient(name, DOTS)) or "recipient not kept"

    def range(self, history: History) -> str:
        """The range of time that was searched."""
        return f"{day(history.since_s)} to {day(history.until_s)} (UTC)"

    def answer(self, history: History) -> list[str]:
        """What was found, in sentences."""
        said = [*self._found(history)]
        said += [self._suppression(row) for row in history.suppressions[:SUPPRESSIONS_SHOWN_MAX]]
        if len(history.suppressions) > SUPPRESSIONS_SHOWN_MAX:
            said.append("There are more lists and groups that it must not be mailed through.")
        return said

    def _suppression(self, row: Row) -> str:
        what = "This address must not be mailed"
        if scope := str(row["scope"]):
            what += f" through {self._text(scope)} of {self._text(row['source'])}"
        until = f" until {moment(row['until_ms'])}" if row["until_ms"] else ""
        reason = str(row["reason"]).replace("_", " ")
        return f"{what}: {reason}, since {moment(row['since_ms'])}{until}."

    def _found(self, history: History) -> list[str]:
        searched = self.range(history)
        if history.messages:
            some = f"{history.events:,} {plural(history.events, 'event')}"
            of = f"{len(history.messages):,} {plural(len(history.messages), 'message')}"
            said = [f"{some} of {of}, {searched}."]
            if history.more:
                said.append(
                    f"There are older events in this range: only the newest {history.events:,}"
                    " are shown."
                )
            return said
        by_id = any(way.kind == "message" for way in history.asked.ways)
        said = [f"Nothing was found from {searched}."]
        if history.stored:
            return [
                *said,
                f"Recipients are stored {history.stored} here, but MAILPULSE_RECIPIENTS is"
                f" {history.asked.mode}: nobody can be found by address until it is set as for"
                " ingress, with the same MAILPULSE_RECIPIENT_HASH_KEY.",
            ]
        if history.asked.is_address and history.asked.mode == "dropped":
            said = [
                "Addresses are not kept here, so nobody can be found by address."
                f" Ask for a message id{'' if by_id else f', {_IN_BRACKETS}'}."
            ]
            if by_id:
                said.append(f"As a message id nothing was found from {searched}.")
        elif history.asked.is_address:
            said.append(
                "Either no event of this address was reported then, or it was mailed under another"
                " address."
            )
            if not by_id:
                said.append(f"If it is a message id, ask for it {_IN_BRACKETS}.")
        return said

    def summary(self, message: Message) -> str:
        """What became of a message."""
        kinds = {str(row["event_type"]) for row in message.events}
        parts = []
        if "delivered" in kinds:
            parts.append("delivered")
        elif kinds & {"bounced", "rejected", "failed"}:
            parts.append("not delivered")
        elif "deferred" in kinds:
            parts.append("not delivered yet")
        else:
            parts.append("no delivery reported")
        for kind, word in (("opened", "opened"), ("clicked", "clicked")):
            by = [row["actor"] for row in message.events if row["event_type"] == kind]
            if "human" in by:
                parts.append(f"{word} by a person")
            elif by:
                parts.append(f"perhaps {word}" if "unknown" in by else f"{word} by a machine")
        if "complained" in kinds:
            parts.append("reported as spam")
        left = [row for row in message.events if row["event_type"] == "unsubscribed"]
        if left:
            whole = any(not row["suppression_scope"] for row in left)
            parts.append("unsubscribed" if whole else "unsubscribed from a list")
        return ", ".join(parts)

    def title(self, message: Message) -> str:
        """Which message it is."""
        campaign = message.first("campaign_id")
        ident = message.first("message_id")
        parts = [f"to {self.recipient(message.events[-1])}"]
        if campaign:
            parts.append(f"campaign {self._text(campaign)}")
        if ident:
            parts.append(f"message {self._id(ident)}")
        parts.append(f"by {message.first('provider')}")
        return ", ".join(parts)

    def sentence(self, row: Row) -> str:
        """What happened."""
        kind, provider = str(row["event_type"]), str(row["provider"])
        if kind in ("opened", "clicked"):
            return self._act(row)
        if kind in ("bounced", "rejected", "failed") and row["bounce_class"] in _BOUNCES:
            said = _BOUNCES[row["bounce_class"]].format(provider=provider)
        elif kind == "deferred":
            said = f"Not delivered yet: the receiving server puts it off, {provider} goes on trying"
        elif kind in _PLAIN:
            said = _PLAIN[kind].format(provider=provider, scope=self._scope(row))
            if said.endswith("."):
                return said
        else:
            return f"{provider} reported «{self._text(row['native_type'])}»."
        reason = _REASONS.get(str(row["bounce_reason"]))
        return f"{said} (because {reason})." if reason else f"{said}."

    def _scope(self, row: Row) -> str:
        """The list or group that an event is limited to."""
        scope = str(row["suppression_scope"])
        return f", for {self._text(scope)} of {row['source']} alone" if scope else ""

    def _act(self, row: Row) -> str:
        actor = str(row["actor"])
        who = _ACTORS.get(actor, "somebody")
        why = str(row["actor_reason"]).replace("_", " ")
        if actor == "unknown":
            what = "Images were loaded" if row["event_type"] == "opened" else "A link was clicked"
            said = f"{what}: whether by a person is unknown"
        elif row["event_type"] == "opened":
            said = f"Opened by {who}" if actor != "machine" else "Images were loaded by a machine"
        elif row["unsubscribe_link"]:
            said = f"The unsubscribe link was clicked by {who}"
        else:
            said = f"A link was clicked by {who}"
        if why and why != "none":
            sure = str(row["actor_certainty"])
            said += f" ({why}, {sure})" if sure and sure != "none" else f" ({why})"
        machine = actor in ("machine", "scanner")
        return f"{said}; that says nothing about the recipient." if machine else f"{said}."

    def details(self, row: Row) -> list[str]:
        """What was said or clicked, as it stands."""
        codes = [str(row["smtp_code"] or ""), str(row["enhanced_status"])]
        said = " ".join(part for part in codes if part and part not in row["diagnostic"])
        told = [f"{said} {row['diagnostic']}".strip(), str(row["click_url"])]
        parts = [self._text(text)[:TEXT_CHARS_MAX] for text in told if text]
        if row["time_suspect"]:
            parts.append("time of arrival: the reported time can't be right")
        return parts

    def tone(self, row: Row) -> str:
        """``good``, ``warning``, ``critical`` or empty, for colours."""
        if row["event_type"] in ("opened", "clicked"):
            return "good" if row["actor"] == "human" else ""
        return _TONES.get(str(row["event_type"]), "")


def plural(number: int, word: str) -> str:
    """The word, with an s unless the number is 1."""
    return word if number == 1 else f"{word}s"


def moment(at_ms: int) -> str:
    """A time in UTC, to the second."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def day(at_s: int) -> str:
    """A date in UTC with minutes."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M")
