"""All of a change's rows together, or none of them."""

import asyncio

import pytest
from bson import ObjectId
from pymongo.errors import DuplicateKeyError

from app.accounts.documents import Session, User
from app.platform.commit import Insert, StaleWrite, Update, commit
from app.platform.mongo import collection_of
from app.platform.wire import Row

pytestmark = pytest.mark.usefixtures("database")


async def add(name: str) -> ObjectId:
    row: Row = {"_id": ObjectId(), "username": name, "version": 1}
    await collection_of(User).insert_one(row)
    return ObjectId(row["_id"])


def change(user_id: ObjectId, version: int = 1, **fields: object) -> Update:
    return Update(User, {"_id": user_id, "version": version}, {"$set": fields, "$inc": {"version": 1}})


def session_row(user_id: ObjectId) -> Insert:
    return Insert(Session, {"_id": ObjectId(), "userId": user_id})


async def state() -> tuple[list[Row], list[Row]]:
    users = await collection_of(User).find().sort("_id", 1).to_list()
    return users, await collection_of(Session).find().sort("_id", 1).to_list()


class TestCommit:
    async def test_writes_updates_and_inserts_of_several_kinds(self) -> None:
        first, second = await add("first"), await add("second")
        third: Row = {"_id": ObjectId(), "username": "third"}
        writes: list[Insert | Update] = [session_row(first), change(first, name="1")]
        writes += [Insert(User, third), change(second, name="2")]

        assert await commit(writes, result="done") == "done"

        users, sessions = await state()
        assert [row.get("name") for row in users] == ["1", "2", None]
        assert [row.get("version") for row in users] == [2, 2, None]
        assert [row["userId"] for row in sessions] == [first]

    async def test_does_nothing_when_there_is_nothing_to_do(self) -> None:
        assert await commit([], result="nothing") == "nothing"

        assert await state() == ([], [])

    @pytest.mark.parametrize("stale_at", [0, 1])
    async def test_one_stale_row_stops_everything(self, stale_at: int) -> None:
        ids = [await add("first"), await add("second")]
        before = await state()
        updates = [change(user_id, version=9 if at == stale_at else 1, name="x") for at, user_id in enumerate(ids)]

        with pytest.raises(StaleWrite):
            await commit([session_row(ids[0]), *updates], result=None)

        assert await state() == before

    async def test_a_row_that_is_gone_is_stale(self) -> None:
        with pytest.raises(StaleWrite):
            await commit([change(ObjectId(), name="x"), session_row(ObjectId())], result=None)

        assert await state() == ([], [])

    async def test_a_duplicate_stops_everything_and_tells_no_row(self) -> None:
        user_id = await add("taken")
        before = await state()
        again: Row = {"_id": ObjectId(), "username": "taken", "password": "$2b$12$hash"}

        with pytest.raises(DuplicateKeyError) as refusal:
            await commit([change(user_id, name="x"), session_row(user_id), Insert(User, again)], result=None)

        assert "$2b$" not in repr(refusal.value)
        assert "$2b$" not in str(refusal.value.details)
        assert refusal.value.__suppress_context__
        assert await state() == before

    async def test_an_update_that_changes_nothing_is_not_stale(self) -> None:
        user_id = await add("same")

        await commit([Update(User, {"_id": user_id}, {"$set": {"username": "same"}})], result=None)

        assert (await state())[0][0]["username"] == "same"

    async def test_of_two_planned_on_one_version_one_wins(self) -> None:
        user_id = await add("contended")

        outcomes = await asyncio.gather(
            *(commit([change(user_id, name=str(n)), session_row(user_id)], result=n) for n in range(6)),
            return_exceptions=True,
        )

        winners = [outcome for outcome in outcomes if isinstance(outcome, int)]
        users, sessions = await state()
        assert len(winners) == len(sessions) == 1
        assert [type(outcome) for outcome in outcomes if outcome not in winners] == [StaleWrite] * 5
        assert (users[0]["name"], users[0]["version"]) == (str(winners[0]), 2)
