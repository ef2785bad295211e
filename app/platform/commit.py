"""The one seam through which tickets and events are written: all of a change's rows together, or none.

Commands describe their writes as data and hand them over. How they are committed (one transaction each, as now, or
several callers' writes in one) is decided here and nowhere else.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import TypeVar

from beanie import Document
from pymongo import UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import BulkWriteError, DuplicateKeyError

from .idempotency import IdempotencyRow, Once
from .mongo import DUPLICATE_KEY, collection_of, transaction
from .wire import Row

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Insert:
    """A new row."""

    model: type[Document]
    row: Row


@dataclass(frozen=True, slots=True)
class Update:
    """A change to the one row that `where` names; `where` holds the version that the change was planned on."""

    model: type[Document]
    where: Row
    change: Row


class StaleWrite(Exception):
    """A row is no longer as an `Update` expected it; nothing was written."""


async def commit(writes: list[Insert | Update], *, once: Once[Result] | None = None, result: Result) -> Result:
    """Writes everything, and the answer to a keyed request with it, in one transaction; durable on return.

    Raises `StaleWrite`, pymongo's `DuplicateKeyError`, or what `Once.remember` raises; then nothing was written.
    """
    if not writes and once is None:
        return result

    async def body(session: AsyncClientSession) -> Result:
        if once is not None:
            await once.remember(result, session)
        await _update([write for write in writes if isinstance(write, Update)], session)
        await _insert([write for write in writes if isinstance(write, Insert)], session)
        return result

    return await transaction(IdempotencyRow, body)


async def _update(updates: list[Update], session: AsyncClientSession) -> None:
    by_model: dict[type[Document], list[UpdateOne]] = defaultdict(list)
    for update in updates:
        by_model[update.model].append(UpdateOne(update.where, update.change))
    for model, operations in by_model.items():
        outcome = await collection_of(model).bulk_write(operations, session=session)
        if outcome.matched_count != len(operations):
            raise StaleWrite


async def _insert(inserts: list[Insert], session: AsyncClientSession) -> None:
    by_model: dict[type[Document], list[Row]] = defaultdict(list)
    for insert in inserts:
        by_model[insert.model].append(insert.row)
    for model, rows in by_model.items():
        try:
            await collection_of(model).insert_many(rows, session=session)
        except BulkWriteError as error:
            # Its text holds the whole row, which has no place in a log; and callers await the plain kind.
            first = error.details["writeErrors"][0]
            if first["code"] != DUPLICATE_KEY:
                raise
            raise DuplicateKeyError(first["errmsg"], DUPLICATE_KEY, {"keyPattern": first["keyPattern"]}) from None
