"""Figures for people, calculated from counts and described in the glossary's words.

Invariants:
1. Pure. Every figure is a count of ``schemas.glossary``, or a rate with numerator and denominator.
2. Two switches select counts and never change them: cohort or flow, and by whom. A rate lies in
   [0, 1], except those that compare what happened with what was delivered (flow).
3. A rate with denominator 0 is ``None``, shown as «–».
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analytics.dashboard.advice import BOUNCES
from analytics.verdicts.words import REASONS
from schemas.glossary import (
    COUNTER_INDEX,
    COUNTER_NAMES,
    COUNTERS,
    DERIVED,
    DERIVED_DOCS,
    RATES,
    Basis,
    derived,
)

FIELDS: tuple[str, ...] = (*COUNTER_NAMES, *DERIVED)
"""Order of the figures of a campaign in every document."""
_DOCS = {counter.name: counter.doc for counter in COUNTERS} | DERIVED_DOCS


@dataclass(frozen=True, slots=True)
class Metric:
    """A rate, for one setting of the switches.

    Attributes:
        name: of the rate; the same for every setting.
        basis: «cohort» or «flow»; empty if the switch does not matter.
        who: «human», «unknown» (and humans) or «any»; empty if the switch does not matter.
        label: for a heading.
        numerator: name in ``FIELDS``.
        denominator: name in ``FIELDS``.
        good_when: «high» or «low».
        least, most: numerators at the ends of the interval that the doubt of verdicts leaves;
            empty if there is none.
    """

    name: str
    basis: str
    who: str
    label: str
    numerator: str
    denominator: str
    good_when: str
    least: str = ""
    most: str = ""

    @property
    def tip(self) -> str:
        """The definition, in the glossary's words."""
        for rate in RATES:
            same = (rate.numerator, rate.denominator) == (self.numerator, self.denominator)
            if same and rate.basis in (self.basis or rate.basis):
                return f"{rate.doc}."
        return f"{_DOCS[self.numerator]} / {_DOCS[self.denominator]}."


def _behaviour() -> list[Metric]:
    metrics = []
    below = "delivered"
    for basis, prefix in (("cohort", "cohort_"), ("flow", "")):
        for name, count, label in (
            ("open_rate", "opened", "Opened"), ("click_rate", "clicked", "Clicked"),
        ):  # fmt: skip
            stem = f"{prefix}{count}"
            ends = (stem, f"{stem}_at_most")
            metrics += [
                Metric(name, basis, "human", label, stem, below, "high", *ends),
                Metric(name, basis, "unknown", label, f"{stem}_or_unknown", below, "high", *ends),
                Metric(name, basis, "any", label, f"{stem}_any", below, "high"),
            ]
        for name, count, label in (
            ("complaint_rate", "complained", "Complaints"),
            ("unsubscribe_rate", "unsubscribed", "Unsubscribed"),
        ):
            metrics.append(Metric(name, basis, "", label, f"{prefix}{count}", below, "low"))
    return metrics


METRICS: tuple[Metric, ...] = (
    Metric("delivery_rate", "", "", "Delivered", "delivered", "sent", "high"),
    Metric("bounce_rate", "", "", "Bounced", "bounced", "sent", "low"),
    Metric("hard_bounce_rate", "", "", "Hard bounces", "bounced_hard", "sent", "low"),
    Metric("soft_bounce_rate", "", "", "Soft bounces", "bounced_soft", "sent", "low"),
    Metric("block_bounce_rate", "", "", "Blocked", "bounced_block", "sent", "low"),
    Metric("late_bounce_rate", "", "", "Bounced later", "cohort_bounced_late", "delivered", "low"),
    *_behaviour(),
    Metric(
        "click_to_open_rate", "", "", "Clicked of opened", "cohort_opened_clicked",
        "cohort_opened", "high",
    ),
)  # fmt: skip


def vector(row: Mapping[str, Any]) -> list[int]:
    """The counters of a row, in the glossary's order."""
    return [int(row[name]) for name in COUNTER_NAMES]


def added(vectors: Sequence[Sequence[int]]) -> list[int]:
    """The sums of the counters in several vectors."""
    zeros = [0] * len(COUNTER_NAMES)
    return [sum(values) for values in zip(zeros, *vectors, strict=True)]


def fields(counts: list[int]) -> list[int]:
    """Counters and derived counts, in the order of ``FIELDS``."""
    return counts + [derived(counts, name) for name in DERIVED]


def rate(values: Sequence[int], item: Metric) -> float | None:
    """A rate, from values in the order of ``FIELDS``."""
    below = values[FIELDS.index(item.denominator)]
    return values[FIELDS.index(item.numerator)] / below if below else None


def wording() -> dict[str, Any]:
    """Names, positions and definitions of every figure, and of verdicts' reasons, for the pages."""
    return {
        "fields": list(FIELDS),
        "docs": {name: f"{_DOCS[name]}." for name in FIELDS},
        "reasons": REASONS,
        "bounces": {reason: list(words) for reason, words in BOUNCES.items()},
        "metrics": [
            {
                "name": item.name, "basis": item.basis, "who": item.who, "label": item.label,
                "numerator": item.numerator, "denominator": item.denominator,
                "tip": item.tip, "good_when": item.good_when, "least": item.least,
                "most": item.most,
            }
            for item in METRICS
        ],
    }  # fmt: skip


assert set(FIELDS) >= {name for item in METRICS for name in (item.numerator, item.denominator)}
assert Basis.COHORT in {item.basis for item in METRICS}
assert len(COUNTER_INDEX) == len(COUNTER_NAMES)
