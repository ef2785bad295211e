"""GraphQL over a WebSocket, by the graphql-transport-ws protocol (that of the graphql-ws library)."""

import asyncio
from contextlib import aclosing
from typing import Any

import orjson
from graphql import GraphQLError, OperationType
from pymongo.errors import PyMongoError
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from app.accounts.actor import Actor
from app.accounts.deps import bearer_token
from app.accounts.errors import InvalidToken
from app.accounts.tokens import AccessClaims, Tokens
from app.platform.errors import AppError, TooManyRequests
from app.platform.websocket import TooManyMessages, WebSocketConnection, text_frame
from app.platform.wire import Row, to_json
from app.realtime.hub import Hub, Listener
from app.realtime.origins import is_allowed_origin
from app.realtime.protocol import NOT_READY, TOO_MANY_MESSAGES, WRONG_ORIGIN, CloseCode, Ending, StreamEnds

from .answers import errors_out, result_out
from .context import Context
from .errors import InvalidRequest, Refused
from .operations import Operation, asked_of, check_operation, execute_operation, source_of
from .subscription import ListeningContext

PROTOCOL = "graphql-transport-ws"
DOOR = "graphql"
INIT_WITHIN_S = 10
MESSAGES_PER_MINUTE = 600
MAX_SUBSCRIPTIONS = 20
RETRY_AFTER_S = 5
EVERY_KIND = frozenset(OperationType)

# The protocol's own endings, in its own words where it has some.
NO_SUBPROTOCOL = Ending(CloseCode.NO_SUBPROTOCOL, "Subprotocol not acceptable")
NO_INIT = Ending(CloseCode.AUTH_TIMEOUT, "Connection initialisation timeout")
TWO_INITS = Ending(CloseCode.TOO_MUCH, "Too many initialisation requests")
UNAUTHORIZED = Ending(CloseCode.UNAUTHENTICATED, "Unauthorized")
FORBIDDEN = Ending(CloseCode.FORBIDDEN, "Forbidden")


class GraphQLSocket:
    """The ASGI application behind the WebSocket at `/graphql`; one call is one connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = WebSocketConnection(receive, send, messages_per_minute=MESSAGES_PER_MINUTE)
        if PROTOCOL not in scope["subprotocols"]:
            await connection.accept()
            await connection.close(NO_SUBPROTOCOL.code, NO_SUBPROTOCOL.reason)
            return
        await connection.accept(PROTOCOL)
        try:
            await _Conversation(HTTPConnection(scope), connection).run()
        except StreamEnds as end:
            await connection.close(end.ending.code, end.ending.reason)


class _Conversation:
    """One client's stay: first it says who it is, then what it wants."""

    def __init__(self, request: HTTPConnection, connection: WebSocketConnection) -> None:
        self._request = request
        self._connection = connection
        self._tokens: Tokens = request.state.tokens
        self._hub: Hub = request.state.hub
        self._request_id: str = request.state.request_id
        self._subscriptions: dict[str, asyncio.Task[None]] = {}
        self._closing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Raises `StreamEnds`."""
        if not is_allowed_origin(self._request.headers, self._request.state.allowed_origins):
            raise StreamEnds(WRONG_ORIGIN)
        self._hub.check_open()
        try:
            async with asyncio.timeout(INIT_WITHIN_S):
                claims = await self._introduction()
        except TimeoutError:
            raise StreamEnds(NO_INIT) from None
        listener = Listener(DOOR, claims, self._end)
        try:
            await self._hub.enter(listener)
            self._send({"type": "connection_ack"})
            while (message := await self._read()) is not None:
                await self._answer(listener, message)
        except InvalidToken:
            raise StreamEnds(FORBIDDEN) from None
        except PyMongoError:
            raise StreamEnds(NOT_READY) from None
        finally:
            for task in self._subscriptions.values():
                task.cancel()
            self._hub.leave(listener)

    async def _introduction(self) -> AccessClaims:
        """Waits for `connection_init`, and reads who it is from it or from the header."""
        while (message := await self._read()) is not None:
            match message:
                case {"type": "connection_init"}:
                    return self._claims(message.get("payload"))
                case {"type": "ping" | "pong"}:
                    self._answer_ping(message)
                case _:
                    raise StreamEnds(UNAUTHORIZED)
        raise StreamEnds(UNAUTHORIZED)  # gone; nobody hears this

    def _claims(self, payload: object) -> AccessClaims:
        if not isinstance(payload, dict | None):
            raise StreamEnds(_not_understood("Invalid connection_init payload"))
        given = {str(name).lower(): value for name, value in (payload or {}).items()}
        token = bearer_token(self._request)
        if "authorization" in given:
            scheme, _, token = str(given["authorization"]).strip().partition(" ")
            token = token.strip() if scheme.lower() == "bearer" else None
        try:
            return self._tokens.read_access(token or "")
        except InvalidToken:
            raise StreamEnds(FORBIDDEN) from None

    async def _answer(self, listener: Listener, message: Row) -> None:
        match message:
            case {"type": "connection_init"}:
                raise StreamEnds(TWO_INITS)
            case {"type": "ping" | "pong"}:
                self._answer_ping(message)
            case {"type": "complete", "id": str(operation_id)}:
                if task := self._subscriptions.pop(operation_id, None):
                    task.cancel()
            case {"type": "subscribe", "id": str(operation_id), "payload": payload} if operation_id:
                await self._start(listener, operation_id, payload)
            case _:
                raise StreamEnds(_not_understood("Unknown message"))

    async def _start(self, listener: Listener, operation_id: str, payload: object) -> None:
        if operation_id in self._subscriptions:
            raise StreamEnds(Ending(CloseCode.SAME_ID, f"Subscriber for {operation_id} already exists"))
        try:
            operation = check_operation(asked_of(payload), EVERY_KIND)
            if operation.kind is OperationType.SUBSCRIPTION and len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
                raise TooManyRequests(RETRY_AFTER_S)
        except InvalidRequest as error:
            raise StreamEnds(_not_understood(error.text)) from None
        except Refused as refusal:
            self._refuse(operation_id, *refusal.errors)
        except AppError as error:
            self._refuse(operation_id, _located(error))
        else:
            if operation.kind is OperationType.SUBSCRIPTION:
                task = asyncio.create_task(self._follow(listener, operation_id, operation))
                self._subscriptions[operation_id] = task
            else:
                # Here and not beside: who sends many waits for each, which is all that holds them back.
                await self._execute(listener, operation_id, operation)
                self._send({"id": operation_id, "type": "complete"})

    async def _execute(
        self, listener: Listener, operation_id: str, operation: Operation, event: Row | None = None
    ) -> None:
        context = Context(_actor(listener), self._request_id)
        result = await execute_operation(operation, context, event)
        if listener.ending is None:
            payload = result_out(result, operation.cost, self._request_id)
            self._send({"id": operation_id, "type": "next", "payload": payload})
            await self._connection.caught_up()

    async def _follow(self, listener: Listener, operation_id: str, operation: Operation) -> None:
        context = ListeningContext(_actor(listener), self._request_id, self._hub, listener)
        try:
            async with aclosing(await source_of(operation, context)) as events:
                async for event in events:
                    await self._execute(listener, operation_id, operation, event)
        except StreamEnds as end:
            self._hub.end(listener, end.ending)
        except Refused as refusal:
            self._refuse(operation_id, *refusal.errors)
        except Exception as error:  # noqa: BLE001 - a subscription that ends says why, and `errors_out` logs it
            self._refuse(operation_id, _located(error))
        finally:
            if self._subscriptions.get(operation_id) is asyncio.current_task():
                del self._subscriptions[operation_id]

    async def _read(self) -> Row | None:
        """The client's next message; None when it is gone. Raises `StreamEnds`."""
        try:
            message = await self._connection.read()
        except TooManyMessages:
            raise StreamEnds(TOO_MANY_MESSAGES) from None
        if message is None:
            return None
        try:
            value = orjson.loads(message) if isinstance(message, str) else None
        except orjson.JSONDecodeError:
            value = None
        if not isinstance(value, dict):
            raise StreamEnds(_not_understood("A message is a JSON object, as text"))
        return value

    def _answer_ping(self, message: Row) -> None:
        if message["type"] == "ping":
            self._send({"type": "pong"})

    def _refuse(self, operation_id: str, *errors: GraphQLError) -> None:
        self._send({"id": operation_id, "type": "error", "payload": errors_out(errors, self._request_id)})

    def _send(self, message: Any) -> None:
        self._connection.write(text_frame(to_json(message)))

    def _end(self, ending: Ending) -> None:
        self._closing = asyncio.create_task(self._connection.close(ending.code, ending.reason))


def _actor(listener: Listener) -> Actor:
    if listener.actor is None:
        raise InvalidToken
    return listener.actor


def _located(error: Exception) -> GraphQLError:
    return error if isinstance(error, GraphQLError) else GraphQLError(str(error), original_error=error)


def _not_understood(reason: str) -> Ending:
    return Ending(CloseCode.NOT_UNDERSTOOD, reason)
