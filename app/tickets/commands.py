"""What changes a ticket. Each command decides who may, what happens and what is told of it, and commits all at once.

Checks run in the contract's order: may you know of the ticket, may your role do this, is it the version you mean, are
the values sound, does the ticket's state allow it.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from bson import ObjectId

from app.accounts.actor import Actor
from app.accounts.queries import require_users
from app.accounts.roles import Permission, Scope
from app.events.catalog import EventType
from app.events.log import record
from app.platform.commit import Insert, StaleWrite, Update, commit
from app.platform.errors import AppError, Conflict, NotFound
from app.platform.etags import IfMatch
from app.platform.idempotency import Once
from app.platform.wire import JsonObject, NoFields, Row

from .changes import Plan, complete, plan_change, plan_deletion, plan_restoration
from .documents import Ticket
from .errors import NotDeleted, RestoreWindowOver
from .policy import RESTORE_WINDOW, check_may_change, check_may_open
from .queries import get_any_ticket, get_ticket, get_tickets
from .schemas import BulkPatch, TicketCreate, TicketPatch

NUMBERS = "tickets"
NOBODY: dict[str, Any] = {"assignedTo": None, "requester": None, "watchers": []}
# How often a write is planned again because somebody else was faster.
MAX_PLANS = 20
MAX_PAUSE_S = 0.5
# How long one waits for their turn at a ticket that many change at the same time.
MAX_WAIT_S = 5
# Where somebody was overtaken; there while somebody has a turn or waits for it.
_turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one ticket of a bulk change: the ticket as it is now, or the refusal."""

    id: ObjectId
    ticket: Row | None
    error: AppError | None


async def open_ticket(actor: Actor, body: JsonObject, *, now: datetime, once: Once[Row] | None = None) -> Row:
    """Opens a ticket for the actor, or by Agents and Admins for another. Raises `Forbidden`, `InvalidInput`."""
    check_may_open(actor, body)
    fields = TicketCreate.parse(body)
    requester = fields.requester or actor.id
    people = {"assignedTo": fields.assigned_to, "requester": fields.requester, "watchers": fields.watchers}
    await _check_people(people)
    row = complete(
        {
            "_id": ObjectId(),
            "title": fields.title,
            "description": fields.description,
            "priority": fields.priority,
            "assignedTo": fields.assigned_to,
            "requester": requester,
            "watchers": fields.watchers,
            "tags": fields.tags,
            "createdAt": now,
        }
    )
    # The event holds the ticket's very row, and so the number that it gets when it is committed.
    event = record(EventType.TICKET_CREATED, row, at=now, actor=_as_event_actor(actor))
    return await commit([Insert(Ticket, row, numbered_by=NUMBERS), event], once=once, result=row)


async def change_ticket(
    actor: Actor,
    reference: str,
    body: JsonObject,
    *,
    if_match: IfMatch,
    now: datetime,
    once: Once[Row] | None = None,
) -> Row:
    """Applies a merge patch. A patch that changes nothing writes nothing.

    Raises `NotFound`, `Forbidden`, `VersionConflict`, `InvalidInput`, `IllegalTransition`, `NotEditable`,
    `ReopenWindowOver`, `Conflict`.
    """

    async def attempt() -> Row:
        ticket = complete(await get_ticket(actor, reference))
        check_may_change(actor, ticket, body)
        if_match.check(ticket["version"])
        patch = TicketPatch.parse(body).given()
        await _check_people(patch, ticket)
        return await _carry_out(actor, ticket, plan_change(ticket, patch, actor, now), now, once)

    return await _in_turn(reference, attempt)


async def change_tickets(
    actor: Actor, body: JsonObject, *, now: datetime, once: Once[list[Outcome]] | None = None
) -> list[Outcome]:
    """Applies one patch to up to 100 tickets: each on its own merits, all that succeed in one commit.

    Raises `Forbidden`, `InvalidInput`, `Conflict`.
    """
    actor.require(Permission.WORK_TICKETS)
    actor.require_scope(Scope.TICKETS)
    bulk = BulkPatch.parse(body)
    patch = bulk.patch.given()
    await _check_people(patch)

    async def attempt() -> list[Outcome]:
        found = await get_tickets(actor, bulk.ids)
        outcomes: list[Outcome] = []
        writes: list[Insert | Update] = []
        for ticket_id in bulk.ids:
            try:
                ticket = complete(_found(found, ticket_id))
                plan = plan_change(ticket, patch, actor, now)
            except AppError as error:
                outcomes.append(Outcome(ticket_id, None, error))
            else:
                outcomes.append(Outcome(ticket_id, ticket | plan.fields, None))
                writes += _writes(actor, ticket, plan, now)
        return await commit(writes, once=once, result=outcomes)

    return await _in_turn(str(bulk.ids), attempt)


async def delete_ticket(
    actor: Actor, reference: str, *, if_match: IfMatch, now: datetime, once: Once[Row] | None = None
) -> Row:
    """Takes the ticket out of sight; it can be restored for 30 days. Answers the ticket that is gone.

    Raises `NotFound`, `Forbidden`, `VersionConflict`.
    """

    async def attempt() -> Row:
        ticket = complete(await get_ticket(actor, reference))
        actor.require(Permission.DELETE_TICKETS)
        if_match.check(ticket["version"])
        return await _carry_out(actor, ticket, plan_deletion(ticket, now), now, once)

    return await _in_turn(reference, attempt)


async def restore_ticket(
    actor: Actor, reference: str, body: JsonObject, *, now: datetime, once: Once[Row] | None = None
) -> Row:
    """Brings a deleted ticket back.

    Raises `Forbidden`, `NotFound`, `InvalidInput`, `NotDeleted`, `RestoreWindowOver`, `Conflict`.
    """

    async def attempt() -> Row:
        if not actor.may(Permission.DELETE_TICKETS):
            await get_ticket(actor, reference)  # who may not know of it hears that there is nothing
            actor.require(Permission.DELETE_TICKETS)
        ticket = complete(await get_any_ticket(reference))
        NoFields.parse(body)
        if ticket["deletedAt"] is None:
            raise NotDeleted
        if now - ticket["deletedAt"] > RESTORE_WINDOW:
            raise RestoreWindowOver
        return await _carry_out(actor, ticket, plan_restoration(ticket, now), now, once)

    return await _in_turn(reference, attempt)


async def _in_turn(what: str, attempt: Callable[[], Awaitable[Result]]) -> Result:
    """What `attempt` answers; it is made again when somebody else changed the ticket meanwhile.

    Whoever was overtaken once takes turns with all others of this process who were, and those who come later queue up:
    a crowd at one ticket would else overtake some of its own again and again. Raises `Conflict`.
    """
    if what not in _turns:
        with suppress(StaleWrite):
            return await attempt()
    turn = _turns.setdefault(what, asyncio.Lock())
    try:
        async with asyncio.timeout(MAX_WAIT_S):
            await turn.acquire()
    except TimeoutError:
        raise Conflict from None
    try:
        for number in range(MAX_PLANS):
            with suppress(StaleWrite):
                return await attempt()
            # Parts it from other processes, the longer the more often they collide.
            await asyncio.sleep(random.uniform(0, min(0.005 * 2**number, MAX_PAUSE_S)))  # noqa: S311 - no secret
    finally:
        turn.release()
    raise Conflict


async def _carry_out(actor: Actor, ticket: Row, plan: Plan, now: datetime, once: Once[Row] | None = None) -> Row:
    return await commit(_writes(actor, ticket, plan, now), once=once, result=ticket | plan.fields)


def _writes(actor: Actor, ticket: Row, plan: Plan, now: datetime) -> list[Insert | Update]:
    """The change, guarded by the version that it was planned on, and its event; nothing when nothing changes."""
    if not plan.fields:
        return []
    version = ticket["version"]
    # Rows of the original service have no version and count as version 1.
    guard: Row = {"_id": ticket["_id"], "version": {"$in": [1, None]} if version == 1 else version}
    event = record(plan.event_type, ticket | plan.fields, at=now, actor=_as_event_actor(actor), changes=plan.changes)
    return [Update(Ticket, guard, {"$set": plan.fields}), event]


def _as_event_actor(actor: Actor) -> Row:
    return {"id": actor.id, "username": actor.username, "role": actor.role}


def _found(tickets: Mapping[ObjectId, Row], ticket_id: ObjectId) -> Row:
    if ticket_id not in tickets:
        raise NotFound
    return tickets[ticket_id]


async def _check_people(fields: Mapping[str, Any], ticket: Mapping[str, Any] = NOBODY) -> None:
    """Raises `InvalidInput` unless those newly named are active users, and the assignee works tickets.

    Those whom the ticket names already may stay, whatever became of them.
    """
    single = [(name, fields.get(name)) for name in ("assignedTo", "requester")]
    named = [(name, value) for name, value in single if value is not None and value != ticket[name]]
    named += [("watchers", watcher) for watcher in fields.get("watchers", ()) if watcher not in ticket["watchers"]]
    await require_users(named, workers=("assignedTo",))
