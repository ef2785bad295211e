"""One mongod per run, one database per worker, the whole application in process, callers of every kind."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from pymongo import monitoring
from starlette.types import ASGIApp, Receive, Scope, Send

SECRET = "a secret of the tests, long enough for anybody"
os.environ["JWT_SECRET"] = SECRET
os.environ.setdefault("MONGODB_URI", "mongodb://127.0.0.1:1/nowhere?replicaSet=rs0")

from app.events.follow import AWAIT_MS
from app.lifespan import DOCUMENTS
from app.main import create_app
from app.platform.embedded import EmbeddedMongod
from app.platform.mongo import collection_of
from app.settings import Settings
from tests.callers import Caller, Callers


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


# Before the first client is made, since a client takes only the listeners that it finds.
COMMANDS = CommandNames()
monitoring.register(COMMANDS)

ALLOWED_ORIGIN = "https://app.example.com"
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


@pytest.fixture(scope="session")
def mongodb_uri() -> str:
    """This worker's own database on the run's mongod."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    return os.environ[URI_VARIABLE].format(database=f"test_{worker}")


@pytest.fixture(scope="session")
def settings(mongodb_uri: str) -> Settings:
    return Settings(
        mongodb_uri=mongodb_uri,
        jwt_secret=SECRET,
        metrics_token="metrics",
        allowed_origins=(ALLOWED_ORIGIN,),
        log_level="WARNING",
    )


@pytest.fixture(scope="session")
async def app(settings: Settings) -> AsyncIterator[ASGIApp]:
    """The application, started, on this worker's database."""
    async with running(create_app(settings)) as started:
        yield started


class running:  # noqa: N801 - reads as a phrase: `async with running(app)`
    """Runs an application's lifespan and hands its state to each request, as a server would.

    One per process: starting another binds the document models to its client, and stopping it closes that.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._lifespan = app.router.lifespan_context(app)

    async def __aenter__(self) -> ASGIApp:
        state = await self._lifespan.__aenter__() or {}

        async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
            await self._app({**scope, "state": dict(state)}, receive, send)

        return with_state

    async def __aexit__(self, *exception: object) -> None:
        await self._lifespan.__aexit__(None, None, None)


@pytest.fixture
async def database(app: ASGIApp) -> None:
    """An empty database with all indexes."""
    await asyncio.gather(*(collection_of(model).delete_many({}) for model in DOCUMENTS))


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
