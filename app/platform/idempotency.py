"""`Idempotency-Key`: a write that is sent twice happens once and is answered twice (contract §2)."""

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

import orjson
from beanie import Document
from fastapi import Request
from pymongo import IndexModel
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import BulkWriteError, OperationFailure
from starlette.responses import Response

from .clock import now
from .errors import AppError, IdempotencyInProgress, IdempotencyKeyReused, InvalidIdempotencyKey
from .mongo import DUPLICATE_KEY, WRITE_CONFLICT, collection_of
from .wire import Row, to_json

Result = TypeVar("Result")

KEEP_S = 24 * 3600
MAX_KEY_LENGTH = 255
REPLAYED = {"Idempotency-Replayed": "true"}


class IdempotencyRow(Document):
    """The first answer to a key, written in the transaction of the change that it tells of."""

    id: str  # type: ignore[assignment]  # a digest of the scope and the key
    fingerprint: bytes
    status: int
    headers: dict[str, str]
    body: bytes
    result: bytes = b""
    at: datetime

    class Settings:
        name = "idempotency"
        indexes = [IndexModel("at", name="expiry", expireAfterSeconds=KEEP_S)]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command's result looks like on the wire; never holds a secret, because it is stored.

    `result` is the command's result by itself, for an answer whose body can be made only after the commit. `shown` is
    the body of the first answer, where that holds a secret: it is not stored, so repetitions answer `body` without it.
    """

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    result: bytes = b""
    shown: bytes = b""

    @classmethod
    def json(cls, value: object, *, status: int = 200, **headers: str) -> "Answer":
        """Keyword names become headers: `etag='"1"'`, `location='/api/…'`."""
        return cls(status, to_json(value), tuple(headers.items()))

    def response(self, **more: str) -> Response:
        media_type = "application/json" if self.body else None
        return Response(self.shown or self.body, self.status, dict(self.headers) | more, media_type)


class AlreadyDone(Exception):
    """The key's first request has committed meanwhile; its answer is to be repeated."""


@dataclass(frozen=True, slots=True)
class Key:
    """A caller's key for one operation: the id of its row, and a digest of the body that it came with."""

    row_id: str
    fingerprint: bytes

    async def first_answer(self) -> Answer | None:
        """The stored answer, if the key was used. Raises `IdempotencyKeyReused` if it was for another body."""
        row = await collection_of(IdempotencyRow).find_one({"_id": self.row_id})
        if row is None:
            return None
        if not hmac.compare_digest(row["fingerprint"], self.fingerprint):
            raise IdempotencyKeyReused
        return Answer(row["status"], row["body"], tuple(row["headers"].items()), row.get("result", b""))

    async def add_body(self, body: bytes) -> None:
        """Completes an answer that was stored without its body; one that has a body keeps it."""
        await collection_of(IdempotencyRow).update_one({"_id": self.row_id, "body": b""}, {"$set": {"body": body}})


class Once(Generic[Result]):
    """One keyed request. The command hands it to the transaction, which calls `remember` before all else."""

    def __init__(self, key: Key, render: Callable[[Result], Answer]) -> None:
        self.key = key
        self._render = render

    async def run(self, command: Callable[["Once[Result]"], Awaitable[Result]]) -> tuple[Answer, bool]:
        """The command's answer, or the one that the key's first request got meanwhile, and whether it is that one.

        Raises `IdempotencyInProgress`, `IdempotencyKeyReused`, or what the command raises.
        """
        answer: Answer | None
        try:
            return self._render(await command(self)), False
        except AlreadyDone:
            answer = await self.key.first_answer()
        except AppError:
            # What stopped this one may be what the key's first request has just done.
            answer = await self.key.first_answer()
            if answer is None:
                raise
        if answer is None:  # it expired in this very moment
            raise IdempotencyInProgress
        return answer, True

    async def remember(self, result: Result, session: AsyncClientSession) -> None:
        """Stores the answer in the caller's transaction; for changes that `commit` can't carry out.

        Raises `IdempotencyInProgress` while another transaction holds the key, `AlreadyDone` once one has it.
        """
        await remember_all([(self, result)], session)

    def row(self, result: Result) -> Row:
        """The answer as it is stored."""
        answer = self._render(result)
        row: Row = {
            "_id": self.key.row_id,
            "fingerprint": self.key.fingerprint,
            "status": answer.status,
            "headers": dict(answer.headers),
            "body": answer.body,
            "at": now(),
        }
        if answer.result:
            row["result"] = answer.result
        return row


async def remember_all(answers: Sequence[tuple[Once[Any], Any]], session: AsyncClientSession) -> None:
    """Stores the answers to keyed requests in the session's transaction.

    Raises `IdempotencyInProgress` while another transaction holds one of the keys, `AlreadyDone` once one has it.
    """
    if not answers:
        return
    rows = [once.row(result) for once, result in answers]
    try:
        await collection_of(IdempotencyRow).insert_many(rows, session=session)
    except BulkWriteError as error:
        if any(one["code"] != DUPLICATE_KEY for one in error.details["writeErrors"]):
            raise
        raise AlreadyDone from None
    except OperationFailure as error:
        if error.code == WRITE_CONFLICT:
            raise IdempotencyInProgress from None
        raise


class Idempotency:
    """Runs commands once per key; `secret` keys the fingerprints, because a body may hold a password."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    async def run(
        self,
        request: Request,
        body: object,
        command: Callable[[Once[Result] | None], Awaitable[Result]],
        render: Callable[[Result], Answer],
    ) -> Response:
        """The answer to this request: the command's, or the one that its key's first request got."""
        key = self.key_of(request, body)
        if key is None:
            return render(await command(None)).response()
        answer, is_repeated = await key.first_answer(), True
        if answer is None:
            answer, is_repeated = await Once(key, render).run(command)
        return answer.response(**REPLAYED) if is_repeated else answer.response()

    def key_of(self, request: Request, body: object) -> Key | None:
        """The request's key; None if it has none. Raises `InvalidIdempotencyKey`."""
        text = _header_of(request)
        return None if text is None else Key(self._row_id(request, text), self._fingerprint(body))

    def _row_id(self, request: Request, key: str) -> str:
        actor = getattr(request.state, "actor", None)
        # Strangers have nothing to tell them apart but where they call from; one must not use up another's key.
        caller = str(actor.id) if actor else request.client and request.client.host
        scope = [caller, request.method, request.scope["path"], key]
        return hashlib.sha256(orjson.dumps(scope)).hexdigest()

    def _fingerprint(self, body: object) -> bytes:
        return hmac.digest(self._secret, orjson.dumps(body, option=orjson.OPT_SORT_KEYS), "sha256")


def _header_of(request: Request) -> str | None:
    values = request.headers.getlist("idempotency-key")
    if not values:
        return None
    key = values[0].strip()
    if len(key) > 1 and key.startswith('"') and key.endswith('"'):
        key = key[1:-1]
    is_printable = key.isascii() and key.isprintable()
    if len(values) > 1 or not is_printable or not 0 < len(key) <= MAX_KEY_LENGTH:
        raise InvalidIdempotencyKey
    return key
