"""The reports over HTTP: the original's figures, what is refused and how, and that answers are as documented."""

from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId
from httpx import AsyncClient, Response

from app.accounts.documents import User
from app.analytics import schemas
from app.analytics.backfill import fill_up
from app.analytics.documents import StatsProgress
from app.platform.mongo import collection_of
from app.platform.wire import WireModel
from tests.callers import Caller
from tests.conftest import COMMANDS
from tests.factories.accounts import add_user
from tests.factories.tickets import add_tickets, open_ticket, stored_ticket

MODELS: dict[str, type[WireModel]] = {
    "agent-performance": schemas.AgentPerformance,
    "resolution-time": schemas.ResolutionTime,
    "first-response-time": schemas.FirstResponseTime,
    "volume": schemas.Volume,
    "backlog": schemas.Backlog,
    "sla": schemas.SlaReport,
    "satisfaction": schemas.Satisfaction,
    "tags": schemas.TagReport,
    "overview": schemas.Overview,
}
OLD: dict[str, Any] = {"title": "Old", "description": "Old", "__v": 0, "createdAt": datetime(2020, 1, 1, tzinfo=UTC)}
RESOLVED = {"status": "Resolved", "resolvedAt": datetime(2020, 1, 2, 0, 0, 0, 1000, tzinfo=UTC)}


async def ask(client: AsyncClient, report: str, **parameters: str) -> Any:
    answer = await client.get(f"/api/analytics/{report}", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def resolve(caller: Caller, ticket_id: str, status: str = "Resolved") -> None:
    answer = await caller.patch(f"/api/tickets/{ticket_id}", json={"status": status})
    assert answer.status_code == 200, answer.text


class TestOriginal:
    """What the original's clients ask for (contract S7), of its database and of today's tickets together."""

    async def test_resolved_per_agent_and_average_time(self, agent: Caller, admin: Caller) -> None:
        gone = await add_user(username="gone")
        await add_tickets(
            {"_id": ObjectId(), **OLD, "status": "Resolved", "assignedTo": agent.actor.id},
            {"_id": ObjectId(), **OLD, **RESOLVED, "assignedTo": gone["_id"]},
            {"_id": ObjectId(), **OLD, "status": "Open", "assignedTo": gone["_id"]},
            {"_id": ObjectId(), **OLD, **RESOLVED, "status": "Closed"},
        )
        await collection_of(User).delete_one({"_id": gone["_id"]})
        tickets = [await open_ticket(admin, assignedTo=agent.user_id) for _ in range(4)]
        for ticket in tickets[:3]:
            await resolve(agent, ticket["id"])
        await resolve(agent, tickets[0]["id"], "Closed")
        await resolve(agent, tickets[1]["id"], "Open")
        await admin.delete(f"/api/tickets/{tickets[2]['id']}")
        await fill_up()

        agents = await ask(admin, "agent-performance")
        times = await ask(admin, "resolution-time")

        [day_ms, mine] = [24 * 3_600_000 + 1, await duration_ms(tickets[0]["id"])]
        nobody = {"_id": None, "username": None, "resolvedTickets": 1, "avgTime": day_ms, "reopened": 0}
        assert agents == [
            {"_id": agent.user_id, "username": "agent", "resolvedTickets": 2, "avgTime": mine, "reopened": 1},
            {**nobody, "_id": str(gone["_id"])},
            nobody,
        ]
        assert all(isinstance(row["avgTime"], int) for row in agents), "whole milliseconds are shown as such"
        assert times["avgTime"] == (2 * day_ms + mine) / 3
        assert (times["count"], times["resolution"]) == (3, "last")
        # Also the one that is open again; not the one that was deleted.
        assert times["first"]["count"] == 4
        assert (await ask(admin, "overview", **{"from": "2000-01-01"}))["resolved"] == 3
        assert (await ask(admin, "overview"))["resolved"] == 4

    async def test_without_tickets(self, agent: Caller) -> None:
        await fill_up()

        empty = {"avgTime": None, "medianMs": None, "p90Ms": None, "count": 0}
        assert await ask(agent, "agent-performance") == []
        assert await ask(agent, "resolution-time") == {
            **empty, "resolution": "last", "first": empty, "quantileError": 0.02
        }  # fmt: skip
        assert (await ask(agent, "volume"))["items"] == []
        assert (await ask(agent, "backlog"))["items"] == []
        assert len((await ask(agent, "volume", **{"from": "2026-01-01", "to": "2026-02-01"}))["items"]) == 31


async def duration_ms(ticket_id: str) -> int:
    ticket = await stored_ticket(ticket_id)
    duration: timedelta = ticket["resolvedAt"] - ticket["createdAt"]
    return duration // timedelta(milliseconds=1)


async def test_answers_are_as_documented(agent: Caller) -> None:
    ticket = await open_ticket(agent, assignedTo=agent.user_id, tags=["printer"])
    await resolve(agent, ticket["id"])
    await fill_up()

    for report, model in MODELS.items():
        for parameters in ({}, {"from": "2026-01-01", "tz": "Asia/Kathmandu", "priority": "Medium"}):
            COMMANDS.names.clear()
            answer = await ask(agent, report, **parameters)
            # The first is the caller's; a series without a beginning looks for it.
            series = report in ("volume", "backlog") and not parameters
            assert COMMANDS.names == ["aggregate"] * (3 if series else 2)
            for item in answer if isinstance(answer, list) else [answer]:
                assert model.parse(item)
            if isinstance(answer, list) or "items" in answer:
                assert len(answer if isinstance(answer, list) else answer["items"]) > 0


WRONG_QUESTIONS: list[tuple[str, str, list[str]]] = [
    ("sla", "From=2026-01-01", ["From unknown_parameter"]),
    ("sla", "interval=day", ["interval unknown_parameter"]),
    ("sla", "tz=UTC&tz=UTC", ["tz repeated_parameter"]),
    ("volume", "interval=year", ["interval invalid"]),
    (
        "volume",
        "from=x&to=2026-02-30&tz=Mars/Base&priority=high&agent=me&interval=&limit=1",
        "agent invalid,from invalid,interval invalid,limit unknown_parameter,priority invalid,to invalid,"
        "tz invalid".split(","),
    ),
    *(
        ("sla", f"from={text}", ["from invalid"])
        for text in (
            *("", "2026", "2026-01", "20260101", "2026-W01-1", "2026-13-01", "2026-01-01T10:00:00"),
            *(
                "2026-01-01T25:00:00Z",
                "2026-01-01T10:00:00%2B99:00",
                "0000-01-01",
                "٢٠٢٦-01-01",
                "2026-01-01%0A",
            ),
        )
    ),
    *(
        ("sla", f"to={text}", ["to out_of_range"])
        for text in ("1969-12-31", "9999-01-01", "0001-01-01T00:00:00Z", "9999-12-31T23:45:00Z")
    ),
    ("sla", "from=2026-01-01T10:07:00Z", ["from not_aligned"]),
    ("sla", "from=2026-01-01T10:00:00.001Z", ["from not_aligned"]),
    ("sla", "to=1971-06-01&tz=Africa/Monrovia", ["to not_aligned"]),
    ("volume", "from=1970-01-01T00:00Z&to=1980-01-01&tz=Africa/Monrovia", ["tz not_aligned"]),
    ("sla", "from=2026-01-01&to=2026-01-01", ["to out_of_range"]),
    ("sla", "from=2026-01-01T10:00:00Z&to=2026-01-01T10:30:00%2B01:00", ["to out_of_range"]),
    *(
        ("sla", f"tz={name}", ["tz invalid"])
        for name in (
            "",
            "utc",
            "../UTC",
            "/etc/passwd",
            "localtime",
            "Factory",
            "Europe",
            "posix/UTC",
            "UTC%00",
        )
    ),
    ("sla", "agent=none&tag=x", ["tag unsupported_combination"]),
    ("tags", "agent=none", ["agent unsupported_combination"]),
    ("agent-performance", "tag=x", ["tag unsupported_combination"]),
    ("sla", "agent=x", ["agent invalid"]),
    ("sla", "tag=%20", ["tag invalid"]),
    ("sla", "tag=" + "x" * 51, ["tag invalid"]),
    ("backlog", "from=1990-01-01", ["from too_many_intervals"]),
]


class TestRefused:
    async def test_to_those_who_may_not(self, customer: Caller, nobody: AsyncClient, agent: Caller) -> None:
        await fill_up()
        body = {"name": "robot", "scopes": ["read"]}
        keys = [(await caller.post("/api/api-keys", json=body)).json()["key"] for caller in (customer, agent)]
        path = "/api/analytics/sla?from=x"

        # What may not be asked is not checked.
        assert problem(await customer.get(path)) == (403, "forbidden")
        assert problem(await nobody.get(path)) == (401, "unauthenticated")
        by_key = [await nobody.get("/api/analytics/sla", headers={"Authorization": f"Bearer {key}"}) for key in keys]
        assert [answer.status_code for answer in by_key] == [403, 200]

    async def test_until_all_tickets_are_counted(self, agent: Caller) -> None:
        for report in MODELS:
            answer = await agent.get(f"/api/analytics/{report}")
            assert problem(answer) == (503, "statistics_incomplete")
            assert int(answer.headers["Retry-After"]) > 0
        await fill_up()
        await ask(agent, "overview")
        # Also in a process that has answered before: another one may have begun to count anew.
        await collection_of(StatsProgress).update_one({}, {"$set": {"isDone": False}})
        assert problem(await agent.get("/api/analytics/overview")) == (503, "statistics_incomplete")

    async def test_what_cannot_be_answered(self, agent: Caller) -> None:
        await fill_up()

        for report, query, errors in WRONG_QUESTIONS:
            answer = await agent.get(f"/api/analytics/{report}?{query}")
            assert problem(answer) == (422, "invalid_input"), query
            assert [f"{error['field']} {error['code']}" for error in answer.json()["errors"]] == errors, query

    async def test_what_looks_odd_and_is_not(self, agent: Caller) -> None:
        await fill_up()

        for query in (
            "from=1970-01-01&to=9998-12-31&tz=Asia/Tokyo",
            "from=2026-01-01T10:15:00%2B05:45&tz=Asia/Kathmandu",
            "from=2026-01-01T10:15:00+01:00",
            "from=2026-01-01T10:15:00.000Z&to=2026-01-01T10:30Z",
            "from=2011-12-30&to=2011-12-31T00:15:00%2B14:00&tz=Pacific/Apia",
            f"agent={ObjectId()}&priority=Low",
            "tag=%24where",
        ):
            answer = await agent.get(f"/api/analytics/overview?{query}")
            assert answer.status_code == 200, query
            assert answer.json()["created"] == 0


def problem(answer: Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]
