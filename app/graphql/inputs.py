"""What clients send: input types that become the very bodies and parameters that REST takes.

Values are not checked here but by the same code as REST's, which is why most are plain strings.
"""

from dataclasses import fields
from typing import Any

import strawberry
from strawberry import ID, UNSET

from app.platform.wire import Row
from app.tickets.filters import FILTER_PARAMETERS
from app.tickets.lifecycle import Priority, Status, WaitingOn

from .scalars import member_of

_ONE_OF = {name: ", ".join(values) for name, values in (("status", Status), ("priority", Priority), ("w", WaitingOn))}
_FILTERS = {parameter["name"]: parameter for parameter in FILTER_PARAMETERS}


class _Given:
    """An input type whose absent fields are told from those that are null."""

    def given(self) -> Row:
        """The fields that were sent, by their names on the wire."""
        values = {member_of(field.name): getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in values.items() if value is not UNSET}


def _optional(description: str) -> Any:
    return strawberry.field(default=UNSET, description=description)


def _filter(name: str) -> Any:
    """A field with the words, and the values, of REST's parameter."""
    parameter = _FILTERS[name]
    values = parameter["schema"].get("enum")
    return _optional(f"{parameter['description']}: {', '.join(values)}" if values else parameter["description"])


@strawberry.input(description="A ticket to open")
class TicketInput(_Given):
    title: str = strawberry.field(description="1 to 200 characters")
    description: str = strawberry.field(description="1 to 10,000 characters")
    priority: str | None = _optional(f"One of {_ONE_OF['priority']}; Medium when absent")
    tags: list[str] | None = _optional("At most 20, of 1 to 50 characters each")
    requester: ID | None = _optional("Whose ticket it is; Agents and Admins may open for another, else the caller")
    assigned_to: ID | None = _optional("Agents and Admins only: an active Agent or Admin")
    watchers: list[ID] | None = _optional("Agents and Admins only; at most 50")


@strawberry.input(
    description="Changes to a ticket, as a JSON merge patch: absent leaves as it is, null clears what can be empty"
)
class TicketPatch(_Given):
    title: str | None = _optional("1 to 200 characters; not null")
    description: str | None = _optional("1 to 10,000 characters; not null")
    status: str | None = _optional(f"One of {_ONE_OF['status']}; not every move is legal; not null")
    priority: str | None = _optional(f"One of {_ONE_OF['priority']}; not null")
    waiting_on: str | None = _optional(f"One of {_ONE_OF['w']}, or null; null on what is Resolved or Closed")
    assigned_to: ID | None = _optional("An active Agent or Admin, or null for nobody")
    requester: ID | None = _optional("An active user, or null for nobody")
    watchers: list[ID] | None = _optional("All of them, at most 50, or null for nobody")
    tags: list[str] | None = _optional("All of them, at most 20, or null for none")


@strawberry.input(description="Which tickets; a ticket must meet all that is given. Null counts as absent")
class TicketFilter(_Given):
    status: str | None = _filter("status")
    priority: str | None = _filter("priority")
    assigned_to: ID | None = _filter("assignedTo")
    requester: ID | None = _filter("requester")
    tag: str | None = _filter("tag")
    q: str | None = _filter("q")
    waiting_on: str | None = _filter("waitingOn")
    breached: bool | None = _filter("breached")
    created_after: str | None = _filter("createdAfter")
    created_before: str | None = _filter("createdBefore")
    updated_after: str | None = _filter("updatedAfter")


def text_of(value: object) -> str | None:
    """An argument as REST's query parameters have it; None for one that is null or not given."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None or value is UNSET else str(value)


def parameters(**given: Any) -> dict[str, str]:
    """REST's query parameters of GraphQL arguments; what is null or not given is not among them."""
    texts = {name: text_of(value) for name, value in given.items()}
    return {name: text for name, text in texts.items() if text is not None}
