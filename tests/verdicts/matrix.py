"""The confusion matrix by evidence, as the analysts' page shows it.

``python -m tests.verdicts --write`` plays the season and writes ``matrix.json``; ``python -m
tests.readme`` makes the page's table of it.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.verdicts.score import Tally, Weighed, by_evidence

FILE = Path(__file__).with_name("matrix.json")
SHOWN_MIN = 50
"""Events below which a row says nothing, and is left out of the page."""


def write(tally: Tally, fleets: int, rules_version: int) -> None:
    """Keeps the matrix of a season that was judged with so many fleets accepted."""
    rows = [asdict(one) for one in by_evidence(tally)]
    document = {
        "rules_version": rules_version, "campaigns": len(tally.campaigns), "fleets": fleets,
        "rows": rows,
    }  # fmt: skip
    FILE.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read() -> tuple[dict[str, Any], list[Weighed]]:
    """What was kept, and its rows."""
    document = json.loads(FILE.read_text(encoding="utf-8"))
    return document, [Weighed(**row) for row in document["rows"]]


def table() -> str:
    """As Markdown: by evidence, who it was in truth."""
    document, rows = read()
    lines = [
        f"{document['campaigns']} campaigns, {document['fleets']} fleets accepted; rows of"
        f" {SHOWN_MIN} events or more.",
        "",
        "| | verdict | reason | certainty | people's | machines' | wrong |",
        "|---|---|---|---|---:|---:|---:|",
    ]
    for one in rows:
        if one.people + one.machines >= SHOWN_MIN:
            reason = f"`{one.reason}`" if one.reason else "nothing against it"
            lines.append(
                f"| {one.event_type} | {one.actor} | {reason} | {one.certainty} | {one.people:,} |"
                f" {one.machines:,} | {wrong(one)} |"
            )
    return "\n".join(lines) + "\n"


def wrong(one: Weighed) -> str:
    """The share of events by someone else than the verdict says; of an unknown one, a dash."""
    if one.actor == "unknown":
        return "–"
    mistaken = one.machines if one.actor == "human" else one.people
    return f"{mistaken / (one.people + one.machines):.1%}"
