"""What has happened to a ticket, as far as one person is to be told: the sum of some events, not each of them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson import ObjectId

from app.accounts.roles import Permission, has_permission, role_of
from app.events.catalog import EventType

from .kinds import Kind
from .recipients import kind_of_move, recipients

Event = Mapping[str, Any]
# To Customers the people who work for them have one name, and other customers have none.
OUR_TEAM, THE_REQUESTER = "Our team", "The requester"


@dataclass(frozen=True, slots=True)
class Reader:
    """Who is to be told, with the address and the rights that they have now."""

    id: ObjectId
    address: str
    is_staff: bool


@dataclass(frozen=True, slots=True)
class Comment:
    author: str | None
    """None: nobody in person."""
    body: str


@dataclass(frozen=True, slots=True)
class Story:
    """All that is to be told in one mail."""

    kinds: frozenset[Kind]
    changes: Mapping[str, tuple[Any, Any]]
    """Fields whose value is another one now: what it was before the first event, and what it is after the last."""
    comments: Sequence[Comment]
    actors: Sequence[str]
    """Who did all this, but for the reader."""
    is_breached: bool
    """Whether a deadline was missed, and is not only close."""


def story_of(events: Iterable[Event], ticket: Mapping[str, Any], reader: Reader, *, off: Collection[str] = ()) -> Story:
    """The sum of a ticket's events, in the order of its versions; `ticket` is as it is now.

    What came and went in between is not told, nor is a Customer told what is internal. Kinds that are switched `off`
    are none of the story's.
    """
    heard = [e for e in sorted(events, key=lambda e: e["version"]) if reader.is_staff or not e["internal"]]
    kinds = {event["_id"]: recipients(event).get(reader.id, set()) for event in heard}
    moves = _net_moves(heard)
    changes = {field: move for field, move in moves.items() if move[0] != move[1]}
    told: set[Kind] = set().union(*kinds.values())
    if told & {Kind.RESOLVED, Kind.STATUS_CHANGED}:
        told -= {Kind.RESOLVED, Kind.STATUS_CHANGED}
        told |= {kind_of_move(*changes["status"])} if "status" in changes else set()
    if ticket["assignedTo"] != reader.id:
        told -= {Kind.ASSIGNED, Kind.SLA}
    if "assignedTo" in moves and "assignedTo" not in changes:
        told -= {Kind.ASSIGNED}
    actors = dict.fromkeys(_name_of(e["actor"], reader) for e in heard if e["actor"] and e["actor"]["id"] != reader.id)
    return Story(
        kinds=frozenset(told - set(off)),
        changes=changes,
        comments=[
            Comment(_name_of(event["actor"], reader) if event["actor"] else None, event["comment"]["body"])
            for event in heard
            if Kind.COMMENTED in kinds[event["_id"]]
        ],
        actors=list(actors),
        is_breached=any(event["type"] == EventType.SLA_BREACHED for event in heard),
    )


def _net_moves(events: Iterable[Event]) -> dict[str, tuple[Any, Any]]:
    """Each field's first value and its last, which may be the same."""
    moves: dict[str, tuple[Any, Any]] = {}
    for event in events:
        for field, change in event["changes"].items():
            first = moves[field][0] if field in moves else change["from"]
            moves[field] = (first, change["to"])
    return moves


def _name_of(actor: Mapping[str, Any], reader: Reader) -> str:
    if reader.is_staff:
        return str(actor["username"])
    return OUR_TEAM if has_permission(role_of(actor), Permission.WORK_TICKETS) else THE_REQUESTER
