"""A campaign's plan, and what may happen to its messages."""

from dataclasses import dataclass

from tests.verdicts.delays import Delay
from tests.verdicts.truth import Kind

UNSUBSCRIBE = -1
"""Number of the unsubscribe link."""


@dataclass(frozen=True)
class Plan:
    """A campaign.

    Attributes:
        number: among all campaigns.
        provider: that sends it and reports on it.
        links: in the mail, without the unsubscribe link.
        machine_share: of its clicks.
        opens: from delivery to view.
        family: of that distribution.
        code: whether people wait for the mail.
        prefetched: share of Gmail's opens that its prefetch makes.
        sent_s: when it is sent, seconds since 1970.
        list_number: of the sender's list that it goes to.
    """

    number: int
    provider: str
    links: int
    machine_share: float
    opens: Delay
    family: str
    code: bool
    prefetched: float
    sent_s: float
    list_number: int = 0

    @property
    def name(self) -> str:
        """Of the campaign, as the provider tells it."""
        return f"campaign-{self.number}"


@dataclass(frozen=True, slots=True)
class Act:
    """Something that the provider sees.

    Attributes:
        at_s: when, seconds since 1970.
        what: ``delivered``, ``opened`` or ``clicked``.
        kind: who did it; ``None`` for a delivery.
        link: number of the link clicked.
        mangled: the link came with a changed query.
    """

    at_s: float
    what: str
    message: int
    kind: Kind | None = None
    agent: str = ""
    ip: str = ""
    link: int = 0
    fleet: str = ""
    mangled: bool = False
