"""A browser, and a dashboard to open in it.

Without Chromium these tests are skipped with the reason; if ``CI`` is set they fail instead.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, expect, sync_playwright

from tests.browser.stage import Stage

CHROMIUM = os.environ.get("MAILPULSE_TEST_CHROMIUM") or shutil.which("chromium") or ""
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP *.example 127.0.0.1",  # names of other sites that lead here
]  # fmt: skip
ARTIFACTS = Path(__file__).parents[2] / "artifacts"
OpenPage = Callable[..., Page]
expect.set_options(timeout=20_000)  # a busy machine is no defect


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not CHROMIUM:
        reason = "no chromium on PATH; MAILPULSE_TEST_CHROMIUM names one"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    built = Stage(tmp_path_factory.mktemp("stage"))
    yield built
    built.close()


@pytest.fixture
def open_page(browser: Browser, stage: Stage) -> Iterator[OpenPage]:
    """Opens a path of the dashboard and waits for figures; fails on any error in the page."""
    contexts = []
    errors: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        passing = "Failed to load resource" in message.text or "net::ERR" in message.text
        if message.type == "error" and not passing:
            errors.append(message.text)

    def shut(dialog: Dialog) -> None:
        errors.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def opened(
        path: str, *, ready: bool = True, width: int = 1400, scheme: Any = "light", **options: Any
    ) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            timezone_id=options.pop("timezone_id", "UTC"),
            **options,
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", heard)
        page.on("dialog", shut)
        page.goto(stage.url + path)
        if ready:
            page.wait_for_selector("#main[data-version]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert errors == []
