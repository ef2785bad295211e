"""Paging by keyset: a page starts after a row, not after a count, so it costs the same anywhere in the list.

Rows that stay are neither skipped nor repeated, whatever is inserted, changed or deleted between two pages.
"""

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import orjson
from bson import ObjectId
from fastapi import Request
from pymongo.asynchronous.collection import AsyncCollection
from starlette.responses import Response

from .errors import FieldError, InvalidCursor, InvalidInput
from .http import json_response
from .wire import Row

DEFAULT_LIMIT = 50
MAX_LIMIT = 100
_DIGEST_BYTES = 12
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Order:
    """A sort key; rows that are equal in it follow their `_id`, unless none ever are."""

    field: str
    is_descending: bool
    is_unique: bool = False

    @property
    def keys(self) -> list[tuple[str, int]]:
        direction = -1 if self.is_descending else 1
        return [(self.field, direction)] if self.is_unique else [(self.field, direction), ("_id", direction)]


@dataclass(frozen=True, slots=True)
class Position:
    """A row's place in an order: the value of its sort key and its id."""

    value: Any
    id: ObjectId


@dataclass(frozen=True, slots=True)
class Page:
    rows: list[Row]
    next_cursor: str | None


def parse_limit(text: str | None) -> int:
    """`?limit=`: 1 to 100, 50 when absent. Raises `InvalidInput`."""
    if text is None:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(MAX_LIMIT)) or not 1 <= int(text) <= MAX_LIMIT:
        raise InvalidInput(FieldError("limit", "out_of_range", f"must be an integer from 1 to {MAX_LIMIT}"))
    return int(text)


async def read_page(
    collection: AsyncCollection[Row],
    where: Row,
    order: Order,
    *,
    scope: str,
    cursor: str | None,
    limit: int,
) -> Page:
    """One page of the rows that match `where`. `scope` names the list, its filter and its order.

    Raises `InvalidCursor` for a cursor of another scope.
    """
    after = decode_cursor(scope, cursor) if cursor is not None else None
    rows: list[Row] = []
    for segment in _segments(order, after):
        query = {"$and": [where, segment]} if segment else where
        found = collection.find(query).sort(order.keys)
        rows += await found.limit(limit + 1 - len(rows)).to_list()
        if len(rows) > limit:
            last = rows[limit - 1]
            value = None if order.field == "_id" else last.get(order.field)
            return Page(rows[:limit], encode_cursor(scope, Position(value, last["_id"])))
    return Page(rows, None)


def _segments(order: Order, after: Position | None) -> list[Row]:
    """What follows a position, as filters with tight index bounds, in order.

    A comparison with a value never matches null (rows of an old database lack some sort keys), so the nulls, which
    come last when descending and first when ascending, are a segment of their own.
    """
    if after is None:
        return [{}]
    field, value = order.field, after.value
    past = "$lt" if order.is_descending else "$gt"
    if field == "_id":
        return [{"_id": {past: after.id}}]
    if value is None:
        rest = [] if order.is_descending else [{field: {"$ne": None}}]
        return [{field: None, "_id": {past: after.id}}, *rest]
    # Not `$or` of two ranges, which would tempt the planner to scan two indexes and sort in memory.
    not_before = {field: value, "_id": {"$gte" if order.is_descending else "$lte": after.id}}
    beyond = {field: {f"{past}e": value}, "$nor": [not_before]}
    return [beyond, {field: None}] if order.is_descending else [beyond]


def encode_cursor(scope: str, position: Position) -> str:
    value = position.value
    if isinstance(value, datetime):
        value = {"ms": round((value - _EPOCH).total_seconds() * 1000)}
    payload = orjson.dumps([value, str(position.id)])
    return urlsafe_b64encode(_digest(scope, payload) + payload).decode().rstrip("=")


def decode_cursor(scope: str, cursor: str) -> Position:
    """Raises `InvalidCursor` unless the cursor was made for this very scope."""
    try:
        raw = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        digest, payload = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES:]
        if digest != _digest(scope, payload):
            raise InvalidCursor
        value, row_id = orjson.loads(payload)
        if isinstance(value, dict):
            value = datetime.fromtimestamp(value["ms"] / 1000, UTC)
        return Position(value, ObjectId(row_id))
    except (ValueError, TypeError, KeyError, OverflowError, OSError):
        raise InvalidCursor from None


def _digest(scope: str, payload: bytes) -> bytes:
    # Binds a cursor to its list; it guards no secret: what a caller may see is decided again for every page.
    return hashlib.blake2b(payload, key=hashlib.blake2b(scope.encode(), digest_size=32).digest()).digest()[
        :_DIGEST_BYTES
    ]


def page_response(request: Request, page: Page, items: list[Row]) -> Response:
    """`{"items", "nextCursor"}`, with the next page also as a `Link` (RFC 8288)."""
    headers = {}
    if page.next_cursor is not None:
        query = [(k, v) for k, v in request.query_params.multi_items() if k != "cursor"]
        target = f"{request.url.path}?{urlencode([*query, ('cursor', page.next_cursor)])}"
        headers["Link"] = f'<{target}>; rel="next"'
    return json_response({"items": items, "nextCursor": page.next_cursor}, headers=headers)
