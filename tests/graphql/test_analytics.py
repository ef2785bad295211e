"""Reports by GraphQL: those of REST, each asked for only when it is wanted."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from graphql import GraphQLObjectType

from app.analytics import schemas
from app.analytics.backfill import fill_up
from app.graphql.schema import SCHEMA
from app.platform.wire import WireModel
from tests.callers import Caller
from tests.conftest import COMMANDS
from tests.factories.tickets import add_tickets, open_ticket, ticket_row
from tests.graphql.asking import data, post, refusal

DURATIONS = "avgTime medianMs p90Ms count"
FIRST_RESPONSE = "avgMs medianMs p90Ms count"
SLA = "tickets firstResponse { met breached rate } resolution { met breached rate }"
SATISFACTION = "count average scores { score count }"
FIELDS = {
    "agentPerformance": "agent { id username } resolvedTickets avgTime reopened",
    "resolutionTime": f"{DURATIONS} resolution first {{ {DURATIONS} }} quantileError",
    "firstResponseTime": f"{FIRST_RESPONSE} quantileError",
    "volume": "interval tz items { start created resolved reopened }",
    "backlog": "tz open unassigned byAge { fromDays toDays open } items { date open }",
    "sla": SLA,
    "satisfaction": SATISFACTION,
    "tags": "items { tag created resolved open avgTime }",
    "overview": (
        f"created resolved reopened open avgTime medianMs p90Ms firstResponse {{ {FIRST_RESPONSE} }} "
        f"sla {{ {SLA} }} satisfaction {{ {SATISFACTION} }}"
    ),
}
PATHS = {
    "agentPerformance": "agent-performance",
    "resolutionTime": "resolution-time",
    "firstResponseTime": "first-response-time",
}
ASK = """query ($from: String, $to: String, $tz: String, $priority: String, $agent: ID, $tag: String) {
  analytics(from: $from, to: $to, tz: $tz, priority: $priority, agent: $agent, tag: $tag) { %s }
}"""
ALL = ASK % " ".join(f"{name} {{ {fields} }}" for name, fields in FIELDS.items())
SOMEBODY = "6740a1f0c3b2a1d4e5f60720"


def as_rest(name: str, value: Any) -> Any:
    """A report of GraphQL as REST has it."""
    match name:
        case "agentPerformance":
            rows = [{**row, "agent": row["agent"] or {"id": None, "username": None}} for row in value]
            return [{"_id": row["agent"]["id"], "username": row.pop("agent")["username"], **row} for row in rows]
        case "satisfaction":
            return {**value, "scores": {str(item["score"]): item["count"] for item in value["scores"]}}
        case "overview":
            return {**value, "satisfaction": as_rest("satisfaction", value["satisfaction"])}
    return value


async def prepare(agent: Caller) -> None:
    """Tickets with something for every report, and none that are not counted."""
    day = datetime(2026, 3, 1, 12, tzinfo=UTC)
    sla = {"policy": "gold", "firstResponseDueAt": day, "resolutionDueAt": day, "firstResponseBreached": True}
    rows = [
        ticket_row(
            createdAt=day + n * timedelta(hours=7),
            firstRespondedAt=day + n * timedelta(hours=8),
            status=["Open", "Resolved"][n % 2],
            resolvedAt=day + n * timedelta(hours=50) if n % 2 else None,
            priority=["Low", "High"][n % 4 == 0],
            assignedTo=agent.actor.id if n % 3 else None,
            tags=["printer"] if n % 5 else ["network", "printer"],
            sla=sla,
        )
        for n in range(24)
    ]
    await add_tickets(*rows)
    ticket = await open_ticket(agent, assignedTo=agent.user_id)
    for status in ("Resolved", "Open"):
        await agent.patch(f"/api/tickets/{ticket['id']}", json={"status": status})
    await fill_up()


async def test_every_report_is_rests(agent: Caller) -> None:
    await prepare(agent)
    questions: list[dict[str, str]] = [
        {},
        {"from": "2026-03-02", "to": "2026-03-09", "tz": "Asia/Kathmandu"},
        {"from": "2026-03-02T10:15:00Z", "priority": "High"},
        {"to": "2026-04-01", "agent": agent.user_id},
        {"agent": "none"},
        {"from": "2026-03-01", "tag": "printer", "priority": "Low"},
    ]
    for question in questions:
        answer = (await post(agent, ALL, None, **question)).json()
        refused = {error["path"][1]: error["extensions"]["code"] for error in answer.get("errors", [])}
        for name in FIELDS:
            rest = await agent.get(f"/api/analytics/{PATHS.get(name, name)}", params=question)
            if rest.status_code == 200:
                assert as_rest(name, answer["data"]["analytics"][name]) == rest.json(), name
                refused.setdefault(name, "")
            assert refused.pop(name) == ("" if rest.status_code == 200 else rest.json()["code"])
        assert refused == {}
    found = (await data(agent, ALL))["analytics"]
    assert found["overview"]["created"] == 25
    assert found["agentPerformance"][0]["agent"] == {"id": agent.user_id, "username": "agent"}
    assert len(found["agentPerformance"]) == 2


async def test_volume_takes_an_interval(agent: Caller) -> None:
    await prepare(agent)
    text = ASK % 'week: volume(interval: "week") { interval items { start created } } volume { interval }'

    found = (await data(agent, text, **{"from": "2026-03-02", "to": "2026-03-12"}))["analytics"]

    assert found["volume"] == {"interval": "day"}
    assert found["week"]["interval"] == "week"
    assert [item["start"] for item in found["week"]["items"]] == ["2026-03-02", "2026-03-09"]


async def test_only_what_is_asked_for_is_read(agent: Caller) -> None:
    await prepare(agent)
    for text, commands in (
        ("{ analytics { __typename } }", ["aggregate"]),
        ("{ analytics { sla { tickets } } }", ["aggregate", "aggregate"]),
        ("{ analytics { agentPerformance { agent { username } } } }", ["aggregate", "aggregate", "find"]),
    ):
        COMMANDS.names.clear()
        await data(agent, text)
        assert COMMANDS.names == commands


class TestRefusals:
    async def test_of_customers(self, customer: Caller) -> None:
        await fill_up()

        answer = (await post(customer, ALL, tz="Nowhere")).json()

        assert answer["data"]["analytics"] == dict.fromkeys(FIELDS)
        assert {error["extensions"]["code"] for error in answer["errors"]} == {"forbidden"}

    async def test_until_all_tickets_are_counted(self, agent: Caller) -> None:
        extensions = await refusal(agent, "{ analytics { overview { created } } }")

        assert (extensions["code"], extensions["status"]) == ("statistics_incomplete", 503)

    @pytest.mark.parametrize(
        "question",
        [
            {"from": "x", "to": "2026-01-01T00:01:00Z", "tz": "Mars", "priority": "high", "agent": "me", "tag": ""},
            {"agent": SOMEBODY, "tag": "x"},
            {"from": "2026-01-02", "to": "2026-01-01"},
            {"from": "1990-01-01"},
        ],
        ids=str,
    )
    async def test_of_questions(self, agent: Caller, question: dict[str, str]) -> None:
        await fill_up()
        problem = (await agent.get("/api/analytics/volume", params=question)).json()

        extensions = await refusal(agent, ASK % "volume { tz }", **question)

        assert (
            (extensions["code"], extensions["status"]) == (problem["code"], problem["status"]) == ("invalid_input", 422)
        )
        assert extensions["errors"] == problem["errors"]


def test_types_have_the_fields_of_rest() -> None:
    models = {model.__name__: model for model in vars(schemas).values() if isinstance(model, type(WireModel))}
    del models["WireModel"]

    for name, model in models.items():
        wanted = {field.alias for field in model.model_fields.values()} - {"_id", "username"}
        kind = SCHEMA.type_map[name]
        assert isinstance(kind, GraphQLObjectType)
        assert kind.fields.keys() - {"agent"} == wanted, name
