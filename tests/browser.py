"""Pages in the Chromium that is installed, for tests marked `browser`: `pytest_plugins = ["browser"]` in a test module.

A page that logs an error, throws one, or asks another host for anything fails the test that opened it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
OWN = ("data", "blob", "about")  # schemes of addresses that need no host


def executable() -> str | None:
    """Path of a Chromium: SPECBEAM_CHROMIUM, or the first on PATH."""
    return os.environ.get("SPECBEAM_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def on_loopback(address: str) -> bool:
    """Whether asking for `address` stays on this machine."""
    parts = urlsplit(address)
    if parts.scheme in OWN:
        return True
    host = parts.hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Visitors:
    """Opens pages, each in a context of its own as another visitor would, and notes what goes wrong in them."""

    def __init__(self, browser: Browser):
        self.browser = browser
        self.errors: list[str] = []
        self.expected: tuple[str, ...] = ()  # parts of messages that are no fault of ours, whenever they come
        self.requests: list[str] = []
        self.contexts: list[BrowserContext] = []

    def open(
        self, url: str | None = None, width: int = 1280, height: int = 900, dark: bool = False, **options: Any
    ) -> Page:
        """A page of that size (px), in the dark scheme or the light one; `options` are those of `new_context`."""
        scheme = "dark" if dark else "light"
        context = self.browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce", **options
        )
        self.contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: self._said(message.type, message.text, message.location.get("url", "")))
        page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("websocket", lambda socket: self.requests.append(socket.url))
        if url is not None:
            page.goto(url)
        return page

    def foreign(self) -> list[str]:
        """What was asked of other machines."""
        return [address for address in self.requests if not on_loopback(address)]

    def close(self) -> None:
        for context in self.contexts:
            context.close()

    def _said(self, kind: str, words: str, where: str) -> None:
        message = f"{words} ({where})"
        if kind == "error" and not any(part in message for part in self.expected):
            self.errors.append(message)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser. Of a module, not of the session: while it runs, its thread can start no other event loop."""
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
    path = executable()
    if path is None:
        pytest.skip("no Chromium on PATH; install one (apt install chromium) or set SPECBEAM_CHROMIUM to its path")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture
def visitors(chromium: Browser) -> Iterator[Visitors]:
    """Opens pages (`visitors.open(url)`), and fails the test for errors in them that `expected` does not name."""
    found = Visitors(chromium)
    yield found
    found.close()
    assert not found.errors, "the pages logged errors:\n" + "\n".join(found.errors)
    assert not found.foreign(), "the pages asked other hosts:\n" + "\n".join(found.foreign())
