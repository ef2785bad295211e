"""Answers that are given again: only while nothing was written, whoever wrote it."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from bson import ObjectId
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.errors import ConnectionFailure

from app.accounts.documents import User
from app.platform.mongo import collection_of
from app.platform.sharing import SharedReads

pytestmark = pytest.mark.usefixtures("database")


class Reader:
    """Counts the users, and how often it was asked to."""

    def __init__(self) -> None:
        self.readings = 0
        self.reads: SharedReads[int] = SharedReads(size_of=lambda _: 1, capacity=100)

    async def read(self) -> int:
        self.readings += 1
        return await collection_of(User).count_documents({})

    async def ask(self, key: str = "users") -> int:
        return await self.reads.share(key, self.read)

    async def ask_in_company(self, times: int = 1) -> list[int]:
        """Beside somebody who asks something else all the time, so that nobody is alone."""
        gate = asyncio.Event()
        company = asyncio.create_task(self.reads.share("company", partial(self._wait, gate)))
        await asyncio.sleep(0)
        try:
            return [await self.ask() for _ in range(times)]
        finally:
            gate.set()
            await company

    async def _wait(self, gate: asyncio.Event) -> int:
        await gate.wait()
        return 0


@pytest.fixture
def reader() -> Reader:
    return Reader()


async def add_user() -> None:
    await collection_of(User).insert_one({"_id": ObjectId(), "username": str(ObjectId())})


class TestSharedReads:
    async def test_who_is_alone_always_reads(self, reader: Reader) -> None:
        assert [await reader.ask() for _ in range(3)] == [0, 0, 0]
        assert reader.readings == 3

    async def test_an_answer_is_given_again_while_nothing_is_written(self, reader: Reader) -> None:
        # Others write to the same server while the tests run, so not every time.
        for rounds in range(1, 50):
            assert await reader.ask_in_company(5) == [0] * 5
            if reader.readings < rounds * 5 - 1:
                return
        pytest.fail("no answer was ever given again")

    @pytest.mark.parametrize("by", ["this process", "another program"])
    async def test_never_after_a_write_whoever_made_it(self, reader: Reader, by: str, mongodb_uri: str) -> None:
        users = collection_of(User)
        other: AsyncMongoClient[Any]
        async with AsyncMongoClient(mongodb_uri) as other:
            writer = users if by == "this process" else other.get_default_database()[users.name]
            for number in range(20):
                assert await reader.ask_in_company(3) == [number] * 3
                await writer.insert_one({"_id": ObjectId(), "username": str(number)})

    async def test_a_write_that_is_acknowledged_is_in_every_answer_that_is_asked_for_after_it(
        self, reader: Reader
    ) -> None:
        acknowledged = 0
        is_over = False

        async def write() -> None:
            nonlocal acknowledged, is_over
            for _ in range(60):
                await add_user()
                acknowledged += 1
            is_over = True

        async def look() -> None:
            while not is_over:
                known = acknowledged
                assert await reader.ask() >= known

        await asyncio.gather(write(), *(look() for _ in range(8)))
        assert await reader.ask() == 60

    async def test_no_word_is_taken_while_an_earlier_write_may_be_on_its_way(self, reader: Reader) -> None:
        """The majority, which no write is before whose predecessors are not done, lacks the last one for a moment."""
        users = collection_of(User).with_options(write_concern=WriteConcern(w=1, j=False))
        database, behind = users.database, 0
        for _ in range(200):
            await users.insert_one({"_id": ObjectId(), "username": str(ObjectId())})
            before = (await database.command("hello"))["lastWrite"]
            (word,) = await reader.reads._ask([None])
            after = (await database.command("hello"))["lastWrite"]
            if after["majorityOpTime"]["ts"] < before["opTime"]["ts"]:
                assert word is None
                behind += 1
            if before == after and after["opTime"] == after["majorityOpTime"]:
                assert word == after["opTime"]
        assert behind

    async def test_what_is_asked_for_once_is_not_kept(self, reader: Reader) -> None:
        await asyncio.gather(*(reader.ask(str(number)) for number in range(50)))

        assert reader.readings == 50
        assert reader.reads._kept.get("7") is None

    async def test_reads_by_itself_where_the_server_does_not_say_when_it_wrote(
        self, reader: Reader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        replies: list[Callable[[], Awaitable[dict[str, object]]]] = []

        async def command(_database: object, _name: str) -> dict[str, object]:
            replies.append(command)  # type: ignore[arg-type]
            if len(replies) % 2:
                raise ConnectionFailure
            return {"isWritablePrimary": True}

        monkeypatch.setattr("pymongo.asynchronous.database.AsyncDatabase.command", command)

        assert await reader.ask_in_company(6) == [0] * 6
        assert reader.readings == 6
        assert len(replies) == 5

    async def test_reads_by_itself_where_secondaries_are_read(
        self, reader: Reader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        preference = property(lambda _: ReadPreference.SECONDARY_PREFERRED)
        monkeypatch.setattr("pymongo.asynchronous.database.AsyncDatabase.read_preference", preference)

        assert await reader.ask_in_company(4) == [0] * 4
        assert reader.readings == 4
