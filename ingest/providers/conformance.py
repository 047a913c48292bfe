"""The conformance table: properties of each provider module.

Invariant: the table is generated from the code; ``ingest/README.md`` contains it between two
markers, and a test fails when it is stale.
"""

from ingest.providers import REGISTRY
from ingest.providers.base import Provider

HEAD = (
    "Provider",
    "`provider`",
    "Verification",
    "Body covered",
    "Greatest age",
    "Event identity",
    "Events per request",
    "Overload",
    "Calls without events",
    "Campaign field",
    "Bounce class from",
    "Machine flag",
    "Native events",
)


def table() -> str:
    """The table as Markdown, providers in the order of the registry; ends with a line end."""
    rows = [HEAD, tuple("---" for _ in HEAD), *(_row(one) for one in REGISTRY.values())]
    return "".join("| " + " | ".join(_cell(cell) for cell in row) + " |\n" for row in rows)


def _row(provider: Provider) -> tuple[str, ...]:
    return (
        provider.title,
        f"`{provider.name}`",
        provider.verification,
        provider.signs,
        _age(provider.tolerance_s),
        provider.id_recipe,
        provider.batch,
        str(provider.overload_status),
        provider.other_calls,
        provider.campaign,
        provider.bounces,
        provider.machine,
        str(len(provider.events)),
    )


def _age(seconds: int) -> str:
    """A tolerance as text; a dash if no time is signed."""
    if seconds == 0:
        return "–"
    return f"{seconds // 3600} h" if seconds % 3600 == 0 else f"{seconds // 60} min"


def _cell(text: str) -> str:
    """Text escaped for a table cell."""
    return text.replace("|", "\\|").replace("\n", " ")
