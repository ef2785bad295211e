"""What a client of `/ws` may not send: at first and later on, by its form, its size and its number."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import orjson
import pytest
from websockets.exceptions import ConnectionClosed

from app.platform.websocket import MAX_MESSAGE_BYTES
from app.realtime.socket import MAX_MESSAGES
from tests.callers import Caller
from tests.factories.tickets import open_ticket
from tests.live import DEADLINE_S, Live, Socket
from tests.realtime.doors import listening

NO_OBJECT = "A message is a JSON object, as text"
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: service\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

Someone = Callable[[Live, Caller], Awaitable[Socket]]


async def newcomer(live: Live, _who: Caller) -> Socket:
    return await live.connect()


async def regular(live: Live, who: Caller) -> Socket:
    socket = await live.connect(who.token)
    assert (await socket.frame())["type"] == "ready"
    return socket


@pytest.mark.parametrize("someone", [newcomer, regular])
class TestForm:
    @pytest.mark.parametrize(
        ("message", "reason"),
        [
            ("", NO_OBJECT),
            ("auth", NO_OBJECT),
            ("{", NO_OBJECT),
            ("null", NO_OBJECT),
            ("17", NO_OBJECT),
            ('"auth"', NO_OBJECT),
            ('[{"type":"auth"}]', NO_OBJECT),
            ('{"type":"auth","token":"\\ud800"}', NO_OBJECT),
            ("[" * 60_000, NO_OBJECT),
            ('{"type":"auth","token":' + "[" * 900 + "]" * 900 + "}", NO_OBJECT),
            (b'{"type":"auth","token":"x"}', NO_OBJECT),
            (b"\xff\x00", NO_OBJECT),
            ("{}", "type: Field required; token: Field required"),
            ('{"type":"auth"}', "token: Field required"),
            ('{"type":"ping","token":"x"}', "type: Input should be 'auth'"),
            ('{"type":"auth","token":"x","x":1}', "x: Extra inputs are not permitted"),
            ('{"type":"auth","token":"x\\u0000"}', "token: must not contain NUL"),
            ("{" + ",".join(f'"{n}":1' for n in range(201)) + "}", "must have at most 200 fields"),
        ],
    )
    async def test_that_makes_no_sense_ends_it(
        self, live: Live, agent: Caller, someone: Someone, message: str | bytes, reason: str
    ) -> None:
        socket = await someone(live, agent)

        await socket.connection.send(message)

        assert await socket.closing() == (4400, reason)

    async def test_text_that_is_no_unicode_ends_it(
        self, live: Live, agent: Caller, someone: Someone, caplog: pytest.LogCaptureFixture
    ) -> None:
        socket = await someone(live, agent)

        await socket.connection.send(b'{"type":"auth","token":"\xff"}', text=True)

        assert (await socket.closing())[0] == 1007
        caplog.clear()  # the server logs it, although no fault of ours


@pytest.mark.parametrize("someone", [newcomer, regular])
class TestSize:
    async def test_64_kib_are_read(self, live: Live, agent: Caller, someone: Someone) -> None:
        socket = await someone(live, agent)

        await socket.connection.send(orjson.dumps("x" * (MAX_MESSAGE_BYTES - 2)).decode())

        assert MAX_MESSAGE_BYTES == 65_536
        assert await socket.closing() == (4400, NO_OBJECT)

    @pytest.mark.parametrize("pieces", [[65_537], [65_536, 1], [1_000] * 66, [1_000_000], [0, 65_536, 0, 1]])
    async def test_one_byte_more_ends_it(self, live: Live, agent: Caller, someone: Someone, pieces: list[int]) -> None:
        socket = await someone(live, agent)

        async def fragments() -> AsyncIterator[str]:
            for size in pieces:
                yield "x" * size

        with suppress(ConnectionClosed):
            await socket.connection.send(fragments())

        assert (await socket.closing())[0] == 1009

    async def test_nothing_is_told_behind_it(self, live: Live, agent: Caller, someone: Someone) -> None:
        socket = await someone(live, agent)

        await socket.connection.send("x" * (MAX_MESSAGE_BYTES + 1))
        await open_ticket(agent)

        assert (await socket.closing())[0] == 1009


class TestNumber:
    async def test_more_than_20_in_a_minute_end_it(self, live: Live, agent: Caller) -> None:
        socket = await listening(Live.connect, live, agent.token)
        assert isinstance(socket, Socket)

        for _ in range(21):
            await socket.send({"type": "auth", "token": agent.token})

        assert [frame["type"] for frame in await socket.frames(20)] == ["ready"] * 20
        assert MAX_MESSAGES == 20
        assert await socket.closing() == (4429, "Too many messages")

    async def test_the_first_message_counts(self, live: Live, agent: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.realtime.socket.MAX_MESSAGES", 2)
        socket = await live.connect()

        for _ in range(3):
            await socket.send({"type": "auth", "token": agent.token})

        assert [frame["type"] for frame in await socket.frames(2)] == ["ready"] * 2
        assert await socket.closing() == (4429, "Too many messages")

    async def test_a_minute_later_there_may_be_more(
        self, live: Live, agent: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.platform.websocket.MINUTE_S", 0)
        socket = await live.connect(agent.token)

        for _ in range(40):
            await socket.send({"type": "auth", "token": agent.token})

        assert [frame["type"] for frame in await socket.frames(41)] == ["ready"] * 41


class TestBytes:
    """Bytes that no library would send."""

    @pytest.mark.parametrize(
        ("frame", "code"),
        [
            (b"\x81\x02{}", 1002),  # not masked
            (b"\xc1\x82\0\0\0\0{}", 1002),  # a reserved bit, which would mean compression
            (b"\x91\x82\0\0\0\0{}", 1002),
            (b"\x83\x80\0\0\0\0", 1002),  # an opcode that there is none of
            (b"\x80\x80\0\0\0\0", 1002),  # a continuation of nothing
            (b"\x09\x80\0\0\0\0", 1002),  # a ping in pieces
            (b"\x89\xfe\x00\x7e\0\0\0\0" + bytes(126), 1002),  # a ping over 125 bytes
            (b"\x81\xff" + (65_537).to_bytes(8) + bytes(4), 1009),  # refused by the length that it announces
            (b"\x81\xff" + (2**63 - 1).to_bytes(8) + bytes(4), 1009),
        ],
    )
    async def test_that_break_the_protocol_end_it(self, live: Live, frame: bytes, code: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
        async with asyncio.timeout(DEADLINE_S):
            writer.write(HANDSHAKE)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            writer.write(frame)
            answer = await reader.read()
        writer.close()
        await writer.wait_closed()

        assert answer[0] == 0x88
        assert int.from_bytes(answer[2:4]) == code
