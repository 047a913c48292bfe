"""How soon a page says that its figures are old: processes stopped under a real pipeline.

``python -m tests.bench.staleness --out FOLDER --rounds 10 --hogs 4`` starts the demo and a browser,
stops (SIGSTOP) the dashboard, the sink and the database in turn, holds back what goes between
browser and dashboard, and prints for each how long the page looked live, by one clock. ``--hogs``
processes do nothing but keep cores busy meanwhile.
"""

import argparse
import contextlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from playwright.sync_api import Page, sync_playwright

from streams.embedded.data_dir import running
from tests.bench.demo_memory import processes
from tests.browser.conftest import CHROMIUM, FLAGS

START_S_MAX = 120
SHOWN_S_MAX = 20
STOPPED = ("dashboard", "sink", "warehouse")
NOTED = """() => {
  window.noted = [];
  const status = document.getElementById("status");
  const note = () => window.noted.push([Date.now(), status.dataset.mode]);
  new MutationObserver(note).observe(status, { attributes: true });
}"""


class Network:
    """Passes bytes between a browser and a port while ``open`` is set."""

    def __init__(self, port: int) -> None:
        self.open = threading.Event()
        self.open.set()
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            one, _ = self._listener.accept()
            other = socket.create_connection(("127.0.0.1", self._to))
            for ends in ((one, other), (other, one)):
                threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self.open.wait()
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def looks_live(page: Page) -> bool:
    """What its dot says."""
    return page.evaluate("document.getElementById('status').dataset.mode") in ("live", "polling")


def until(page: Page, live: bool, limit_s: float) -> bool:
    """Waits until the page looks live, or does not."""
    deadline = time.monotonic() + limit_s
    while looks_live(page) != live and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    return looks_live(page) == live


@contextlib.contextmanager
def stopped(what: psutil.Process | Network) -> Iterator[None]:
    """Stands still during the block."""
    if isinstance(what, Network):
        what.open.clear()
    else:
        what.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        if isinstance(what, Network):
            what.open.set()
        else:
            what.send_signal(signal.SIGCONT)


def measure(page: Page, what: psutil.Process | Network) -> tuple[float, float]:
    """Seconds from the stop until the page says so, and from the end of it until it is live."""
    while True:  # a busy pipeline may get behind by itself; that is another story
        assert until(page, True, START_S_MAX), "the page does not become live"
        page.wait_for_timeout(random.uniform(2_000, 4_000))
        page.evaluate("window.noted.length = 0")
        if looks_live(page):
            break
    began = time.time()
    with stopped(what):
        assert until(page, False, SHOWN_S_MAX), f"{SHOWN_S_MAX} s passed"
        at_ms = next(at for at, mode in page.evaluate("window.noted") if mode in ("lost", "stale"))
    ended = time.monotonic()
    assert until(page, True, START_S_MAX), "the page does not come back"
    return at_ms / 1000 - began, time.monotonic() - ended


def main() -> int:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.staleness", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--hogs", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((given.out / "demo.log").open("wb"))
        data = given.out / "data"
        words = ["demo", "--rate", "100", "--port", "0", "--data-dir", str(data)]
        demo = subprocess.Popen([sys.executable, "-P", "-m", "streams.cli", *words],
                                stdout=log, stderr=log)  # fmt: skip
        stack.callback(demo.wait, 60)
        stack.callback(demo.send_signal, signal.SIGINT)
        deadline = time.monotonic() + START_S_MAX
        while not (where := running(data)) or not where.dashboard_url:
            assert time.monotonic() < deadline, "the demo does not start"
            time.sleep(1)
        for _ in range(given.hogs):
            hog = subprocess.Popen([sys.executable, "-P", "-c", "while True: pass"])
            stack.callback(hog.kill)
        place = urlsplit(where.dashboard_url)
        network = Network(place.port or 80)
        playwright = stack.enter_context(sync_playwright())
        through = f"--host-resolver-rules=MAP {place.netloc} 127.0.0.1:{network.port}"
        flags = [flag for flag in FLAGS if "resolver" not in flag]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*flags, through])
        page = browser.new_page()
        page.goto(f"{where.dashboard_url}/?period=24h", timeout=120_000)
        page.wait_for_selector("#main[data-version]", timeout=120_000)
        page.evaluate(NOTED)
        found = processes(where)
        for name, what in [*((n, found[n]) for n in STOPPED), ("network", network)]:
            took = [measure(page, what) for _ in range(given.rounds)]
            said, back = sorted(one for one, _ in took), sorted(one for _, one in took)
            middle = said[len(said) // 2]
            print(f"{name:10} said after: median {middle:.1f} s, most {said[-1]:.1f} s;"
                  f" back after: most {back[-1]:.1f} s", flush=True)  # fmt: skip
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
