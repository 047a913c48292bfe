"""The pages' generated sections, and their code blocks for tests to run.

``python -m tests.readme`` writes the sections; ``tests/test_readme.py`` fails if one is stale.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ingest.providers import conformance
from schemas.glossary import (
    BOUNCE,
    COUNTERS,
    DERIVED_DOCS,
    DOUBT,
    FIRST_ATTEMPT,
    MESSAGE,
    ORDER,
    RATES,
    SETTLED,
    STALE,
    WINDOWS_DOC,
    WINDOWS_S,
)
from streams.cli import capacity as plans
from streams.kafka import acl
from tests import metrics_table
from tests.alerting.pages import run_books
from tests.verdicts import matrix

ROOT = Path(__file__).parent.parent
PAGES = (
    ROOT / "README.md",
    *(
        ROOT / folder / "README.md"
        for folder in (
            "ingest", "analytics", "analytics/dashboard", "analytics/prometheus", "schemas",
            "streams", "streams/deploy", "tests",
        )
    ),
)  # fmt: skip
"""One for each kind of reader; each stands alone."""
QUERIES = ROOT / "analytics" / "queries"
_SECTION = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.S)
_BLOCK = re.compile(r"(?:<!-- (\w+): ([\w-]+) -->\n)?```(\w+)\n(.*?)```", re.S)


@dataclass(frozen=True)
class Block:
    """A fenced code block; ``kind`` and ``name`` from the comment before it."""

    kind: str
    name: str
    language: str
    text: str


def blocks(text: str) -> Iterator[Block]:
    """Every fenced block with a language, in order."""
    for found in _BLOCK.finditer(text):
        yield Block(found[1] or "", found[2] or "", found[3], found[4])


def all_blocks(kind: str) -> dict[str, str]:
    """The blocks of a kind, on any page: name -> text."""
    return {
        block.name: block.text
        for page in PAGES
        for block in blocks(page.read_text(encoding="utf-8"))
        if block.kind == kind
    }


def glossary() -> str:
    """Counters, derived counts and rates, as tables."""
    lines = [f"**Message**: {MESSAGE}.", "", f"**Bounce**: {BOUNCE}.", ""]
    lines += ["| count | counted in | definition |", "|---|---|---|"]
    lines += [f"| `{c.name}` | {c.basis.value} minute | {c.doc} |" for c in COUNTERS]
    lines += [f"| `{name}` | derived | {doc} |" for name, doc in DERIVED_DOCS.items()]
    lines += ["", "| rate | basis | definition |", "|---|---|---|"]
    lines += [f"| `{r.name}` | {r.basis.value} | {r.doc} |" for r in RATES]
    lines += [
        "",
        "**Flow**: an event is counted in the minute it happened. **Cohort**: in the minute its "
        "message was delivered: «of what was delivered in the window, so much has been opened so "
        "far», never above 100 %. **Attempt**: in the minute in which the first attempt at its "
        f"message ended. **Windows** ({', '.join(WINDOWS_S)}): {WINDOWS_DOC}.",
        "",
        f"**Order**: {ORDER}.",
        "",
        f"**Settled**: {SETTLED}.",
        "",
        f"**First attempt**: {FIRST_ATTEMPT}.",
        "",
        f"**Stale**: {STALE}.",
        "",
        f"**Doubt**: {DOUBT}.",
    ]
    return "\n".join(lines) + "\n"


def queries() -> str:
    """Each question of ``analytics/queries`` with its query."""
    parts = []
    for number, path in enumerate(sorted(QUERIES.glob("*.sql")), 1):
        first, _, sql = path.read_text(encoding="utf-8").partition("\n")
        parts.append(
            f"{number}. {first.removeprefix('--').strip()}\n\n```sql\n{sql.strip()}\n```\n"
        )
    return "\n".join(parts)


LOADS = {"1M": 10**6, "100M": 10**8, "10B": 10**10}


def capacity() -> str:
    """What an event costs, and the plans for a small, a large and a very large load."""
    costs = " · ".join(
        f"{role} {1e6 / cost:,.0f}"
        for role, cost in (
            ("ingest", plans.INGEST_US), ("worker", plans.WORKER_US), ("sink", plans.SINK_US),
            ("Kafka", plans.BROKER_US),
        )
    )  # fmt: skip
    made = {name: plans.plan(events) for name, events in LOADS.items()}
    columns = [plan.lines() for plan in made.values()]
    lines = [
        f"Events a second that one core carries: {costs}.",
        "",
        f"| events a day | {' | '.join(made)} |",
        "|---|" + "---|" * len(made),
    ]
    lines += [
        f"| {row[0][0]} | {' | '.join(value for _, value in row)} |"
        for row in zip(*columns, strict=True)
    ]
    lines.append(f"| what gives first | {' | '.join(p.bottleneck for p in made.values())} |")
    return "\n".join(lines) + "\n"


SECTIONS = {
    "acls": lambda: acl.table().strip() + "\n",
    "capacity": capacity,
    "metrics": lambda: metrics_table.table().strip() + "\n",
    "conformance": lambda: conformance.table().strip() + "\n",
    "glossary": glossary,
    "queries": queries,
    "run_books": run_books,
    "verdicts": matrix.table,
}


def rendered(text: str) -> str:
    """The text with its generated sections renewed.

    Raises:
        KeyError: a section that nothing generates.
    """
    return _SECTION.sub(lambda found: found[1] + SECTIONS[found[2]]() + found[3], text)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(rendered(page.read_text(encoding="utf-8")), encoding="utf-8")
