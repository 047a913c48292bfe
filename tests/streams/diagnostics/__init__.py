"""Diagnostics of mail servers with the verdict that one reader gives them.

``develop.jsonl`` and ``report.jsonl`` hold one diagnostic a line: ``text`` (the server's words, as
received or, of some fifty, as a public list of codes has them; addresses and IP numbers replaced by
those reserved for documentation), ``enhanced_status`` and
``smtp_code`` where the text has them, ``class``, ``reason``, and the public ``source``.
``examples.jsonl`` holds, for each rule, a text that it is for and a near miss.

How labels are given: by reading the text, by the rules of ``LABELLING.md``, never by running the
classifier. ``readings`` are the labels of two readers, ``class`` and ``reason`` what was decided,
``note`` why. ``also`` is a second label that the rules allow; ``open`` is the second label of a
text that the rules do not decide. ``old`` is the label that a text had before those rules were
written; texts collected later have none.

Which part a text is in: first byte of the SHA-256 of its UTF-8 text, even is develop. The rules of
the classifier are written by looking at develop only.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    readings: tuple[tuple[str, str], tuple[str, str]]
    also: tuple[str, str] | None = None
    open: tuple[str, str] | None = None
    old: tuple[str, str] | None = None
    note: str | None = None

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


def bounce(
    diagnostic: str | None = None,
    *,
    flag: str = "none",
    reason: str = "none",
    status: str | None = None,
    code: int | None = None,
    event_type: str = "bounced",
) -> tuple[str, str]:
    """What the classifier says of a bounce of which the rest is unknown."""
    return classify_bounce(event_type, flag, reason, status, code, diagnostic)


def part_of(text: str) -> str:
    """Which part a text belongs to."""
    return PARTS[hashlib.sha256(text.encode()).digest()[0] % 2]


def labelled(part: str) -> list[Labelled]:
    """The diagnostics of a part."""
    lines = (_HERE / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()
    return [_labelled(json.loads(line)) for line in lines]


def _labelled(row: dict[str, Any]) -> Labelled:
    """A diagnostic from its line."""
    first, second = row["readings"]
    return Labelled(
        text=row["text"],
        enhanced_status=row["enhanced_status"],
        smtp_code=row["smtp_code"],
        bounce_class=row["class"],
        bounce_reason=row["reason"],
        source=row["source"],
        readings=((first[0], first[1]), (second[0], second[1])),
        also=_pair(row.get("also")),
        open=_pair(row.get("open")),
        old=_pair(row.get("old")),
        note=row.get("note"),
    )


def _pair(value: list[str] | None) -> tuple[str, str] | None:
    """A class and a reason."""
    return (value[0], value[1]) if value else None


def rule_examples() -> list[RuleExample]:
    """One example for each rule."""
    lines = (_HERE / "examples.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        RuleExample(row["rule"], row["fits"], row["fits_source"], row["not"], row["not_source"])
        for row in map(json.loads, lines)
    ]
