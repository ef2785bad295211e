"""The ways into a live stream."""

from collections.abc import Awaitable, Callable
from typing import Any

from httpx import AsyncClient

from tests.callers import Caller
from tests.live import EventStream, Frame, Live, Socket

Source = Socket | EventStream
Way = Callable[..., Awaitable[Socket]]
Door = Callable[..., Awaitable[Source]]

DOORS: dict[str, Door] = {"websocket": Live.connect, "stream": Live.stream}


async def ticket_of(who: AsyncClient, **headers: str) -> str:
    answer = await who.post("/api/realtime/ticket", headers=headers)
    assert answer.status_code == 201, answer.text
    ticket: str = answer.json()["ticket"]
    return ticket


async def by_header(live: Live, who: Caller, **options: str) -> Socket:
    return await live.connect(who.token, options)


async def by_ticket(live: Live, who: Caller, **options: str) -> Socket:
    return await live.connect(query={"ticket": await ticket_of(who), **options})


async def by_message(live: Live, who: Caller, **options: str) -> Socket:
    types = {"types": options["types"].split(",")} if "types" in options else {}
    return await introduced(live, who.token, **(options | types))


async def introduced(live: Live, token: str, **more: Any) -> Socket:
    """A socket whose first message was this."""
    socket = await live.connect()
    await socket.send({"type": "auth", "token": token, **more})
    return socket


WAYS: dict[str, Way] = {"header": by_header, "ticket": by_ticket, "message": by_message}


async def listening(door: Door, live: Live, token: str, **options: str) -> Source:
    """A stream that has said that it is ready."""
    source = await door(live, token, options)
    assert (await source.frame())["type"] == "ready"
    return source


async def ended(source: Source, code: int, reason: str) -> None:
    """Returns when the service has ended it like this before it said anything else. An event stream can't say why."""
    if isinstance(source, Socket):
        assert await source.closing() == (code, reason)
    else:
        await source.ending()


def events_of(frames: list[Frame]) -> list[dict[str, Any]]:
    """The events of frames that are nothing else."""
    assert {frame["type"] for frame in frames} <= {"event"}
    return [frame["event"] for frame in frames]


async def streaming(live: Live, token: str, **options: str) -> EventStream:
    source = await listening(Live.stream, live, token, **options)
    assert isinstance(source, EventStream)
    return source
