"""The demo: three dozen people and a quarter's worth of tickets with their history, loaded once and all at once."""

from __future__ import annotations

import asyncio
import random
from bisect import bisect
from datetime import datetime, timedelta
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import bcrypt
import pymongo
from bson import ObjectId
from demo_texts import ADMINS, AGENTS, CLOSINGS, CUSTOMERS, EFFECT, FAULTS, PLACES, SINCE, TEAMS, TOPICS
from pymongo import MongoClient

from app.accounts.actor import Actor
from app.accounts.documents import User, username_key
from app.accounts.passwords import ROUNDS
from app.accounts.roles import Role
from app.events.catalog import EventType
from app.events.log import Event, record
from app.lifespan import DOCUMENTS
from app.platform.clock import now as now_in_ms
from app.platform.clock import to_ms
from app.platform.mongo import collection_of, connect, prepare
from app.platform.sequence import adopt_numbers
from app.tickets.changes import Plan, complete, plan_change, plan_deletion, plan_restoration
from app.tickets.commands import NUMBERS
from app.tickets.documents import Ticket
from app.tickets.lifecycle import Priority, Status, WaitingOn
from app.tickets.policy import check_may_change

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

    from app.platform.wire import Row

PASSWORD = "open-sesame-42"  # noqa: S105 - the demo's, and printed
DEMO_SIGN_INS = [
    (role, username, PASSWORD)
    for role, username in (("Admin", "admin1"), ("Agent", "agent1"), ("Agent", "agent2"), ("Customer", "customer1"))
]
TICKETS = 2_000
DAYS = 90
SEED = 20_000
# The server itself gives a transaction no more.
LOAD_S = 60
OFFICE_OPENS, OFFICE_HOURS = 8, 9
SATURDAY = 5


def load_demo_once(uri: str) -> bool:
    """Load the demo into an empty database, all of it or nothing; say whether that was done now."""
    return asyncio.run(_load(uri))


def sign_ins_there(uri: str) -> list[tuple[str, str, str]]:
    """Those of the demo's sign-ins whose accounts the database has: none where it was started without the demo."""
    with MongoClient[dict[str, str]](uri) as client:
        named = {"username": {"$in": [username for _, username, _ in DEMO_SIGN_INS]}}
        there = set(client.get_default_database()[User.Settings.name].distinct("username", named))
    return [sign_in for sign_in in DEMO_SIGN_INS if sign_in[1] in there]


async def _load(uri: str) -> bool:
    database = connect(uri)
    try:
        await prepare(database, DOCUMENTS)
        if not await _is_empty():
            return False
        users, tickets, events = Demo(now_in_ms()).rows()
        # All in one transaction would not fit into a small server's cache. So the history comes first: without its
        # tickets nobody sees it, and the next attempt starts by removing what an interrupted one left.
        await collection_of(Event).delete_many({})
        await collection_of(Event).insert_many(events)

        async def body(session: AsyncClientSession) -> bool:
            if not await _is_empty(session):
                return False
            await collection_of(User).insert_many(users, session=session)
            await collection_of(Ticket).insert_many(tickets, session=session)
            return True

        with pymongo.timeout(LOAD_S):
            async with database.client.start_session() as session:
                is_loaded = await session.with_transaction(body)
        # The service does this at every start, so a crash right here does no harm.
        await adopt_numbers(NUMBERS, Ticket)
        return is_loaded
    finally:
        await database.client.close()


async def _is_empty(session: AsyncClientSession | None = None) -> bool:
    return not any([await collection_of(model).find_one({}, session=session) for model in (User, Ticket)])


class Demo:
    """Plays the last 90 days with the product's own rules, always the same way for the same present."""

    def __init__(self, present: datetime) -> None:
        self._present = present
        self._random = random.Random(SEED)  # noqa: S311 - a play, no secrets
        self._serial = 0
        self._users = self._people()
        self._actors = {
            role: [Actor(u["_id"], u["username"], role, u["_id"]) for u in self._users if u["role"] == role]
            for role in Role
        }
        self._events: list[Row] = []

    def rows(self) -> tuple[list[Row], list[Row], list[Row]]:
        """Return the users, tickets and events, each in the order in which they came to be."""
        tickets = [self._life(number, at) for number, at in enumerate(self._opening_times(), 1)]
        events = sorted(self._events, key=lambda event: (event["at"], event["ticketId"], event["version"]))
        # Ids in the order of time, as if each had been given when it happened.
        return self._users, tickets, [event | {"_id": self._id_at(event["at"])} for event in events]

    def _id_at(self, moment: datetime) -> ObjectId:
        self._serial += 1
        seconds = int(moment.timestamp()).to_bytes(4, "big")
        return ObjectId(seconds + SEED.to_bytes(5, "big") + self._serial.to_bytes(3, "big"))

    def _maybe(self, share: float) -> bool:
        return self._random.random() < share

    def _people(self) -> list[Row]:
        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(ROUNDS)).decode()
        start = self._present - timedelta(days=DAYS + 1)
        teams = ((Role.ADMIN, ADMINS), (Role.AGENT, AGENTS), (Role.CUSTOMER, CUSTOMERS))
        return [
            {
                "_id": self._id_at(start),
                "username": (username := f"{role.lower()}{number}"),
                "usernameKey": username_key(username),
                "password": hashed,
                "passwordVersion": 0,
                "role": role,
                "mfaEnabled": False,
                "email": f"{'.'.join(name.lower().split())}@example.com",
                "name": " ".join(name.split()),
                "active": True,
                "createdAt": start,
            }
            for role, names in teams
            for number, name in enumerate(names.split(","), 1)
        ]

    def _opening_times(self) -> list[datetime]:
        """Return when tickets come in: on weekdays, most about ten and two, a few at night and at weekends."""
        hours = accumulate([1, 1, 1, 1, 1, 2, 6, 18, 40, 60, 58, 44, 30, 48, 56, 46, 34, 22, 12, 8, 6, 4, 3, 2])
        by_hour = list(hours)
        times: set[datetime] = set()
        while len(times) < TICKETS:
            day = self._present - timedelta(days=self._random.uniform(0, DAYS))
            if day.weekday() >= SATURDAY and not self._maybe(0.12):
                continue
            hour = bisect(by_hour, self._random.random() * by_hour[-1])
            ms = self._random.randrange(3_600_000)
            moment = day.replace(hour=hour, minute=0, second=0, microsecond=0) + timedelta(milliseconds=ms)
            if self._present - timedelta(days=DAYS) < moment < self._present:
                times.add(moment)
        return sorted(times)

    def _life(self, number: int, at: datetime) -> Row:
        """Return the ticket as it is now; its events are kept."""
        maybe = self._maybe
        story = _Story(self, self._opened(number, at), at)
        customer = next(a for a in self._actors[Role.CUSTOMER] if a.id == story.ticket["requester"])
        agent = self._random.choice(self._actors[Role.AGENT])
        admin = self._random.choice(self._actors[Role.ADMIN])
        if maybe(0.012):
            story.delete(admin, hours=4)
            if maybe(0.3):
                story.restore(admin, hours=20)
        if maybe(0.05):
            story.change(customer, 3, status=Status.CLOSED)
            return story.ticket
        if maybe(0.5):
            story.change(agent, 6, assignedTo=agent.id, status=Status.IN_PROGRESS)
        else:
            story.change(self._random.choice([admin, agent]), 4, assignedTo=agent.id)
            story.change(agent, 8, status=Status.IN_PROGRESS)
        self._work(story, agent)
        story.change(agent, 40, status=Status.RESOLVED)
        if maybe(0.09):
            story.change(customer, 8, status=Status.OPEN)
            story.change(agent, 3, status=Status.IN_PROGRESS)
            story.change(agent, 12, status=Status.RESOLVED)
        story.change(customer if maybe(0.35) else agent, 72, status=Status.CLOSED)
        return story.ticket

    def _opened(self, number: int, at: datetime) -> Row:
        tags, things, problems = self._random.choice(TOPICS)
        title, description = self._random.choice(problems)
        words = {name: self._random.choice(of) for name, of in (("thing", things), ("place", PLACES), ("team", TEAMS))}
        title = title.format(**words)
        endings = [SINCE, EFFECT] if FAULTS.intersection(tags) else [CLOSINGS]
        text = " ".join([description.format(**words), *map(self._random.choice, endings)])
        customer = self._random.choice(self._actors[Role.CUSTOMER])
        row = {
            "_id": self._id_at(at),
            "number": number,
            "title": title[0].upper() + title[1:],
            "description": text,
            "priority": self._random.choices(list(Priority), [30, 50, 20])[0],
            "tags": tags[: self._random.randint(1, len(tags))],
            "requester": customer.id,
            "createdAt": at,
        }
        ticket = complete(row)
        self.keep(EventType.TICKET_CREATED, ticket, at, customer, {})
        return ticket

    def _work(self, story: _Story, agent: Actor) -> None:
        """Play what may happen between the start of the work and its end."""
        maybe = self._maybe
        if maybe(0.12):
            story.change(agent, 1, priority=self._random.choice(list(Priority)))
        if maybe(0.06):
            other = self._random.choice(self._actors[Role.AGENT])
            story.change(agent, 3, assignedTo=other.id, tags=[*story.ticket["tags"], "second-line"])
        if maybe(0.3):
            story.change(agent, 3, waitingOn=self._random.choices(list(WaitingOn), [4, 1])[0])
            story.change(agent, 40, waitingOn=None)

    def keep(self, kind: EventType, ticket: Row, at: datetime, actor: Actor, changes: Row) -> None:
        who = {"id": actor.id, "username": actor.username, "role": actor.role}
        self._events.append(record(kind, ticket, at=at, actor=who, changes=changes).row)

    def later(self, moment: datetime, hours: float) -> datetime:
        """Return an instant about so many hours on, in office hours; more for some, less for most."""
        moment += timedelta(hours=self._random.expovariate(1 / hours))
        into_day = timedelta(hours=OFFICE_OPENS, minutes=self._random.uniform(0, OFFICE_HOURS * 60))
        day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        if not OFFICE_OPENS <= moment.hour < OFFICE_OPENS + OFFICE_HOURS:
            if moment.hour >= OFFICE_OPENS:
                day += timedelta(days=1)
            moment = day + into_day
        while moment.weekday() >= SATURDAY:
            moment += timedelta(days=1)
        return to_ms(moment)

    def is_past(self, moment: datetime) -> bool:
        return moment < self._present


class _Story:
    """One ticket as it goes on; what would happen in the future has not happened yet, nor anything after it."""

    def __init__(self, demo: Demo, ticket: Row, at: datetime) -> None:
        self._demo = demo
        self.ticket = ticket
        self._at = at
        self._is_over = False

    def change(self, actor: Actor, hours: float, **patch: Any) -> None:
        at = self._turn(hours)
        if not self._is_over and self.ticket["deletedAt"] is None:
            check_may_change(actor, self.ticket, patch)
            self._carry_out(plan_change(self.ticket, patch, actor, at), actor, at)

    def delete(self, actor: Actor, hours: float) -> None:
        at = self._turn(hours)
        if not self._is_over:
            self._carry_out(plan_deletion(self.ticket, at), actor, at)

    def restore(self, actor: Actor, hours: float) -> None:
        at = self._turn(hours)
        if not self._is_over:
            self._carry_out(plan_restoration(self.ticket, at), actor, at)

    def _turn(self, hours: float) -> datetime:
        at = self._demo.later(self._at, hours)
        self._is_over = self._is_over or not self._demo.is_past(at)
        return at

    def _carry_out(self, plan: Plan, actor: Actor, at: datetime) -> None:
        if plan.fields:
            self.ticket = self.ticket | plan.fields
            self._demo.keep(plan.event_type, self.ticket, at, actor, plan.changes)
        self._at = at
