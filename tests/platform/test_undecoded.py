"""Rows as bytes: what the driver's own cursors give, whatever their number and size."""

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Self

import bson
import pytest
from bson.int64 import Int64
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import AutoReconnect, OperationFailure

from app.platform.mongo import collection_of
from app.platform.undecoded import find_undecoded, rows_of
from app.platform.wire import Row
from app.tickets.documents import Ticket

BY_ID = [("_id", 1)]


def cursor_of(rows: list[Row], *, name: str = "firstBatch", cursor_id: int = 0, **more: object) -> bytes:
    return bson.encode({name: rows, **more, "id": Int64(cursor_id), "ns": "a.b"})


class TestRowsOf:
    # The names of the elements grow by a digit at 10, 100 and 1,000.
    @pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 99, 100, 101, 999, 1_000, 1_001])
    def test_takes_the_rows_apart(self, count: int) -> None:
        rows: list[Row] = [{"_id": number, "text": "x" * (number % 7), "list": [number]} for number in range(count)]

        assert rows_of(cursor_of(rows)) == ([bson.encode(row) for row in rows], 0)

    def test_finds_the_id_behind_whatever_else_there_is(self) -> None:
        rows, cursor_id = rows_of(cursor_of([{}], name="nextBatch", cursor_id=7, partialResultsReturned=True))

        assert (rows, cursor_id) == ([bson.encode({})], 7)

    @pytest.mark.parametrize("reply", [{"id": 0}, {"firstBatch": {"0": {}}, "id": 0}, {"firstBatches": [], "id": 0}])
    def test_refuses_what_is_no_cursor(self, reply: Row) -> None:
        with pytest.raises(ValueError, match="begins with its batch"):
            rows_of(bson.encode(reply))


@pytest.fixture
async def rows(database: None) -> AsyncIterator[AsyncCollection[Row]]:
    """A collection of this module's own, empty."""
    collection = collection_of(Ticket).database["undecoded"]
    yield collection
    await collection.drop()


class Line:
    """`async with Line(host, port)`: a way to a server that can be cut."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._writers: list[asyncio.StreamWriter] = []
        self._pumps: set[asyncio.Task[None]] = set()
        self._lets_in = True

    @property
    def port(self) -> int:
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def close(self) -> None:
        """Ends new connections at once: the driver does not clean up behind those that are refused."""
        self._lets_in = False

    def cut(self) -> None:
        """Ends all connections there are."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._lets_in:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._writers += [writer, far_writer]
        ways = ((reader, far_writer), (far_reader, writer))
        self._pumps |= {asyncio.create_task(self._pump(*way)) for way in ways}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)


class TestFindUndecoded:
    @pytest.mark.parametrize("limit", [1, 4, 100, 200])
    async def test_is_what_the_driver_finds(self, rows: AsyncCollection[Row], limit: int) -> None:
        await rows.insert_many({"_id": n, "isEven": n % 2 == 0, "text": "ä" * n} for n in range(250))
        keys = [("isEven", 1), ("_id", -1)]
        await rows.create_index(keys)

        found = await find_undecoded(rows, {"isEven": True}, sort=[("_id", -1)], limit=limit, hint=keys)

        expected = await rows.find({"isEven": True}).sort("_id", -1).limit(limit).to_list()
        assert [bson.decode(row) for row in found] == expected

    async def test_finds_all_that_takes_several_answers(self, rows: AsyncCollection[Row]) -> None:
        """An answer has 16 MB at most, however many rows were asked for."""
        large: list[Row] = [{"_id": number, "text": "x" * 7_000_000} for number in range(5)]
        for row in large:
            await rows.insert_one(row)

        assert await find_undecoded(rows, {}, sort=BY_ID, limit=4) == [bson.encode(row) for row in large[:4]]

    async def test_says_what_the_database_refuses(self, rows: AsyncCollection[Row]) -> None:
        with pytest.raises(OperationFailure):
            await find_undecoded(rows, {"$nonsense": 1}, sort=BY_ID, limit=1)

    # PyMongo's monitor leaves behind the socket of a connection that it was just making when the client was closed.
    @pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
    async def test_asks_once_more_over_another_connection(self, rows: AsyncCollection[Row]) -> None:
        await rows.insert_one({"_id": 1})
        host, port = await rows.database.client.address or ("", 0)
        async with (
            Line(host, port) as line,
            AsyncMongoClient[Row](
                "127.0.0.1", line.port, directConnection=True, serverSelectionTimeoutMS=500, heartbeatFrequencyMS=60_000
            ) as client,
        ):
            seen = client[rows.database.name][rows.name]
            await find_undecoded(seen, {}, sort=BY_ID, limit=1)
            line.cut()

            assert await find_undecoded(seen, {}, sort=BY_ID, limit=1) == [bson.encode({"_id": 1})]

            line.close()
            line.cut()
            with pytest.raises(AutoReconnect):
                await find_undecoded(seen, {}, sort=BY_ID, limit=1)
        gc.collect()
