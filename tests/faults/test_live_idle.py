"""Many sockets on which nothing happens, and clients that have vanished without a word."""

import asyncio
import resource
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection

from app.accounts.roles import Role
from app.realtime.hub import MAX_STREAMS_PER_USER
from app.realtime.protocol import CloseCode
from tests.faults.deaf import CLOSE, PING, Deaf
from tests.faults.live import receive, websocket
from tests.services import PATIENCE_S, Mongod, Person, Rows, Service, person, running, until

WARM_UP = 200
# Thousands were tried, too.
SOCKETS = 400
MAX_BYTES_EACH = 40 * 1024
AT_ONCE = 20
OPEN_SOCKETS = 'event_streams{door="websocket"}'
# How often they are asked, and how long they have to answer: a healthy one on a busy machine, too.
PING_S, PONG_S = 0.5, 3.0


@pytest.fixture
def many_files() -> Iterator[None]:
    """Hundreds of sockets need as many files in either process, which some systems allow only if asked."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def pinging(mongod: Mongod, rows: Rows, tmp_path: Path) -> Iterator[Service]:
    """The service, asking more often whether its clients live."""
    service = Service(mongod.uri(rows.name), tmp_path / "service.log")
    service.arguments += ["--ws-ping-interval", str(PING_S), "--ws-ping-timeout", str(PONG_S)]
    with running(service):
        yield service


async def memory_with(service: Service, people: list[Person]) -> int:
    """What the process has in memory while each of these has a socket open, and nothing happens."""
    few = asyncio.Semaphore(AT_ONCE)

    async def opened(who: Person) -> ClientConnection:
        async with few:
            connection = await websocket(service, who)
            assert (await receive(connection))["type"] == "ready"
            return connection

    connections = await asyncio.gather(*map(opened, people))
    assert service.metric(OPEN_SOCKETS) == len(people)
    memory = await settled(service)
    await asyncio.gather(*(connection.close() for connection in connections))
    await until(lambda: service.metric(OPEN_SOCKETS) == 0)
    return memory


async def settled(service: Service) -> int:
    """What the process has in memory once that does not change any more."""
    before = 0
    async with asyncio.timeout(PATIENCE_S):
        while before != (memory := service.memory()):
            before = memory
            await asyncio.sleep(0.5)
    return memory


class TestIdleSockets:
    async def test_cost_little(self, many_files: None, service: Service, rows: Rows) -> None:
        people = [person(rows, Role.AGENT) for _ in range(SOCKETS // MAX_STREAMS_PER_USER)] * MAX_STREAMS_PER_USER
        await memory_with(service, people[:WARM_UP])
        before = await settled(service)

        each = (await memory_with(service, people) - before) / SOCKETS

        assert each <= MAX_BYTES_EACH, f"{each:,.0f} bytes each"


class TestVanishedClients:
    async def test_lose_their_places_and_others_keep_theirs(self, pinging: Service, rows: Rows) -> None:
        who, other = person(rows, Role.AGENT), person(rows, Role.AGENT)
        async with websocket(pinging, other) as connection:
            await receive(connection)
            with ExitStack() as stack:
                vanished = [
                    stack.enter_context(closing(await asyncio.to_thread(Deaf.websocket, pinging, who)))
                    for _ in range(MAX_STREAMS_PER_USER)
                ]

                await until(lambda: pinging.metric(OPEN_SOCKETS) == 1)

                assert not any(one.is_held() for one in vanished)
                for one in vanished:
                    (_, ready), *rest, (opcode, reason) = one.messages()
                    assert b'"ready"' in ready
                    assert {opcode for opcode, _ in rest} == {PING}
                    assert (opcode, int.from_bytes(reason[:2])) == (CLOSE, CloseCode.FAULT)
            assert connection.close_code is None
