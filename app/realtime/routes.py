"""The event log over HTTP: by polling, as a stream, and tickets to streams."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response
from starlette.routing import WebSocketRoute

from app.accounts.deps import SIGNED_OUT, Charge, CurrentActor, TheTokens, bearer_token
from app.accounts.queries import claims_of
from app.accounts.tokens import TICKET_TTL, AccessClaims, Tokens
from app.events.catalog import EventType
from app.events.replay import EventReader, PositionLost
from app.platform.clock import now
from app.platform.errors import DatabaseUnavailable, InvalidInput, TooManyRequests, Unauthenticated
from app.platform.http import NO_STORE, json_response
from app.platform.openapi import Success, describe, query_parameter
from app.platform.paging import check_parameters
from app.tickets.schemas import EVENT_EXAMPLE, event_out

from .commands import redeem_ticket
from .errors import ResyncRequired
from .hub import Hub
from .protocol import TOO_MANY_STREAMS, StreamEnds, options_of
from .queries import read_news
from .schemas import CURSOR_EXAMPLE, NewsOut, TicketToStreamOut
from .socket import LiveSocket
from .stream import DOOR, EventStream

# How soon one of a user's other streams may have ended.
RETRY_AFTER_S = 5

router = APIRouter(tags=["events"], routes=[WebSocketRoute("/ws", LiveSocket())])


async def _events(request: Request) -> EventReader:
    reader: EventReader = request.state.events
    return reader


@router.get(
    "/api/events",
    **describe(
        "listEvents",
        Success(200, NewsOut, {"items": [{**EVENT_EXAMPLE, "cursor": CURSOR_EXAMPLE}], "nextCursor": CURSOR_EXAMPLE}),
        errors=[*SIGNED_OUT, InvalidInput, ResyncRequired],
        parameters=[
            query_parameter("since", "Where to go on: a `nextCursor`, or an event's `cursor`", {"type": "string"}),
            query_parameter(
                "limit", "Events at most", {"type": "integer", "minimum": 1, "maximum": 100, "default": 50}
            ),
        ],
    ),
)
async def list_events_route(
    request: Request, actor: CurrentActor, events: Annotated[EventReader, Depends(_events)]
) -> Response:
    """What happened to the tickets that the caller may see, in the order in which it was committed.

    To start without a gap: ask without `since` and keep `nextCursor`, load the state, then ask with `since` again and
    again; `ticket.version` drops what the state already had. 410 says to start over, from its `cursor`.
    """
    query = request.query_params
    check_parameters(query, "since", "limit")
    news = await read_news(actor, events, since=query.get("since"), limit=query.get("limit"))
    items = [event_out(event.row, event.cursor) for event in news.events]
    return json_response({"items": items, "nextCursor": news.next_cursor})


@router.get(
    "/api/events/stream",
    **describe(
        "streamEvents",
        Success(200, media_type="text/event-stream", example=f'id: {CURSOR_EXAMPLE}\ndata: {{"type":"ready",…}}\n\n'),
        errors=[*SIGNED_OUT, InvalidInput, TooManyRequests],
        parameters=[
            query_parameter("since", "The cursor to go on from; `Last-Event-ID` counts before it", {"type": "string"}),
            query_parameter("ticketId", "Only events of this ticket", {"type": "string"}),
            query_parameter(
                "types", f"Only these types, separated by commas: {', '.join(EventType)}", {"type": "string"}
            ),
            query_parameter("ticket", "In place of the token: from `createStreamTicket`", {"type": "string"}),
        ],
    ),
)
async def stream_events_route(
    request: Request, tokens: TheTokens, events: Annotated[EventReader, Depends(_events)]
) -> Response:
    """The same events as they happen, as Server-Sent Events: the `data` is what `/ws` sends, the `id` its cursor.

    A browser's EventSource, which can't send the token, takes a `ticket`; when it comes back by itself after a break,
    with `Last-Event-ID`, the same ticket is good again, until the token that it was made with expires.
    """
    last_event_id = request.headers.get("last-event-id")
    hub: Hub = request.state.hub
    try:
        with Charge(request, bearer_token(request), is_stream=True) as charge:
            claims = await _claims(request, tokens, events, last_event_id)
            charge.names(claims.user_id)
            stream = EventStream(hub, claims, is_head=getattr(request.state, "is_head", False))
            await hub.enter(stream.listener)
    except StreamEnds as end:
        raise (TooManyRequests(RETRY_AFTER_S) if end.ending is TOO_MANY_STREAMS else DatabaseUnavailable()) from None
    request.state.actor = stream.listener.actor
    try:
        options = options_of(request.query_params, "ticket")
        stream.options = options.model_copy(update={"since": last_event_id}) if last_event_id else options
    except InvalidInput:
        hub.leave(stream.listener)
        raise
    return stream


async def _claims(request: Request, tokens: Tokens, events: EventReader, last_event_id: str | None) -> AccessClaims:
    """Who it is, by header or ticket. Raises `Unauthenticated`, `InvalidToken`."""
    token = bearer_token(request)
    if token is not None:
        return await claims_of(token, tokens, now())
    ticket = request.query_params.get("ticket")
    if ticket is None:
        raise Unauthenticated
    is_reconnect = last_event_id is not None and await _is_ours(last_event_id, events)
    return await redeem_ticket(ticket, DOOR, tokens=tokens, now=now(), is_reconnect=is_reconnect)


async def _is_ours(cursor: str, events: EventReader) -> bool:
    """Whether it is a cursor that we gave: who has seen no more than the URL has none."""
    try:
        await events.decode(cursor)
    except PositionLost:
        return False
    return True


@router.post(
    "/api/realtime/ticket",
    **describe(
        "createStreamTicket",
        Success(201, TicketToStreamOut, {"ticket": "eyJhbGciOiJIUzI1NiIsInR5cCI6InN0K2p3dCJ9.…", "expiresIn": 30}),
        errors=SIGNED_OUT,
    ),
)
async def create_stream_ticket_route(request: Request, _actor: CurrentActor, tokens: TheTokens) -> Response:
    """A ticket to one live stream, for clients that can't send a header: a token has no place in a URL."""
    ticket = tokens.stream_ticket(request.state.claims, now())
    body = {"ticket": ticket, "expiresIn": int(TICKET_TTL.total_seconds())}
    return json_response(body, status=201, headers=NO_STORE)
