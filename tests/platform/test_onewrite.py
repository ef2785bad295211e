"""Answers reach the socket in one write, and whole, whatever kind they are; on a real server."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.responses import Response, StreamingResponse
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.platform.middleware import RequestScope
from tests.platform.server_process import ServerProcess

pytestmark = pytest.mark.usefixtures("database")

SECRET = "a-secret-for-a-server-of-its-own-0123456789"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(scope="module")
async def address(mongodb_uri: str) -> AsyncIterator[tuple[str, int]]:
    async with ServerProcess(mongodb_uri, SECRET) as server:
        host, _, port = server.url.removeprefix("http://").partition(":")
        yield host, int(port)


@asynccontextmanager
async def connected(address: tuple[str, int]) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection(*address)
    try:
        async with asyncio.timeout(20):
            yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


def request(method: str, path: str, *headers: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: service", *headers, "", ""]).encode()


def uvicorns_request(socket: asyncio.Transport) -> Any:
    scope: Any = {"type": "http", "method": "GET", "path": "/", "headers": [], "state": {}}
    return RequestResponseCycle(
        scope,
        socket,
        FlowControl(socket),
        logging.getLogger(),
        logging.getLogger(),
        access_log=False,
        default_headers=[],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=True,
        on_response=lambda: None,
    )


async def head_of(reader: asyncio.StreamReader) -> tuple[bytes, int]:
    """The status line, and how long the body is said to be."""
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
    return head.split(b"\r\n")[0], int(lengths[0])


class Socket(asyncio.Transport):
    """Keeps what is written to it, write by write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))


@pytest.mark.parametrize(("status", "body"), [(200, b"all of it"), (204, b"")])
async def test_head_and_body_are_one_write(status: int, body: bytes) -> None:
    socket = Socket()
    cycle = uvicorns_request(socket)

    await RequestScope(Response(body, status))(cycle.scope, cycle.receive, cycle.send)

    (answer,) = socket.writes
    assert answer.startswith(f"HTTP/1.1 {status}".encode())
    assert answer.endswith(b"\r\n\r\n" + body)


async def test_what_comes_after_the_first_piece_goes_at_once() -> None:
    socket = Socket()
    cycle = uvicorns_request(socket)
    seen: list[int] = []

    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"one", b"two", b"three"):
            yield piece
            seen.append(len(socket.writes))

    await RequestScope(StreamingResponse(pieces()))(cycle.scope, cycle.receive, cycle.send)

    assert seen == [1, 2, 3]


async def test_a_large_answer_is_whole_and_the_connection_stays(address: tuple[str, int]) -> None:
    async with connected(address) as (reader, writer):
        for _ in range(2):
            writer.write(request("GET", "/openapi.json"))
            status, length = await head_of(reader)

            assert (await reader.readexactly(length)).endswith(b"}")
            assert (status, length > 100_000) == (b"HTTP/1.1 200 OK", True)


async def test_an_answer_without_a_body_is_not_held_back(address: tuple[str, int]) -> None:
    async with connected(address) as (reader, writer):
        writer.write(request("HEAD", "/healthz"))
        assert (await head_of(reader))[0] == b"HTTP/1.1 200 OK"

        writer.write(request("HEAD", "/healthz", "Connection: close"))
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")


async def test_the_last_answer_of_a_connection_is_whole(address: tuple[str, int]) -> None:
    async with connected(address) as (reader, writer):
        writer.write(request("GET", "/nowhere", "Connection: close"))

        answer = await reader.read()

    assert answer.startswith(b"HTTP/1.1 404")
    assert answer.endswith(b"}")


async def test_answers_to_pipelined_requests_come_in_order(address: tuple[str, int]) -> None:
    async with connected(address) as (reader, writer):
        writer.write(request("GET", "/healthz") + request("GET", "/nowhere") + request("HEAD", "/healthz"))
        statuses = []
        for has_body in (True, True, False):
            status, length = await head_of(reader)
            statuses.append(status.split()[1])
            await reader.readexactly(length if has_body else 0)

        assert statuses == [b"200", b"404", b"200"]


async def test_a_client_that_asks_first_is_told_to_go_on(address: tuple[str, int]) -> None:
    body = b'{"username": "nobody", "password": "wrong password"}'
    headers = ["Content-Type: application/json", f"Content-Length: {len(body)}", "Expect: 100-continue"]
    async with connected(address) as (reader, writer):
        writer.write(request("POST", "/api/login", *headers))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)

        assert (await head_of(reader))[0].startswith(b"HTTP/1.1 401")
