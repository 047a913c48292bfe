"""``mailpulse rules refresh``: compares copies of published networks with what is published now.

Invariants:
1. Nothing is judged by it: where networks changed it writes a rules file, which a person accepts.
2. A page that can't be fetched, or is not what it was, confirms nothing and changes nothing.
"""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import httpx

from schemas.errors import Unavailable
from streams.classify import snapshots
from streams.classify.actor_rules import Rules
from streams.cli.noted_days import note_days, noted_days

COMPARED_FILE = "networks_compared.json"
Fetch = Callable[[str], str]
"""Address of a page -> its text. Raises ``httpx.HTTPError``."""


def days_compared(data_dir: Path) -> dict[str, date]:
    """When each copy was last seen to be what is published; none if that can't be read."""
    return noted_days(data_dir / COMPARED_FILE)


def note_compared(data_dir: Path, reasons: set[str], today: date) -> None:
    """Notes that copies are what is published; those of other reasons keep their day."""
    note_days(data_dir / COMPARED_FILE, reasons, today)


def compare(text: str, today: date, get: Fetch) -> tuple[list[str], set[str], str | None]:
    """Compares the copies in rules with their pages.

    Args:
        text: the rules in force.
        get: fetches a page.

    Returns:
        Lines for the operator; the reasons of copies that are what is published; the rules with
        the others brought up to date, ``None`` if nothing changed.

    Raises:
        Unavailable: a page can't be fetched, or is not what it was.
        ValueError: the rules have their networks in a form that can't be changed.
    """
    lines: list[str] = []
    same: set[str] = set()
    made = text
    for rule in Rules.load(text).networks:
        page = snapshots.PAGES.get(rule.reason)
        if rule.read_on is None or page is None:
            continue
        try:
            now = snapshots.published(get(page))
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(f"{rule.reason}: not compared: {error!r} at {page}") from None
        new, gone = snapshots.difference(rule, now)
        if new or gone:
            lines += [f"{rule.reason}: new: {one}" for one in new]
            lines += [f"{rule.reason}: no longer published: {one}" for one in gone]
            made = snapshots.with_networks(made, rule.reason, now, today)
        else:
            same.add(rule.reason)
            lines.append(f"{rule.reason}: all {len(now)} are what is published")
    return lines, same, None if made == text else made
