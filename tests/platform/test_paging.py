"""Paging by keyset on a real collection: no row skipped, none repeated, whatever happens between two pages."""

import random
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from bson import ObjectId
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.asynchronous.collection import AsyncCollection

from app.accounts.documents import User
from app.platform.errors import InvalidCursor, InvalidInput
from app.platform.mongo import collection_of
from app.platform.paging import Order, Position, _digest, decode_cursor, encode_cursor, parse_limit, read_page
from app.platform.wire import Row
from tests.callers import Caller
from tests.factories.tickets import add_tickets, ticket_row

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DATES = st.datetimes(timezones=st.just(UTC)).map(lambda d: d.replace(microsecond=d.microsecond // 1000 * 1000))
# Few values, so that many rows are equal; None and missing are the same to MongoDB's order.
KEYS = st.one_of(
    st.lists(st.sampled_from([None, ..., *(EPOCH + timedelta(days=20_000, milliseconds=ms) for ms in range(3))])),
    st.lists(st.sampled_from([None, ..., 1, 2, 3, 2**40])),
    st.lists(DATES | st.none()),
    st.lists(st.integers(-(2**63), 2**63 - 1) | st.none()),
)
ORDERS = st.builds(Order, st.just("key"), st.booleans())


def things() -> AsyncCollection[Row]:
    """A collection of these tests' own, in their worker's database."""
    return collection_of(User).database["paging_test"]


async def fill(keys: list[Any]) -> list[Row]:
    await things().drop()
    rows = [{"_id": ObjectId()} | ({} if key is ... else {"key": key}) for key in keys]
    random.Random(len(keys)).shuffle(rows)
    if rows:
        await things().insert_many(rows)
    return rows


async def in_order(order: Order) -> list[ObjectId]:
    return [row["_id"] async for row in things().find().sort(order.keys)]


async def walk(order: Order, limit: int) -> list[ObjectId]:
    found: list[ObjectId] = []
    cursor = None
    while True:
        page = await read_page(things(), {}, order, scope="s", cursor=cursor, limit=limit)
        assert len(page.rows) == limit if page.next_cursor else len(page.rows) <= limit
        found += [row["_id"] for row in page.rows]
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.mark.usefixtures("database")
class TestReadPage:
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(keys=KEYS, order=ORDERS, limit=st.integers(1, 7))
    async def test_pages_together_are_the_sorted_rows(self, keys: list[Any], order: Order, limit: int) -> None:
        await fill(keys)

        assert await walk(order, limit) == await in_order(order)

    @pytest.mark.parametrize("is_descending", [True, False])
    async def test_pages_by_id(self, *, is_descending: bool) -> None:
        rows = await fill([None] * 10)

        found = await walk(Order("_id", is_descending, is_unique=True), 3)

        assert found == sorted((row["_id"] for row in rows), reverse=is_descending)

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(keys=st.lists(st.sampled_from([None, 1, 2]), min_size=6, max_size=12), order=ORDERS, data=st.data())
    async def test_what_stays_is_neither_skipped_nor_repeated(
        self, keys: list[Any], order: Order, data: st.DataObject
    ) -> None:
        staying = {row["_id"] for row in await fill(keys)}
        found: list[ObjectId] = []
        cursor = None
        while True:
            page = await read_page(things(), {}, order, scope="s", cursor=cursor, limit=2)
            found += [row["_id"] for row in page.rows]
            cursor = page.next_cursor
            if cursor is None:
                break
            # Any row may go, those on the edge of the page included, and new ones come anywhere.
            gone = data.draw(st.sampled_from(sorted(staying)) | st.none())
            staying.discard(gone) if gone else None
            await things().delete_one({"_id": gone})
            await things().insert_one({"_id": ObjectId(), "key": data.draw(st.sampled_from([None, 0, 1, 2, 3]))})

        assert len(found) == len(set(found))
        assert staying <= set(found)

    async def test_an_end_on_the_edge_makes_no_empty_page(self) -> None:
        await fill([1, 2, 3, 4])

        page = await read_page(things(), {}, Order("key", is_descending=False), scope="s", cursor=None, limit=4)

        assert len(page.rows) == 4
        assert page.next_cursor is None

    async def test_the_filter_holds_on_every_page(self) -> None:
        await fill([1, 2, 3, None] * 5)
        order, where = Order("key", is_descending=True), {"key": {"$in": [1, None]}}

        first = await read_page(things(), where, order, scope="s", cursor=None, limit=4)
        second = await read_page(things(), where, order, scope="s", cursor=first.next_cursor, limit=6)

        assert [row["key"] for row in first.rows + second.rows] == [1] * 5 + [None] * 5
        assert second.next_cursor is None


class TestCursor:
    @given(value=DATES | st.none() | st.integers(-(2**63), 2**63 - 1), scope=st.text())
    def test_is_read_back(self, value: Any, scope: str) -> None:
        position = Position(value, ObjectId())

        assert decode_cursor(scope, encode_cursor(scope, position)) == position

    def test_fits_no_other_scope(self) -> None:
        cursor = encode_cursor("tickets -createdAt", Position(EPOCH, ObjectId()))

        with pytest.raises(InvalidCursor):
            decode_cursor("tickets createdAt", cursor)

    def test_any_change_is_refused(self) -> None:
        cursor = encode_cursor("s", Position(5, ObjectId()))
        longer = [cursor + more for more in ("A", "=", "==", "!", " ", "\n", ".")] + [" " + cursor, "=" + cursor]
        shorter = [cursor[:-1], cursor[1:], cursor[:10], cursor[:16]]
        other = [cursor[:at] + ("A" if cursor[at] != "A" else "B") + cursor[at + 1 :] for at in range(len(cursor))]

        for altered in longer + shorter + other:
            with pytest.raises(InvalidCursor):
                decode_cursor("s", altered)

    @pytest.mark.parametrize("cursor", ["", "x", "null", "0", "ä", "\x00", "=" * 4, "A" * 10_000, "../..", "%00"])
    def test_garbage_is_refused(self, cursor: str) -> None:
        with pytest.raises(InvalidCursor):
            decode_cursor("s", cursor)

    @pytest.mark.parametrize(
        "payload",
        [
            *[b"", b"[]", b"1", b"null", b"[1]", b"[1, 2, 3]", b"{}", b'["a", "b"]', b'[1, "x"]', b"[1, 5]"],
            *[b'[{"$gt": ""}, "ID"]', b'[{"ms": "x"}, "ID"]', b'[{"ms": 1e300}, "ID"]', b'[{"ms": null}, "ID"]'],
            *[b'[["a"], "ID"]', b'["text", "ID"]', b'[18446744073709551615, "ID"]', b'[1, {"$ne": null}]'],
        ],
    )
    def test_a_forged_one_reaches_no_query(self, payload: bytes) -> None:
        payload = payload.replace(b"ID", str(ObjectId()).encode())
        cursor = urlsafe_b64encode(_digest("s", payload) + payload).decode().rstrip("=")

        with pytest.raises(InvalidCursor):
            decode_cursor("s", cursor)


class TestParseLimit:
    @pytest.mark.parametrize(("text", "limit"), [(None, 50), ("1", 1), ("100", 100), ("007", 7)])
    def test_reads_1_to_100(self, text: str | None, limit: int) -> None:
        assert parse_limit(text) == limit

    @pytest.mark.parametrize(
        "text", ["", "0", "101", "-1", "+1", " 1", "1.0", "1e1", "x", "\u0661", "\xb2", "9" * 5000, "1_0"]
    )
    def test_refuses_everything_else(self, text: str) -> None:
        with pytest.raises(InvalidInput):
            parse_limit(text)


class TestPageResponse:
    async def test_links_to_the_next_page_of_the_same_question(self, admin: Caller) -> None:
        await add_tickets(*(ticket_row(title=f"Ticket {number}", tags=["&>\r="]) for number in range(3)))

        answer = await admin.get("/api/tickets?sort=number&limit=2&tag=%26%3E%0D%3D")

        target, _, rel = answer.headers["Link"].partition(";")
        query = parse_qs(urlsplit(target.strip("<>")).query)
        assert rel == ' rel="next"'
        cursor = answer.json()["nextCursor"]
        assert query == {"sort": ["number"], "limit": ["2"], "tag": ["&>\r="], "cursor": [cursor]}
        following = await admin.get(target.strip("<>"))
        assert [item["title"] for item in following.json()["items"]] == ["Ticket 2"]

    @pytest.mark.parametrize("name", ["cursor", "c%75rsor"])
    async def test_the_link_has_one_cursor(self, admin: Caller, name: str) -> None:
        await add_tickets(*(ticket_row(title=f"Ticket {number}") for number in range(3)))
        first = await admin.get("/api/tickets?sort=number&limit=1")

        second = await admin.get(f"/api/tickets?{name}={first.json()['nextCursor']}&sort=number&limit=1")
        third = await admin.get(second.headers["Link"].partition(";")[0].strip("<>"))

        assert [item["title"] for item in third.json()["items"]] == ["Ticket 2"]

    @pytest.mark.parametrize("cursor", ["", "x", "null", "%00", "%ff", "A" * 5000])
    async def test_a_cursor_that_is_none_of_ours_is_400(self, admin: Caller, cursor: str) -> None:
        for path in ("/api/users", "/api/tickets"):
            answer = await admin.get(f"{path}?cursor={cursor}")

            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")
