"""The MongoDB client, the building of indexes and the one place that runs transactions and reads of one instant."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import pymongo
from beanie import Document, init_beanie
from pymongo import AsyncMongoClient, IndexModel
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError, ServerSelectionTimeoutError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from .errors import Conflict
from .metrics import DATABASE_UP, TRANSACTION_RETRIES
from .wire import Row

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# Down: no primary within 1.5 s; a transaction waits for one to abort, briefly, and to try again. Hanging: no answer to
# an operation within 10 s, or to the monitor within that, which then breaks off all operations. The driver's
# `timeoutMS` is not used for this: it would also set how long to wait for a primary (measured: the whole 10 s).
# Connecting is given more than selecting, since a process that stood still for a moment must not take the database for
# dead.
SERVER_SELECTION_MS = 1_500
CONNECT_MS = 5_000
OPERATION_MS = 10_000
HEARTBEAT_MS = 5_000
TRANSACTION_S = 5
# A server that is still there is reached in so long; one that is gone has forgotten the transaction.
ABORT_S = 0.5
# By then the server has dropped it by itself.
LET_GO_S = 120
LET_GO_AGAIN_S = 1
# A million old tickets take minutes to index.
INDEX_BUILD_S = 3_600
MAX_ATTEMPTS = 12
DUPLICATE_KEY = 11_000
WRITE_CONFLICT = 112
SNAPSHOT_UNAVAILABLE = 246
_INDEX_EXISTS_OTHERWISE = (85, 86)
# The loop itself keeps no task alive.
_letting_go: set[asyncio.Task[None]] = set()


def connect(uri: str) -> AsyncDatabase[Row]:
    """The database that the URI names; `test` where it names none, as Mongoose has it. Opens no connection yet."""
    client: AsyncMongoClient[Row] = AsyncMongoClient(
        uri,
        tz_aware=True,
        serverSelectionTimeoutMS=SERVER_SELECTION_MS,
        connectTimeoutMS=CONNECT_MS,
        heartbeatFrequencyMS=HEARTBEAT_MS,
        socketTimeoutMS=OPERATION_MS,
        waitQueueTimeoutMS=OPERATION_MS,
        appname="ticketing",
    )
    return client.get_default_database("test")


async def prepare(database: AsyncDatabase[Row], models: Sequence[type[Document]]) -> None:
    """Binds the document models to the database and builds their indexes. Raises `PyMongoError` when it is down."""
    await init_beanie(database=database, document_models=models, skip_indexes=True)
    with pymongo.timeout(INDEX_BUILD_S):
        for model in models:
            await _build_indexes(collection_of(model), getattr(model.Settings, "indexes", []))


def collection_of(model: type[Document]) -> AsyncCollection[Row]:
    """The model's collection, for reads of plain rows and for writes inside a transaction."""
    return model.get_pymongo_collection()


async def _build_indexes(collection: AsyncCollection[Row], indexes: Sequence[IndexModel]) -> None:
    if not indexes:
        return
    try:
        await collection.create_indexes(indexes)
    except OperationFailure:
        for index in indexes:
            await _build_index(collection, index)


async def _build_index(collection: AsyncCollection[Row], index: IndexModel) -> None:
    """An old database may have the same index with other options, or rows that break a unique one: said, not fatal."""
    try:
        await collection.create_indexes([index])
    except OperationFailure as error:
        details = {"collection": collection.name, "index": index.document["name"]}
        if error.code in _INDEX_EXISTS_OTHERWISE:
            logger.warning("an index with other options is in the way and was kept", extra=details)
        elif error.code == DUPLICATE_KEY:
            logger.warning("duplicates prevent a unique index", extra=details | {"duplicate": error.details})
        else:
            raise


async def ping(database: AsyncDatabase[Row]) -> bool:
    """Whether a primary answers within a second."""
    try:
        with pymongo.timeout(1):
            hello = await database.command("hello")
    except PyMongoError:
        DATABASE_UP.set(0)
        return False
    is_up = bool(hello.get("isWritablePrimary"))
    DATABASE_UP.set(is_up)
    return is_up


def heed_cancellation() -> None:
    """Raises `CancelledError` when this task was told to end and went on: for what runs for ever.

    On Python 3.11 the driver loses a cancellation that comes while it sends a command (`asyncio.wait_for` does).
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def transaction(model: type[Document], body: Callable[[AsyncClientSession], Awaitable[Result]]) -> Result:
    """Runs `body` in one transaction on the model's database and answers what it returns, once that is durable.

    `body` may run several times (write conflicts, a change of primary), so it must do nothing but database work in
    its session. An exception from it aborts the transaction. The driver's own `with_transaction` is not used because
    it goes on for two minutes; a client of ours hears "database unavailable" within seconds. Raises `Conflict` when
    other transactions hold the rows for longer than that.
    """
    client = collection_of(model).database.client
    deadline = time.monotonic() + TRANSACTION_S
    async with client.start_session() as session:
        attempt = 1
        while True:
            try:
                return await _run_once(session, body)
            except PyMongoError as error:
                is_last = attempt == MAX_ATTEMPTS or time.monotonic() > deadline
                if is_last or not _is_worth_another_try(error):
                    if isinstance(error, ConnectionFailure):
                        _let_go(client, session.session_id)
                    raise _last_word(error) from error
            TRANSACTION_RETRIES.inc()
            await asyncio.sleep(random.uniform(0, 0.001 * 2**attempt))  # noqa: S311 - jitter, not a secret
            attempt += 1


async def at_one_instant(model: type[Document], body: Callable[[AsyncClientSession], Awaitable[Result]]) -> Result:
    """Runs `body`, whose reads in its session all see the database as of one instant, and answers what it returns.

    `body` may run several times: no collection can be read as of an instant before it was made or changed otherwise,
    and just after that the server may still choose such an instant.
    """
    client = collection_of(model).database.client
    attempt = 1
    while True:
        async with client.start_session(snapshot=True) as session:
            try:
                return await body(session)
            except OperationFailure as error:
                if error.code != SNAPSHOT_UNAVAILABLE or attempt == MAX_ATTEMPTS:
                    raise
        await asyncio.sleep(0.001 * 2**attempt)
        attempt += 1


async def _run_once(session: AsyncClientSession, body: Callable[[AsyncClientSession], Awaitable[Result]]) -> Result:
    # Leaving the block by an exception aborts; the driver swallows errors of the abort itself.
    async with await session.start_transaction(
        read_concern=ReadConcern("snapshot"), write_concern=WriteConcern("majority")
    ):
        try:
            result = await body(session)
        except ConnectionFailure:
            with pymongo.timeout(ABORT_S):
                await session.abort_transaction()
            raise
        await _commit(session)
    return result


async def _commit(session: AsyncClientSession) -> None:
    """Commits; asks again when the answer got lost, which is safe: the server knows the transaction by its number."""
    try:
        await session.commit_transaction()
    except ServerSelectionTimeoutError:
        raise
    except PyMongoError as error:
        if not error.has_error_label("UnknownTransactionCommitResult"):
            raise
        await session.commit_transaction()


def _let_go(client: AsyncMongoClient[Row], session_id: Mapping[str, Any]) -> None:
    task = asyncio.create_task(_kill_session(client, session_id))
    _letting_go.add(task)
    task.add_done_callback(_letting_go.discard)


async def _kill_session(client: AsyncMongoClient[Row], session_id: Mapping[str, Any]) -> None:
    """Frees the rows of a transaction that was given up while the server did not answer, as soon as it does.

    A server that only hung would keep them from everybody else for a minute or more.
    """
    deadline = time.monotonic() + LET_GO_S
    is_first = True
    while time.monotonic() < deadline:
        with suppress(PyMongoError):
            await client.admin.command("killSessions", [session_id])
            if not is_first:
                return
            # Once more, since a step of the transaction may still lie in a socket that the server reads late.
            is_first = False
        await asyncio.sleep(LET_GO_AGAIN_S)


def _last_word(error: PyMongoError) -> Exception:
    """Rows that others hold, or held when their process died, are no outage."""
    is_conflict = isinstance(error, OperationFailure) and error.code == WRITE_CONFLICT
    return Conflict() if is_conflict else error


def _is_worth_another_try(error: PyMongoError) -> bool:
    return error.has_error_label("TransientTransactionError") and not isinstance(error, ServerSelectionTimeoutError)
