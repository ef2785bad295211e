"""What is stored about tickets; the original's field names are kept (contract S5)."""

from datetime import datetime

from beanie import Document
from pydantic import ConfigDict, Field
from pymongo import IndexModel

from app.platform.wire import Id, stored_name

from .lifecycle import Priority, Status, WaitingOn

SORTS = ("createdAt", "updatedAt", "number")
# What lists are filtered by, those first that usually leave the fewest tickets: a list reads the index of the first
# that it is given enough of. Where a second field is there, an index holds both: one costs each write less than two.
FILTERS = (("requester",), ("assignedTo", "status"), ("tags",), ("waitingOn",), ("status", "priority"))
# The values of fields that a list need not be filtered by to read an index that has them: a few stretches of it are
# merged then. Null stands in rows of the original service.
FEW_VALUES: dict[str, list[str | None]] = {"status": [*Status, None], "priority": [*Priority, None]}
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
                IndexModel([*((name, 1) for name in names), (sort, 1), ("_id", 1)], name=f"{'_'.join(names)}_by_{sort}")
                for names in FILTERS
                if not _RARE_FILTERS.keys() & names
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
