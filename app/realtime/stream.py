"""`GET /api/events/stream`: live events as Server-Sent Events (HTML Living Standard §9.2)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.accounts.tokens import AccessClaims
from app.platform.http import is_outage
from app.platform.metrics import EVENTS_DELIVERED

from .feed import Feed, Resync
from .hub import Hub, Listener
from .protocol import FAULT, NOT_READY, Ending, Options, StreamEnds, ready_frame, resync_frame

logger = logging.getLogger(__name__)

DOOR = "stream"
# Proxies and browsers take a line that is silent for long for dead.
HEARTBEAT_S = 15.0
HEARTBEAT = b":\n\n"
RECONNECT = b"retry: 2000\n\n"
# How long the end of the body may take; a reader that does not read is not waited for.
LAST_WORD_S = 1.0


def message(frame: bytes, cursor: str | None) -> bytes:
    """A frame as an event; the cursor, if it has one, is what the browser sends when it comes back."""
    place = f"id: {cursor}\n".encode() if cursor else b""
    return place + b"data: " + frame + b"\n\n"


class EventStream(Response):
    """An answer that goes on until the client leaves or the service ends it."""

    media_type = "text/event-stream"

    options = Options()

    def __init__(self, hub: Hub, claims: AccessClaims, *, is_head: bool) -> None:
        """Its listener has to enter the hub before it is sent."""
        # Told to nginx and its like: pass on what comes, as it comes.
        super().__init__(headers={"X-Accel-Buffering": "no", "Cache-Control": "no-store"})
        del self.headers["content-length"]
        self._hub = hub
        self._is_head = is_head
        self._over: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self.listener = Listener(DOOR, claims, self._over.set_result)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if not self._is_head:
                await self._run(receive, send)
            try:
                async with asyncio.timeout(LAST_WORD_S):
                    await send({"type": "http.response.body", "body": b""})
            except TimeoutError:
                # asyncio would keep the socket, and what is to be read, until it is.
                scope["state"]["transport"].abort()
                await _until_gone(receive)
        finally:
            self._hub.leave(self.listener)

    async def _run(self, receive: Receive, send: Send) -> None:
        tasks = [asyncio.create_task(self._tell(send)), asyncio.create_task(_until_gone(receive))]
        endings: list[asyncio.Future[Any]] = [*tasks, self._over]
        try:
            await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Its feed is closed by that, which ends the telling even where the cancellation is lost.
            self._hub.leave(self.listener)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell(self, send: Send) -> None:
        async def write(body: bytes) -> None:
            await send({"type": "http.response.body", "body": body, "more_body": True})

        try:
            feed, cursor, resync = await self._hub.open_feed(self.listener, self.options)
            if resync:
                # Without an id before the `resync` is read, so that a break in between can't hide it.
                first = message(ready_frame(cursor), None) + message(resync_frame(resync.cursor), resync.cursor)
            else:
                first = message(ready_frame(cursor), cursor)
            await write(RECONNECT + first)
            await self._tell_news(feed, write)
        except OSError:  # the client is gone
            pass
        except StreamEnds as end:
            self._hub.end(self.listener, end.ending)
        except Exception as error:
            if not is_outage(error):
                logger.exception("a live stream broke off")
            self._hub.end(self.listener, NOT_READY if is_outage(error) else FAULT)

    async def _tell_news(self, feed: Feed, write: Callable[[bytes], Awaitable[None]]) -> None:
        while self.listener.ending is None:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    news = await feed.next()
            except TimeoutError:
                await write(HEARTBEAT)
                continue
            if isinstance(news, Resync):
                await write(message(resync_frame(news.cursor), news.cursor))
            elif self.listener.ending is None:
                await write(b"".join(message(item.frame, item.cursor) for item in news))
                EVENTS_DELIVERED.inc(len(news))


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
