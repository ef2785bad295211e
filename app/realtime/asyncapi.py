"""The AsyncAPI document: live events for those who generate clients, from the same models that the streams use."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from pydantic.json_schema import models_json_schema
from starlette.responses import Response

from app.platform.http import JSON
from app.platform.wire import WireModel, to_json
from app.tickets.schemas import EVENT_EXAMPLE

from . import protocol
from .protocol import PARAMETERS, AuthFrame, CloseCode, Ending, EventFrame, Options, ReadyFrame, ResyncFrame
from .schemas import CURSOR_EXAMPLE, TicketToStreamOut

_PLACE = {"cursor": CURSOR_EXAMPLE}
_TOKEN_EXAMPLE = "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.…"  # noqa: S105 - the first part of any
_FIRST = {"type": "auth", "token": _TOKEN_EXAMPLE, "since": CURSOR_EXAMPLE, "types": ["ticket.created"]}
# By the name of the message: its model, whose view of it the client has, and what it can look like.
_MESSAGES: dict[str, tuple[type[WireModel], Any, list[Mapping[str, Any]]]] = {
    "auth": (AuthFrame, "validation", [_FIRST, {"type": "auth", "token": _TOKEN_EXAMPLE}]),
    "ready": (ReadyFrame, "serialization", [{"type": "ready", **_PLACE}]),
    "event": (EventFrame, "serialization", [{"type": "event", **_PLACE, "event": {**EVENT_EXAMPLE, **_PLACE}}]),
    "resync": (ResyncFrame, "serialization", [{"type": "resync", **_PLACE}]),
}
_TOLD = ["ready", "event", "resync"]
# What the client is to do. Those of `CloseCode` that are not here belong to the other WebSocket, at /graphql.
_AFTERWARDS = {
    CloseCode.FAULT: "Come back with `since`, after a pause that grows with each failure.",
    CloseCode.RESTARTING: "Come back with `since`, after a short random pause: everybody else does, too.",
    CloseCode.TRY_LATER: "Come back with `since`, after a pause that grows with each failure.",
    CloseCode.NOT_UNDERSTOOD: "Mend the client: the reason says what was wrong.",
    CloseCode.UNAUTHENTICATED: "Get a new token by `POST /api/token/refresh`, or sign in again; then come back.",
    CloseCode.FORBIDDEN: "Stay away: the same attempt will be refused again.",
    CloseCode.AUTH_TIMEOUT: "Come back, and send the auth message at once.",
    CloseCode.TOO_MUCH: "Come back with `since`, after a pause of some seconds.",
}
_DESCRIPTION = """What happens to tickets, as it happens, over a WebSocket or as Server-Sent Events.

The document is written from the service's side, as AsyncAPI has it: what the service `send`s, a client receives.

All doors, polling by `GET /api/events` included (see `/openapi.json`), tell the same events in the order in which they
were committed, as far as the caller may see their tickets now, and have the same opaque cursors. To start without a
gap: open a stream, keep the cursor of `ready`, load the state, then handle the events; `ticket.version` drops what the
state already had. Keep the cursor of the last event that was handled, and come back with it as `since`: what was missed
comes first, in order, once, from whichever copy of the service. `resync` says that this can't be done: load afresh."""
_SOCKET = """Who it is, is said by one of three: an `Authorization` header, a `ticket` in the query, or a first message
`auth` within 10 s. The service answers `ready`, then tells events. A later `auth` renews the token, which else ends the
stream when it expires, and is answered by `ready`, too. The service pings every 20 s; a message over 64 KiB ends the
stream with 1009, and more than 20 a minute with 4429. A user has 20 streams at most in each process of the service,
all doors together; one more is closed with 4429. What to do after each of the service's close codes is in
`x-close-codes`."""
_STREAM = """The same for whoever can't use a WebSocket: `data` is the frame that `/ws` sends, `id` its cursor. An
EventSource, which can't send a token, has a `ticket` in its query; when it comes back by itself, with `Last-Event-ID`,
the same ticket is good again until the token that it was made with expires. A stream that ends has no code to say why:
the next request is answered as by any other operation (403: get a new token; 429 and 503: wait for `Retry-After`)."""
_HEADERS = {
    "type": "object",
    "properties": {"Authorization": {"type": "string", "description": "`Bearer` and an access token"}},
}
_SECURITY_SCHEMES = {
    "header": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The `token` of `POST /api/login`",
    },
    "ticket": {
        "type": "httpApiKey",
        "in": "query",
        "name": "ticket",
        "description": "From `POST /api/realtime/ticket`: opens one stream, within 30 s",
    },
    # The nearest that AsyncAPI has to a credential inside a message.
    "message": {
        "type": "apiKey",
        "in": "password",
        "description": "The `token` of `POST /api/login` as `token` of an `auth` message",
    },
}


def asyncapi_document(title: str, version: str) -> dict[str, Any]:
    """The document, as JSON has it (AsyncAPI 3.0)."""
    inputs: list[tuple[type[WireModel], Any]] = [(model, mode) for model, mode, _ in _MESSAGES.values()]
    _, definitions = models_json_schema(inputs, ref_template="#/components/schemas/{model}")
    return {
        "asyncapi": "3.0.0",
        "info": {"title": f"{title}: live events", "version": version, "description": _DESCRIPTION},
        "defaultContentType": JSON,
        "servers": {"socket": _server("ws", "wss"), "stream": _server("http", "https")},
        "channels": {
            "socket": {
                "address": "/ws",
                "title": "Live events over a WebSocket",
                "description": _SOCKET,
                "servers": [{"$ref": "#/servers/socket"}],
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _MESSAGES},
                "bindings": {"ws": {"method": "GET", "query": _query(), "headers": _HEADERS}},
                "x-close-codes": _close_codes(),
            },
            "stream": {
                "address": "/api/events/stream",
                "title": "Live events as Server-Sent Events",
                "description": _STREAM,
                "servers": [{"$ref": "#/servers/stream"}],
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _TOLD},
            },
        },
        "operations": {
            "receiveAuth": {
                "action": "receive",
                "summary": "Learn who the client is, or that it has a new token",
                **_on("socket", ["auth"]),
                "security": _security("message"),
                "reply": _on("socket", ["ready"]),
            },
            "sendToSocket": {
                "action": "send",
                "summary": "Tell what happens",
                **_on("socket", _TOLD),
                "security": _security("header", "ticket", "message"),
            },
            "sendToStream": {
                "action": "send",
                "summary": "Tell what happens",
                **_on("stream", _TOLD),
                "security": _security("header", "ticket"),
                "bindings": {"http": {"method": "GET", "query": _query()}},
            },
        },
        "components": {
            "messages": {name: _message(name) for name in _MESSAGES},
            "schemas": definitions["$defs"],
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


def _server(protocol_name: str, with_tls: str) -> dict[str, Any]:
    return {
        "host": "{host}",
        "protocol": protocol_name,
        "description": f"The service itself; behind a proxy with TLS it is `{with_tls}`",
        "variables": {"host": {"default": "127.0.0.1:8000", "description": "Where this document comes from"}},
    }


def _on(channel: str, messages: list[str]) -> dict[str, Any]:
    return {
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in messages],
    }


def _security(*schemes: str) -> list[dict[str, str]]:
    return [{"$ref": f"#/components/securitySchemes/{name}"} for name in schemes]


def _message(name: str) -> dict[str, Any]:
    model, _, examples = _MESSAGES[name]
    return {
        "name": name,
        "contentType": JSON,
        "summary": (model.__doc__ or "").partition("\n")[0],
        "payload": {"$ref": f"#/components/schemas/{model.__name__}"},
        "examples": [{"payload": example} for example in examples],
    }


def _query() -> dict[str, Any]:
    """The query parameters of both streams: the options, as text, and the ticket."""
    options = Options.model_json_schema()["properties"]
    properties = {name: {"type": "string", "description": options[name]["description"]} for name in PARAMETERS}
    properties["types"]["description"] += ", separated by commas"
    ticket = TicketToStreamOut.model_json_schema()["properties"]["ticket"]
    return {"type": "object", "properties": {**properties, "ticket": {"type": "string", **ticket}}}


def _close_codes() -> dict[str, Any]:
    """By the code: the reasons that the service gives with it, and what the client is to do."""
    endings = [value for value in vars(protocol).values() if isinstance(value, Ending)]
    return {
        str(int(code)): {"reasons": [e.reason for e in endings if e.code == code], "client": advice}
        for code, advice in _AFTERWARDS.items()
    }


def asyncapi_router(title: str, version: str) -> APIRouter:
    """`/asyncapi.json`."""
    router = APIRouter(include_in_schema=False)
    document = to_json(asyncapi_document(title, version))

    @router.get("/asyncapi.json")
    async def asyncapi() -> Response:
        return Response(document, media_type=JSON)

    return router
