"""Diagnostics of real mail servers with the verdict that a reader gives them.

``develop.jsonl`` and ``report.jsonl`` hold one diagnostic a line: ``text`` (the server's words,
addresses and IP numbers replaced by those reserved for documentation), ``enhanced_status`` and
``smtp_code`` where the text has them, ``class``, ``reason``, and the public ``source``.
``examples.jsonl`` holds, for each rule, a text that it is for and a near miss.

How labels were given: by reading the text, with the provider's explanation where the text is only
a code, never by running the classifier.
- 4yz is soft, whatever the reason. For 5yz: ``hard`` when the address does not work (no mailbox,
  disabled, bad syntax, no domain); ``soft`` for what may pass (full, too large, time-outs, limits
  of the recipient, trouble of the server, loops, broken protocol); ``block`` when sender, server
  or content were refused; ``undetermined`` when nothing is said.
- Limits on what a sender sends, missing TLS, bad HELO and unknown sender domains are ``policy``;
  SPF, DKIM, DMARC, reverse DNS and log-in are ``auth``; malformed messages are ``content``.

Which part a text is in: first byte of the SHA-256 of its UTF-8 text, even is develop. Rules are
written by looking at develop only. One person labelled both parts, so wording may have been
remembered: phrases that stood in no other source than report were taken out of the rules before
the first measurement, and the last 147 texts were collected and labelled after it.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from streams.classify.bounce import classify_bounce

PARTS = ("develop", "report")
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Labelled:
    """One diagnostic and its verdict."""

    text: str
    enhanced_status: str | None
    smtp_code: int | None
    bounce_class: str
    bounce_reason: str
    source: str

    def verdict(self) -> tuple[str, str]:
        """What the classifier says of it when the provider says nothing."""
        # what a sending service holds back is no bounce, but reported as rejected
        event_type = "rejected" if self.bounce_class == "suppressed" else "bounced"
        return classify_bounce(
            event_type, "none", "none", self.enhanced_status, self.smtp_code, self.text
        )


@dataclass(frozen=True, slots=True)
class RuleExample:
    """What a rule is for, and what it must leave alone."""

    rule: str
    fits: str
    fits_source: str
    near_miss: str
    near_miss_source: str


def part_of(text: str) -> str:
    """Which part a text belongs to."""
    return PARTS[hashlib.sha256(text.encode()).digest()[0] % 2]


def labelled(part: str) -> list[Labelled]:
    """The diagnostics of a part."""
    lines = (_HERE / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        Labelled(
            row["text"], row["enhanced_status"], row["smtp_code"], row["class"], row["reason"],
            row["source"],
        )
        for row in map(json.loads, lines)
    ]  # fmt: skip


def rule_examples() -> list[RuleExample]:
    """One example for each rule."""
    lines = (_HERE / "examples.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        RuleExample(row["rule"], row["fits"], row["fits_source"], row["not"], row["not_source"])
        for row in map(json.loads, lines)
    ]
