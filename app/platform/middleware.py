"""What happens to every request: id, body limit, log line, metrics, security headers, the last safety net.

Pure ASGI: Starlette's `BaseHTTPMiddleware` costs more than a whole route here (a task and a stream per request).
"""

import logging
import os
import re
import time
from collections.abc import Callable, MutableMapping
from functools import cache
from http import HTTPStatus
from typing import Any

from prometheus_client import Histogram
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import AppError, BodyTooLarge, DatabaseUnavailable, InternalError, PreflightRefused
from .http import PROBLEM_JSON, problem_body
from .log import log_fields, request_id_var
from .metrics import REQUEST_SECONDS, REQUESTS_IN_PROGRESS
from .onewrite import HeldHead, cycle_of

logger = logging.getLogger("app.access")

MAX_BODY_BYTES = 1024 * 1024
# A client's own id is kept if it can do no harm in a log or a header.
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
# Those that a metric tells apart; any word can come in their place. HEAD has become GET by then.
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# What each answer says that does not say otherwise itself. As ASGI has headers: this is done for every request.
_DEFAULT_HEADERS = (
    (b"cache-control", b"private, no-cache"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    # Pages have their own; nothing else is for a browser to show.
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
# Only what came encrypted may say so (RFC 6797 §7.2).
_ENCRYPTED_ONLY = ((b"strict-transport-security", b"max-age=31536000; includeSubDomains"),)


class RequestScope:
    """Around all that can fail; everything inside can rely on `state["request_id"]`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        token = request_id_var.set(request_id)
        if scope["type"] == "websocket":
            # It knows itself when it is over and why; as a request it would be one that takes hours.
            try:
                await self.app(scope, receive, send)
            finally:
                request_id_var.reset(token)
            return
        # For an answer without end that nobody reads: ASGI has no word for breaking off.
        scope["state"]["transport"] = getattr(getattr(receive, "__self__", None), "transport", None)
        exchange = _Exchange(receive, send, scope)
        try:
            REQUESTS_IN_PROGRESS.inc()
            await self.app(scope, receive, exchange.send)
        except ClientDisconnect:
            logger.info("the client went away before its request was complete")
        except Exception:
            logger.exception("unhandled error")
            await exchange.fail(scope)
        finally:
            REQUESTS_IN_PROGRESS.dec()
            if leave := scope["state"].get("leave"):
                leave()
            _record(scope, exchange.status, time.perf_counter() - started)
            request_id_var.reset(token)


class _Exchange:
    """The answer on its way out: adds the headers that all answers have and remembers the status."""

    def __init__(self, receive: Receive, send: Send, scope: Scope) -> None:
        self._cycle = cycle_of(receive)
        self._head: HeldHead | None = None
        self._send = send
        self._state = scope["state"]
        is_encrypted = scope.get("scheme") == "https"
        self._defaults = _DEFAULT_HEADERS + _ENCRYPTED_ONLY if is_encrypted else _DEFAULT_HEADERS
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            given = {name for name, _ in headers}
            headers += [header for header in self._defaults if header[0] not in given]
            headers.append((b"x-request-id", self._state["request_id"].encode()))
            if standing := self._state.get("standing"):
                headers += [(name.lower().encode(), value.encode()) for name, value in standing.headers().items()]
            message["headers"] = headers
            self._head = HeldHead(self._cycle) if self._cycle else None
            await self._send(message)
            return
        await self._send(message)
        if self._head is not None:
            self._head.release()
            self._head = None

    async def fail(self, scope: Scope) -> None:
        if self.status:  # the answer has begun; all that is left is to break it off
            return
        await _send_problem(self.send, InternalError(), scope)


class Cors(CORSMiddleware):
    """Starlette's, around `RequestScope`, so that pages can read the answers of the last safety net, too.

    To preflights it answers by itself; these answers are made here what all others are, refusals problems.
    """

    def preflight_response(self, request_headers: Headers) -> Any:
        answer = super().preflight_response(request_headers)
        return RequestScope(answer if answer.status_code == HTTPStatus.OK else _preflight_refusal(answer))


def _preflight_refusal(answer: Response) -> ASGIApp:
    kept = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
    error = PreflightRefused(bytes(answer.body).decode(), headers=kept)

    async def refuse(scope: Scope, _receive: Receive, send: Send) -> None:
        await _send_problem(send, error, scope)

    return refuse


class HeadAsGet:
    """Answers HEAD as GET (RFC 9110 §9.3.2); the server leaves out the body, whose length is still told.

    `state["is_head"]` is for answers whose body has no end.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET", "state": {**scope.get("state", {}), "is_head": True}}
        await self.app(scope, receive, send)


class UntilPrepared:
    """Refuses the API until models and indexes are ready: before that a list would lack the index it reads."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/api/") and not scope["state"]["database"].is_prepared:
            await _send_problem(send, DatabaseUnavailable(), scope)
            return
        await self.app(scope, receive, send)


class BodyLimit:
    """Refuses bodies over 1 MiB: by their announced length before a byte is read, else as soon as they exceed it."""

    def __init__(self, app: ASGIApp, max_bytes: int = MAX_BODY_BYTES) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self._announces_too_much(_header(scope, b"content-length")):
            await _send_problem(send, BodyTooLarge(), scope)
            return
        await self.app(scope, self._counted(receive), send)

    def _announces_too_much(self, length: str) -> bool:
        digits = length.lstrip("0")
        is_number = digits.isascii() and digits.isdigit()
        return is_number and (len(digits) > len(str(self.max_bytes)) or int(digits) > self.max_bytes)

    def _counted(self, receive: Receive) -> Receive:
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.max_bytes:
                raise BodyTooLarge
            return message

        return counted


async def _send_problem(send: Callable[[Message], Any], error: AppError, scope: Scope) -> None:
    body = problem_body(error, scope["state"]["request_id"], scope["path"])
    headers = {"content-type": PROBLEM_JSON, "content-length": str(len(body)), **error.headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _request_id(scope: Scope) -> str:
    given = _header(scope, b"x-request-id")
    return given if given and _SANE_REQUEST_ID.fullmatch(given) else os.urandom(16).hex()


def _header(scope: Scope, wanted: bytes) -> str:
    """The first of these headers; empty without one."""
    for name, value in scope["headers"]:
        if name == wanted:
            return str(value, "latin-1")
    return ""


@cache
def _timer(method: str, route: str, status: int) -> Histogram:
    """Found once for each of the few combinations, because finding it takes longer than what it does."""
    return REQUEST_SECONDS.labels(method, route, str(status))


def _route_template(scope: MutableMapping[str, Any]) -> str:
    route = scope.get("route")
    return getattr(route, "path", None) or "unmatched"


def _record(scope: Scope, status: int, seconds: float) -> None:
    route = _route_template(scope)
    method = scope["method"] if scope["method"] in _METHODS else "other"
    _timer(method, route, status).observe(seconds)
    # The path only: a query may carry a one-time ticket.
    actor = scope["state"].get("actor")
    log_fields(
        logger,
        "request",
        {
            "method": scope["method"],
            "path": scope["path"],
            "route": route,
            "status": status,
            "duration_ms": round(seconds * 1000, 2),
            "user_id": str(actor.id) if actor else None,
            "client": scope["client"][0] if scope.get("client") else None,
        },
    )
