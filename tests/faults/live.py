"""Clients of live events, by every door: they drop out and come back as real ones do, and keep what they were told."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from functools import lru_cache
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import httpx
import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.frames import check_frame
from tests.services import NO_TLS, PATIENCE_S, Person, Service

Frame = dict[str, Any]
Event = dict[str, Any]
DOORS = ("websocket", "stream")
# A client's pause before it tries again.
BACK_OFF_S = 0.05


@lru_cache(maxsize=10_000)
def _parsed(text: bytes | str) -> Frame:
    """One object for all who are told the same, which is as the AsyncAPI document has it."""
    frame: Frame = orjson.loads(text)
    check_frame(frame)
    return frame


def websocket(service: Service, who: Person, **options: str) -> connect:
    """A connection to `/ws`, as browsers ask for it: with compression."""
    return connect(
        f"ws://127.0.0.1:{service.port}/ws?{urlencode(options)}",
        additional_headers=who.headers,
        compression="deflate",
        ping_interval=None,
        open_timeout=PATIENCE_S,
        # What it has not been asked for would keep it from reading the answer to its close frame.
        max_queue=None,
        proxy=None,
    )


async def receive(connection: ClientConnection) -> Frame:
    """The next frame. Raises `ConnectionClosed`."""
    async with asyncio.timeout(PATIENCE_S):
        return _parsed(await connection.recv())


async def close_code(connection: ClientConnection) -> int | None:
    """The code that the service closes it with, whatever comes before."""
    async with asyncio.timeout(PATIENCE_S):
        with suppress(ConnectionClosed):
            while True:
                await connection.recv()
    return connection.close_code


async def websocket_frames(service: Service, who: Person, options: dict[str, str]) -> AsyncGenerator[Frame]:
    """What `/ws` sends. Raises `ConnectionClosed`; left early, it breaks off or closes, as it happens."""
    async with websocket(service, who, **options) as connection:
        try:
            while True:
                yield _parsed(await connection.recv(decode=False))
        except GeneratorExit:
            if random.random() < 0.5:
                connection.transport.abort()
            raise


async def sse_frames(
    http: httpx.AsyncClient, service: Service, who: Person, options: dict[str, str]
) -> AsyncGenerator[Frame]:
    """What `/api/events/stream` sends. Raises `httpx.HTTPError`."""
    since = options.get("since")
    headers = {**who.headers, **({"Last-Event-ID": since} if since else {})}
    parameters = {name: value for name, value in options.items() if name != "since"}
    url = f"{service.url}/api/events/stream"
    async with http.stream("GET", url, headers=headers, params=parameters, timeout=None) as answer:
        answer.raise_for_status()
        cursor = None
        async for line in answer.aiter_lines():
            if line.startswith("id: "):
                cursor = line.removeprefix("id: ")
            elif line.startswith("data: "):
                frame = _parsed(line.removeprefix("data: "))
                assert cursor in {None, frame["cursor"]}
                yield frame


class Subscriber:
    """Follows from a cursor on, by any of the services, until told to end; drops out and comes back at random."""

    def __init__(
        self,
        who: Person,
        door: str,
        options: dict[str, str] | None = None,
        *,
        since: str | None = None,
        stay: int | None = None,
    ) -> None:
        """`stay` is how many events it hears on average before it drops out; without it, it never does so itself."""
        self.who = who
        self.door = door
        self.options = options or {}
        self.told: list[Event] = []
        self.cursor = since
        self.resyncs = 0
        self.visits = 0
        self.ends: Counter[str] = Counter()
        self._stay = stay

    def __repr__(self) -> str:
        return f"{self.who.username} by {self.door} with {self.options}, {self.visits} visits, ended by {self.ends}"

    async def follow(self, services: Sequence[Service], http: httpx.AsyncClient) -> None:
        """For ever."""
        while True:
            service = random.choice(services)
            try:
                await self._visit(service, http)
            except ConnectionClosed as end:
                self.ends[f"close {end.rcvd.code if end.rcvd else None}"] += 1
            except httpx.HTTPStatusError as refusal:
                self.ends[f"status {refusal.response.status_code}"] += 1
            except (OSError, EOFError, InvalidHandshake, httpx.TransportError) as error:
                self.ends[type(error).__name__] += 1
            else:
                continue
            await asyncio.sleep(BACK_OFF_S)

    async def _visit(self, service: Service, http: httpx.AsyncClient) -> None:
        options = self.options | ({"since": self.cursor} if self.cursor else {})
        source = (
            websocket_frames(service, self.who, options)
            if self.door == "websocket"
            else sse_frames(http, service, self.who, options)
        )
        async with aclosing(source) as frames:
            ready = await anext(frames)
            assert ready["type"] == "ready"
            is_lost = self.cursor not in {None, ready["cursor"]}
            self.cursor = ready["cursor"]
            self.visits += 1
            if is_lost:
                frame = await anext(frames)
                assert frame["type"] == "resync"
                self._take(frame)
            async for frame in frames:
                self._take(frame)
                if self._stay and random.random() < 1 / self._stay:
                    self.ends["left"] += 1
                    return
        self.ends["ended"] += 1

    def _take(self, frame: Frame) -> None:
        self.cursor = frame["cursor"]
        if frame["type"] == "event":
            self.told.append(frame["event"])
        else:
            assert frame["type"] == "resync", frame
            self.resyncs += 1


class Audience:
    """Subscribers at work; `async with` gives them their tasks, and ends these."""

    def __init__(self, subscribers: Sequence[Subscriber], services: Sequence[Service]) -> None:
        """`services` may change meanwhile, as behind a load balancer."""
        self.subscribers = subscribers
        self._services = services
        self._tasks: list[asyncio.Task[None]] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        http = httpx.AsyncClient(verify=NO_TLS, limits=httpx.Limits(max_connections=None))
        await self._stack.enter_async_context(http)
        self._tasks = [asyncio.create_task(one.follow(self._services, http)) for one in self.subscribers]
        await self.until(lambda: all(one.visits for one in self.subscribers))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()
        faults = [end for end in ends if not isinstance(end, asyncio.CancelledError)]
        assert faults == []

    async def until(self, is_true: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
        """Returns when it is; fails when it takes too long, or a subscriber has failed."""
        async with asyncio.timeout(seconds):
            while not is_true():
                for task in self._tasks:
                    if task.done():
                        await task
                await asyncio.sleep(BACK_OFF_S)


async def present(client: httpx.AsyncClient, headers: dict[str, str] | None = None) -> str:
    """The cursor of the end of the log."""
    cursor: str = (await client.get("/api/events", headers=headers)).raise_for_status().json()["nextCursor"]
    return cursor


async def walked(client: httpx.AsyncClient, since: str, headers: dict[str, str]) -> list[Event]:
    """Everything since, as polling tells it to whoever these headers are of."""
    items: list[Event] = []
    silent_pages = 0
    # A page may be empty for one who hears little, and yet lead on.
    while silent_pages < 3:
        parameters = {"since": since, "limit": "100"}
        page = (await client.get("/api/events", params=parameters, headers=headers)).raise_for_status().json()
        items += page["items"]
        since = page["nextCursor"]
        silent_pages = 0 if page["items"] else silent_pages + 1
    return items
