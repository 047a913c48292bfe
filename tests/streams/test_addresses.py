"""``mailpulse sources refresh``: what is said, noted, and never changed."""

from datetime import date
from pathlib import Path

import httpx

from ingest.published import Published
from streams.cli.addresses import days_seen, look

LISTS = {
    name: Published(("8.8.8.8",), date(2026, 11, 27), f"https://{name}.example")
    for name in ("gone", "more", "same", "silent")
}


def page(address: str) -> str:
    """Four pages: without the address, with another one too, with it, and none."""
    if "silent" in address:
        raise httpx.ConnectError("no")
    return {"gone": "9.9.9.9", "more": "8.8.8.8 9.9.9.9", "same": "8.8.8.8"}[address[8:12]]


def test_only_a_page_that_still_has_every_address_confirms_its_list() -> None:
    """New ones are named for a person to judge; a page that does not answer confirms nothing."""
    lines, same = look(LISTS, page)
    assert same == {"more", "same"}
    assert "gone: no longer on https://gone.example: 8.8.8.8" in lines
    assert "silent: not compared, ConnectError at https://silent.example" in lines
    assert any(line.startswith("more: also there: 9.9.9.9") for line in lines)


def test_without_a_note_nothing_is_confirmed(tmp_path: Path) -> None:
    """As on a new machine."""
    assert days_seen(tmp_path) == {}
    for damaged in (b"\xff\xfe", b'{"brevo": ', b"[" * 200_000, b'{"brevo": 3}'):
        (tmp_path / "published.json").write_bytes(damaged)
        assert days_seen(tmp_path) == {}, damaged[:9]
