"""Readers who do not read: they are cut off, cost little until then, and nobody else notices."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import orjson
import pytest
from websockets.asyncio.client import ClientConnection

from app.accounts.roles import Role
from app.realtime.protocol import CloseCode
from tests.faults.conftest import connected
from tests.faults.deaf import CLOSE, PING, Deaf, Message
from tests.faults.history import History, Told
from tests.faults.live import Frame, present, receive, websocket
from tests.services import Person, Rows, Service, person, until, wait_until

TICKETS = 100
# So that not so many events fill the buffers between the two and the ring behind them.
DESCRIPTION = "The tray is empty. " * 100
ROUNDS = 30
# So many that the process has all the past in memory that it ever keeps: 2,000 events.
WARM_UP_ROUNDS = 25
# Once that is there.
MAX_GROWTH_BYTES = 20_000_000
CUT_OFF = f'event_streams_ended_total{{code="{CloseCode.TOO_MUCH.value}"}}'


@pytest.fixture
def agent(rows: Rows) -> Person:
    return person(rows, Role.AGENT)


@pytest.fixture
async def history(rows: Rows, impatient: Service, agent: Person) -> History:
    """Some events of each ticket, which the process has told already."""
    history = History(rows, agent, tickets=TICKETS, description=DESCRIPTION)
    async with websocket(impatient, agent) as connection:
        await receive(connection)
        told, _ = await asyncio.gather(
            heard(connection, WARM_UP_ROUNDS), asyncio.to_thread(history.write, WARM_UP_ROUNDS)
        )
    assert told == history.told
    return history


def told_by(frame: Frame) -> Told:
    assert frame["type"] == "event", frame
    return frame["event"]["ticketId"], frame["event"]["ticket"]["version"]


async def heard(connection: ClientConnection, rounds: int) -> list[Told]:
    """The next events."""
    return [told_by(await receive(connection)) for _ in range(rounds * TICKETS)]


@asynccontextmanager
async def growing_little(service: Service) -> AsyncIterator[None]:
    """Fails if the process has much more in memory at any time."""
    before = most = service.memory()

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, service.memory())
            await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
    assert most - before <= MAX_GROWTH_BYTES, f"from {before:,} to {most:,} bytes"


class Crowd:
    """Two sockets and a stream that nobody reads."""

    def __init__(self, service: Service, who: Person, **options: str) -> None:
        self._service = service
        self._ended = service.metric(CUT_OFF)
        self.socket = Deaf.websocket(service, who, **options)
        self.late = Deaf.websocket(service, who, **options)
        self.stream = Deaf.stream(service, who, **options)
        self._all = (self.socket, self.late, self.stream)
        assert [one.status for one in self._all] == [101, 101, 200]

    def farewell(self) -> list[Message]:
        """What the first is told, who begins to read as soon as all are cut off."""
        wait_until(lambda: self._service.metric(CUT_OFF) == self._ended + len(self._all))
        return self.socket.messages()

    def close(self) -> None:
        for one in self._all:
            one.close()


def check_told(received: list[Message], expected: list[Told], *, is_in_time: bool) -> None:
    """Somebody heard the first of these events; and, if they read in time, that they were too slow."""
    (_, first), *rest = received
    assert orjson.loads(first)["type"] == "ready"
    if is_in_time:
        opcode, reason = rest.pop()
        assert (opcode, int.from_bytes(reason[:2])) == (CLOSE, CloseCode.TOO_MUCH)
    # On a slow machine a ping may be among them.
    told = [told_by(orjson.loads(payload)) for opcode, payload in rest if opcode != PING]
    assert told == expected[: len(told)]
    assert 0 < len(told) < len(expected)


class TestReadersWhoDoNotRead:
    async def test_what_happens(self, impatient: Service, agent: Person, history: History) -> None:
        before = len(history.told)
        with closing(await asyncio.to_thread(Crowd, impatient, agent)) as crowd:
            async with websocket(impatient, agent) as healthy, growing_little(impatient):
                await receive(healthy)
                told, received, _ = await asyncio.gather(
                    heard(healthy, ROUNDS), asyncio.to_thread(crowd.farewell), asyncio.to_thread(history.write, ROUNDS)
                )

            assert told == history.told[before:]
            check_told(received, told, is_in_time=True)
            # Somebody who begins to read only after the service gave up waiting.
            await until(lambda: not (crowd.late.is_held() or crowd.stream.is_held()))
            check_told(crowd.late.messages(), told, is_in_time=False)
        assert "Traceback" not in impatient.output()

    async def test_what_has_happened(self, impatient: Service, agent: Person, history: History) -> None:
        before = len(history.told)
        async with connected(impatient, agent.headers) as client:
            start = await present(client)
        await asyncio.to_thread(history.write, ROUNDS)
        with closing(await asyncio.to_thread(Crowd, impatient, agent, since=start)) as crowd:
            async with websocket(impatient, agent, since=start) as healthy, growing_little(impatient):
                assert await receive(healthy) == {"type": "ready", "cursor": start}
                told, received = await asyncio.gather(heard(healthy, ROUNDS), asyncio.to_thread(crowd.farewell))

            assert told == history.told[before:]
            check_told(received, told, is_in_time=True)
        assert "Traceback" not in impatient.output()
