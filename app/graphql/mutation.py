"""Changing: each field calls the command that REST's route calls, with the same order of checks."""

from typing import Annotated, Any

import strawberry
from strawberry import ID, UNSET

from app.platform.clock import now
from app.platform.errors import FieldError, InvalidInput
from app.platform.etags import IfMatch, etag
from app.platform.wire import Row
from app.tickets.commands import Outcome, change_ticket, change_tickets, delete_ticket, open_ticket, restore_ticket
from app.tickets.schemas import MAX_BULK, ticket_out

from .context import Info
from .inputs import TicketInput, TicketPatch
from .types import BulkResult, Reference, TicketType

Version = Annotated[
    int | None,
    strawberry.argument(
        description="The version to change, like REST's If-Match; `version_conflict` if it has moved on"
    ),
]
Ids = Annotated[list[ID], strawberry.argument(description=f"1 to {MAX_BULK} ids, each once")]


async def create_ticket(info: Info, ticket_input: TicketInput | None = UNSET) -> Any:
    if not ticket_input:
        raise InvalidInput(FieldError("ticketInput", "required", "must be given"))
    context, body = info.context, ticket_input.given()
    return ticket_out(await context.carry_out(lambda once: open_ticket(context.actor, body, now=now(), once=once)))


async def update_ticket(
    info: Info,
    id: Reference,  # noqa: A002 - the argument's name
    patch: TicketPatch,
    version: Version = UNSET,
) -> Any:
    context, body, if_match = info.context, patch.given(), _precondition(version)
    return ticket_out(
        await context.carry_out(
            lambda once: change_ticket(context.actor, id, body, if_match=if_match, now=now(), once=once)
        )
    )


async def delete_ticket_by_id(info: Info, id: Reference, version: Version = UNSET) -> Any:  # noqa: A002 - see above
    context, if_match = info.context, _precondition(version)
    return await context.carry_out(
        lambda once: delete_ticket(context.actor, id, if_match=if_match, now=now(), once=once), lambda row: row["_id"]
    )


async def restore_ticket_by_id(info: Info, id: Reference) -> Any:  # noqa: A002 - see above
    context = info.context
    return ticket_out(await context.carry_out(lambda once: restore_ticket(context.actor, id, {}, now=now(), once=once)))


async def bulk_update_tickets(info: Info, ids: Ids, patch: TicketPatch) -> Any:
    context, body = info.context, {"ids": ids, "patch": patch.given()}
    values = await context.carry_out(
        lambda once: change_tickets(context.actor, body, now=now(), once=once),
        lambda outcomes: [_outcome(outcome) for outcome in outcomes],
    )
    return [{**value, "ticket": ticket_out(value["ticket"]) if value["ticket"] else None} for value in values]


def _precondition(version: int | None) -> IfMatch:
    return IfMatch() if version is None or version is UNSET else IfMatch(etag(version))


def _outcome(outcome: Outcome) -> Row:
    error = outcome.error
    refusal = {"errors": None, "legalTransitions": None, **error.extra} if error else {}
    return {
        "id": outcome.id,
        "status": error.status if error else 200,
        "ticket": outcome.ticket,
        "error": {"code": error.code, "detail": error.text, **refusal} if error else None,
    }


@strawberry.type
class Mutation:
    create_ticket: TicketType | None = strawberry.field(
        resolver=create_ticket, description="Opens a ticket. Customers may send title, description, priority and tags"
    )
    update_ticket: TicketType | None = strawberry.field(
        resolver=update_ticket,
        description="Changes a ticket. Customers may set title and description while it is Open, close it, "
        "and reopen it for 14 days",
    )
    delete_ticket: ID | None = strawberry.field(
        resolver=delete_ticket_by_id,
        description="Takes a ticket out of every list and answers its id; Admins only, restorable for 30 days",
    )
    restore_ticket: TicketType | None = strawberry.field(
        resolver=restore_ticket_by_id, description="Brings a deleted ticket back, as it was; Admins only"
    )
    bulk_update_tickets: list[BulkResult] | None = strawberry.field(
        resolver=bulk_update_tickets,
        description="Applies one patch to many tickets; each has its own result, in the order of the ids. "
        "Agents and Admins only",
    )
