"""What really happened: who opened or clicked."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Who opened or clicked, and how. Values begin with ``person_`` or ``machine_``."""

    VIEW = "person_view"
    """Images loaded by the reader's own program, from the reader's own address."""
    VIEW_GMAIL = "person_view_gmail"
    """By Gmail's proxy, because a person looks; Yahoo's and Microsoft's likewise."""
    VIEW_YAHOO = "person_view_yahoo"
    VIEW_MICROSOFT = "person_view_microsoft"
    VIEW_OTHER_PROXY = "person_view_other_proxy"
    VIEW_APPLE = "person_view_apple"
    """By Apple's proxy, because a person looks before Apple has fetched of itself."""
    VIEW_CODE = "person_view_code"
    """A mail that its reader waits for."""
    VIEW_FORWARDED = "person_view_forwarded"
    """By someone the mail was forwarded to."""
    CLICK = "person_click"
    CLICK_EGRESS = "person_click_egress"
    """From a company's address, which many people share."""
    CLICK_BESIDE_SCANNER = "person_click_beside_scanner"
    """From a company's address, from which the company's scanner clicks too."""
    CLICK_ISOLATED = "person_click_isolated"
    """From a scanner vendor's network: the browser runs there, a person looks at its picture."""
    CLICK_TABS = "person_click_tabs"
    """Several links one after another, into tabs."""
    CLICK_CODE = "person_click_code"
    CLICK_FORWARDED = "person_click_forwarded"
    PREFETCH_APPLE = "machine_prefetch_apple"
    PREFETCH_GMAIL = "machine_prefetch_gmail"
    SCAN_OPEN = "machine_scan_open"
    """A gateway's fetch of the image."""
    SCAN_ALL = "machine_scan_all"
    """A gateway's click, of a fleet that follows all links of a mail at once."""
    SCAN_FIRST = "machine_scan_first"
    """Only the first link."""
    SCAN_SINGLE = "machine_scan_single"
    """Only one link, any."""
    SCAN_HEAD = "machine_scan_head"
    """All links at once, by HEAD."""
    SCAN_WAVES = "machine_scan_waves"
    """All links at the top of several hours."""
    SCAN_LATE = "machine_scan_late"
    """As any of these, but five minutes to a day after the send."""
    SCAN_AT_CLICK = "machine_scan_at_click"
    """A gateway's check of a link while a person waits for it to open."""
    SCAN_FORWARDED = "machine_scan_forwarded"
    """By the gateway of someone the mail was forwarded to."""

    @property
    def is_person(self) -> bool:
        """Whether a person did it."""
        return self.value.startswith("person_")


@dataclass(frozen=True, slots=True)
class Truth:
    """The truth of one reported open or click.

    Attributes:
        kind: who did it.
        is_click: else it is an open.
        message: number of the message in its campaign.
        fleet: name of the scanners' fleet; empty for others.
        counts: False for a click that no rate counts (on an unsubscribe link).
    """

    kind: Kind
    is_click: bool
    message: int
    fleet: str = ""
    counts: bool = True
