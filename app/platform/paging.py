"""Paging by keyset: a page starts after a row, not after a count, so it costs the same anywhere in the list.

Rows that stay are neither skipped nor repeated, whatever is inserted, changed or deleted between two pages.
"""

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote_plus

import bson
import orjson
from bson import ObjectId
from bson.codec_options import CodecOptions
from bson.errors import InvalidId
from fastapi import Request
from pymongo.asynchronous.collection import AsyncCollection
from starlette.datastructures import QueryParams
from starlette.responses import Response

from .errors import FieldError, InvalidCursor, InvalidInput
from .http import JSON
from .undecoded import find_undecoded
from .wire import Row, to_json

DEFAULT_LIMIT = 50
MAX_LIMIT = 100
_DIGEST_BYTES = 12
_REMEMBERED_SCOPES = 100
_STORED: CodecOptions[Mapping[str, Any]] = CodecOptions(tz_aware=True)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BSON_INTEGERS = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class Order:
    """A sort key; rows that are equal in it follow their `_id`, unless none ever are.

    `may_be_null` is False where every row of the list is known to have a value.
    """

    field: str
    is_descending: bool
    is_unique: bool = False
    may_be_null: bool = True

    @property
    def direction(self) -> int:
        return -1 if self.is_descending else 1

    @property
    def keys(self) -> list[tuple[str, int]]:
        return [(self.field, self.direction), *([] if self.is_unique else [("_id", self.direction)])]


@dataclass(frozen=True, slots=True)
class Position:
    """A row's place in an order: the value of its sort key and its id."""

    value: Any
    id: ObjectId


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of an ordered list: its filter and the keys it is sorted by."""

    where: Row
    keys: list[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a list that `scope` names, in its order."""

    rows: list[Row]
    has_more: bool
    scope: str
    order: Order

    @property
    def next_cursor(self) -> str | None:
        return self.cursor_of(self.rows[-1]) if self.has_more else None

    def cursor_of(self, row: Row) -> str:
        """The cursor right behind one of the rows."""
        value = None if self.order.field == "_id" else row.get(self.order.field)
        return encode_cursor(self.scope, Position(value, row["_id"]))


@dataclass(frozen=True, slots=True)
class PageQuery:
    """A checked question for a page: what `read_page` takes one by one."""

    where: Row
    order: Order
    hint: list[tuple[str, int]] | None
    limit: int
    cursor: str | None
    scope: str


@dataclass(frozen=True, slots=True)
class EncodedPage:
    """The answer that a page is, as JSON, and the cursor in it."""

    body: bytes
    next_cursor: str | None


def wrong_parameters(given: Mapping[str, str], known: Container[str]) -> list[FieldError]:
    """An error for each query parameter that the list does not have or has twice, so that none passes in silence."""
    names = [name for name, _ in given.multi_items()] if isinstance(given, QueryParams) else list(given)
    counts = Counter(names) if len(set(names)) < len(names) else dict.fromkeys(names, 1)
    unknown = [name for name in counts if name not in known]
    repeated = [name for name, count in counts.items() if count > 1 and name in known]
    return [
        *(FieldError(name, "unknown_parameter", "is not a parameter of this list") for name in unknown),
        *(FieldError(name, "repeated_parameter", "must be given only once") for name in repeated),
    ]


def check_parameters(given: Mapping[str, str], *known: str) -> None:
    """Raises `InvalidInput` for any other parameter, and for one that is given twice."""
    if errors := wrong_parameters(given, known):
        raise InvalidInput(*errors)


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
    hint: list[tuple[str, int]] | None = None,
) -> Page:
    """One page of the rows that match `where`. `scope` names the list, its filter and its order; `hint` the index.

    Raises `InvalidCursor` for a cursor of another scope.
    """
    after = decode_cursor(scope, cursor) if cursor is not None else None
    rows: list[Row] = []
    for segment in segments(order, after):
        found = collection.find({"$and": [where, segment.where]}, hint=hint).sort(segment.keys)
        rows += await found.limit(limit + 1 - len(rows)).to_list()
        if len(rows) > limit:
            break
    return Page(rows[:limit], len(rows) > limit, scope, order)


async def read_encoded_page(
    collection: AsyncCollection[Row], query: PageQuery, encode: Callable[[bytes], bytes]
) -> EncodedPage:
    """The same page as its answer; `encode` makes the JSON of a row from its BSON, in which nobody else looks.

    Raises `InvalidCursor` for a cursor of another scope.
    """
    after = decode_cursor(query.scope, query.cursor) if query.cursor is not None else None
    stored: list[bytes] = []
    for segment in segments(query.order, after):
        where = {"$and": [query.where, segment.where]}
        missing = query.limit + 1 - len(stored)
        stored += await find_undecoded(collection, where, sort=segment.keys, limit=missing, hint=query.hint)
        if len(stored) > query.limit:
            break
    has_more = len(stored) > query.limit
    last = [dict(bson.decode(stored[query.limit - 1], _STORED))] if has_more else []
    next_cursor = Page(last, has_more, query.scope, query.order).next_cursor
    return EncodedPage(_page_json([encode(row) for row in stored[: query.limit]], next_cursor), next_cursor)


def _page_json(items: Iterable[bytes], next_cursor: str | None) -> bytes:
    return b'{"items":[%b],"nextCursor":%b}' % (b",".join(items), orjson.dumps(next_cursor))


def segments(order: Order, after: Position | None) -> list[Segment]:
    """What follows a position, cut so that each piece has tight bounds in an index and comes out of it in order.

    A comparison with a value never matches null (rows of an old database lack some sort keys), so the nulls, which
    come last when descending and first when ascending, are a piece of their own, ordered by `_id` alone.
    """
    if after is None:
        return [Segment({}, order.keys)]
    field, value = order.field, after.value
    past = "$lt" if order.is_descending else "$gt"
    by_id = [("_id", order.direction)]
    if field == "_id":
        return [Segment({"_id": {past: after.id}}, by_id)]
    if value is None:
        nulls = Segment({field: None, "_id": {past: after.id}}, by_id)
        return [nulls] if order.is_descending else [nulls, Segment({field: {"$ne": None}}, order.keys)]
    # Not `$or` of two ranges, which would tempt the planner to scan two indexes and sort in memory.
    not_before = {field: value, "_id": {"$gte" if order.is_descending else "$lte": after.id}}
    beyond = Segment({field: {f"{past}e": value}, "$nor": [not_before]}, order.keys)
    return [beyond, Segment({field: None}, by_id)] if order.is_descending and order.may_be_null else [beyond]


def encode_cursor(scope: str, position: Position) -> str:
    value = position.value
    if isinstance(value, datetime):
        value = {"ms": (value - _EPOCH) // timedelta(milliseconds=1)}
    payload = orjson.dumps([value, str(position.id)])
    return _text_of(_digest(scope, payload) + payload)


def decode_cursor(scope: str, cursor: str) -> Position:
    """Raises `InvalidCursor` unless the cursor was made for this very scope."""
    try:
        raw = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        digest, payload = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES:]
        # The decoder skips what is not base64 and drops loose bits; only the text that we made is good.
        if digest != _digest(scope, payload) or _text_of(raw) != cursor:
            raise InvalidCursor
        value, row_id = orjson.loads(payload)
        return Position(_value_of(value), ObjectId(row_id))
    except (ValueError, TypeError, KeyError, OverflowError, InvalidId):
        raise InvalidCursor from None


def _value_of(value: Any) -> datetime | float | None:
    """The sort key as it goes into a query: no text, and no number that BSON can't hold."""
    if isinstance(value, dict):
        return _EPOCH + timedelta(milliseconds=value["ms"])
    if value is None or isinstance(value, float) or (isinstance(value, int) and value in _BSON_INTEGERS):
        return value
    raise InvalidCursor


def _text_of(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def _digest(scope: str, payload: bytes) -> bytes:
    # Binds a cursor to its list; it guards no secret: what a caller may see is decided again for every page.
    return hashlib.blake2b(payload, key=_key_of(scope)).digest()[:_DIGEST_BYTES]


@lru_cache(_REMEMBERED_SCOPES)
def _key_of(scope: str) -> bytes:
    """The same for each row of a page, and a connection tells the cursor of each."""
    return hashlib.blake2b(scope.encode(), digest_size=32).digest()


def page_response(request: Request, page: Page, items: list[Row]) -> Response:
    """`{"items", "nextCursor"}`, with the next page also as a `Link` (RFC 8288)."""
    body = to_json({"items": items, "nextCursor": page.next_cursor})
    return encoded_page_response(request, EncodedPage(body, page.next_cursor))


def encoded_page_response(request: Request, page: EncodedPage) -> Response:
    """The same of a page that is encoded already."""
    headers = {}
    if page.next_cursor is not None:
        headers["Link"] = _link_to_next(request.scope["path"], request.scope["query_string"], page.next_cursor)
    return Response(page.body, headers=headers, media_type=JSON)


# The same few lists are asked for again and again.
@lru_cache(1_000)
def _link_to_next(path: str, query: bytes, cursor: str) -> str:
    """The same question with another cursor; what the client wrote stays as they wrote it, as far as a URL may."""
    given = quote(query, safe="&=%+;/?:@!$'()*,-._~")
    kept = [part for part in given.split("&") if part and unquote_plus(part.partition("=")[0]) != "cursor"]
    return f'<{quote(path)}?{"&".join([*kept, f"cursor={cursor}"])}>; rel="next"'
