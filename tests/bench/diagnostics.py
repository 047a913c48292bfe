"""How often the bounce classifier agrees with the labels of ``tests/streams/diagnostics``.

Run it: ``python -m tests.bench.diagnostics`` prints the figures as JSON.
"""

import json
from collections.abc import Callable, Sequence

from tests.streams.diagnostics import Labelled, labelled

Pair = tuple[str, str]


def agreement() -> dict[str, float]:
    """How the classifier does on the labelled diagnostics; shares are 0 to 1.

    Returns:
        Of the part held for reporting:
        ``diagnostics_agreement``: class and reason are those of the label;
        ``diagnostics_agreement_decided``: the same, without the texts that ``LABELLING.md`` leaves
        open;
        ``diagnostics_agreement_also``: they are those of the label or of its second one, allowed
        or open;
        ``diagnostics_agreement_class`` and ``…_reason``: each alone;
        ``diagnostics_agreement_old``: agreement with the labels from before the written rules, on
        the texts that have one;
        ``diagnostics_false_hard``: said hard where the label says something else; it is the costly
        mistake, for a hard bounce suppresses the address;
        ``diagnostics_missed_hard``: the reverse;
        ``diagnostics_false_soft``: said soft where the label says something else;
        ``diagnostics_readers``: how often the two readers gave the same class and reason;
        ``diagnostics_count``: size of the part.
        The same names with ``_develop``: of the part that rules were written on.
    """
    held_back = _figures(labelled("report"))
    develop = _figures(labelled("develop"))
    return held_back | {f"{name}_develop": value for name, value in develop.items()}


def _figures(texts: Sequence[Labelled]) -> dict[str, float]:
    said = [(one, one.verdict(), (one.bounce_class, one.bounce_reason)) for one in texts]
    before = [(verdict, one.old) for one, verdict, _ in said if one.old]
    decided = [(verdict, read) for one, verdict, read in said if not one.open]

    def share(true: Callable[[Labelled, Pair, Pair], bool]) -> float:
        return sum(true(*row) for row in said) / len(said)

    def mistaken(name: str) -> float:
        return share(lambda _, mine, read: mine[0] == name != read[0])

    return {
        "diagnostics_agreement": share(lambda _, mine, read: mine == read),
        "diagnostics_agreement_decided": sum(mine == read for mine, read in decided) / len(decided),
        "diagnostics_agreement_also": share(
            lambda one, mine, read: mine in (read, one.also, one.open)
        ),
        "diagnostics_agreement_class": share(lambda _, mine, read: mine[0] == read[0]),
        "diagnostics_agreement_reason": share(lambda _, mine, read: mine[1] == read[1]),
        "diagnostics_agreement_old": sum(mine == old for mine, old in before) / len(before),
        "diagnostics_false_hard": mistaken("hard"),
        "diagnostics_missed_hard": share(lambda _, mine, read: read[0] == "hard" != mine[0]),
        "diagnostics_false_soft": mistaken("soft"),
        "diagnostics_readers": share(lambda one, *_: one.readings[0] == one.readings[1]),
        "diagnostics_count": len(texts),
    }


if __name__ == "__main__":
    print(json.dumps(agreement(), indent=1))
