"""HTTP's own rules: bodies in, JSON and problems out."""

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from http import HTTPStatus
from itertools import chain
from typing import Any
from urllib.parse import quote

import orjson
from beanie.exceptions import CollectionWasNotInitialized
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pymongo.errors import (
    ConnectionFailure,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    WaitQueueTimeoutError,
    WriteConcernError,
)
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from .errors import (
    AppError,
    DatabaseUnavailable,
    FieldError,
    InternalError,
    InvalidInput,
    MalformedJson,
    MethodNotAllowed,
    NotFound,
    UnsupportedMediaType,
)
from .wire import JsonObject, to_json

logger = logging.getLogger(__name__)

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
# For answers that carry a credential.
NO_STORE = {"Cache-Control": "no-store"}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_CHARSET = re.compile(r'(?:^|;)\s*charset="?([^\s;"]*)', re.IGNORECASE)
# Of arrays and objects in each other; far more than any body has, and few enough for whoever walks or prints a value.
MAX_LEVELS = 32
JSON_TYPES = frozenset({JSON, "application/merge-patch+json"})
# Answers of the server that say "not now" but are no ConnectionFailure: a step-down or a shutdown in mid-transaction.
TRANSIENT_LABELS = ("TransientTransactionError", "UnknownTransactionCommitResult", "RetryableWriteError")
# The same of reads, which bear no label: HostUnreachable, HostNotFound, LockTimeout, CursorNotFound, NetworkTimeout,
# ReadConcernMajorityNotAvailableYet, CursorKilled, ExceededTimeLimit, SocketException, Interrupted.
TRANSIENT_CODES = frozenset({6, 7, 24, 43, 89, 134, 237, 262, 9001, 11601})


def json_response(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(to_json(value), status, headers, JSON)


def no_content() -> Response:
    return Response(status_code=204)


async def read_json(request: Request) -> JsonObject:
    """The body as a JSON object. Raises `UnsupportedMediaType`, `MalformedJson`.

    Called by a route after its caller is known and not declared as a FastAPI body, because FastAPI would parse the
    body before it asks who is calling (contract §2, order of checks).
    """
    if not all(map(_is_json, request.headers.getlist("content-type"))):
        raise UnsupportedMediaType
    refuse_coded(request)
    value = decode_json(await request.body())
    if not isinstance(value, dict):
        raise MalformedJson("The body must be a JSON object")
    return value


def _is_json(content_type: str) -> bool:
    """Whether it says JSON in UTF-8; other parameters mean nothing (RFC 8259 §11)."""
    media_type, _, parameters = content_type.partition(";")
    is_utf8 = all(charset.lower() in {"utf-8", "utf8"} for charset in _CHARSET.findall(parameters))
    return media_type.strip().lower() in JSON_TYPES and is_utf8


def refuse_coded(request: Request) -> None:
    """Raises `UnsupportedMediaType` for a compressed body: a small one could become large (RFC 9110 §8.4)."""
    if any(given.strip().lower() not in {"", "identity"} for given in request.headers.getlist("content-encoding")):
        raise UnsupportedMediaType("Send the body without a Content-Encoding", headers={"Accept-Encoding": "identity"})


async def read_optional_json(request: Request) -> JsonObject:
    """The same where the body may be left out."""
    return await read_json(request) if await request.body() else {}


def decode_json(raw: bytes, what: str = "The body") -> Any:
    """The value that a client sent; `what` names it in the refusal. Raises `MalformedJson`."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise MalformedJson(f"{what} is not valid JSON: {error.msg} at character {error.pos}") from None
    # Hardly a body has so many brackets; only those that do are looked through.
    if raw.count(b"[") + raw.count(b"{") > MAX_LEVELS and _has_more_levels(value):
        raise MalformedJson(f"{what} is nested more than {MAX_LEVELS} levels deep")
    return value


def _has_more_levels(value: Any) -> bool:
    level: list[Any] = [[value]]
    for _ in range(MAX_LEVELS + 1):
        members = chain.from_iterable(one.values() if isinstance(one, dict) else one for one in level)
        level = [member for member in members if isinstance(member, dict | list)]
    return bool(level)


def problem_members(error: AppError) -> dict[str, Any]:
    """Problem details (RFC 9457), with the original service's `error` beside `detail`."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.text,
        "code": error.code,
        "error": error.text,
        **error.extra,
    }


def problem_body(error: AppError, request_id: str, path: str) -> bytes:
    return to_json({**problem_members(error), "instance": quote(path, errors="replace"), "requestId": request_id})


def problem_response(request: Request, error: AppError) -> Response:
    request_id = request.scope["state"].get("request_id", "")
    body = problem_body(error, request_id, request.scope["path"])
    return Response(body, error.status, {**error.headers, "Content-Language": "en"}, PROBLEM_JSON)


def to_app_error(error: Exception) -> AppError:
    """What the client is told about any exception; `InternalError` for what nobody foresaw."""
    match error:
        case AppError():
            return error
        case RequestValidationError():
            return InvalidInput(*_parameter_errors(error.errors()))
        case HTTPException(status_code=404):
            return NotFound()
        case HTTPException(status_code=405):
            return MethodNotAllowed()
        case _ if is_outage(error):
            return DatabaseUnavailable()
        case _:
            return InternalError()


def is_outage(error: Exception) -> bool:
    """Whether the database can't be reached, is changing its primary, hangs, or was not there since we started."""
    if isinstance(error, PyMongoError):
        kinds = (ConnectionFailure, ExecutionTimeout, WaitQueueTimeoutError, WriteConcernError)
        has_code = isinstance(error, OperationFailure) and error.code in TRANSIENT_CODES
        is_known = isinstance(error, kinds) or error.timeout or has_code
        return is_known or any(map(error.has_error_label, TRANSIENT_LABELS))
    return isinstance(error, CollectionWasNotInitialized)


def _parameter_errors(errors: Sequence[Any]) -> list[FieldError]:
    return [FieldError(".".join(str(part) for part in e["loc"][1:]), e["type"], e["msg"]) for e in errors]


def allow(methods: Collection[str]) -> str:
    """The `Allow` header (RFC 9110 §10.2.1)."""
    ordered = [method for method in METHODS if method in methods]
    return ", ".join(["HEAD", *ordered] if "GET" in ordered else ordered)


def _allowed_methods(request: Request) -> str:
    """All methods of this path; the router knows only those of its first route."""
    tries = {method: {**request.scope, "method": method} for method in METHODS}
    return allow([m for m, s in tries.items() if any(r.matches(s)[0] is Match.FULL for r in request.app.routes)])


async def _render(request: Request, error: Exception) -> Response:
    shown = to_app_error(error)
    if isinstance(shown, MethodNotAllowed) and not shown.headers:
        shown = MethodNotAllowed(headers={"Allow": _allowed_methods(request)})
    if isinstance(shown, InternalError):
        logger.error("unhandled error", exc_info=error)
    return problem_response(request, shown)


def install_error_handlers(app: FastAPI) -> None:
    """One handler for all: errors carry their status, this renders them."""
    for kind in (AppError, RequestValidationError, HTTPException, CollectionWasNotInitialized, PyMongoError):
        app.add_exception_handler(kind, _render)
