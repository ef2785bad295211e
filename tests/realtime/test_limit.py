"""A user has 20 streams at most, by both doors together; nobody else notices."""

import asyncio

import orjson
import pytest
from websockets.exceptions import ConnectionClosed

from app.platform.metrics import STREAMS
from app.realtime.hub import MAX_STREAMS_PER_USER
from tests.callers import Caller, Callers
from tests.factories.accounts import add_session, add_user
from tests.factories.events import add_event
from tests.factories.tickets import open_ticket
from tests.live import Live, Socket, eventually
from tests.realtime.conftest import RING
from tests.realtime.doors import DOORS, Door, Source, events_of, listening
from tests.realtime.polling import present

TOO_MANY = (4429, "Too many streams of one user")
# WebSockets and event streams.
MIXTURES = [(20, 0), (0, 20), (10, 10)]


def streams_open() -> float:
    """As the metrics tell it."""
    return sum(sample.value for metric in STREAMS.collect() for sample in metric.samples)


async def refused(live: Live, token: str) -> None:
    """Neither door lets the user in."""
    assert await (await live.connect(token)).closing() == TOO_MANY
    answer = (await live.stream(token)).response
    assert (answer.status_code, orjson.loads(await answer.aread())["code"]) == (429, "too_many_requests")
    assert answer.headers["Retry-After"] == "5"


@pytest.fixture
async def full(live: Live, customer: Caller, request: pytest.FixtureRequest) -> list[Source]:
    """All the streams that the customer may have."""
    assert MAX_STREAMS_PER_USER == 20
    sockets, streams = getattr(request, "param", MIXTURES[2])
    doors: list[Door] = [Live.connect] * sockets + [Live.stream] * streams
    return [await listening(door, live, customer.token) for door in doors]


@pytest.mark.parametrize("full", MIXTURES, indirect=True)
class TestOneMore:
    async def test_is_refused_and_the_others_go_on(self, live: Live, full: list[Source], callers: Callers) -> None:
        await refused(live, callers.customer.token)

        ticket = await open_ticket(callers.customer)
        events = events_of(await asyncio.gather(*(source.frame() for source in full)))
        assert [event["ticketId"] for event in events] == [ticket["id"]] * 20

    async def test_of_another_user_is_let_in(self, live: Live, full: list[Source], callers: Callers) -> None:
        for door in DOORS.values():
            await listening(door, live, callers.other_customer.token)

    async def test_of_another_session_is_refused(self, live: Live, full: list[Source], customer: Caller) -> None:
        _, token = await add_session({"_id": customer.actor.id, "username": "customer"})

        await refused(live, token)


class TestAPlace:
    @pytest.mark.parametrize("which", [0, -1])
    async def test_is_free_again_when_its_client_has_left(
        self, live: Live, full: list[Source], customer: Caller, which: int
    ) -> None:
        before = streams_open()

        await full[which].leave()

        await eventually(lambda: streams_open() == before - 1)
        await listening(Live.connect, live, customer.token)
        await refused(live, customer.token)

    async def test_is_free_again_when_its_connection_broke(
        self, live: Live, full: list[Source], customer: Caller
    ) -> None:
        before = streams_open()
        [lost, *_] = full
        assert isinstance(lost, Socket)

        lost.break_off()

        await eventually(lambda: streams_open() == before - 1)
        await listening(Live.connect, live, customer.token)
        await refused(live, customer.token)

    @pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
    async def test_is_free_again_when_its_client_leaves_in_the_middle_of_a_replay(
        self, live: Live, agent: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After each number of steps; the driver leaves a socket to the collector when it is interrupted."""
        monkeypatch.setattr("app.realtime.ring.MAX_EVENTS", RING)
        monkeypatch.setattr("app.realtime.feed.SCAN", 1)
        start = await present(agent)
        for _ in range(10 * RING):
            await add_event()
        before = streams_open()

        for steps in range(60):
            stream = await live.stream(agent.token, {"since": start})
            for _ in range(steps):
                await asyncio.sleep(0)
            await stream.leave()
            await eventually(lambda: streams_open() == before)

    async def test_is_free_again_when_the_service_has_ended_it(
        self, live: Live, full: list[Source], customer: Caller
    ) -> None:
        before = streams_open()
        [ended, *_] = full
        assert isinstance(ended, Socket)

        await ended.connection.send("nonsense")

        assert (await ended.closing())[0] == 4400
        await eventually(lambda: streams_open() == before - 1)
        await listening(Live.connect, live, customer.token)
        await refused(live, customer.token)

    async def test_is_not_taken_by_who_is_refused_or_has_not_said_who_it_is(self, live: Live) -> None:
        user = await add_user()
        _, token_of_over = await add_session({**user, "passwordVersion": 1})
        _, token = await add_session(user)
        for _ in range(25):
            await live.connect()
            assert (await (await live.connect(token_of_over)).closing())[0] == 4401
            assert (await live.stream(token_of_over)).response.status_code == 403
            assert (await live.stream(token, {"types": "x"})).response.status_code == 422
            assert (await live.stream(token, method="HEAD")).response.status_code == 200

        for _ in range(20):
            await listening(Live.connect, live, token)
        await refused(live, token)

    async def test_is_not_given_twice_when_many_come_at_once(self, live: Live, customer: Caller) -> None:
        sockets = await asyncio.gather(*(live.connect(customer.token) for _ in range(30)))

        async def is_in(socket: Socket) -> bool:
            try:
                frame = await socket.frame()
            except ConnectionClosed:
                assert await socket.closing() == TOO_MANY
                return False
            assert frame["type"] == "ready"
            return True

        assert sum(await asyncio.gather(*map(is_in, sockets))) == 20
