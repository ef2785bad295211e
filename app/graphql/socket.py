"""GraphQL over a WebSocket, by the graphql-transport-ws protocol (that of the graphql-ws library)."""

import asyncio
from collections.abc import Collection, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

from graphql import GraphQLError, OperationType
from pymongo.errors import PyMongoError
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from app.accounts.actor import Actor
from app.accounts.deps import Charge, bearer_token, origin_of
from app.accounts.errors import InvalidToken, MfaSetupRequired
from app.accounts.queries import claims_of
from app.accounts.tokens import Tokens
from app.events.replay import EventReader
from app.platform.clock import now
from app.platform.errors import MalformedJson, TooManyRequests
from app.platform.http import decode_json
from app.platform.metrics import EVENTS_DELIVERED
from app.platform.ratelimit import Budgets
from app.platform.websocket import TooManyMessages, WebSocketConnection, text_frame
from app.platform.wire import Row, to_json
from app.realtime.hub import Hub, Listener
from app.realtime.origins import is_allowed_origin
from app.realtime.protocol import NOT_READY, TOO_MANY_MESSAGES, WRONG_ORIGIN, CloseCode, Ending, StreamEnds

from .answers import errors_out, result_out
from .context import Context
from .cost import MAX_COST
from .errors import InvalidRequest, Refused, TooCostly
from .operations import Operation, asked_of, check_operation, execute_operation, source_of
from .subscription import ListeningContext

PROTOCOL = "graphql-transport-ws"
DOOR = "graphql"
INIT_WITHIN_S = 10
MESSAGES_PER_MINUTE = 600
MAX_SUBSCRIPTIONS = 20
RETRY_AFTER_S = 5
# In Python 3.11 `asyncio.wait_for`, by which PyMongo sends, may swallow a cancellation.
CANCEL_AGAIN_S = 1.0
EVERY_KIND = frozenset(OperationType)
PONG: Row = {"type": "pong"}

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
            # Without one of its own protocols a browser would not open the socket, and not see why.
            await connection.accept(next(iter(scope["subprotocols"]), None))
            await connection.close(NO_SUBPROTOCOL.code, NO_SUBPROTOCOL.reason)
            return
        await connection.accept(PROTOCOL)
        try:
            await _Conversation(HTTPConnection(scope), connection).run()
        except StreamEnds as end:
            await connection.close(end.ending.code, end.ending.reason)


@dataclass(frozen=True, slots=True)
class _Subscription:
    operation: Operation
    task: asyncio.Task[None]


class _Conversation:
    """One client's stay: first it says who it is, then what it wants."""

    def __init__(self, request: HTTPConnection, connection: WebSocketConnection) -> None:
        self._request = request
        self._connection = connection
        self._tokens: Tokens = request.state.tokens
        self._hub: Hub = request.state.hub
        self._events: EventReader = request.state.events
        self._budgets: Budgets = request.state.budgets
        self._request_id: str = request.state.request_id
        self._subscriptions: dict[str, _Subscription] = {}
        self._closing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Raises `StreamEnds`."""
        if not is_allowed_origin(self._request.headers, self._request.state.allowed_origins):
            raise StreamEnds(WRONG_ORIGIN)
        self._hub.check_open()
        try:
            async with asyncio.timeout(INIT_WITHIN_S):
                token = await self._introduction()
        except TimeoutError:
            raise StreamEnds(NO_INIT) from None
        listener = await self._enter(token)
        try:
            self._send({"type": "connection_ack"})
            while listener.ending is None and (message := await self._read()) is not None:
                await self._answer(listener, message)
                await self._connection.caught_up()
        finally:
            self._hub.leave(listener)
            await _stop([subscription.task for subscription in self._subscriptions.values()])

    async def _introduction(self) -> str:
        """Waits for `connection_init`, and takes the token from it or from the header."""
        while (message := await self._read()) is not None:
            match message["type"]:
                case "connection_init":
                    return self._token(message.get("payload"))
                case "subscribe":
                    raise StreamEnds(UNAUTHORIZED)
                case "ping":
                    self._send(PONG)
        raise StreamEnds(UNAUTHORIZED)  # gone; nobody hears this

    def _token(self, payload: Row | None) -> str:
        given = {name.lower(): value for name, value in (payload or {}).items()}
        token = bearer_token(self._request)
        if "authorization" in given:
            scheme, _, token = str(given["authorization"]).strip().partition(" ")
            token = token.strip() if scheme.lower() == "bearer" else None
        return token or ""

    async def _enter(self, token: str) -> Listener:
        try:
            with Charge(self._request, token, is_stream=True) as charge:
                claims = await claims_of(token, self._tokens, now())
                charge.names(claims.user_id)
                listener = Listener(DOOR, claims, self._end)
                await self._hub.enter(listener)
        except (InvalidToken, MfaSetupRequired):
            raise StreamEnds(FORBIDDEN) from None
        except TooManyRequests as error:
            raise StreamEnds(Ending(CloseCode.TOO_MUCH, error.text)) from None
        except PyMongoError:
            raise StreamEnds(NOT_READY) from None
        return listener

    async def _answer(self, listener: Listener, message: Row) -> None:
        match message["type"]:
            case "connection_init":
                raise StreamEnds(TWO_INITS)
            case "ping":
                self._send(PONG)
            case "complete":
                if subscription := self._subscriptions.pop(message["id"], None):
                    await _stop([subscription.task])
            case "subscribe":
                await self._start(listener, message["id"], message["payload"])

    async def _start(self, listener: Listener, operation_id: str, payload: Row) -> None:
        if operation_id in self._subscriptions:
            raise StreamEnds(Ending(CloseCode.SAME_ID, f"Subscriber for {operation_id} already exists"))
        with self._refusing(operation_id):
            self._budgets.charge_user(self._request, listener.claims.user_id)
            operation = check_operation(asked_of(payload), EVERY_KIND)
            if operation.kind is OperationType.SUBSCRIPTION:
                self._check_room_for(operation)
                self._subscriptions[operation_id] = _Subscription(
                    operation, asyncio.create_task(self._follow(listener, operation_id))
                )
            else:
                # Here and not beside: who sends many waits for each, which is all that holds them back.
                answer = await self._execute(listener, operation)
                self._send({"id": operation_id, "type": "next", "payload": answer})
                self._send({"id": operation_id, "type": "complete"})

    def _check_room_for(self, operation: Operation) -> None:
        """One event is executed for each of them. Raises `TooManyRequests`, `TooCostly`."""
        if len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
            raise TooManyRequests(RETRY_AFTER_S)
        cost = operation.cost + sum(other.operation.cost for other in self._subscriptions.values())
        if cost > MAX_COST:
            message = f"With this, one event could have {cost} fields on this socket; {MAX_COST} are allowed"
            raise TooCostly(message, extra={"cost": cost, "maxCost": MAX_COST})

    async def _follow(self, listener: Listener, operation_id: str) -> None:
        own = self._subscriptions[operation_id]
        context = ListeningContext(_actor(listener), self._request_id, self._events, self._hub, listener)
        try:
            with self._refusing(operation_id):
                async with aclosing(await source_of(own.operation, context)) as events:
                    async for event in events:
                        answer = await self._execute(listener, own.operation, event)
                        if self._subscriptions.get(operation_id) is not own:
                            return
                        self._send({"id": operation_id, "type": "next", "payload": answer})
                        EVENTS_DELIVERED.inc()
                        await self._connection.caught_up()
                        # A replay from memory to a quick reader waits for nothing else.
                        await asyncio.sleep(0)
        except StreamEnds as end:
            self._hub.end(listener, end.ending)
        finally:
            if self._subscriptions.get(operation_id) is own:
                del self._subscriptions[operation_id]

    async def _execute(self, listener: Listener, operation: Operation, event: Row | None = None) -> Row:
        """Raises `Refused` for an event that can't be shown: the cursor of the next one would hide that."""
        origin = origin_of(self._request)
        context = Context(_actor(listener), self._request_id, self._events, origin=origin)
        result = await execute_operation(operation, context, event)
        if event is not None and result.data is None:
            raise Refused(*result.errors or ())
        return result_out(result, operation.cost, self._request_id)

    @contextmanager
    def _refusing(self, operation_id: str) -> Iterator[None]:
        """Tells the client what keeps its operation from being answered. Raises `StreamEnds`."""
        try:
            yield
        except InvalidRequest as error:
            raise StreamEnds(_not_understood(error.text)) from None
        except StreamEnds:
            raise
        except Refused as refusal:
            self._refuse(operation_id, *refusal.errors)
        except Exception as error:  # noqa: BLE001 - `errors_out` logs what nobody foresaw
            self._refuse(operation_id, GraphQLError(str(error), original_error=error))

    async def _read(self) -> Row | None:
        """The client's next message; None when it is gone. Raises `StreamEnds`."""
        try:
            message = await self._connection.read()
        except TooManyMessages:
            raise StreamEnds(TOO_MANY_MESSAGES) from None
        return None if message is None else _understood(message)

    def _refuse(self, operation_id: str, *errors: GraphQLError) -> None:
        self._send({"id": operation_id, "type": "error", "payload": errors_out(errors, self._request_id)})

    def _send(self, message: Row) -> None:
        if self._closing is None:
            self._connection.write(text_frame(to_json(message)))

    def _end(self, ending: Ending) -> None:
        self._closing = asyncio.create_task(self._connection.close(ending.code, ending.reason))


def _actor(listener: Listener) -> Actor:
    if listener.actor is None:
        raise InvalidToken
    return listener.actor


def _understood(message: str | bytes) -> Row:
    """The message, if it is one that clients may send. Raises `StreamEnds`."""
    try:
        value = decode_json(message.encode()) if isinstance(message, str) else None
    except MalformedJson:
        value = None
    match value:
        case {"type": "connection_init" | "ping" | "pong", **rest}:
            is_whole = isinstance(rest.get("payload"), dict | None)
        case {"type": "subscribe", "id": str(operation_id), "payload": dict()}:
            is_whole = bool(operation_id)
        case {"type": "complete", "id": str(operation_id)}:
            is_whole = bool(operation_id)
        case _:
            is_whole = False
    if not isinstance(value, dict) or not is_whole:
        raise StreamEnds(_not_understood(f"This is no message of {PROTOCOL}, as text"))
    return value


def _not_understood(reason: str) -> Ending:
    return Ending(CloseCode.NOT_UNDERSTOOD, reason)


async def _stop(tasks: Collection[asyncio.Task[None]]) -> None:
    """Returns when they are over."""
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=CANCEL_AGAIN_S)
