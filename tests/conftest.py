"""One mongod per run, one database per worker, the whole application in process, callers of every kind."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from bson import ObjectId
from fastapi import FastAPI
from httpx import AsyncClient
from pymongo import monitoring
from pymongo.asynchronous.collection import AsyncCollection
from starlette.types import ASGIApp, Receive, Scope, Send

SECRET = "a secret of the tests, long enough for anybody"
os.environ["JWT_SECRET"] = SECRET
# Tests ask, and fail, more than anybody may; those of the limits switch them on for themselves.
os.environ["RATE_LIMITS"] = "off"
os.environ.setdefault("MONGODB_URI", "mongodb://127.0.0.1:1/nowhere?replicaSet=rs0")

from app.accounts import passwords
from app.events.follow import AWAIT_MS
from app.lifespan import DOCUMENTS, renderer_of
from app.main import create_app
from app.platform.embedded import EmbeddedMongod
from app.platform.mongo import collection_of
from app.platform.sequence import AHEAD
from app.platform.wire import Row
from app.realtime.hub import Hub
from app.settings import Settings
from tests.callers import Caller, Callers
from tests.factories.events import add_event
from tests.live import DEADLINE_S, Live, LiveServer, eventually
from tests.mailbox import Mailbox


class CommandNames(monitoring.CommandListener):
    """Keeps the names of the commands that go to the database; handshakes and the like are none."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        # The event stream's question for news, which it asks once a second whatever else happens.
        if event.command_name != "getMore" or event.command.get("maxTimeMS") != AWAIT_MS:
            self.names.append(event.command_name)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


# How long an example takes is the machine's business.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")

# Before the first client is made, since a client takes only the listeners that it finds.
COMMANDS = CommandNames()
monitoring.register(COMMANDS)

# Much longer than an event is on its way.
MOMENT_S = 0.5
ALLOWED_ORIGIN = "https://app.example.com"
# What the service hashes passwords with, and what it does here: it takes a millisecond instead of a quarter second.
COSTLY = {"ROUNDS": passwords.ROUNDS, "_NOBODY": passwords._NOBODY}
QUICK = {"ROUNDS": 4, "_NOBODY": b"$2b$04$N/negI3OCz5dXzBbZnUjyewIKXs.kCvEdBiDmmgkv7FChUOERzaiG"}
URI_VARIABLE = "TEST_MONGODB_URI"
RUN = pytest.StashKey[tuple[EmbeddedMongod, tempfile.TemporaryDirectory[str]]]()


def pytest_configure(config: pytest.Config) -> None:
    """The run's controller starts mongod before its workers are born; they find it by the environment."""
    if URI_VARIABLE in os.environ or config.option.collectonly:
        return
    directory = tempfile.TemporaryDirectory(prefix="ticketing-tests-")
    mongod = EmbeddedMongod(Path(directory.name))
    mongod.start()
    config.stash[RUN] = (mongod, directory)
    # A test that blocks the event loop for seconds (a browser, a subprocess) would break the streamed heartbeat.
    os.environ[URI_VARIABLE] = mongod.uri("{database}") + "&serverMonitoringMode=poll"


def pytest_unconfigure(config: pytest.Config) -> None:
    if RUN in config.stash:
        mongod, directory = config.stash[RUN]
        mongod.stop()
        directory.cleanup()


@pytest.fixture(scope="session", autouse=True)
def _quick_passwords() -> Iterator[None]:
    """Unless a test asks for `costly_passwords`: the hashes would take longer than all else that is tested."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in QUICK.items():
            patch.setattr(passwords, name, value)
        yield


@pytest.fixture
def costly_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take as long as in the service, for tests of just that and of what happens meanwhile."""
    for name, value in COSTLY.items():
        monkeypatch.setattr(passwords, name, value)


@pytest.fixture(scope="session")
def mongodb_uri() -> str:
    """This worker's own database on the run's mongod."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    return os.environ[URI_VARIABLE].format(database=f"test_{worker}")


@pytest.fixture(scope="session")
def mail_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mail")


@pytest.fixture(scope="session")
def settings(mongodb_uri: str, mail_dir: Path) -> Settings:
    return Settings(
        mongodb_uri=mongodb_uri,
        jwt_secret=SECRET,
        metrics_token="metrics",
        allowed_origins=(ALLOWED_ORIGIN,),
        mail_dir=mail_dir,
        log_level="WARNING",
    )


class Started:
    """A running application, and what its lifespan made for its requests."""

    def __init__(self, app: ASGIApp, state: Mapping[str, Any]) -> None:
        self._app = app
        self.state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "state": dict(self.state)}, receive, send)


@pytest.fixture(scope="session")
async def app(settings: Settings) -> AsyncIterator[Started]:
    """The application, started, on this worker's database; what its jobs would do, tests do when it is time."""
    async with running(create_app(settings, has_jobs=False)) as started:
        yield started


class running:  # noqa: N801 - reads as a phrase: `async with running(app)`
    """Runs an application's lifespan and hands its state to each request, as a server would.

    One per process: starting another binds the document models to its client, and stopping it closes that.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._lifespan = app.router.lifespan_context(app)

    async def __aenter__(self) -> Started:
        return Started(self._app, await self._lifespan.__aenter__() or {})

    async def __aexit__(self, *exception: object) -> None:
        await self._lifespan.__aexit__(None, None, None)


@pytest.fixture(scope="session")
async def live_server(app: Started) -> AsyncIterator[LiveServer]:
    """The same application behind a real server."""
    async with LiveServer(app) as server:
        yield server


@pytest.fixture(scope="session")
def hub(app: Started) -> Hub:
    found: Hub = app.state["hub"]
    return found


@pytest.fixture
async def live(live_server: LiveServer, hub: Hub, database: None) -> AsyncIterator[Live]:
    """Opens sockets and streams. What happened in earlier tests has been told when it begins."""
    await settle(hub)
    async with Live(live_server) as live:
        yield live


async def settle(hub: Hub) -> None:
    """Returns when all that is in the event log has been told. The log then has an event that cursors can refer to."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            is_told = partial(knows, hub, await add_event())
            # In vain if the log is just being found again, after a test of its loss.
            with suppress(TimeoutError):
                await eventually(is_told, MOMENT_S)
                return


def knows(hub: Hub, event_id: ObjectId) -> bool:
    return hub._past is not None and hub._past.ring.knows(event_id)


@pytest.fixture
async def database(app: ASGIApp) -> None:
    """An empty database with all indexes."""
    AHEAD.clear()
    first, *others = (collection_of(model) for model in DOCUMENTS)

    def name_of(collection: AsyncCollection[Row]) -> list[Row]:
        return [{"$limit": 1}, {"$project": {"_id": {"$literal": collection.name}}}]

    # One question, because asking each to be emptied would take most tests longer than all else.
    unions = [{"$unionWith": {"coll": other.name, "pipeline": name_of(other)}} for other in others]
    filled = await (await first.aggregate([*name_of(first), *unions])).to_list()
    await asyncio.gather(*(first.database[row["_id"]].delete_many({}) for row in filled))


@pytest.fixture
async def mailbox(app: Started, settings: Settings, mail_dir: Path) -> Mailbox:
    """Empty."""
    mailbox = Mailbox(app.state["mail"], renderer_of(settings, app.state["notification_key"]), mail_dir)
    await mailbox.clear()
    return mailbox


@pytest.fixture
async def callers(app: ASGIApp, database: None) -> AsyncIterator[Callers]:
    """Nobody, two customers, an agent and an admin, each signed in but nobody."""
    async with Callers(app) as people:
        yield people


@pytest.fixture
def nobody(callers: Callers) -> AsyncClient:
    return callers.nobody


@pytest.fixture
def customer(callers: Callers) -> Caller:
    return callers.customer


@pytest.fixture
def other_customer(callers: Callers) -> Caller:
    return callers.other_customer


@pytest.fixture
def agent(callers: Callers) -> Caller:
    return callers.agent


@pytest.fixture
def admin(callers: Callers) -> Caller:
    return callers.admin
