"""Tickets and tokens of streams are in no log line, however much is logged."""

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from tests.callers import Caller
from tests.conftest import SECRET
from tests.live import DEADLINE_S
from tests.platform.server_process import ServerProcess
from tests.realtime.doors import ticket_of
from tests.services import NO_TLS


async def test_of_either_door(mongodb_uri: str, customer: Caller) -> None:
    tickets = [await ticket_of(customer) for _ in range(3)]
    async with (
        ServerProcess(mongodb_uri, SECRET, LOG_LEVEL="DEBUG", ALLOWED_ORIGINS="https://app.example.com") as server,
        httpx.AsyncClient(base_url=server.url, timeout=DEADLINE_S, verify=NO_TLS) as client,
    ):
        address = f"ws{server.url.removeprefix('http')}/ws"
        bearer = {"Authorization": f"Bearer {customer.token}"}
        async with connect(f"{address}?ticket={tickets[0]}", proxy=None) as socket:
            assert "ready" in str(await socket.recv())
            await socket.send(f'{{"type":"auth","token":"{customer.token}"}}')
            assert "ready" in str(await socket.recv())
        async with connect(address, additional_headers=bearer, proxy=None) as socket:
            assert "ready" in str(await socket.recv())
        async with connect(
            f"{address}?ticket={tickets[1]}", origin=Origin("https://evil.example"), proxy=None
        ) as socket:
            with pytest.raises(ConnectionClosed):
                await socket.recv()
        with pytest.raises(InvalidStatus):
            await connect(f"{address}/x?ticket={tickets[1]}", proxy=None)
        async with client.stream("GET", "/api/events/stream", params={"ticket": tickets[2]}) as stream:
            assert stream.status_code == 200
        await client.get("/api/events/stream", params={"ticket": tickets[2]})
    text = server.rest()

    assert '"door":"websocket"' in text
    assert '"door":"stream"' in text
    for secret in (*tickets, customer.token, "ticket="):
        assert secret not in text
