"""Who does not read costs a bounded amount of memory, holds up nobody, and misses nothing in the end."""

import asyncio
import socket
from contextlib import suppress

import pytest
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import ConnectionClosed

from app.platform.websocket import HIGH_WATER_BYTES
from app.realtime.feed import PIECE_BYTES
from app.realtime.hub import Hub
from tests.callers import Caller, Callers
from tests.factories.events import add_event, event_row
from tests.live import DEADLINE_S, Live, LiveServer, eventually
from tests.realtime.doors import events_of, listening
from tests.realtime.polling import present, walked
from tests.realtime.test_messages import HANDSHAKE

TOO_SLOW = (4429, "Too slow a reader; come back with since")
LARGE = 100_000
COUNT = 60
# What asyncio reads at once.
READ_BYTES = 256 * 1024


async def small_socket(live: Live) -> socket.socket:
    """A connection that keeps next to nothing on its way."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", live.port))
    return connection


def waiting_bytes(server: LiveServer) -> int:
    """What the server keeps for its sockets."""
    protocols = server._server.server_state.connections
    return sum(one.transport.get_write_buffer_size() for one in protocols if isinstance(one, WebSocketsSansIOProtocol))


async def test_is_sent_away_and_can_come_back(
    live: Live, live_server: LiveServer, hub: Hub, callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.realtime.feed.STALL_S", 0.1)
    monkeypatch.setattr("app.realtime.feed.PASSED_STALL_S", 0.1)
    start = await present(callers.agent)
    reader = await listening(Live.connect, live, callers.admin.token, since=start)
    deaf = await live.connect(callers.agent.token, {"since": start}, sock=await small_socket(live), max_queue=1)

    for _ in range(COUNT):
        await add_event(event_row(version=1, description="x" * LARGE))

    items = await walked(callers.admin, start)
    assert events_of(await reader.frames(COUNT)) == items
    assert waiting_bytes(live_server) <= HIGH_WATER_BYTES + PIECE_BYTES + 2 * LARGE

    # It has been sent away; now it reads what was on its way, and that.
    await eventually(lambda: not hub._listeners.get(callers.agent.actor.id))
    heard = []
    assert (await deaf.frame())["type"] == "ready"
    with suppress(ConnectionClosed):
        while True:
            heard += events_of([await deaf.frame()])
    assert await deaf.closing() == TOO_SLOW
    assert 0 < len(heard) < COUNT
    again = await listening(Live.connect, live, callers.agent.token, since=heard[-1]["cursor"])
    heard += events_of(await again.frames(COUNT - len(heard)))
    assert heard == items


async def test_gets_no_answers_to_its_pings(live: Live, live_server: LiveServer) -> None:
    connection = await small_socket(live)
    loop = asyncio.get_running_loop()
    ping = b"\x89\xfd\0\0\0\0" + bytes(125)
    with connection:
        await loop.sock_sendall(connection, HANDSHAKE)
        assert (await loop.sock_recv(connection, 12)) == b"HTTP/1.1 101"

        for _ in range(120):
            async with asyncio.timeout(DEADLINE_S):
                await loop.sock_sendall(connection, ping * 1_000)

        assert waiting_bytes(live_server) <= HIGH_WATER_BYTES + READ_BYTES


async def test_is_let_go_when_it_is_gone_without_a_word(
    live: Live, live_server: LiveServer, hub: Hub, agent: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a phone does that has lost its network: it does not answer pings any more."""
    config = live_server._server.config
    assert (config.ws_ping_interval, config.ws_ping_timeout) == (20, 20)
    monkeypatch.setattr(config, "ws_ping_interval", 0.05)
    monkeypatch.setattr(config, "ws_ping_timeout", 0.05)
    with await small_socket(live) as connection:
        bearer = f"Authorization: Bearer {agent.token}\r\n\r\n"
        await asyncio.get_running_loop().sock_sendall(connection, HANDSHAKE[:-2] + bearer.encode())
        await eventually(lambda: agent.actor.id in hub._listeners)

        await eventually(lambda: agent.actor.id not in hub._listeners)
