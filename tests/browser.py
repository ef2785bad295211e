"""A real browser that is let out to our service only."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Route, sync_playwright
from playwright.sync_api import Error as BrowserError

_PROGRAM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
# A container has no user namespaces for the sandbox; the rest keeps the browser from calling its maker.
_ARGUMENTS = """--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking
--disable-component-update --disable-sync""".split()
_PATIENCE_MS = 20_000


@contextmanager
def launched() -> Iterator[Browser]:
    if _PROGRAM is None:
        # Somebody's own machine may lack one; where the suite decides what lands, its absence is a failure.
        if os.environ.get("CI"):
            pytest.fail("there is no browser")
        pytest.skip("no browser on this machine (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_PROGRAM, args=_ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page that is let out to our service only, and what it tried and complained about."""

    page: Page
    origin: str
    elsewhere: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def begin(self, path: str) -> None:
        self.page.set_default_timeout(_PATIENCE_MS)
        self.page.route("**/*", self._guard)
        self.page.on("request", self._note_request)
        self.page.on("console", self._note_message)
        self.page.on("pageerror", self._note_error)
        self.page.goto(self.origin + path)

    def _is_ours(self, url: str) -> bool:
        return url.startswith((f"{self.origin}/", "data:", f"blob:{self.origin}/"))

    def _guard(self, route: Route) -> None:
        if self._is_ours(route.request.url):
            route.continue_()
        else:
            route.abort()

    def _note_request(self, request: Request) -> None:
        if not self._is_ours(request.url):
            self.elsewhere.append(request.url)

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _note_error(self, error: BrowserError) -> None:
        self.complaints.append(str(error))
