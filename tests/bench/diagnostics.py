"""How often the bounce classifier says what a reader says.

Run it: ``python -m tests.bench.diagnostics`` prints the figures as JSON.
"""

import json

from tests.streams.diagnostics import labelled


def agreement() -> dict[str, float]:
    """Shares of the labelled diagnostics, 0 to 1.

    Returns:
        ``diagnostics_agreement``: class and reason both right, on the part held for reporting;
        ``diagnostics_agreement_class`` and ``…_reason``: each alone, on the same part;
        ``diagnostics_agreement_develop``: both right, on the part that rules were written on;
        ``diagnostics_count``: size of the reporting part.
    """
    report = labelled("report")
    pairs = [(one.verdict(), (one.bounce_class, one.bounce_reason)) for one in report]
    develop = labelled("develop")
    known = [one.verdict() == (one.bounce_class, one.bounce_reason) for one in develop]
    return {
        "diagnostics_agreement": sum(said == read for said, read in pairs) / len(pairs),
        "diagnostics_agreement_class": sum(said[0] == read[0] for said, read in pairs) / len(pairs),
        "diagnostics_agreement_reason": sum(said[1] == read[1] for said, read in pairs)
        / len(pairs),
        "diagnostics_agreement_develop": sum(known) / len(known),
        "diagnostics_count": len(report),
    }


if __name__ == "__main__":
    print(json.dumps(agreement(), indent=1))
