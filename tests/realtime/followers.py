"""The example clients of docs/clients, run as they stand there: the Python one in a thread, the other in a browser."""

import asyncio
import importlib.util
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

from playwright.sync_api import Browser

from tests.services import CHECKOUT, PATIENCE_S

CLIENTS = CHECKOUT / "docs" / "clients"
Json = dict[str, Any]
# Called when the client is to sign in: a session to begin with, or None if it is to do so itself.
Given = Callable[[], Json | None]
SignInByItself = tuple[str, str]

_START = """async ([url, username, password]) => {
  window.codes = [];
  window.WebSocket = class extends WebSocket {
    constructor(...all) {
      super(...all);
      this.addEventListener("close", ({ code }) => codes.push(code));
    }
  };
  const { LiveTickets, signIn } = await import("/live.js");
  window.live = new LiveTickets(url, async () => (await given()) ?? signIn(url, username, password));
  live.run().catch((error) => { window.refusal = error.message; });
}"""

_LOADS = """performance.getEntriesByType("resource").filter(({ name }) => /tickets\\?limit=\\d+$/.test(name)).length"""


class Follower(Protocol):
    """A client at work, as seen from outside."""

    def held(self) -> Json:
        """The tickets that it has, by id."""

    def codes(self) -> list[int]:
        """What its connections were closed with."""

    def loads(self) -> int:
        """How often it loaded the tickets."""

    def refusal(self) -> str | None:
        """Why it gave up, if it has."""


class PythonFollower:
    """docs/clients/live.py."""

    def __init__(self, url: str, who: SignInByItself, given: Given) -> None:
        example = _python_example()
        follower = self

        class Watched(example.LiveTickets):  # type: ignore[misc, name-defined]
            async def _follow(self) -> tuple[int, str]:
                code, reason = await super()._follow()
                follower._codes.append(code)
                return code, reason

            async def _loaded(self) -> Json:
                follower._loads += 1
                loaded: Json = await super()._loaded()
                return loaded

        async def sign_in() -> Json:
            session: Json = given() or await example.sign_in(url, *who)
            return session

        self._codes: list[int] = []
        self._loads = 0
        self._refusal: str | None = None
        self._refused: type[Exception] = example.Refused
        self._client: Any = Watched(url, sign_in)
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self._run(self._client.run))
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._task])
        self._thread.start()

    async def _run(self, run: Callable[[], Awaitable[None]]) -> None:
        try:
            await run()
        except self._refused as refusal:
            self._refusal = str(refusal)
        except asyncio.CancelledError:
            pass

    def held(self) -> Json:
        return dict(self._client.tickets)

    def codes(self) -> list[int]:
        return list(self._codes)

    def loads(self) -> int:
        return self._loads

    def refusal(self) -> str | None:
        return self._refusal

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        self._loop.close()


class BrowserFollower:
    """docs/clients/live.js."""

    def __init__(self, browser: Browser, page: str, url: str, who: SignInByItself, given: Given) -> None:
        """`page` is the address of a page beside which the example lies."""
        self._page = browser.new_page()
        self._page.expose_function("given", given)
        self._page.goto(page)
        self._page.evaluate(_START, [url, *who])

    def held(self) -> Json:
        held: Json = self._page.evaluate("Object.fromEntries(live.tickets)")
        return held

    def codes(self) -> list[int]:
        codes: list[int] = self._page.evaluate("codes")
        return codes

    def loads(self) -> int:
        loads: int = self._page.evaluate(_LOADS)
        return loads

    def refusal(self) -> str | None:
        refusal: str | None = self._page.evaluate("window.refusal ?? null")
        return refusal

    def close(self) -> None:
        self._page.close()


def _python_example() -> Any:
    spec = importlib.util.spec_from_file_location("live_example", CLIENTS / "live.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        pass


@contextmanager
def site(files: Path = CLIENTS) -> Iterator[int]:
    """A web site of these files, elsewhere than the service; its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=files)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()
