"""The application behind a real server, and clients of its live doors: WebSockets and event streams."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode

import httpx
import orjson
import uvicorn
from starlette.types import ASGIApp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.services import NO_TLS

# Far more than anything here takes; only a failing test waits that long.
DEADLINE_S = 10.0
_POLL_S = 0.002

Frame = dict[str, Any]
Query = Mapping[str, str] | Sequence[tuple[str, str]]


class LiveServer:
    """An application behind uvicorn, in the event loop of the tests, on a port of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_config=None))
        self.port = 0

    async def __aenter__(self) -> Self:
        # What its `serve` does, but for taking over the signals of the process.
        self._server.config.load()
        self._server.lifespan = self._server.config.lifespan_class(self._server.config)
        await self._server.startup()
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self._ticking = asyncio.create_task(self._server.main_loop())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        await self._ticking
        await self._server.shutdown()


class Socket:
    """An open WebSocket."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, message: object) -> None:
        await self.connection.send(orjson.dumps(message).decode())

    async def frame(self) -> Frame:
        """The next frame. Raises `ConnectionClosed`."""
        async with asyncio.timeout(DEADLINE_S):
            frame: Frame = orjson.loads(await self.connection.recv())
            return frame

    async def frames(self, count: int) -> list[Frame]:
        return [await self.frame() for _ in range(count)]

    async def until(self, kind: str) -> Frame:
        """The next frame of this type; those before it are passed over."""
        while (frame := await self.frame())["type"] != kind:
            pass
        return frame

    async def closing(self) -> tuple[int, str]:
        """The code and reason that the service closes it with, which it has to do before it sends anything else."""
        with suppress(ConnectionClosed):
            raise AssertionError(await self.frame())
        end = self.connection.protocol.close_rcvd
        assert end is not None, "the connection broke off"
        return end.code, end.reason

    async def leave(self) -> None:
        await self.connection.close()

    def break_off(self) -> None:
        """As a phone does that loses its network and comes back by another."""
        self.connection.transport.abort()


class Message(NamedTuple):
    """One of an event stream's; comments and the time to wait before reconnecting are none."""

    id: str | None
    frame: Frame


class EventStream:
    """An answer of Server-Sent Events, or the refusal in its place."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.comments = 0
        self.retry_ms: int | None = None
        self._blocks = self._read()

    async def message(self) -> Message:
        """The next message. Raises `StopAsyncIteration` at the end of the stream."""
        async with asyncio.timeout(DEADLINE_S):
            return await anext(self._blocks)

    async def frame(self) -> Frame:
        return (await self.message()).frame

    async def frames(self, count: int) -> list[Frame]:
        return [await self.frame() for _ in range(count)]

    async def ending(self) -> None:
        """Returns when the service has ended it, which it has to do before it sends anything else."""
        with suppress(StopAsyncIteration):
            raise AssertionError(await self.message())

    async def leave(self) -> None:
        await self._blocks.aclose()
        await self.response.aclose()

    async def _read(self) -> AsyncGenerator[Message]:
        text = b""
        async for chunk in self.response.aiter_raw():
            *blocks, text = (text + chunk).split(b"\n\n")
            for block in blocks:
                fields = [line.partition(b": ")[::2] for line in block.split(b"\n")]
                match fields:
                    case [(b":", b"")]:
                        self.comments += 1
                    case [(b"retry", ms)]:
                        self.retry_ms = int(ms)
                    case [(b"data", data)]:
                        yield Message(None, orjson.loads(data))
                    case [(b"id", cursor), (b"data", data)]:
                        yield Message(cursor.decode(), orjson.loads(data))
                    case _:
                        raise AssertionError(block)
        assert text == b"", "a message broke off"


class Live:
    """Opens sockets and streams; `async with` closes those that are still open."""

    def __init__(self, server: LiveServer) -> None:
        self.port = server.port
        self.address = f"127.0.0.1:{server.port}"
        self.http = httpx.AsyncClient(
            base_url=f"http://{self.address}", verify=NO_TLS, limits=httpx.Limits(max_connections=None)
        )
        self._open: list[Socket | EventStream] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await asyncio.gather(*(one.leave() for one in self._open))
        await self.http.aclose()

    async def connect(
        self,
        token: str | None = None,
        query: Query = (),
        headers: Mapping[str, str] | None = None,
        path: str = "/ws",
        **more: Any,
    ) -> Socket:
        """A WebSocket as browsers ask for it, with compression; `more` is what `websockets` takes."""
        connection = await connect(
            f"ws://{self.address}{path}{_query_string(query)}",
            additional_headers=_bearer(token) | dict(headers or {}),
            compression="deflate",
            proxy=None,
            open_timeout=DEADLINE_S,
            close_timeout=DEADLINE_S,
            **({"ping_interval": None, "max_queue": None, "max_size": None} | more),
        )
        socket = Socket(connection)
        self._open.append(socket)
        return socket

    async def stream(
        self,
        token: str | None = None,
        query: Query = (),
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
    ) -> EventStream:
        """The answer of `/api/events/stream`, as soon as its headers are there."""
        request = self.http.build_request(
            method,
            f"/api/events/stream{_query_string(query)}",
            headers=_bearer(token) | dict(headers or {}),
            timeout=DEADLINE_S,
        )
        stream = EventStream(await self.http.send(request, stream=True))
        self._open.append(stream)
        return stream


async def eventually(is_true: Callable[[], bool], seconds: float = DEADLINE_S) -> None:
    """Returns when it has come true, for what nobody tells of. Raises `TimeoutError`."""
    async with asyncio.timeout(seconds):
        while not is_true():  # noqa: ASYNC110 - see above
            await asyncio.sleep(_POLL_S)


def _bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def _query_string(query: Query) -> str:
    return f"?{urlencode(query)}" if query else ""
