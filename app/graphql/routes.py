"""GraphQL over HTTP (draft of 2025): requests in, answers, statuses and media types out."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import APIRouter, Request
from graphql import ExecutionResult, OperationType
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response
from starlette.routing import WebSocketRoute

from app.accounts.actor import Actor
from app.accounts.deps import current_actor, origin_of
from app.platform.errors import (
    AppError,
    DatabaseUnavailable,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InternalError,
    InvalidIdempotencyKey,
    UnsupportedMediaType,
)
from app.platform.http import JSON, decode_json, refuse_coded, to_app_error
from app.platform.idempotency import REPLAYED, Idempotency
from app.platform.sharing import SharedReads
from app.platform.wire import to_json

from .answers import error_out, errors_out, result_out
from .context import Context
from .errors import InvalidRequest, NotAcceptable, Refused
from .explorer import explorer_page
from .keyed import KeyedMutation
from .negotiation import preferred
from .operations import Asked, Operation, asked_of, check_operation, execute_operation
from .schema import sdl
from .socket import GraphQLSocket

logger = logging.getLogger(__name__)

GRAPHQL_JSON = "application/graphql-response+json"
HTML = "text/html"
# A client that does not say is taken for one of the original service's.
OFFERS = (JSON, GRAPHQL_JSON)
# Their answers depend on the database, the caller's rights and nothing else: neither on the time nor on chance.
SHARED = frozenset({"tickets", "ticket", "ticketConnection"})
# Of answers that may be given again while nothing is written.
ANSWERS_BYTES = 4 * 1024 * 1024
BY_GET = frozenset({OperationType.QUERY})
BY_POST = frozenset({OperationType.QUERY, OperationType.MUTATION})

router = APIRouter(include_in_schema=False, routes=[WebSocketRoute("/graphql", GraphQLSocket())])


@router.get("/graphql/schema.graphql")
async def schema_route() -> Response:
    """The schema definition, for whoever generates a client."""
    return PlainTextResponse(sdl())


@router.post("/graphql")
async def post_route(request: Request) -> Response:
    return await _answered(request, _asked_by_post, BY_POST)


@router.get("/graphql")
async def get_route(request: Request) -> Response:
    """A query; to a browser, the page to write one."""
    if preferred(_accept(request), (*OFFERS, HTML)) == HTML:
        return explorer_page()
    return await _answered(request, _asked_by_get, BY_GET)


async def _answered(
    request: Request, read: Callable[[Request], Awaitable[Asked]], allowed: frozenset[OperationType]
) -> Response:
    """The answer, whatever happens: an error of any kind is an answer, too."""
    request_id = request.state.request_id
    media_type = preferred(_accept(request), OFFERS)
    try:
        actor = await _caller(request)
        if media_type is not None:
            operation = check_operation(await read(request), allowed)
            return await _executed(request, actor, operation, media_type)
        shown: AppError = NotAcceptable()
    except Refused as refusal:
        # With application/json a client could not tell another status from a proxy's.
        status = HTTPStatus.BAD_REQUEST if media_type == GRAPHQL_JSON else HTTPStatus.OK
        return _response({"errors": errors_out(refusal.errors, request_id)}, media_type, status)
    except ClientDisconnect:
        raise
    except Exception as error:
        shown = to_app_error(error)
        if isinstance(shown, InternalError):
            logger.exception("unhandled error")
    return _response({"errors": [error_out(shown, request_id)]}, media_type, shown.status, shown.headers)


async def _caller(request: Request) -> Actor:
    """Raises `DatabaseUnavailable`, `Unauthenticated`, `InvalidToken`."""
    if not request.state.database.is_prepared:
        raise DatabaseUnavailable
    return await current_actor(request)


async def _executed(request: Request, actor: Actor, operation: Operation, media_type: str) -> Response:
    keyed = await _keyed(request, operation)
    if keyed is not None and keyed.stored_body:
        return _response(keyed.stored_body, media_type, headers=REPLAYED)
    request_id = request.state.request_id
    context = Context(actor, request_id, request.state.events, keyed, origin=origin_of(request))
    if operation.kind is OperationType.QUERY and operation.asks_for <= SHARED:
        asked = operation.asked
        question = (asked.text, orjson.dumps(asked.variables, option=orjson.OPT_SORT_KEYS), asked.operation_name)
        key = (actor.id, actor.role, actor.scope, *question)
        result, body = await _answers.share(key, lambda: _answer(operation, context))
    else:
        result, body = await _answer(operation, context)
    # Errors name the request, which is not the one that was answered if the answer is shared.
    body = body or to_json(result_out(result, operation.cost, request_id))
    if keyed is None:
        return _response(body, media_type)
    _refuse_key(result)
    # What went wrong on our side in passing is not to be repeated for a day.
    if not _is_our_fault(result):
        await keyed.complete(body)
    return _response(keyed.stored_body or body, media_type, headers=REPLAYED if keyed.is_repeated else None)


async def _answer(operation: Operation, context: Context) -> tuple[ExecutionResult, bytes]:
    """The result, and as the body of an answer if it has no errors."""
    result = await execute_operation(operation, context)
    return result, b"" if result.errors else to_json(result_out(result, operation.cost, context.request_id))


def _size_of(answer: tuple[ExecutionResult, bytes]) -> int:
    return len(answer[1]) or ANSWERS_BYTES  # errors are not worth keeping, and too large for it


_answers: SharedReads[tuple[ExecutionResult, bytes]] = SharedReads(size_of=_size_of, capacity=ANSWERS_BYTES)


async def _keyed(request: Request, operation: Operation) -> KeyedMutation | None:
    """The mutation's `Idempotency-Key`, if it has one; queries need none. Raises `InvalidIdempotencyKey`."""
    if operation.kind is not OperationType.MUTATION:
        return None
    idempotency: Idempotency = request.state.idempotency
    asked = operation.asked
    key = idempotency.key_of(request, [asked.text, asked.variables, asked.operation_name])
    if key is None:
        return None
    if len(operation.root_fields) != 1:
        raise InvalidIdempotencyKey("Idempotency-Key is for a document with exactly one mutation")
    return KeyedMutation(key, await key.first_answer())


def _refuse_key(result: ExecutionResult) -> None:
    """A key that can't be used refuses the request, not the field that happened to find out."""
    for error in result.errors or ():
        if isinstance(error.original_error, IdempotencyInProgress | IdempotencyKeyReused):
            raise error.original_error


def _is_our_fault(result: ExecutionResult) -> bool:
    causes = [error.original_error for error in result.errors or ()]
    return any(to_app_error(cause).status >= HTTPStatus.INTERNAL_SERVER_ERROR for cause in causes if cause is not None)


async def _asked_by_post(request: Request) -> Asked:
    """Raises `UnsupportedMediaType`, `MalformedJson`, `InvalidRequest`."""
    given = [_media_type(header) for header in request.headers.getlist("content-type")]
    if given not in (["application/json"], ["application/json; charset=utf-8"]):
        raise UnsupportedMediaType
    refuse_coded(request)
    return asked_of(decode_json(await request.body()))


async def _asked_by_get(request: Request) -> Asked:
    """Raises `MalformedJson`, `InvalidRequest`."""
    query = request.query_params
    for name in ("query", "variables", "operationName", "extensions"):
        if len(query.getlist(name)) > 1:
            raise InvalidRequest(f"{name} must be given only once")
    given: dict[str, Any] = {"query": query.get("query"), "operationName": query.get("operationName")}
    for name in ("variables", "extensions"):
        if query.get(name):
            given[name] = decode_json(query[name].encode(errors="surrogateescape"), name)
    return asked_of(given)


def _media_type(header: str) -> str:
    return "; ".join(part.strip().lower() for part in header.replace('"', "").split(";"))


def _accept(request: Request) -> str:
    return ",".join(request.headers.getlist("accept"))


def _response(
    content: bytes | Mapping[str, Any],
    media_type: str | None,
    status: int = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
) -> Response:
    body = content if isinstance(content, bytes) else to_json(content)
    return Response(body, status, {"Vary": "Accept", **(headers or {})}, f"{media_type or JSON}; charset=utf-8")
