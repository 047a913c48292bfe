"""The view ``links``, and the page's table, compared with a recount in Python."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from analytics.dashboard import questions
from schemas.codec import AvroRecord
from streams.classify.link_rules import SHIPPED_LINKS
from streams.classify.links import link_group, parameters
from tests.analytics.scenario import KINDS, MINUTE_0, first_revision

MESSAGES_MIN, SHARE_MIN = 20, 0.8
"""A parameter with a value per message: on so many messages, with so many values for each."""
HUMAN, SCANNER = KINDS[5], KINDS[6]
COLUMNS = "click_url_group, messages, clicks, machine_messages, machine_clicks, click_urls"
Ask = Callable[[str, dict[str, Any]], Sequence[Sequence[Any]]]


def clicked(links: Sequence[tuple[int, str, bool]], campaign: str = "spring") -> list[AvroRecord]:
    """Clicks in their order: (message, link, whether a scanner clicked)."""
    records = []
    for number, (message, url, scanned) in enumerate(links):
        kind = SCANNER if scanned else HUMAN
        record = first_revision(number, message, kind, number % 600, "gmail", url)
        record["enrichment"] |= {
            "campaign_id": campaign, "click_url_group": link_group(url, SHIPPED_LINKS),
            "offset": number, "version": number,
        }  # fmt: skip
        records.append(record)
    return records


def personal_links() -> list[tuple[int, str, bool]]:
    """Pages with parameters of every sort, each of which must or must not be left out."""
    shop = "https://shop.example"
    links = []
    for n in range(40):
        links.append((n, f"{shop}/a?size={n % 3}&u=reader-{n}&utm_content=top", False))
        links.append((n, f"{shop}/a?size={n % 3}&u=reader-{n}&utm_content=end", n % 4 == 0))
        links.append((n, f"{shop}/?id={n}", False))
        links.append((n, f"{shop}/ids?same=1&id={n // 2}", False))  # half a value per message
        links.append((n, f"{shop}/nearly?id={max(n, 6)}", False))  # 34 values of 40 messages
        links.append((n, f"https://app.example/?u={n}#/cart", False))
        links.append((n, f"{shop}/twice?x={n}&x=1", False))
    links += [(n, f"{shop}/few?id={n}", False) for n in range(MESSAGES_MIN - 1)]
    links += [(n, f"{shop}/mixed{'?flag' if n % 2 else ''}", False) for n in range(40)]
    links += [(n, f"{shop}/mixed?id={n}&flag", False) for n in range(40)]
    links += [(n % 40, f"{shop}/product?sku={n % 5}", n % 3 == 0) for n in range(80)]
    return links


def recount(records: Sequence[AvroRecord]) -> list[tuple[Any, ...]]:
    """``COLUMNS`` of each link, by brute force."""
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    messages: dict[tuple[str, str], set[str]] = defaultdict(set)
    for record in records:
        page, pairs = _taken_apart(record)
        for name, text in pairs:
            values[page, name].add(text)
            messages[page, name].add(record["enrichment"]["message_key"])
    personal = {
        key
        for key, found in values.items()
        if len(messages[key]) >= MESSAGES_MIN and len(found) >= SHARE_MIN * len(messages[key])
    }
    rows: dict[str, list[AvroRecord]] = defaultdict(list)
    for record in records:
        page, pairs = _taken_apart(record)
        kept = "&".join(text for name, text in pairs if (page, name) not in personal)
        start, mark, route = page.partition("#")
        rows[f"{start}{'?' if kept else ''}{kept}{mark}{route}"].append(record)
    return sorted((link, *_figures(found)) for link, found in rows.items())


def _taken_apart(record: AvroRecord) -> tuple[str, list[tuple[str, str]]]:
    start, mark, route = record["enrichment"]["click_url_group"].partition("#")
    page, _, query = start.partition("?")
    pairs = [(name, f"{name}={value}" if value else name) for name, value in parameters(query)]
    return f"{page}{mark}{route}", pairs


def _figures(records: Sequence[AvroRecord]) -> tuple[int, ...]:
    sides = [
        [
            r["enrichment"]["message_key"]
            for r in records
            if (r["enrichment"]["actor"] == "human") is h
        ]
        for h in (True, False)
    ]
    people, machines = sides
    urls = {record["event"]["click_url"] for record in records}
    return len(set(people)), len(people), len(set(machines)), len(machines), len(urls)


def check_links(ask: Ask, records: Sequence[AvroRecord]) -> None:
    """Compares the view and the page's table with the recount.

    Raises:
        AssertionError: one differs.
    """
    expected = recount(records)
    assert sorted(map(tuple, ask(f"SELECT {COLUMNS} FROM links", {}))) == expected
    one = f"SELECT {COLUMNS} FROM links WHERE campaign_id = 'spring'"
    assert sorted(map(tuple, ask(one, {}))) == expected
    period = {"campaign": "spring", "start": MINUTE_0 - 60, "until": MINUTE_0 + 3600}
    page = f"SELECT {COLUMNS} FROM ({questions.LINKS})"
    assert sorted(map(tuple, ask(page, period))) == expected
