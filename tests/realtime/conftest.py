"""What all tests of the live doors have in common: both doors, and that nothing breaks behind the scenes."""

import logging
from collections.abc import Awaitable, Callable, Iterator

import pytest

from app.realtime.hub import Hub
from tests.conftest import settle
from tests.factories.events import add_event
from tests.realtime.doors import DOORS, Door

# So little is remembered where a test wants little to be.
RING = 4


@pytest.fixture(autouse=True)
def no_faults(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A fault of ours is logged, and the client may not notice it."""
    yield
    assert [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR] == []


@pytest.fixture(params=list(DOORS))
def door(request: pytest.FixtureRequest) -> Door:
    """Each kind of stream in turn."""
    return DOORS[request.param]


Forget = Callable[[], Awaitable[None]]


@pytest.fixture(params=["ring", "log"])
def forget(request: pytest.FixtureRequest, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Forget:
    """Makes sure that what has happened is replayed from memory, or from the database; each in turn."""

    async def forget() -> None:
        if request.param == "log":
            monkeypatch.setattr("app.realtime.ring.MAX_EVENTS", RING)
            for _ in range(RING + 1):
                await add_event()
        await settle(hub)

    return forget
