"""Changes that are committed together, each as if it were alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from bson import ObjectId
from pymongo.errors import DuplicateKeyError

from app.accounts.documents import Session, User
from app.platform import mongo
from app.platform.commit import AT_MOST, Insert, StaleWrite, Update, _alone, commit
from app.platform.errors import Conflict, IdempotencyInProgress
from app.platform.idempotency import AlreadyDone, Answer, IdempotencyRow, Key, Once
from app.platform.mongo import collection_of
from app.platform.sequence import Counter
from app.platform.wire import Row
from tests.conftest import COMMANDS
from tests.live import eventually

pytestmark = pytest.mark.usefixtures("database")


def user(name: str) -> Row:
    return {"_id": ObjectId(), "username": name, "version": 1}


def once(key: str) -> Once[Any]:
    return Once(Key(key, b"fingerprint"), lambda result: Answer(201, str(result).encode()))


async def names() -> set[str]:
    return {row["username"] async for row in collection_of(User).find()}


def commits() -> int:
    return COMMANDS.names.count("commitTransaction")


async def together(*changes: Any) -> list[Any]:
    """What became of changes that wait for one another: the first is alone, the others are one batch."""
    COMMANDS.names.clear()
    first = commit([Insert(User, user("first"))], result=None)
    outcomes = await asyncio.gather(first, *changes, return_exceptions=True)
    assert outcomes[0] is None
    return outcomes[1:]


class TestTogether:
    async def test_many_are_one_transaction(self) -> None:
        changes = [commit([Insert(User, user(f"u{n}"))], result=n) for n in range(30)]

        assert await together(*changes) == list(range(30))

        assert commits() <= 2
        assert await names() == {"first", *(f"u{n}" for n in range(30))}

    async def test_no_more_than_a_transaction_may_hold(self) -> None:
        changes = [commit([Insert(User, user(f"u{n}"))], result=n) for n in range(2 * AT_MOST)]

        assert await together(*changes) == list(range(2 * AT_MOST))

        assert 2 <= commits() <= 4

    async def test_a_stale_one_stops_no_other(self) -> None:
        there = user("there")
        await collection_of(User).insert_one(there)
        stale = Update(User, {"_id": there["_id"], "version": 7}, {"$set": {"name": "x"}})
        good = [commit([Insert(User, user(f"u{n}"))], result=n) for n in range(5)]

        outcomes = await together(*good[:2], commit([stale, Insert(Session, user("s"))], result=None), *good[2:])

        assert [outcomes[at] for at in (0, 1, 3, 4, 5)] == [0, 1, 2, 3, 4]
        assert isinstance(outcomes[2], StaleWrite)
        assert await names() == {"first", "there", "u0", "u1", "u2", "u3", "u4"}
        assert await collection_of(Session).find_one() is None

    async def test_a_duplicate_stops_no_other(self) -> None:
        await collection_of(User).insert_one(user("taken"))

        outcomes = await together(
            commit([Insert(User, user("taken"))], result="taken"), commit([Insert(User, user("free"))], result="free")
        )

        assert isinstance(outcomes[0], DuplicateKeyError)
        assert outcomes[1] == "free"

    async def test_one_that_the_database_cannot_take_stops_no_other(self) -> None:
        too_large = {**user("large"), "number": 2**70}

        outcomes = await together(
            commit([Insert(User, too_large)], result="large"), commit([Insert(User, user("good"))], result="good")
        )

        assert isinstance(outcomes[0], OverflowError)
        assert outcomes[1] == "good"
        assert await names() == {"first", "good"}

    async def test_two_changes_of_one_row_are_not_in_one_transaction(self) -> None:
        there = user("there")
        await collection_of(User).insert_one(there)

        def change(name: str) -> Any:
            update = Update(User, {"_id": there["_id"], "version": 1}, {"$set": {"name": name}, "$inc": {"version": 1}})
            return commit([update], result=name)

        assert [type(outcome) for outcome in await together(change("a"), change("b"), change("c"))] == [
            str,
            StaleWrite,
            StaleWrite,
        ]
        row = await collection_of(User).find_one({"_id": there["_id"]})
        assert row is not None
        assert (row["name"], row["version"]) == ("a", 2)

    async def test_one_key_is_used_once_and_its_answer_is_stored_with_the_change(self) -> None:
        def keyed(name: str, key: str) -> Any:
            return commit([Insert(User, user(name))], once=once(key), result=name)

        outcomes = await together(keyed("a", "k1"), keyed("b", "k1"), keyed("c", "k2"))

        assert outcomes[0] == "a"
        assert isinstance(outcomes[1], AlreadyDone)
        assert outcomes[2] == "c"
        rows = {row["_id"]: row["body"] async for row in collection_of(IdempotencyRow).find()}
        assert rows == {"k1": b"a", "k2": b"c"}
        assert await names() == {"first", "a", "c"}

    async def test_who_gives_up_before_it_began_has_written_nothing(self) -> None:
        first = asyncio.create_task(commit([Insert(User, user("first"))], result=None))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        given_up = asyncio.create_task(commit([Insert(User, user("given up"))], result=None))
        other = asyncio.create_task(commit([Insert(User, user("other"))], result=None))
        await asyncio.sleep(0)
        given_up.cancel()

        await asyncio.gather(first, other)
        assert await names() == {"first", "other"}

    async def test_who_gives_up_later_keeps_nobody_from_being_written(self) -> None:
        changes = [asyncio.create_task(commit([Insert(User, user(f"u{n}"))], result=n)) for n in range(4)]
        COMMANDS.names.clear()
        await eventually(lambda: "insert" in COMMANDS.names)
        changes[1].cancel()

        assert await asyncio.gather(changes[0], *changes[2:]) == [0, 2, 3]
        assert await names() == {"u0", "u1", "u2", "u3"}


@asynccontextmanager
async def held(row: Row) -> AsyncIterator[None]:
    """Somebody else has changed the row in a transaction that goes on."""
    users = collection_of(User)
    async with users.database.client.start_session() as session, await session.start_transaction():
        await users.update_one({"_id": row["_id"]}, {"$set": {"held": True}}, session=session)
        yield
        await session.abort_transaction()


class TestARowThatSomebodyElseHolds:
    @pytest.fixture
    async def there(self) -> Row:
        row = user("there")
        await collection_of(User).insert_one(row)
        return row

    def change(self, row: Row, name: str) -> Any:
        where = {"_id": row["_id"], "version": 1}
        return asyncio.create_task(
            commit([Update(User, where, {"$set": {"name": name}, "$inc": {"version": 1}})], result=name)
        )

    async def test_holds_up_nobody_who_does_not_want_it(self, there: Row) -> None:
        async with held(there):
            waiting = self.change(there, "a")
            for round_ in range(5):
                others = (commit([Insert(User, user(f"u{round_}-{n}"))], result=n) for n in range(4))
                assert await asyncio.gather(*others) == list(range(4))
            waiting_too = self.change(there, "b")
            assert await commit([Insert(User, user("last"))], result="last") == "last"
            assert not waiting.done()
            assert not waiting_too.done()

        assert await waiting == "a"
        with pytest.raises(StaleWrite):
            await waiting_too

    async def test_is_refused_to_all_who_waited_for_it_when_it_is_held_for_long(
        self, there: Row, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mongo, "TRANSACTION_S", 0.1)
        async with held(there):
            first = self.change(there, "a")
            await eventually(lambda: bool(_alone))
            others = [self.change(there, name) for name in "bcd"]
            outcomes = await asyncio.gather(first, *others, return_exceptions=True)

        assert [type(outcome) for outcome in outcomes] == [Conflict] * 4
        assert not _alone
        assert await self.change(there, "e") == "e"

    async def test_a_key_in_use_is_no_matter_of_who_wants_the_same_row(self, there: Row) -> None:
        keys = collection_of(IdempotencyRow)
        where = {"_id": there["_id"], "version": 1}
        keyed = commit([Update(User, where, {"$set": {"name": "a"}})], once=once("in use"), result="a")
        async with keys.database.client.start_session() as session, await session.start_transaction():
            await keys.insert_one({"_id": "in use"}, session=session)

            other = commit([Insert(User, user("other"))], result="other")
            same_row = commit([Update(User, where, {"$set": {"name": "b"}})], result="b")
            outcomes = await together(keyed, other, same_row)

            await session.abort_transaction()
        assert isinstance(outcomes[0], IdempotencyInProgress)
        assert outcomes[1:] == ["other", "b"]

    async def test_who_comes_second_in_a_batch_is_stale_without_a_try(self, there: Row) -> None:
        outcomes = await together(*(self.change(there, name) for name in "abc"))

        assert [type(outcome) for outcome in outcomes] == [str, StaleWrite, StaleWrite]
        assert COMMANDS.names.count("update") == 1


class TestNumbers:
    async def test_are_given_in_order_without_gaps_or_repeats(self) -> None:
        rows = [user(f"u{n}") for n in range(50)]
        changes = [commit([Insert(User, row, numbered_by="people")], result=row) for row in rows]

        outcomes = await together(*changes)

        assert [row["number"] for row in outcomes] == list(range(1, 51))
        assert [row["number"] async for row in collection_of(User).find({"number": {"$gt": 0}}).sort("_id", 1)] == list(
            range(1, 51)
        )

    async def test_is_kept_by_a_change_that_has_to_go_alone(self) -> None:
        await collection_of(User).insert_one(user("taken"))
        rows = [user("a"), user("taken"), user("b")]

        outcomes = await together(*(commit([Insert(User, row, numbered_by="people")], result=row) for row in rows))

        assert isinstance(outcomes[1], DuplicateKeyError)
        assert (outcomes[0]["number"], outcomes[2]["number"]) == (1, 3)
        counter = await collection_of(Counter).find_one({"_id": "people"})
        assert counter is not None
        assert counter["value"] == 3
