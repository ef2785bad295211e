"""Tickets as a busy help desk has them, in any number: made in memory, in seconds, for measurements."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from bson import ObjectId
from demo_texts import EFFECT, PLACES, SINCE, TEAMS, TOPICS

from app.accounts.roles import Role
from app.tickets.changes import DEFAULTS, NO_SLA
from app.tickets.lifecycle import Priority, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

AGENTS = 50
CUSTOMERS = 2_000
DAYS = 365
TAGS = [*(tag for tags, _, _ in TOPICS for tag in tags), *(f"team-{number}" for number in range(20))]
# Tickets per hour of the day, and per day of the week, relative to each other; times are UTC.
HOURS = [1, 1, 1, 1, 2, 4, 9, 22, 40, 46, 44, 38, 30, 36, 42, 40, 34, 24, 14, 8, 5, 4, 3, 2]
WEEK = [11, 10, 9, 9, 8, 2, 2]
MEDIAN_HOURS = {Priority.HIGH: 5.0, Priority.MEDIUM: 20.0, Priority.LOW: 60.0}
REOPENED, DELETED, UNASSIGNED = 0.04, 0.005, 0.06


class Desk:
    """The people of a help desk, and its tickets of so many days; the same ones for the same seed and present."""

    def __init__(self, present: datetime, days: int = DAYS, seed: int = 1) -> None:
        self._present = present
        self._start = present - timedelta(days=days)
        self._random = random.Random(seed)  # noqa: S311 - a play, no secrets
        self._agents = [self._id_at(self._start) for _ in range(AGENTS)]
        self._customers = [self._id_at(self._start) for _ in range(CUSTOMERS)]
        # Some do much more than others.
        self._shares = list(accumulate(1 / math.sqrt(1 + rank) for rank in range(AGENTS)))
        self._problems = [(tags, things, *problem) for tags, things, problems in TOPICS for problem in problems]

    def users(self) -> list[dict[str, Any]]:
        """Return accounts that nobody can sign in to."""
        kinds = ((Role.AGENT, "agent", self._agents), (Role.CUSTOMER, "customer", self._customers))
        return [
            {
                "_id": user_id,
                "username": f"{name}-{n}",
                "password": "",
                "role": role,
                "createdAt": user_id.generation_time,
            }
            for role, name, ids in kinds
            for n, user_id in enumerate(ids)
        ]

    def tickets(self, count: int, first_number: int = 1) -> Iterator[dict[str, Any]]:
        """Yield that many, the oldest first."""
        for number in range(count):
            at = self._start + (self._present - self._start) * (number / count)
            yield self._ticket(first_number + number, self._in_office(at))

    def _in_office(self, at: datetime) -> datetime:
        """Return a likely time of the same week, before the present."""
        weekday = self._random.choices(range(7), WEEK)[0]
        hour = self._random.choices(range(24), HOURS)[0]
        monday = (at - timedelta(days=at.weekday())).replace(hour=0, minute=0, second=0, microsecond=0)
        moved = monday + timedelta(days=weekday, hours=hour, milliseconds=self._random.randrange(3_600_000))
        return moved if moved < self._present else at.replace(microsecond=at.microsecond // 1000 * 1000)

    def _ticket(self, number: int, at: datetime) -> dict[str, Any]:
        chance = self._random.random
        priority = self._random.choices([Priority.LOW, Priority.MEDIUM, Priority.HIGH], [20, 60, 20])[0]
        tags, things, title, text = self._random.choice(self._problems)
        pick = self._random.choice
        words = {"thing": pick(things), "place": pick(PLACES), "team": pick(TEAMS)}
        agent = None if chance() < UNASSIGNED else self._random.choices(self._agents, cum_weights=self._shares)[0]
        ticket = {
            **DEFAULTS,
            "_id": self._id_at(at),
            "number": number,
            "title": title.format(**words),
            "description": f"{text.format(**words)} {pick(SINCE)} {pick(EFFECT)}",
            "priority": priority,
            "assignedTo": agent,
            "requester": pick(self._customers),
            "watchers": [],
            "tags": [*tags[:2], *([pick(TAGS)] if chance() < REOPENED * 5 else [])],
            "createdAt": at,
            "sla": NO_SLA,
            "deletedAt": at + timedelta(hours=1) if chance() < DELETED else None,
        }
        return ticket | self._fate(ticket)

    def _fate(self, ticket: dict[str, Any]) -> dict[str, Any]:
        """Return what has become of it by now."""
        at, chance = ticket["createdAt"], self._random.random
        took = timedelta(hours=self._random.lognormvariate(math.log(MEDIAN_HOURS[ticket["priority"]]), 1.2))
        answered, resolved = (self._ms(at + took * chance() / 2), self._ms(at + took))
        fate: dict[str, Any] = {"updatedAt": at}
        if ticket["assignedTo"] is not None and answered < self._present:
            fate |= {"firstRespondedAt": answered, "updatedAt": answered, "status": Status.IN_PROGRESS, "version": 2}
        if ticket["assignedTo"] is not None and resolved < self._present:
            closed = resolved + timedelta(days=7)
            fate |= {"resolvedAt": resolved, "updatedAt": resolved, "status": Status.RESOLVED, "version": 3}
            if closed < self._present:
                fate |= {"closedAt": closed, "updatedAt": closed, "status": Status.CLOSED, "version": 4}
            if chance() < REOPENED:
                fate |= {"reopenCount": 1, "version": 5}
        return fate

    def _id_at(self, at: datetime) -> ObjectId:
        return ObjectId(int(at.timestamp()).to_bytes(4, "big") + self._random.randbytes(8))

    def _ms(self, at: datetime) -> datetime:
        return at.replace(microsecond=at.microsecond // 1000 * 1000, tzinfo=UTC)
