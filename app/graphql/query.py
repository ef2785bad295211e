"""Reading: each field calls the query that REST's route calls."""

from typing import Annotated, Any

import strawberry
from strawberry import ID, UNSET

from app.accounts.deps import object_id
from app.accounts.queries import get_user, list_users, read_user
from app.accounts.schemas import user_out
from app.platform.paging import DEFAULT_LIMIT
from app.tickets.filters import DEFAULT_SORT, SORT_DESCRIPTION, SORT_VALUES
from app.tickets.queries import get_ticket, list_tickets
from app.tickets.schemas import ticket_out

from .analytics import Analytics, analytics
from .connections import connection
from .context import Info
from .inputs import TicketFilter, parameters, text_of
from .types import After, Connection, First, Reference, TicketType, UserType

OrderBy = Annotated[
    str | None,
    strawberry.argument(description=f"One of {', '.join(SORT_VALUES)}; {SORT_DESCRIPTION}. Default {DEFAULT_SORT}"),
]


async def tickets(info: Info, limit: First = DEFAULT_LIMIT) -> Any:
    page = await list_tickets(info.context.actor, parameters(limit=limit))
    return [ticket_out(row) for row in page.rows]


async def ticket(info: Info, id: Reference) -> Any:  # noqa: A002 - the argument's name
    return ticket_out(await get_ticket(info.context.actor, id))


async def ticket_connection(
    info: Info,
    first: First = DEFAULT_LIMIT,
    after: After = UNSET,
    filter: TicketFilter | None = UNSET,  # noqa: A002 - the argument's name
    order_by: OrderBy = UNSET,
) -> Any:
    filters = filter.given() if filter else {}
    given = parameters(limit=first, cursor=after, sort=order_by, **filters)
    return await connection(list_tickets(info.context.actor, given), ticket_out, is_first=text_of(after) is None)


async def me(info: Info) -> Any:
    return user_out(await get_user(info.context.actor.id))


async def users(
    info: Info,
    role: Annotated[str | None, strawberry.argument(description="Only this role: Admin, Agent or Customer")] = UNSET,
    first: First = DEFAULT_LIMIT,
    after: After = UNSET,
) -> Any:
    given = parameters(role=role, limit=first, cursor=after)
    return await connection(list_users(info.context.actor, given), user_out, is_first=text_of(after) is None)


async def user(info: Info, id: ID) -> Any:  # noqa: A002 - the argument's name
    return user_out(await read_user(info.context.actor, object_id(id)))


async def event_cursor(info: Info) -> Any:
    return (await info.context.events.end()).next_cursor


@strawberry.type
class Query:
    tickets: list[TicketType] = strawberry.field(
        resolver=tickets, description="The newest tickets that the caller may see: a Customer's own, else everybody's"
    )
    ticket: TicketType | None = strawberry.field(resolver=ticket, description="One ticket")
    ticket_connection: Connection[TicketType] | None = strawberry.field(
        resolver=ticket_connection, description="The tickets that the caller may see, filtered, sorted, page by page"
    )
    me: UserType = strawberry.field(resolver=me, description="The caller's own account")
    users: Connection[UserType] | None = strawberry.field(
        resolver=users, description="All accounts, newest first; Agents and Admins only"
    )
    event_cursor: str = strawberry.field(
        resolver=event_cursor,
        description="The present end of the event log: ask for it, load the state, then follow `ticketEvents` since it",
    )
    user: UserType | None = strawberry.field(resolver=user, description="One account; Agents and Admins only")
    analytics: Analytics = strawberry.field(
        resolver=analytics, description="Figures on the tickets that are asked about; Agents and Admins only"
    )
