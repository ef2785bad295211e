"""REST operations on tickets: from the request to a command or query, and from its result to the answer."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from app.accounts.deps import SIGNED_OUT, CurrentActor, TheIdempotency
from app.accounts.errors import InsufficientScope
from app.platform.clock import now
from app.platform.errors import Conflict, Forbidden, InvalidInput, NotFound
from app.platform.etags import IfMatch, etag, is_unchanged
from app.platform.http import json_response, no_content, problem_members, read_json, read_optional_json
from app.platform.idempotency import Answer
from app.platform.openapi import NO_BODY, PAGE_PARAMETERS, Body, Success, describe
from app.platform.paging import encoded_page_response, page_response
from app.platform.wire import Row

from .commands import Outcome, change_ticket, change_tickets, delete_ticket, open_ticket, restore_ticket
from .errors import IllegalTransition, NotDeleted, NotEditable, ReopenWindowOver, RestoreWindowOver
from .filters import LIST_PARAMETERS
from .queries import get_ticket, list_tickets_encoded, ticket_history
from .schemas import (
    EVENT_EXAMPLE,
    TICKET_EXAMPLE,
    BulkPatch,
    BulkResults,
    EventList,
    TicketCreate,
    TicketList,
    TicketOut,
    TicketPatch,
    event_out,
    ticket_out,
)

router = APIRouter(tags=["tickets"])
# What every operation may answer that changes tickets.
REFUSED = (*SIGNED_OUT, Forbidden, InsufficientScope)
TicketReference = Annotated[
    str,
    Path(
        alias="ticketId",
        description="The ticket's id, or its number",
        examples=[TICKET_EXAMPLE["id"], str(TICKET_EXAMPLE["number"])],
    ),
]


@router.get(
    "/api/tickets",
    **describe(
        "listTickets",
        Success(200, TicketList, {"items": [TICKET_EXAMPLE], "nextCursor": None}, ("Link",)),
        errors=SIGNED_OUT,
        parameters=LIST_PARAMETERS,
    ),
)
async def list_tickets_route(request: Request, actor: CurrentActor) -> Response:
    """The tickets that the caller may see: a Customer's own, everybody's for Agents and Admins."""
    return encoded_page_response(request, await list_tickets_encoded(actor, request.query_params))


@router.post(
    "/api/tickets",
    **describe(
        "createTicket",
        Success(201, TicketOut, TICKET_EXAMPLE, ("ETag", "Location", "Idempotency-Replayed")),
        body=Body(
            TicketCreate,
            {"title": TICKET_EXAMPLE["title"], "description": TICKET_EXAMPLE["description"], "priority": "High"},
        ),
        errors=REFUSED,
        request_headers=["Idempotency-Key"],
    ),
)
async def create_ticket_route(request: Request, actor: CurrentActor, idempotency: TheIdempotency) -> Response:
    """Opens a ticket. Customers may send title, description, priority and tags."""
    body = await read_json(request)
    return await idempotency.run(request, body, lambda once: open_ticket(actor, body, now=now(), once=once), _created)


@router.post(
    "/api/tickets/bulk",
    **describe(
        "updateTickets",
        Success(
            200,
            BulkResults,
            {"results": [{"id": TICKET_EXAMPLE["id"], "status": 200, "ticket": TICKET_EXAMPLE, "error": None}]},
            ("Idempotency-Replayed",),
        ),
        body=Body(BulkPatch, {"ids": [TICKET_EXAMPLE["id"]], "patch": {"priority": "High"}}),
        errors=[*REFUSED, Conflict],
        request_headers=["Idempotency-Key"],
    ),
)
async def update_tickets_route(request: Request, actor: CurrentActor, idempotency: TheIdempotency) -> Response:
    """Applies one patch to up to 100 tickets; each has its own result, in the order of the request."""
    body = await read_json(request)
    return await idempotency.run(
        request,
        body,
        lambda once: change_tickets(actor, body, now=now(), once=once),
        lambda outcomes: Answer.json({"results": [_outcome_out(outcome) for outcome in outcomes]}),
    )


@router.get(
    "/api/tickets/{ticketId}",
    **describe(
        "getTicket",
        Success(200, TicketOut, TICKET_EXAMPLE, ("ETag",)),
        Success(304, headers=("ETag",)),
        errors=[*SIGNED_OUT, NotFound],
        request_headers=["If-None-Match"],
    ),
)
async def get_ticket_route(ticket_id: TicketReference, request: Request, actor: CurrentActor) -> Response:
    """One ticket, by its id or its number."""
    ticket = ticket_out(await get_ticket(actor, ticket_id))
    headers = {"ETag": etag(ticket["version"])}
    if is_unchanged(request, ticket["version"]):
        return Response(status_code=304, headers=headers)
    return json_response(ticket, headers=headers)


@router.patch(
    "/api/tickets/{ticketId}",
    **describe(
        "updateTicket",
        Success(200, TicketOut, TICKET_EXAMPLE, ("ETag",)),
        body=Body(TicketPatch, {"status": "In Progress", "assignedTo": "6740a1f0c3b2a1d4e5f60722"}),
        errors=[
            *REFUSED,
            NotFound,
            IllegalTransition,
            NotEditable,
            ReopenWindowOver,
            Conflict,
        ],
        request_headers=["If-Match"],
    ),
)
async def update_ticket_route(ticket_id: TicketReference, request: Request, actor: CurrentActor) -> Response:
    """Changes a ticket (JSON merge patch). Customers may set title and description while it is Open, close it, and
    reopen it for 14 days. Legal moves: Open → In Progress, Resolved, Closed; In Progress → Open, Resolved, Closed;
    Resolved → Open, In Progress, Closed; Closed → Open.
    """
    body = await read_json(request)
    row = await change_ticket(actor, ticket_id, body, if_match=IfMatch.of(request), now=now())
    return json_response(ticket_out(row), headers={"ETag": etag(row["version"])})


@router.delete(
    "/api/tickets/{ticketId}",
    **describe(
        "deleteTicket",
        Success(204),
        errors=[*REFUSED, NotFound, Conflict],
        request_headers=["If-Match"],
    ),
)
async def delete_ticket_route(ticket_id: TicketReference, request: Request, actor: CurrentActor) -> Response:
    """Takes a ticket out of every list; Admins only, restorable for 30 days."""
    await delete_ticket(actor, ticket_id, if_match=IfMatch.of(request), now=now())
    return no_content()


@router.post(
    "/api/tickets/{ticketId}/restore",
    **describe(
        "restoreTicket",
        Success(200, TicketOut, TICKET_EXAMPLE, ("ETag", "Idempotency-Replayed")),
        body=NO_BODY,
        errors=[*REFUSED, NotFound, NotDeleted, RestoreWindowOver, Conflict],
        request_headers=["Idempotency-Key"],
    ),
)
async def restore_ticket_route(
    ticket_id: TicketReference, request: Request, actor: CurrentActor, idempotency: TheIdempotency
) -> Response:
    """Brings a deleted ticket back, as it was; Admins only."""
    body = await read_optional_json(request)
    return await idempotency.run(
        request,
        body,
        lambda once: restore_ticket(actor, ticket_id, body, now=now(), once=once),
        lambda row: Answer.json(ticket_out(row), etag=etag(row["version"])),
    )


@router.get(
    "/api/tickets/{ticketId}/events",
    **describe(
        "listTicketEvents",
        Success(200, EventList, {"items": [EVENT_EXAMPLE], "nextCursor": None}, ("Link",)),
        errors=[*SIGNED_OUT, NotFound, InvalidInput],
        parameters=PAGE_PARAMETERS,
    ),
)
async def ticket_events_route(ticket_id: TicketReference, request: Request, actor: CurrentActor) -> Response:
    """The ticket's history, oldest first: one event per change. Customers see its public part."""
    page = await ticket_history(actor, ticket_id, request.query_params)
    return page_response(request, page, [event_out(row) for row in page.rows])


def _created(row: Row) -> Answer:
    location = f"/api/tickets/{row['_id']}"
    return Answer.json(ticket_out(row), status=201, etag=etag(row["version"]), location=location)


def _outcome_out(outcome: Outcome) -> Row:
    return {
        "id": outcome.id,
        "status": outcome.error.status if outcome.error else 200,
        "ticket": ticket_out(outcome.ticket) if outcome.ticket else None,
        "error": problem_members(outcome.error) if outcome.error else None,
    }
