"""The one seam through which tickets and events are written: all of a change's rows together, or none.

Commands describe their writes as data and hand them over. Changes that arrive while a transaction is under way go into
the next one together, because a transaction costs about the same for one change as for a hundred (group commit). To
each caller it is as if theirs had been alone: they hear their own outcome, and what stops one change stops no other.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from beanie import Document
from pymongo import UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import BulkWriteError, ConnectionFailure, DuplicateKeyError, OperationFailure, PyMongoError

from .batching import Batcher, Outcome
from .errors import Conflict
from .idempotency import AlreadyDone, IdempotencyRow, Once, remember_all
from .mongo import DUPLICATE_KEY, WRITE_CONFLICT, collection_of, transaction
from .sequence import adopt_numbers, next_numbers
from .wire import Row

Result = TypeVar("Result")

# As many changes in one transaction; their size is bounded by what requests may hold.
AT_MOST = 100
# How often a change gets other numbers, when somebody else has the first.
NUMBERINGS = 5


@dataclass(frozen=True, slots=True)
class Insert:
    """A new row. With `numbered_by` it gets the next `number` of that sequence when it is committed."""

    model: type[Document]
    row: Row
    numbered_by: str | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """A change to the one row that `where` names by `_id`; it also holds the version that the change was planned on."""

    model: type[Document]
    where: Row
    change: Row


class StaleWrite(Exception):
    """A row is no longer as an `Update` expected it; nothing was written."""


@dataclass(frozen=True, slots=True, eq=False)
class _Change(Generic[Result]):
    """What one caller wants committed, and to be told then."""

    writes: Sequence[Insert | Update]
    once: Once[Result] | None
    result: Result

    def touches(self) -> Iterable[object]:
        """What no other change of the same transaction may touch, so that one finds what the other left."""
        if self.once is not None:
            yield self.once.key.row_id
        for write in self.writes:
            if isinstance(write, Update):
                yield write.model, write.where["_id"]


async def commit(writes: list[Insert | Update], *, once: Once[Result] | None = None, result: Result) -> Result:
    """Writes everything, and the answer to a keyed request with it, in one transaction; durable on return.

    Raises `StaleWrite`, `Conflict`, pymongo's `DuplicateKeyError` or what `Once.remember` raises; then nothing was
    written.
    """
    if not writes and once is None:
        return result
    await _commit_soon(_Change(writes, once, result))
    return result


# The changes that go alone just now, by what they touch; whoever touches the same comes after them.
_alone: dict[object, asyncio.Task[None]] = {}


async def _commit_all(changes: list[_Change[Any]]) -> list[Outcome[None]]:
    """What became of each change: None for those that are committed, a task for those that go alone."""
    together: list[_Change[Any]] = []
    first: dict[object, _Change[Any]] = {}
    for change in changes:
        touched = list(change.touches())
        if not any(one in first or one in _alone for one in touched):
            together.append(change)
            first |= dict.fromkeys(touched, change)
    fates = await _commit_together(together) if together else []
    outcomes = {id(change): fate for change, fate in zip(together, fates, strict=True)}
    return [
        outcomes[id(change)] if id(change) in outcomes else _fate_behind(change, first, outcomes) for change in changes
    ]


_commit_soon: Batcher[_Change[Any], None] = Batcher(_commit_all, at_most=AT_MOST)


async def _commit_together(changes: list[_Change[Any]]) -> list[Outcome[None]]:
    try:
        await _commit(changes, is_alone=False)
    except _Collision:
        return [_go_alone(change) for change in changes]
    except Exception as error:  # noqa: BLE001 - whatever it is, one of them may be the cause
        if len(changes) == 1 or _concerns_all(error):
            return [error] * len(changes)
        return [_go_alone(change) for change in changes]
    return [None] * len(changes)


def _go_alone(change: _Change[Any]) -> asyncio.Task[None]:
    """In a transaction of its own, beside the next batches, but behind whoever goes alone and touches the same."""
    touched = list(change.touches())
    task = asyncio.create_task(_commit_alone(change, {_alone[one] for one in touched if one in _alone}))
    _alone.update(dict.fromkeys(touched, task))
    task.add_done_callback(lambda _: _forget(touched, task))
    return task


def _forget(touched: Iterable[object], task: asyncio.Task[None]) -> None:
    for one in touched:
        if _alone.get(one) is task:
            del _alone[one]


async def _commit_alone(change: _Change[Any], ahead: Iterable[asyncio.Task[None]]) -> None:
    for task in ahead:
        await asyncio.wait({task})
        error = None if task.cancelled() else task.exception()
        # Who waited while they tried has waited long enough; a key that is in use is theirs alone.
        if isinstance(error, ConnectionFailure) or type(error) is Conflict:
            raise error
    await _commit([change], is_alone=True)


def _fate_behind(
    change: _Change[Any], first: Mapping[object, _Change[Any]], outcomes: Mapping[int, Outcome[None]]
) -> Outcome[None]:
    """What becomes of a change that touches what others of its batch touched first."""
    for one in change.touches():
        if one not in first:
            continue
        outcome = outcomes[id(first[one])]
        if outcome is None:
            is_key = change.once is not None and one == change.once.key.row_id
            return AlreadyDone() if is_key else StaleWrite()
        if isinstance(outcome, ConnectionFailure):
            # To try again right behind an outage would take longer to hear of it than a client is to wait.
            return outcome
    return _go_alone(change)


def _concerns_all(error: Exception) -> bool:
    """Whether the database is away, or nobody knows whether it has committed: another try could write twice."""
    labels = ("UnknownTransactionCommitResult", "TransientTransactionError")
    return isinstance(error, ConnectionFailure) or (
        isinstance(error, PyMongoError) and any(map(error.has_error_label, labels))
    )


class _Collision(Exception):
    """Somebody else holds a row, or has a number; each is tried alone then, which may take a while."""


async def _commit(changes: Sequence[_Change[Any]], *, is_alone: bool) -> None:
    async def body(session: AsyncClientSession) -> None:
        try:
            await _write(changes, session)
        except OperationFailure as error:
            if error.code == WRITE_CONFLICT and not is_alone:
                raise _Collision from None
            raise

    for _ in range(NUMBERINGS):
        await _give_numbers(changes)
        try:
            return await transaction(IdempotencyRow, body)
        except DuplicateKeyError as error:
            if (error.details or {}).get("keyPattern") != {"number": 1}:
                raise
            if not is_alone:
                raise _Collision from None
        await _take_back_numbers(changes)
    raise Conflict


async def _give_numbers(changes: Iterable[_Change[Any]]) -> None:
    """Before the transaction, in which the one counter would make those of several processes collide."""
    waiting: dict[str, list[Row]] = defaultdict(list)
    for change in changes:
        for write in change.writes:
            if isinstance(write, Insert) and write.numbered_by and write.row.get("number") is None:
                waiting[write.numbered_by].append(write.row)
    for name, rows in waiting.items():
        for row, number in zip(rows, await next_numbers(name, len(rows)), strict=True):
            row["number"] = number


async def _take_back_numbers(changes: Iterable[_Change[Any]]) -> None:
    """Someone else has one of them: the server died between the counter's step and the use of its numbers."""
    for change in changes:
        for write in change.writes:
            if isinstance(write, Insert) and write.numbered_by:
                write.row["number"] = None
                await adopt_numbers(write.numbered_by, write.model)


async def _write(changes: Sequence[_Change[Any]], session: AsyncClientSession) -> None:
    keyed = [change for change in changes if change.once is not None]
    await remember_all([(change.once, change.result) for change in keyed if change.once is not None], session)
    writes = [write for change in changes for write in change.writes]
    await _update([write for write in writes if isinstance(write, Update)], session)
    await _insert([write for write in writes if isinstance(write, Insert)], session)


async def _update(updates: Iterable[Update], session: AsyncClientSession) -> None:
    by_model: dict[type[Document], list[UpdateOne]] = defaultdict(list)
    for update in updates:
        by_model[update.model].append(UpdateOne(update.where, update.change))
    for model, operations in by_model.items():
        outcome = await collection_of(model).bulk_write(operations, session=session)
        if outcome.matched_count != len(operations):
            raise StaleWrite


async def _insert(inserts: Iterable[Insert], session: AsyncClientSession) -> None:
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
