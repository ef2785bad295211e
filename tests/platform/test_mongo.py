"""Transactions, and the building of indexes on databases that somebody else has filled."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bson import ObjectId
from httpx import AsyncClient
from prometheus_client import REGISTRY
from pymongo import AsyncMongoClient, IndexModel
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import AutoReconnect, DuplicateKeyError, OperationFailure

from app.accounts.documents import User
from app.platform import mongo
from app.platform.mongo import _build_indexes, at_one_instant, collection_of, connect, ping, transaction
from app.platform.wire import Row
from tests.conftest import SECRET
from tests.factories.accounts import PASSWORD
from tests.platform.server_process import ServerProcess

INDEXES = [IndexModel("username", name="username_1", unique=True), IndexModel("name", name="by_name")]


def retries() -> float:
    return REGISTRY.get_sample_value("database_transaction_retries_total") or 0


@pytest.fixture
def old_uri(mongodb_uri: str) -> str:
    """Another database on the same server, as the original service might have left it."""
    head, _, tail = mongodb_uri.rpartition("/")
    return f"{head}/old_{tail}"


@pytest.fixture
async def old_database(old_uri: str) -> AsyncIterator[AsyncDatabase[Row]]:
    client: AsyncMongoClient[Row] = AsyncMongoClient(old_uri, tz_aware=True)
    database = client.get_default_database()
    await client.drop_database(database.name)
    yield database
    await client.drop_database(database.name)
    await client.close()


def old_user(username: str, **fields: Any) -> Row:
    return {"_id": ObjectId(), "username": username, "password": "$2a$", "role": "Customer", "__v": 0, **fields}


@pytest.mark.usefixtures("database")
class TestTransaction:
    async def test_answers_what_the_body_returns(self) -> None:
        async def body(session: AsyncClientSession) -> str:
            await collection_of(User).insert_one({"username": "a"}, session=session)
            return "done"

        assert await transaction(User, body) == "done"
        assert await collection_of(User).count_documents({}) == 1

    @pytest.mark.parametrize("error", [RuntimeError, DuplicateKeyError("x"), asyncio.CancelledError, SystemExit])
    async def test_any_exception_undoes_everything(self, error: Any) -> None:
        calls = 0

        async def body(session: AsyncClientSession) -> None:
            nonlocal calls
            calls += 1
            await collection_of(User).insert_one({"username": "a"}, session=session)
            raise error

        with pytest.raises(error if isinstance(error, type) else type(error)):
            await transaction(User, body)

        assert calls == 1
        assert await collection_of(User).count_documents({}) == 0

    async def test_a_write_conflict_is_tried_again(self) -> None:
        users = collection_of(User)
        await users.insert_one({"username": "counter", "value": 0})
        before = retries()
        calls = 0

        async def body(session: AsyncClientSession) -> None:
            nonlocal calls
            calls += 1
            row = await users.find_one({"username": "counter"}, session=session)
            assert row is not None
            if calls == 1:
                await users.update_one({"username": "counter"}, {"$inc": {"value": 10}})
            await users.update_one({"username": "counter"}, {"$set": {"value": row["value"] + 1}}, session=session)

        await transaction(User, body)

        stored = await users.find_one({"username": "counter"})
        assert stored is not None
        assert stored["value"] == 11
        assert calls == 2
        assert retries() == before + 1

    async def test_many_on_one_row_all_count(self) -> None:
        users = collection_of(User)
        await users.insert_one({"username": "counter", "value": 0})

        async def body(session: AsyncClientSession) -> None:
            row = await users.find_one({"username": "counter"}, session=session)
            assert row is not None
            await users.update_one({"username": "counter"}, {"$set": {"value": row["value"] + 1}}, session=session)

        await asyncio.gather(*(transaction(User, body) for _ in range(10)))

        stored = await users.find_one({"username": "counter"})
        assert stored is not None
        assert stored["value"] == 10

    async def test_reads_see_one_moment(self) -> None:
        users = collection_of(User)

        async def body(session: AsyncClientSession) -> tuple[int, int]:
            first = await users.count_documents({}, session=session)
            await users.insert_one({"username": "meanwhile"})
            return first, await users.count_documents({}, session=session)

        assert await transaction(User, body) == (0, 0)

    async def test_rows_are_free_again_when_the_server_did_not_hear_that_it_was_given_up(
        self, monkeypatch: pytest.MonkeyPatch, mongodb_uri: str
    ) -> None:
        users = collection_of(User)
        await users.insert_one({"username": "held"})
        monkeypatch.setattr(mongo, "TRANSACTION_S", 0)

        async def get_lost() -> None:
            raise AutoReconnect

        async def body(session: AsyncClientSession) -> None:
            await users.update_one({"username": "held"}, {"$set": {"name": "theirs"}}, session=session)
            monkeypatch.setattr(session, "abort_transaction", get_lost)
            raise AutoReconnect

        with pytest.raises(AutoReconnect):
            await transaction(User, body)

        # Waits for whoever holds the row; another client, because this one's next command would take the session over.
        other: AsyncMongoClient[Row]
        async with AsyncMongoClient(mongodb_uri) as other:
            theirs: AsyncCollection[Row] = other.get_default_database()[users.name]
            await asyncio.wait_for(theirs.update_one({"username": "held"}, {"$set": {"name": "ours"}}), 10)
        row = await users.find_one({"username": "held"})
        assert row is not None
        assert row["name"] == "ours"

    async def test_an_error_that_would_come_again_is_not_tried_again(self) -> None:
        calls = 0

        async def body(session: AsyncClientSession) -> None:
            nonlocal calls
            calls += 1
            await collection_of(User).update_one({}, {"$nonsense": {}}, session=session)

        with pytest.raises(OperationFailure):
            await transaction(User, body)

        assert calls == 1


@pytest.mark.usefixtures("database")
class TestAtOneInstant:
    async def test_reads_see_one_moment(self) -> None:
        users = collection_of(User)
        await users.insert_one({"username": "before"})

        async def body(session: AsyncClientSession) -> tuple[int, int]:
            first = await users.count_documents({}, session=session)
            await users.insert_one({"username": "meanwhile"})
            return first, await users.count_documents({}, session=session)

        assert await at_one_instant(User, body) == (1, 1)
        assert await users.count_documents({}) == 2

    async def test_an_instant_before_a_collection_was_made_is_given_up(self) -> None:
        users = collection_of(User)
        made = users.database["made_meanwhile"]
        calls = 0

        async def body(session: AsyncClientSession) -> int:
            nonlocal calls
            calls += 1
            await users.count_documents({}, session=session)
            if calls == 1:
                await made.insert_one({})
            return await made.count_documents({}, session=session)

        try:
            assert await at_one_instant(User, body) == 1
        finally:
            await made.drop()
        assert calls > 1

    async def test_an_error_that_would_come_again_is_not_tried_again(self) -> None:
        calls = 0

        async def body(session: AsyncClientSession) -> None:
            nonlocal calls
            calls += 1
            await collection_of(User).find_one({"$nonsense": 1}, session=session)

        with pytest.raises(OperationFailure):
            await at_one_instant(User, body)

        assert calls == 1


class TestBuildIndexes:
    async def test_builds_what_is_missing_and_again_nothing(self, old_database: AsyncDatabase[Row]) -> None:
        await _build_indexes(old_database["users"], INDEXES)
        await _build_indexes(old_database["users"], INDEXES)

        assert set(await old_database["users"].index_information()) == {"_id_", "username_1", "by_name"}

    @pytest.mark.parametrize("options", [{"unique": False}, {"name": "another_name", "unique": True}, {"sparse": True}])
    async def test_an_index_in_the_way_stays_and_the_others_come(
        self, old_database: AsyncDatabase[Row], caplog: pytest.LogCaptureFixture, options: dict[str, Any]
    ) -> None:
        name = await old_database["users"].create_index("username", **options)

        await _build_indexes(old_database["users"], INDEXES)

        assert set(await old_database["users"].index_information()) == {"_id_", name, "by_name"}
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert vars(caplog.records[0])["index"] == "username_1"

    async def test_duplicates_are_said_and_not_fatal(
        self, old_database: AsyncDatabase[Row], caplog: pytest.LogCaptureFixture
    ) -> None:
        await old_database["users"].insert_many([old_user("bob"), old_user("bob")])

        await _build_indexes(old_database["users"], INDEXES)

        assert set(await old_database["users"].index_information()) == {"_id_", "by_name"}
        assert [record.message for record in caplog.records] == ["duplicates prevent a unique index"]
        assert await old_database["users"].count_documents({}) == 2

    async def test_another_failure_is_fatal(self, old_database: AsyncDatabase[Row]) -> None:
        with pytest.raises(OperationFailure):
            await _build_indexes(old_database["users"], [IndexModel([("a", 1)], name="a", weights={"b": 1})])


class TestConnect:
    async def test_takes_the_database_of_the_uri_or_mongooses(self) -> None:
        named = connect("mongodb://127.0.0.1:1/helpdesk?replicaSet=rs0")
        unnamed = connect("mongodb://127.0.0.1:1/?replicaSet=rs0")

        assert (named.name, unnamed.name) == ("helpdesk", "test")
        for database in (named, unnamed):
            await database.client.close()

    async def test_ping_says_whether_it_is_there(self, mongodb_uri: str) -> None:
        there, nowhere = connect(mongodb_uri), connect("mongodb://127.0.0.1:1/x?replicaSet=rs0")

        assert await ping(there)
        assert not await ping(nowhere)
        assert await ping(there)
        for database in (there, nowhere):
            await database.client.close()


class TestStart:
    async def test_on_an_old_database_with_duplicates_and_other_indexes(
        self, old_database: AsyncDatabase[Row], old_uri: str
    ) -> None:
        users, tickets = old_database["users"], old_database["tickets"]
        await users.insert_many(
            [old_user("bob"), old_user("bob"), old_user("Bob"), {"_id": ObjectId(), "username": "x"}]
        )
        await users.create_index("role")
        await users.create_index("usernameKey", sparse=True)
        await tickets.insert_one({"title": "Old", "description": "d", "status": "Open", "priority": "Low", "__v": 0})
        await tickets.create_index("status")

        async with (
            ServerProcess(old_uri, SECRET, LOG_LEVEL="INFO", ADMIN_USERNAME="boss", ADMIN_PASSWORD=PASSWORD) as server,
            AsyncClient(base_url=server.url) as client,
        ):
            ready = await client.get("/readyz")
            login = await client.post("/api/login", json={"username": "boss", "password": PASSWORD})
            headers = {"Authorization": f"Bearer {login.json()['token']}"}
            listed = await client.get("/api/users", headers=headers)
            old_ticket = await client.get("/api/tickets", headers=headers)

        text = server.rest()
        assert (ready.status_code, login.status_code) == (200, 200)
        assert [item["username"] for item in listed.json()["items"]] == ["boss", "x", "Bob", "bob", "bob"]
        assert [item["title"] for item in old_ticket.json()["items"]] == ["Old"]
        assert text.count("duplicates prevent a unique index") == 1
        assert '"level":"ERROR"' not in text
