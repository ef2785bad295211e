"""Every report equals a count over the tickets themselves, whatever is asked for, and reads little for it."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from bson import ObjectId
from pymongo import UpdateOne

from app.accounts.actor import Actor
from app.accounts.documents import User
from app.accounts.roles import Role
from app.analytics import queries
from app.analytics.backfill import fill_up
from app.analytics.contributions import difference
from app.analytics.documents import StatsCell, StatsProgress, StatsTicket
from app.analytics.errors import StatisticsIncomplete
from app.analytics.facts import Facts, Outcome, Rating, Sla
from app.platform.errors import InvalidInput
from app.platform.mongo import collection_of
from app.tickets.documents import Ticket
from tests.analytics.counting import AGENTS, CHECKS, MS, NOW, TAGS, check_volume, understood
from tests.conftest import COMMANDS, Started
from tests.factories.accounts import user_row

YEAR_MS = 370 * 24 * 3600 * 1000
ZONES = [
    *("UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu"),
    *("America/St_Johns", "Australia/Lord_Howe", "Pacific/Auckland"),
]
RANGES = [
    {},
    {"from": "2026-03-20", "to": "2026-04-06"},
    {"from": "2025-06-10", "to": "2026-03-02"},
    {"from": "2025-10-25T10:15:00Z", "to": "2026-04-13T22:45:00+02:00"},
    {"from": "2026-04-13T01:15Z", "to": "2026-04-13T21:45Z"},
    {"from": "2026-02-01"},
    {"from": "2026-04-02T07:45:00Z"},
    {"to": "2025-12-25"},
    {"to": "2026-07-01"},
    {"from": "2031-01-01"},
]
FILTERS: list[dict[str, str]] = [
    {},
    {"priority": "High"},
    {"agent": str(AGENTS[0])},
    {"agent": "none", "priority": "Low"},
    {"tag": TAGS[2]},
    {"tag": "printer", "priority": "Medium"},
    {"agent": str(ObjectId())},
]
QUESTIONS = [
    {**stretch, **FILTERS[(at + zone_at) % len(FILTERS)], "tz": zone}
    for at, stretch in enumerate(RANGES)
    for zone_at, zone in enumerate(ZONES)
]
BOSS = Actor(ObjectId(), "boss", Role.ADMIN, ObjectId())


def random_facts(chance: random.Random) -> Facts:
    """A ticket of the last year; some times are those at which days begin."""

    def later(moment: datetime) -> datetime:
        found = moment + MS * int(chance.expovariate(1 / (5 * 24 * 3_600_000)))
        return found.replace(minute=chance.choice([0, 15, 30, 45]), second=0, microsecond=0) + timedelta(hours=1)

    created = NOW - MS * chance.randrange(YEAR_MS)
    if chance.random() < 0.2:
        zone = ZoneInfo(chance.choice(ZONES))
        created = datetime.combine(created.date(), time.min, zone).astimezone(UTC)
    moves: tuple[datetime | None, ...] = ()
    moment = created
    while (moment := later(moment)) < NOW and chance.random() < 0.75:
        moves = (*moves, moment)
    is_undated = False
    if chance.random() < 0.05:
        moves, is_undated = (None,), chance.random() < 0.5
    responded = min(created + MS * int(chance.expovariate(1 / 7_200_000)), NOW)
    outcome = [None, Outcome.MET, Outcome.BREACHED]
    return Facts(
        ticket_id=ObjectId(),
        version=1,
        is_deleted=chance.random() < 0.05,
        agent=chance.choice([None, *AGENTS]),
        priority=chance.choice(["Low", "Medium", "High"]),
        tags=tuple(chance.sample(TAGS, chance.randrange(3))),
        created_at=created,
        moves=moves,
        is_undated=is_undated,
        first_responded_at=responded if chance.random() < 0.8 else None,
        sla=Sla(chance.choice(outcome), chance.choice(outcome)) if chance.random() < 0.6 else None,
        rating=Rating(chance.randint(1, 5), later(created)) if chance.random() < 0.3 else None,
    )


@pytest.fixture(scope="module", autouse=True)
async def tickets(app: Started) -> list[Facts]:
    """Counted ones; there are no others."""
    for model in (Ticket, StatsCell, StatsTicket, StatsProgress, User):
        await collection_of(model).delete_many({})
    chance = random.Random(7)
    tickets = [random_facts(chance) for _ in range(250)]
    await fill_up()

    # Some are counted twice over, so that zeros remain of what they were first.
    first = [replace(one, tags=("gone",), agent=AGENTS[0], moves=(), is_undated=False) for one in tickets[:20]]
    for changes in ([(None, one) for one in first], zip([*first, *[None] * 230], tickets, strict=True)):
        await collection_of(StatsCell).bulk_write(
            [
                UpdateOne({"_id": cell._asdict()}, {"$inc": amounts}, upsert=True)
                for cell, amounts in difference(changes).items()
            ],
            ordered=False,
        )
    await collection_of(User).insert_many([user_row(_id=agent, username=f"agent {agent}") for agent in AGENTS[:2]])
    return [one for one in tickets if not one.is_deleted]


async def ask(report: str, question: dict[str, str]) -> Any:
    read: Callable[..., Any] = getattr(queries, f"read_{report}")
    return await (read(BOSS, question, now=NOW) if report in ("volume", "backlog") else read(BOSS, question))


REFUSED = {"tags": "agent", "agent_performance": "tag"}


@pytest.mark.parametrize("report", CHECKS)
async def test_every_answer_is_a_count_over_the_tickets(tickets: list[Facts], report: str) -> None:
    for question in QUESTIONS:
        if REFUSED.get(report) not in question:
            CHECKS[report](await ask(report, question), understood(question, tickets))


@pytest.mark.parametrize("interval", ["week", "month"])
async def test_volume_has_longer_intervals(tickets: list[Facts], interval: str) -> None:
    for question in QUESTIONS[: 4 * len(ZONES)]:
        check_volume(await ask("volume", {**question, "interval": interval}), understood(question, tickets))


async def test_backlog_says_what_is_nobodys(tickets: list[Facts]) -> None:
    for question in FILTERS:
        free = [one for one in understood(question, tickets).tickets if one.is_open and one.agent is None]
        wanted = None if question.keys() & {"agent", "tag"} else len(free)
        assert (await ask("backlog", question))["unassigned"] == wanted


@pytest.mark.parametrize("report", CHECKS)
async def test_one_command_by_an_index_and_few_rows(tickets: list[Facts], report: str) -> None:
    database = collection_of(StatsCell).database
    question = {"from": "2025-06-10T10:15:00Z", "to": "2026-04-03T22:45:00Z", "tz": "Asia/Kolkata"}
    await database.command("profile", 2)
    try:
        COMMANDS.names.clear()
        await ask(report, question)
        commands = list(COMMANDS.names)
    finally:
        await database.command("profile", 0)
    [read] = await database["system.profile"].find({"ns": f"{database.name}.stats_cells"}).to_list()
    await database.drop_collection("system.profile")

    assert commands == ["aggregate"]
    assert "COLLSCAN" not in read["planSummary"]
    assert "IXSCAN" in read["planSummary"]
    rows_of_a_kind = 11 + 2 * 31 if report not in ("volume", "backlog") else 310 + 11 + 62
    kinds = {"tags": len(TAGS) + 1, "agent_performance": len(AGENTS) + 1}.get(report, 1)
    # One for each priority.
    assert read["docsExamined"] <= 3 * (rows_of_a_kind * kinds + len(AGENTS))


async def test_at_most_so_many_intervals_are_shown(tickets: list[Facts]) -> None:
    most = {"from": "1990-01-01", "to": "2003-09-10", "tz": "Europe/Berlin"}
    assert len((await ask("volume", most))["items"]) == 5_000
    too_many = [
        ("volume", {**most, "to": "2003-09-11"}),
        ("backlog", {"from": "1990-01-01"}),
        ("volume", {"from": "1970-01-01", "to": "9998-12-31"}),
    ]
    for report, question in too_many:
        with pytest.raises(InvalidInput, match="5000 intervals"):
            await ask(report, question)
    with pytest.raises(InvalidInput, match="quarter of an hour"):
        await ask("volume", {"from": "1970-01-01T00:00:00Z", "to": "1975-01-01", "tz": "Africa/Monrovia"})


async def test_nothing_is_answered_before_all_is_counted(tickets: list[Facts]) -> None:
    progress = collection_of(StatsProgress)
    complete = await progress.find_one({})
    assert complete is not None
    try:
        for state in ({**complete, "isDone": False}, None):
            await progress.delete_many({})
            if state:
                await progress.insert_one(state)
            for report in CHECKS:
                for question in ({}, {"from": "2026-01-01"}):
                    with pytest.raises(StatisticsIncomplete):
                        await ask(report, question)
    finally:
        await progress.replace_one({"_id": complete["_id"]}, complete, upsert=True)
