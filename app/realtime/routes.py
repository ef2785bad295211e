"""REST operations on the event log."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from app.accounts.deps import SIGNED_OUT, CurrentActor
from app.events.replay import EventReader
from app.platform.errors import InvalidInput
from app.platform.http import json_response
from app.platform.openapi import Success, describe, query_parameter
from app.platform.paging import check_parameters
from app.tickets.schemas import EVENT_EXAMPLE, event_out

from .errors import ResyncRequired
from .queries import read_news
from .schemas import CURSOR_EXAMPLE, NewsOut

router = APIRouter(tags=["events"])


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
