"""A stand-in for SendGrid's API over real HTTP, which answers as a test wants and keeps what it was sent."""

import asyncio
import json
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

HANG, RESET, CUT = "hang", "reset", "cut"


@dataclass(frozen=True)
class Call:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    mail: dict[str, Any]

    @property
    def message_id(self) -> str:
        found: str = self.mail["headers"]["Message-ID"]
        return found

    @property
    def to(self) -> str:
        (personalization,) = self.mail["personalizations"]
        (recipient,) = personalization["to"]
        found: str = recipient["email"]
        return found


@dataclass
class Answer:
    """What a call is answered: a status, with headers and a body; or nothing, in one of several ways."""

    status: int | str = 202
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""


class Provider:
    """`async with Provider(act)`: `act` decides the answer to each call from it and the calls before."""

    def __init__(self, act: Callable[[Call, list[Call]], Answer] = lambda _call, _before: Answer()) -> None:
        self.act = act
        self.calls: list[Call] = []
        self.accepted: list[Call] = []
        self._changed = asyncio.Condition()
        self._open: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        host, port = self._server.sockets[0].getsockname()
        return f"http://{host}:{port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._server.close()
        open_tasks = list(self._open)
        for task in open_tasks:
            task.cancel()
        await asyncio.gather(*open_tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def until(self, is_so: Callable[["Provider"], bool], patience_s: float = 60) -> None:
        """Returns when it is so."""
        async with asyncio.timeout(patience_s), self._changed:
            await self._changed.wait_for(lambda: is_so(self))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._open.add(task)
        try:
            await self._answer(reader, writer)
        finally:
            self._open.discard(task)
            with suppress(OSError):
                writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        method, path, _ = head[0].split()
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        call = Call(method, path, headers, json.loads(body or b"{}"))
        answer = self.act(call, self.calls)
        self.calls.append(call)
        if answer.status == HTTPStatus.ACCEPTED:
            self.accepted.append(call)
        async with self._changed:
            self._changed.notify_all()
        if answer.status == HANG:
            await asyncio.Event().wait()
        elif answer.status == RESET:
            # Closing with this set sends a reset instead of an end.
            raw: socket.socket = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            writer.transport.abort()
        elif answer.status == CUT:
            writer.write(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 1000\r\n\r\nabc")
            await writer.drain()
        else:
            lines = [f"HTTP/1.1 {answer.status} Whatever", *(f"{k}: {v}" for k, v in answer.headers.items())]
            lines += [f"Content-Length: {len(answer.body)}", "Connection: close", "", answer.body]
            writer.write("\r\n".join(lines).encode())
            with suppress(ConnectionError):
                await writer.drain()
