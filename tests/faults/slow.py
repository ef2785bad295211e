"""Requests as no well-behaved client sends them: in two halves, or only the first."""

import asyncio
from typing import Any, Self

import orjson

from tests.services import Service


class SlowRequest:
    """A request whose body has half arrived."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rest: bytes) -> None:
        self._reader = reader
        self._writer = writer
        self._rest = rest

    @classmethod
    async def begin(
        cls, service: Service, method: str, path: str, headers: dict[str, str], body: dict[str, Any]
    ) -> Self:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        content = orjson.dumps(body)
        more = {"Host": "service", "Content-Type": "application/json", "Content-Length": str(len(content))}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in (headers | more).items())]
        half = len(content) // 2
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content[:half])
        await writer.drain()
        return cls(reader, writer, content[half:])

    async def finish(self) -> tuple[int, dict[str, Any]]:
        """Sends the rest; the status and the JSON of the answer."""
        await self.send_rest()
        head = await self._reader.readuntil(b"\r\n\r\n")
        status, *lines = head.decode().splitlines()
        headers = dict(line.lower().split(": ", 1) for line in lines if line)
        content: dict[str, Any] = orjson.loads(await self._reader.readexactly(int(headers["content-length"])))
        await self._close()
        return int(status.split()[1]), content

    async def send_rest(self) -> None:
        self._writer.write(self._rest)
        await self._writer.drain()

    def hang_up(self) -> None:
        """Closes at once, as a client that crashed."""
        self._writer.transport.abort()

    async def _close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()
