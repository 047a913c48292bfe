"""How often the bounce classifier agrees with a human reader.

Run it: ``python -m tests.bench.diagnostics`` prints the figures as JSON.
"""

import json

from tests.streams.diagnostics import labelled


def agreement() -> dict[str, float]:
    """How the classifier does on the labelled diagnostics; shares are 0 to 1.

    Returns:
        ``diagnostics_agreement``: class and reason both right, on the part held for reporting;
        ``diagnostics_agreement_class`` and ``…_reason``: each alone, on the same part;
        ``diagnostics_false_hard``: said hard where a reader says something else, on the same
        part; it is the costly mistake, for a hard bounce suppresses the address;
        ``diagnostics_agreement_develop``: both right, on the part that rules were written on;
        ``diagnostics_count``: size of the reporting part.
    """
    report = [(one.verdict(), (one.bounce_class, one.bounce_reason)) for one in labelled("report")]
    develop = [
        one.verdict() == (one.bounce_class, one.bounce_reason) for one in labelled("develop")
    ]
    count = len(report)
    return {
        "diagnostics_agreement": sum(said == read for said, read in report) / count,
        "diagnostics_agreement_class": sum(said[0] == read[0] for said, read in report) / count,
        "diagnostics_agreement_reason": sum(said[1] == read[1] for said, read in report) / count,
        "diagnostics_false_hard": sum(
            said[0] == "hard" and read[0] != "hard" for said, read in report
        )
        / count,
        "diagnostics_agreement_develop": sum(develop) / len(develop),
        "diagnostics_count": count,
    }


if __name__ == "__main__":
    print(json.dumps(agreement(), indent=1))
