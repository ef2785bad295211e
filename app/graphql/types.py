"""What clients read: types declared over the same plain objects that REST sends, and how their references resolve."""

from collections.abc import Awaitable
from typing import Annotated, Any, Generic, TypeVar

import strawberry
from bson import ObjectId
from strawberry import ID, UNSET, Parent

from app.events.log import read_history
from app.platform.paging import DEFAULT_LIMIT, MAX_LIMIT, parse_limit
from app.platform.wire import Row
from app.tickets.policy import visible_events_to
from app.tickets.schemas import event_out

from .connections import connection
from .context import Info
from .inputs import text_of
from .scalars import DateTime, JSONValue, Milliseconds

Node = TypeVar("Node")

Reference = Annotated[ID, strawberry.argument(description="The ticket's id, or its number")]
First = Annotated[int | None, strawberry.argument(description=f"Items at most: 1 to {MAX_LIMIT}")]
After = Annotated[
    str | None,
    strawberry.argument(description="Where to go on: an `endCursor`, an edge's `cursor`, REST's `nextCursor`"),
]


@strawberry.type(description="Where a page of a connection stands")
class PageInfo:
    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None = strawberry.field(description="The first edge's cursor; null for an empty page")
    end_cursor: str | None = strawberry.field(description="What to send as `after` for the next page")


@strawberry.type(description="An item and its place in the list")
class Edge(Generic[Node]):
    node: Node
    cursor: str = strawberry.field(description="The place right behind this item; good for REST's `cursor`, too")


@strawberry.type(description="A page of a list (Cursor Connections)")
class Connection(Generic[Node]):
    edges: list[Edge[Node]]
    page_info: PageInfo


@strawberry.type(name="User", description="An account. Null is what the caller may not know of others, or is not set")
class UserType:
    id: ID
    username: str
    role: str = strawberry.field(description="Admin, Agent or Customer")
    name: str | None
    email: str | None
    active: bool | None = strawberry.field(description="Whether the account may sign in")
    mfa_enabled: bool | None = strawberry.field(description="Whether sign-in asks for a one-time code")
    created_at: DateTime | None


@strawberry.type(name="Sla", description="A ticket's service level: what is due when, and what was missed")
class SlaType:
    policy: str | None
    first_response_due_at: DateTime | None
    resolution_due_at: DateTime | None
    first_response_breached: bool
    resolution_breached: bool
    paused_ms: Milliseconds


@strawberry.type(description="One field's value before and after a change")
class FieldChange:
    field: str
    before: JSONValue | None = strawberry.field(name="from", description="The value before")
    after: JSONValue | None = strawberry.field(name="to", description="The value after")


@strawberry.type(description="Who did it, by name and role as they were then")
class EventActor:
    id: ID
    username: str
    role: str


def changes_of(parent: Parent[Row]) -> Any:
    return [
        {"field": name, "before": change["from"], "after": change["to"]} for name, change in parent["changes"].items()
    ]


@strawberry.type(name="Event", description="Something that happened to a ticket")
class EventType:
    id: ID
    type: str = strawberry.field(description="ticket.created, ticket.updated, ticket.status_changed and others")
    ticket_id: ID
    at: DateTime
    actor: EventActor | None
    changes: list[FieldChange] = strawberry.field(resolver=changes_of, description="The fields that it changed")
    internal: bool = strawberry.field(description="Whether it is kept from Customers")
    ticket: "TicketType" = strawberry.field(description="The ticket as it was after the change")
    cursor: str | None = strawberry.field(description="Where a stream can go on; null in a ticket's history")


def requester_of(parent: Parent[Row], info: Info) -> Any:
    return _user(parent["requester"], info)


def assignee_of(parent: Parent[Row], info: Info) -> Any:
    return _user(parent["assignedTo"], info)


# References are not resolved by `async def`: all of an answer's must be asked for before the first of them is awaited,
# to be read in one command.
def _user(user_id: ObjectId | None, info: Info) -> Any:
    return None if user_id is None else info.context.loaders.user_by_id.load(user_id)


def watchers_of(parent: Parent[Row], info: Info) -> Any:
    if not parent["watchers"]:
        return []
    return _present(info.context.loaders.user_by_id.load_many(parent["watchers"]))


async def _present(users: Awaitable[list[Row | None]]) -> list[Row]:
    return [user for user in await users if user is not None]


def history_of(parent: Parent[Row], info: Info, first: First = DEFAULT_LIMIT, after: After = UNSET) -> Any:
    """Only under a ticket that the caller was let see."""
    ticket_id: ObjectId = parent["id"]
    limit = parse_limit(text_of(first))
    cursor = text_of(after)
    if cursor is None:
        return connection(info.context.loaders.history_by_ticket_and_limit.load((ticket_id, limit)), event_out)
    reading = read_history(ticket_id, visible_events_to(info.context.actor), cursor=cursor, limit=limit)
    return connection(reading, event_out, is_first=False)


@strawberry.type(name="Ticket", description="A customer's request and what became of it")
class TicketType:
    id: ID
    number: int | None = strawberry.field(description="Increasing; null for tickets of the original service")
    title: str
    description: str
    status: str = strawberry.field(description="Open, In Progress, Resolved or Closed")
    priority: str = strawberry.field(description="Low, Medium or High")
    waiting_on: str | None = strawberry.field(description="Whose turn it is when it is not ours: customer, third_party")
    assigned_to: UserType | None = strawberry.field(
        resolver=assignee_of, description="Who works it; null for nobody, or when the account is gone"
    )
    requester: UserType | None = strawberry.field(
        resolver=requester_of, description="Whose ticket it is; null for nobody, or when the account is gone"
    )
    watchers: list[UserType] = strawberry.field(
        resolver=watchers_of, description="Who else is told about it; accounts that are gone are left out"
    )
    tags: list[str]
    created_at: DateTime
    updated_at: DateTime
    first_responded_at: DateTime | None = strawberry.field(description="When an Agent first answered in public")
    resolved_at: DateTime | None
    closed_at: DateTime | None
    reopen_count: int = strawberry.field(description="How often it went back to Open or In Progress")
    sla: SlaType
    comment_count: int
    attachment_count: int
    version: int = strawberry.field(
        description="Rises with each change; send it back to change only what you have seen"
    )
    history: Connection[EventType] | None = strawberry.field(
        resolver=history_of, description="Its events, oldest first; Customers see the public ones"
    )


@strawberry.type(description="A value that can't be")
class FieldProblem:
    field: str = strawberry.field(description="Dotted path in the input")
    code: str
    message: str


@strawberry.type(description="Why one ticket of several was not changed")
class Refusal:
    code: str = strawberry.field(description="As in `extensions.code` of an error")
    detail: str
    errors: list[FieldProblem] | None = strawberry.field(description="Of `invalid_input`: every wrong field")
    legal_transitions: list[str] | None = strawberry.field(description="Of `illegal_transition`: what is legal")


@strawberry.type(description="What became of one ticket of several")
class BulkResult:
    id: ID
    status: int = strawberry.field(description="The HTTP status that a single change would have got")
    ticket: TicketType | None = strawberry.field(description="The ticket as it is now; null when it was refused")
    error: Refusal | None = strawberry.field(description="Why it was refused; null when it was not")
