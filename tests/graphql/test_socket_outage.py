"""What the WebSocket at /graphql says while the database fails, and afterwards."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from app.accounts.roles import Role
from app.accounts.tokens import derive_key
from app.events.cursor import Cursors, LogPosition
from tests.factories.events import event_row
from tests.graphql.conversation import PATH, PROTOCOL, Conversation
from tests.graphql.following import FOLLOW
from tests.live import Frame, Socket
from tests.services import SECRET, Mongod, Person, Rows, Service, person

DATABASE = "socket"
# HostUnreachable, as a router or a member of the set says it.
UNREACHABLE = 6
UNAVAILABLE = ("error", {"database_unavailable"})
ACK = {"type": "connection_ack"}
WATCHED = FOLLOW.replace("version", "title watchers { username }")
TITLES = ["One", "Two", "Three"]


@pytest.fixture
def mongod(tmp_path: Path) -> Iterator[Mongod]:
    mongod = Mongod(tmp_path / "data")
    try:
        mongod.start()
        yield mongod
    finally:
        mongod.close()


@pytest.fixture
def rows(mongod: Mongod) -> Rows:
    return mongod.client[DATABASE]


@pytest.fixture
def agent(rows: Rows) -> Person:
    return person(rows, Role.AGENT)


@pytest.fixture
def past(rows: Rows, agent: Person) -> str:
    """A cursor with three events behind it, of all of which a service that starts now has nothing at hand."""
    rows.create_collection("events")
    [log] = rows.list_collections(filter={"name": "events"})
    with rows.events.watch() as stream:
        assert stream.resume_token is not None
        position = LogPosition(bytes.fromhex(stream.resume_token["_data"]), None)
    for title in TITLES:
        log_event(rows, agent, title)
    return Cursors(derive_key(SECRET, "event-cursor")).encode(UUID(bytes=bytes(log["info"]["uuid"])), position)


@pytest.fixture
def service(mongod: Mongod, past: str, tmp_path: Path) -> Iterator[Service]:
    service = Service(mongod.uri(DATABASE), tmp_path / "service.log")
    try:
        service.start()
        yield service
    finally:
        service.kill()


@asynccontextmanager
async def greeted(service: Service, agent: Person) -> AsyncIterator[Conversation]:
    address = f"ws://127.0.0.1:{service.port}{PATH}"
    async with connect(
        address, subprotocols=[Subprotocol(PROTOCOL)], additional_headers=agent.headers, proxy=None
    ) as connection:
        conversation = Conversation(Socket(connection))
        await conversation.send({"type": "connection_init"})
        yield conversation


async def test_is_told_of_and_leaves_no_gap(
    service: Service, mongod: Mongod, rows: Rows, agent: Person, past: str
) -> None:
    with mongod.failing(["aggregate"], errorCode=UNREACHABLE):
        async with greeted(service, agent) as early:
            assert await early.closing() == (1013, "The database can't be reached at the moment")

    async with greeted(service, agent) as conversation:
        assert await conversation.frame() == ACK

        # The look at the cursor, and the reading of the log.
        for command in ("find", "aggregate"):
            with mongod.failing([command], errorCode=UNREACHABLE):
                await conversation.subscribe(WATCHED, since=past)
                assert codes(await conversation.frame()) == UNAVAILABLE
        await conversation.subscribe(WATCHED, since=past)
        events = await conversation.events(3)
        assert [event["ticket"]["title"] for event in events] == TITLES

        # The reading of watchers, who can't be null: another event's cursor would lead past this one.
        with mongod.failing(["find"], errorCode=UNREACHABLE):
            log_event(rows, agent, "Four")
            assert codes(await conversation.frame()) == UNAVAILABLE
        log_event(rows, agent, "Five")
        await conversation.subscribe(WATCHED, since=events[-1]["cursor"])
        assert [event["ticket"]["title"] for event in await conversation.events(2)] == ["Four", "Five"]
    assert "Traceback" not in service.output()


def codes(frame: Frame) -> tuple[str, set[str]]:
    """Of a refusal."""
    return frame["type"], {error["extensions"]["code"] for error in frame["payload"]}


def log_event(rows: Rows, agent: Person, title: str) -> None:
    rows.events.insert_one(event_row(version=1, title=title, watchers=[agent.id]))
