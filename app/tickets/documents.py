"""What is stored about tickets; the original's field names are kept (contract S5)."""

from datetime import datetime

from beanie import Document
from pydantic import ConfigDict, Field
from pymongo import IndexModel

from app.platform.wire import Id, stored_name

from .lifecycle import Priority, Status, WaitingOn

SORTS = ("createdAt", "updatedAt", "number")
# Fields that lists are filtered by, those first that usually leave the fewest tickets: a list reads the index of the
# first one that it is given.
MOST_TELLING = ("requester", "assignedTo", "tags", "waitingOn", "status", "priority")
_FILTERS = tuple(name for name in MOST_TELLING if name != "waitingOn")
# Values that few tickets have: the index holds only those.
_RARE_FILTERS = {
    "waitingOn": {"$gt": ""},
    "sla.firstResponseBreached": True,
    "sla.resolutionBreached": True,
}


class Ticket(Document):
    """A ticket. Only what the original wrote is sure to be there; `changes.complete` says what the rest means."""

    model_config = ConfigDict(alias_generator=stored_name, extra="ignore")

    number: int | None = None
    title: str
    description: str
    status: Status = Status.OPEN
    priority: Priority = Priority.MEDIUM
    waiting_on: WaitingOn | None = None
    assigned_to: Id | None = None
    requester: Id | None = None
    watchers: list[Id] = Field(default_factory=list)
    tags: list[str] = Field(default_factory=list)
    created_at: datetime
    updated_at: datetime | None = None
    first_responded_at: datetime | None = None
    resolved_at: datetime | None = None
    closed_at: datetime | None = None
    reopen_count: int = 0
    comment_count: int = 0
    attachment_count: int = 0
    deleted_at: datetime | None = None
    version: int = 1

    class Settings:
        name = "tickets"
        # All but the last two end in a sort key and _id, so that a page is read in order from wherever it starts.
        indexes = [
            *(IndexModel([(sort, 1), ("_id", 1)], name=f"by_{sort}") for sort in SORTS),
            *(
                IndexModel([(name, 1), (sort, 1), ("_id", 1)], name=f"{name}_by_{sort}")
                for name in _FILTERS
                for sort in SORTS
            ),
            *(
                IndexModel(
                    [(name, 1), (sort, 1), ("_id", 1)],
                    name=f"{name}_by_{sort}",
                    partialFilterExpression={name: condition},
                )
                for name, condition in _RARE_FILTERS.items()
                for sort in SORTS
            ),
            IndexModel("number", name="number_unique", unique=True, partialFilterExpression={"number": {"$gt": 0}}),
            # No language: tickets come in many, and a stemmed or stopped word would not be found as it was written.
            IndexModel(
                [("title", "text"), ("description", "text"), ("tags", "text")],
                name="words",
                default_language="none",
                language_override="_language",
            ),
        ]
