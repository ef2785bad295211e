"""Tickets with a whole life: each step is planned and told as the service does it."""

import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession

from app.accounts.actor import Actor
from app.accounts.roles import Role
from app.events.catalog import EventType
from app.events.log import Event, record
from app.platform.mongo import collection_of, transaction
from app.platform.wire import Row
from app.tickets.changes import NO_SLA, Plan, complete, plan_change, plan_deletion, plan_restoration
from app.tickets.documents import Ticket
from app.tickets.errors import IllegalTransition
from app.tickets.lifecycle import Priority, Status
from tests.factories.tickets import ticket_row

AGENTS = [ObjectId(bytes([number]) * 12) for number in (1, 2)]
TAGS = ["printer", "a.b", "$x"]
BIRTH = datetime(2026, 1, 31, 23, 50, tzinfo=UTC)
_ACTOR = Actor(ObjectId(), "agent", Role.AGENT, ObjectId())


class Life:
    """A ticket and its events so far. One of the old database has no event of its creation."""

    def __init__(self, *, is_old: bool = False, **fields: Any) -> None:
        self.ticket = fields if is_old else ticket_row(**{"createdAt": BIRTH, **fields})
        self.events: list[Row] = []
        if not is_old:
            self._tell(EventType.TICKET_CREATED, self.ticket["createdAt"], {})

    def patch(self, at: datetime, **fields: Any) -> "Life":
        """Raises `IllegalTransition`."""
        if "status" in fields:
            fields["status"] = Status(fields["status"])
        return self._carry_out(plan_change(complete(self.ticket), fields, _ACTOR, at), at)

    def resolve(self, at: datetime) -> "Life":
        return self.patch(at, status=Status.RESOLVED)

    def reopen(self, at: datetime) -> "Life":
        return self.patch(at, status=Status.OPEN)

    def delete(self, at: datetime) -> "Life":
        return self._carry_out(plan_deletion(complete(self.ticket), at), at)

    def restore(self, at: datetime) -> "Life":
        return self._carry_out(plan_restoration(complete(self.ticket), at), at)

    def rate(self, at: datetime, score: int) -> "Life":
        return self._happen(EventType.TICKET_RATED, at, {}, {"rating": {"from": None, "to": {"score": score}}})

    def mark(self, at: datetime, **fields: Any) -> "Life":
        """What the service does beside patches: a first response, or a promise that was broken."""
        return self._happen(EventType.COMMENT_CREATED, at, fields, {})

    def _carry_out(self, plan: Plan, at: datetime) -> "Life":
        return self._happen(plan.event_type, at, plan.fields, plan.changes) if plan.fields else self

    def _happen(self, event_type: EventType, at: datetime, fields: Row, changes: Row) -> "Life":
        before = complete(self.ticket)
        self.ticket = before | fields | {"version": before["version"] + 1}
        self._tell(event_type, at, changes)
        return self

    def _tell(self, event_type: EventType, at: datetime, changes: Row) -> None:
        self.events.append(record(event_type, self.ticket, at=at, actor=None, changes=changes).row)


def old_ticket(**fields: Any) -> Row:
    """As the original wrote it."""
    row = {"_id": ObjectId(), "title": "Old", "description": "?", "status": "Open", "priority": "Medium", "tags": []}
    return {**row, "createdAt": BIRTH, "__v": 0, **fields}


def random_life(rnd: random.Random) -> Life:
    """Up to a dozen steps over some months, of a new ticket or one of the old database."""
    at = BIRTH + timedelta(hours=rnd.randrange(24 * 40))
    what: Row = {"priority": rnd.choice([*Priority]), "tags": rnd.choices(TAGS, k=rnd.randrange(4)), "createdAt": at}
    if rnd.random() < 0.3:
        status = rnd.choice([*Status])
        dates = {"resolvedAt": at + timedelta(days=1)} if status == Status.RESOLVED and rnd.random() < 0.5 else {}
        life = Life(is_old=True, **old_ticket(**what, status=status, assignedTo=rnd.choice(AGENTS), **dates))
    else:
        policy = {"policy": "gold", "firstResponseDueAt": at, "resolutionDueAt": rnd.choice([None, at])}
        life = Life(**what, sla=NO_SLA | rnd.choice([policy, {}]))
    for _ in range(rnd.randrange(12)):
        at += timedelta(minutes=rnd.choice([0, 1, 17, 700, 20_000]))
        with suppress(IllegalTransition):
            random_step(life, at, rnd)
    return life


def random_step(life: Life, at: datetime, rnd: random.Random) -> None:
    """Raises `IllegalTransition` now and then."""
    if complete(life.ticket)["deletedAt"] is not None:
        life.restore(at)
        return
    step = rnd.randrange(10)
    if step == 0:
        life.delete(at)
    elif step == 1:
        life.rate(at, rnd.randint(1, 5))
    elif step == 2:
        life.mark(at, firstRespondedAt=complete(life.ticket)["firstRespondedAt"] or at)
    elif step == 3:
        life.mark(at, sla=complete(life.ticket)["sla"] | {"firstResponseBreached": True})
    elif step <= 5:
        fields = {"assignedTo": rnd.choice([None, *AGENTS]), "priority": rnd.choice([*Priority])}
        life.patch(at, **fields, tags=rnd.sample(TAGS, rnd.randrange(3)))
    else:
        life.patch(at, status=rnd.choice([*Status]))


async def store(*lives: Life) -> None:
    """The tickets as they are now, and all their events."""
    await collection_of(Ticket).insert_many([life.ticket for life in lives])
    if events := [event for life in lives for event in life.events]:
        await collection_of(Event).insert_many(events)


async def replace(life: Life, known: int) -> None:
    """The ticket as it is now, and its events but for the first so many, in one commit."""

    async def body(session: AsyncClientSession) -> None:
        await collection_of(Ticket).replace_one({"_id": life.ticket["_id"]}, life.ticket, session=session)
        await collection_of(Event).insert_many(life.events[known:], session=session)

    await transaction(Ticket, body)
