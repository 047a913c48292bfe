"""Command ``mailpulse sources refresh``: compares published addresses with the providers' pages."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path

import httpx
import typer

from ingest.published import CONFIRMED_FILE, Published, asked_for, compare
from streams.cli.context import FAILED, ConfigFile, now, say, settings_of, sources_of
from streams.cli.noted_days import note_days, noted_days

FETCH_S_MAX = 20.0
"""A page's whole answer; a server that sends a byte now and then holds nothing up."""
PAGE_BYTES_MAX = 8_388_608
"""Larger pages are not read."""

Fetch = Callable[[str], str]
"""Address of a page -> its text. Raises ``httpx.HTTPError``."""


def days_seen(data_dir: Path) -> dict[str, date]:
    """When each provider's page was last seen with every address; none if that can't be read."""
    return noted_days(data_dir / CONFIRMED_FILE)


class PageTooLarge(httpx.HTTPError):
    """A page has more than ``PAGE_BYTES_MAX`` bytes."""


def fetch(page: str) -> str:
    """The text of a page.

    Raises:
        httpx.HTTPError: it can't be fetched within ``FETCH_S_MAX``, or is larger than
            ``PAGE_BYTES_MAX``.
    """
    return asyncio.run(_fetch(page))


async def _fetch(page: str) -> str:
    try:
        async with asyncio.timeout(FETCH_S_MAX):
            return await _read(page)
    except TimeoutError:
        raise httpx.ReadTimeout(f"no whole answer within {FETCH_S_MAX:g} s") from None


async def _read(page: str) -> str:
    async with (
        httpx.AsyncClient(timeout=FETCH_S_MAX, follow_redirects=True) as client,
        client.stream("GET", page) as answer,
    ):
        answer.raise_for_status()
        content = bytearray()
        async for part in answer.aiter_bytes():
            content += part
            if len(content) > PAGE_BYTES_MAX:
                raise PageTooLarge(f"more than {PAGE_BYTES_MAX:,} bytes")
        return content.decode(answer.charset_encoding or "utf-8", "replace")


def look(lists: Mapping[str, Published], get: Fetch) -> tuple[list[str], set[str]]:
    """Compares lists with their pages.

    Returns:
        Lines for the operator, and the providers whose page still has every address.
    """
    lines: list[str] = []
    same: set[str] = set()
    for name, one in sorted(lists.items()):
        try:
            found = compare(one, get(one.page))
        except httpx.HTTPError as error:
            lines.append(f"{name}: not compared, {type(error).__name__} at {one.page}")
            continue
        if found.gone:
            lines.append(f"{name}: no longer on {one.page}: {', '.join(found.gone)}")
        else:
            same.add(name)
            lines.append(f"{name}: all {len(one.networks)} are on {one.page}")
        if found.further:
            lines.append(
                f"{name}: also there: {', '.join(found.further)}; if webhooks come from them, add "
                "them to allow_ips"
            )
    return lines, same


def refresh(config_file: ConfigFile = None) -> None:
    """Compares the addresses behind allow_ips = "published" with the providers' pages.

    Nothing is let in or shut out by it: it notes the day if a page still has every address, and
    names what is new or gone. Exit code 1 if a page could not be compared, or has lost some.
    """
    settings = settings_of(config_file=config_file)
    lists = asked_for(sources_of(settings))
    if not lists:
        say('no source has allow_ips = "published"')
        return
    lines, same = look(lists, fetch)
    for line in lines:
        say(line)
    today = datetime.fromtimestamp(now(), UTC).date()
    note_days(settings.data_dir / CONFIRMED_FILE, same, today)
    if same != lists.keys():
        raise typer.Exit(FAILED)
