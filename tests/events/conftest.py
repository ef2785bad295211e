"""Consumers that leave nothing behind."""

from collections.abc import AsyncIterator

import pytest

from tests.conftest import Started
from tests.events.consuming import Consumers, effects


@pytest.fixture
async def consumers(app: Started, database: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Consumers]:
    """None is left after the test, and nothing of their work is there before it."""
    monkeypatch.setattr("app.events.consume.ASK_S", 0.02)
    monkeypatch.setattr("app.events.consume.PACE_S", 0.01)
    await effects().drop()
    await effects().database.create_collection(effects().name)
    consumers = Consumers(app.state["events"], app.state["follower"])
    yield consumers
    await consumers.end()
