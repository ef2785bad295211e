"""Rows as the bytes that the server sent, for answers that are made of bytes.

The driver has `RawBSONDocument` for this, an object for each row: of what a list of 50 costs, they were a third.
"""

import struct
from collections.abc import Mapping
from typing import Any

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import ConnectionFailure, ServerSelectionTimeoutError

from .wire import Row

_UNDECODED: CodecOptions[Mapping[str, Any]] = CodecOptions(document_class=RawBSONDocument)
_LENGTH = struct.Struct("<i")
# BSON (bsonspec.org): a document is its length, elements and a zero; an element is a type, a name with a zero, a value.
_LENGTH_BYTES = 4
_ZERO_BYTES = 1
_ARRAY = 0x04
_BATCHES = (b"firstBatch\x00", b"nextBatch\x00")


async def find_undecoded(
    collection: AsyncCollection[Row],
    where: Row,
    *,
    sort: list[tuple[str, int]],
    limit: int,
    hint: list[tuple[str, int]] | None = None,
) -> list[bytes]:
    """The first rows that match, each as its BSON, at most `limit` of them. Raises `PyMongoError`.

    As with the driver's own reads, a connection that turns out to be broken is a reason to ask once more.
    """
    find: Row = {"find": collection.name, "filter": where, "sort": dict(sort), "limit": limit, "batchSize": limit}
    if hint is not None:
        find["hint"] = dict(hint)
    if concern := collection.read_concern.document:
        find["readConcern"] = concern
    async with collection.database.client.start_session(causal_consistency=False) as session:
        try:
            reply = await _run(collection, find, session)
        except ServerSelectionTimeoutError:
            raise
        except ConnectionFailure:
            reply = await _run(collection, find, session)
        rows, cursor_id = rows_of(reply)
        while cursor_id:  # an answer holds 16 MB at most
            reply = await _run(collection, {"getMore": cursor_id, "collection": collection.name}, session)
            more, cursor_id = rows_of(reply)
            rows += more
    return rows


async def _run(collection: AsyncCollection[Row], command: Row, session: AsyncClientSession) -> bytes:
    reply = await collection.database.command(
        command, read_preference=collection.read_preference, codec_options=_UNDECODED, session=session
    )
    cursor: RawBSONDocument = reply["cursor"]
    return bytes(cursor.raw)


def rows_of(cursor: bytes) -> tuple[list[bytes], int]:
    """The rows in the `cursor` of a reply, and its id, by which there are more; 0 if there are none."""
    name = next((name for name in _BATCHES if cursor.startswith(name, _LENGTH_BYTES + 1)), None)
    if name is None or cursor[_LENGTH_BYTES] != _ARRAY:
        message = "a cursor begins with its batch"
        raise ValueError(message)
    start = _LENGTH_BYTES + 1 + len(name)
    length_at = _LENGTH.unpack_from
    end = start + length_at(cursor, start)[0]
    at = start + _LENGTH_BYTES
    rows: list[bytes] = []
    # Elements of an array are named by their index, so that its digits tell where the value begins.
    header, next_power = 3, 10
    while at < end - _ZERO_BYTES:
        if len(rows) == next_power:
            header += 1
            next_power *= 10
        at += header
        size = length_at(cursor, at)[0]
        rows.append(cursor[at : at + size])
        at += size
    rest = cursor[end:]
    return rows, bson.decode(_LENGTH.pack(_LENGTH_BYTES + len(rest)) + rest)["id"]
