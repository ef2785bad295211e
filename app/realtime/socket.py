"""`GET /ws`: live events over a WebSocket."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pymongo.errors import PyMongoError
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from app.accounts.deps import Charge, bearer_token
from app.accounts.errors import InvalidToken, MfaSetupRequired
from app.accounts.queries import claims_of
from app.accounts.tokens import AccessClaims, Tokens
from app.platform.clock import now
from app.platform.errors import AppError, InvalidInput, MalformedJson, TooManyRequests
from app.platform.http import decode_json, is_outage
from app.platform.metrics import EVENTS_DELIVERED
from app.platform.websocket import TooManyMessages, WebSocketConnection, text_frame

from .commands import redeem_ticket
from .feed import Feed, Resync
from .hub import Hub, Listener
from .origins import is_allowed_origin
from .protocol import (
    AUTH_TIMEOUT,
    FAULT,
    MFA_REQUIRED,
    NO_TOKEN,
    NOT_READY,
    OTHER_USER,
    TOO_MANY_MESSAGES,
    WRONG_ORIGIN,
    AuthFrame,
    CloseCode,
    Ending,
    Options,
    StreamEnds,
    options_of,
    ready_frame,
    resync_frame,
)
from .ring import Broadcast

logger = logging.getLogger(__name__)

DOOR = "websocket"
AUTH_WITHIN_S = 10
# A client has nothing to say but who it is, once an hour.
MAX_MESSAGES = 20


@dataclass(frozen=True, slots=True)
class _Credential:
    """A token, or a ticket in its place."""

    text: str
    is_ticket: bool = False


class LiveSocket:
    """The ASGI application behind `/ws`; one call is one connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = WebSocketConnection(receive, send, messages_per_minute=MAX_MESSAGES)
        await connection.accept()
        try:
            await _Visit(HTTPConnection(scope), connection).run()
        except StreamEnds as end:
            await connection.close(end.ending.code, end.ending.reason)


class _Visit:
    """One client's stay, from the handshake to the end."""

    def __init__(self, request: HTTPConnection, connection: WebSocketConnection) -> None:
        self._request = request
        self._connection = connection
        self._tokens: Tokens = request.state.tokens
        self._hub: Hub = request.state.hub
        self._closing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Raises `StreamEnds`."""
        if not is_allowed_origin(self._request.headers, self._request.state.allowed_origins):
            raise StreamEnds(WRONG_ORIGIN)
        self._hub.check_open()
        try:
            given, options = await self._introduction()
            with self._charged(given) as charge:
                claims = await self._claims(given)
                charge.names(claims.user_id)
                listener = Listener(DOOR, claims, self._end)
                await self._hub.enter(listener)
        except AppError as error:
            raise StreamEnds(_ending_for(error)) from None
        except PyMongoError:
            raise StreamEnds(NOT_READY) from None
        try:
            await self._stay(listener, options)
        finally:
            self._hub.leave(listener)

    async def _introduction(self) -> tuple[_Credential, Options]:
        """What says who it is, in header, query or first message, and what they want to hear."""
        options = options_of(self._request.query_params, "ticket")
        if "authorization" in self._request.headers:
            token = bearer_token(self._request)
            if token is None:
                raise InvalidToken
            return _Credential(token), options
        if "ticket" in self._request.query_params:
            return _Credential(self._request.query_params["ticket"], is_ticket=True), options
        try:
            async with asyncio.timeout(AUTH_WITHIN_S):
                first = await self._read()
        except TimeoutError:
            raise StreamEnds(AUTH_TIMEOUT) from None
        if first is None:
            raise StreamEnds(NO_TOKEN)  # gone; nobody hears this
        given = first.model_dump(include=first.model_fields_set & Options.model_fields.keys())
        return _Credential(first.token), options.model_copy(update=given)

    def _charged(self, given: _Credential) -> Charge:
        return Charge(self._request, None if given.is_ticket else given.text, is_stream=True)

    async def _claims(self, given: _Credential) -> AccessClaims:
        if given.is_ticket:
            return await redeem_ticket(given.text, DOOR, tokens=self._tokens, now=now())
        return await claims_of(given.text, self._tokens, now())

    async def _stay(self, listener: Listener, options: Options) -> None:
        try:
            feed, cursor, resync = await self._hub.open_feed(listener, options, self._take)
        except PyMongoError:
            raise StreamEnds(NOT_READY) from None
        self._connection.write(text_frame(ready_frame(cursor)))
        if resync:
            self._connection.write(text_frame(resync_frame(resync.cursor)))
        telling = asyncio.create_task(self._tell(listener, feed))
        try:
            while (message := await self._read()) is not None:
                await self._renew(listener, message, options)
                self._connection.write(text_frame(ready_frame(feed.cursor)))
        finally:
            telling.cancel()

    def _take(self, item: Broadcast) -> bool:
        """Writes an event at once, if the reader has read most of those before."""
        return self._connection.offer(item.websocket_frame)

    async def _tell(self, listener: Listener, feed: Feed) -> None:
        """Writes what `_take` could not: what was missed, and what came while the reader was busy."""
        try:
            while listener.ending is None:
                news = await feed.next()
                if isinstance(news, Resync):
                    self._connection.write(text_frame(resync_frame(news.cursor)))
                elif listener.ending is None:
                    self._connection.write(b"".join(item.websocket_frame for item in news))
                    EVENTS_DELIVERED.inc(len(news))
                await self._connection.caught_up()
        except Exception as error:
            if not is_outage(error):
                logger.exception("a live stream broke off")
            self._hub.end(listener, NOT_READY if is_outage(error) else FAULT)

    async def _renew(self, listener: Listener, message: AuthFrame, options: Options) -> None:
        """Goes on with another token. Raises `StreamEnds`."""
        try:
            given = _Credential(message.token)
            with self._charged(given) as charge:
                claims = await self._claims(given)
                charge.names(claims.user_id)
                if claims.user_id != listener.claims.user_id:
                    raise StreamEnds(OTHER_USER)
                if _differs(message, options):
                    raise StreamEnds(Ending(CloseCode.NOT_UNDERSTOOD, "A renewal can't change what the stream tells"))
                await self._hub.renew(listener, claims)
        except AppError as error:
            raise StreamEnds(_ending_for(error)) from None
        except PyMongoError:
            raise StreamEnds(NOT_READY) from None

    async def _read(self) -> AuthFrame | None:
        """The client's next message; None when it is gone. Raises `StreamEnds`."""
        try:
            message = await self._connection.read()
        except TooManyMessages:
            raise StreamEnds(TOO_MANY_MESSAGES) from None
        if message is None:
            return None
        try:
            return AuthFrame.parse(_decoded(message))
        except InvalidInput as error:
            raise StreamEnds(_ending_for(error)) from None

    def _end(self, ending: Ending) -> None:
        self._closing = asyncio.create_task(self._connection.close(ending.code, ending.reason))


def _decoded(message: str | bytes) -> Mapping[str, Any]:
    """Raises `StreamEnds` for what is no JSON object."""
    try:
        value = decode_json(message.encode()) if isinstance(message, str) else None
    except MalformedJson:
        value = None
    if not isinstance(value, dict):
        raise StreamEnds(Ending(CloseCode.NOT_UNDERSTOOD, "A message is a JSON object, as text"))
    return value


def _differs(message: AuthFrame, options: Options) -> bool:
    given = message.model_fields_set & {"ticket_id", "types"}
    return any(getattr(message, name) != getattr(options, name) for name in given)


def _ending_for(error: AppError) -> Ending:
    match error:
        case InvalidToken():
            return NO_TOKEN
        case MfaSetupRequired():
            return MFA_REQUIRED
        case TooManyRequests():
            return Ending(CloseCode.TOO_MUCH, error.text)
        case InvalidInput():
            return Ending(CloseCode.NOT_UNDERSTOOD, error.text)
        case _:
            return FAULT
