"""``mailpulse sources refresh``: what is said, noted, and never changed."""

from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest

from ingest.published import Published
from streams.cli.addresses import PAGE_BYTES_MAX, PageTooLarge, days_seen, fetch, look

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


def served(body: bytes, seen: list[bool]) -> Iterator[str]:
    """A page of an HTTP server in a thread; ``seen`` gets whether all of it was taken."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; charset=latin-1")
            self.end_headers()
            try:
                for _ in range(64):
                    self.wfile.write(body)
                seen.append(True)
            except OSError:
                seen.append(False)

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def test_page_is_read_as_its_server_says() -> None:
    """By the character set of the answer."""
    for page_ in served(b"8.8.8.8 \xe9\n", []):
        assert fetch(page_) == "8.8.8.8 é\n" * 64


def test_page_without_end_is_not_read_to_its_end() -> None:
    """It is compared with nothing and confirms nothing; the command goes on."""
    seen: list[bool] = []
    for page_ in served(b"8.8.8.8 " * (PAGE_BYTES_MAX // 64), seen):
        with pytest.raises(PageTooLarge):
            fetch(page_)
        lists = {"big": Published(("8.8.8.8",), date(2026, 11, 27), page_)}
        lines, same = look(lists, fetch)
        assert same == set()
        assert lines == [f"big: not compared, PageTooLarge at {page_}"]
    assert seen == [False, False]
