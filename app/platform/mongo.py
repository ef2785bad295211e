"""The MongoDB client, the building of indexes and the one place that runs transactions."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import pymongo
from beanie import Document, init_beanie
from pymongo import AsyncMongoClient, IndexModel
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure, PyMongoError, ServerSelectionTimeoutError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from .metrics import DATABASE_UP, TRANSACTION_RETRIES
from .wire import Row

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# Down: no server within 2 s. Hanging: no single operation, and no transaction as a whole, runs longer than 10 s.
SERVER_SELECTION_MS = 2_000
OPERATION_MS = 10_000
TRANSACTION_S = 10
# A million old tickets take minutes to index.
INDEX_BUILD_S = 3_600
MAX_ATTEMPTS = 12
_DUPLICATE_KEY = 11_000
_INDEX_EXISTS_OTHERWISE = (85, 86)


def connect(uri: str) -> AsyncDatabase[Row]:
    """The database that the URI names; `test` where it names none, as Mongoose has it. Opens no connection yet."""
    client: AsyncMongoClient[Row] = AsyncMongoClient(
        uri,
        tz_aware=True,
        serverSelectionTimeoutMS=SERVER_SELECTION_MS,
        connectTimeoutMS=SERVER_SELECTION_MS,
        timeoutMS=OPERATION_MS,
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
        elif error.code == _DUPLICATE_KEY:
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


async def transaction(model: type[Document], body: Callable[[AsyncClientSession], Awaitable[Result]]) -> Result:
    """Runs `body` in one transaction on the model's database and answers what it returns, once that is durable.

    `body` may run several times (write conflicts, a change of primary), so it must do nothing but database work in
    its session. An exception from it aborts the transaction. The driver's own `with_transaction` is not used because
    it goes on for two minutes; a client of ours hears "database unavailable" within seconds.
    """
    client = collection_of(model).database.client
    with pymongo.timeout(TRANSACTION_S):
        async with client.start_session() as session:
            for attempt in range(MAX_ATTEMPTS):
                try:
                    return await _run_once(session, body)
                except PyMongoError as error:
                    if not _is_worth_another_try(error) or attempt == MAX_ATTEMPTS - 1:
                        raise
                TRANSACTION_RETRIES.inc()
                await asyncio.sleep(random.uniform(0, 0.002 * 2**attempt))  # noqa: S311 - jitter, not a secret
    message = "the loop above returns or raises"
    raise AssertionError(message)


async def _run_once(session: AsyncClientSession, body: Callable[[AsyncClientSession], Awaitable[Result]]) -> Result:
    # Leaving the block by an exception aborts; the driver swallows errors of the abort itself.
    async with await session.start_transaction(
        read_concern=ReadConcern("snapshot"), write_concern=WriteConcern("majority")
    ):
        result = await body(session)
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


def _is_worth_another_try(error: PyMongoError) -> bool:
    return error.has_error_label("TransientTransactionError") and not isinstance(error, ServerSelectionTimeoutError)
