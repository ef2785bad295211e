"""Every filter with every order reads an index in the order of the answer, on the first page and on later ones."""

from datetime import UTC, datetime
from typing import Any

import pytest
from bson import ObjectId
from starlette.types import ASGIApp

from app.accounts.actor import Actor
from app.accounts.roles import Role
from app.platform.mongo import collection_of
from app.platform.paging import decode_cursor, read_page, segments
from app.tickets.documents import Ticket
from app.tickets.filters import SORT_VALUES, parse_query
from tests.factories.tickets import add_tickets, ticket_row

SOMEBODY = ObjectId()
FILTERS = [
    {},
    {"status": "Open"},
    {"priority": "High"},
    {"assignedTo": "me"},
    {"assignedTo": "none"},
    {"requester": "me"},
    {"tag": "printer"},
    {"waitingOn": "customer"},
    {"waitingOn": "none"},
    {"breached": "true"},
    {"breached": "false"},
    {"createdAfter": "2026-06-01T12:00:00Z"},
    {"createdBefore": "2026-06-01T12:00:00Z"},
    {"updatedAfter": "2026-06-01T12:00:00Z"},
    {"createdAfter": "2026-06-01T12:00:00Z", "createdBefore": "2026-06-05T12:00:00Z", "breached": "false"},
    {"status": "Open", "waitingOn": "none", "updatedAfter": "2026-06-01T12:00:00Z"},
    {"status": "Open", "priority": "High", "assignedTo": "me", "tag": "printer", "breached": "true"},
]


@pytest.fixture(scope="module", autouse=True)
async def tickets(app: ASGIApp) -> None:
    await collection_of(Ticket).delete_many({})
    rows = [
        ticket_row(
            status=["Open", "Closed"][n % 2],
            priority=["Low", "Medium", "High"][n % 3],
            assignedTo=[None, SOMEBODY, ObjectId()][n % 3],
            requester=SOMEBODY if n % 5 == 0 else ObjectId(),
            tags=["printer"] if n % 4 == 0 else ["other"],
            waitingOn="customer" if n % 7 == 0 else None,
            sla={"resolutionBreached": n % 6 == 0, "firstResponseBreached": n % 10 == 0},
            createdAt=datetime(2026, 6, 1 + n % 28, 12, tzinfo=UTC),
        )
        for n in range(400)
    ]
    await add_tickets(*rows)


@pytest.mark.parametrize("role", [Role.AGENT, Role.CUSTOMER])
@pytest.mark.parametrize("filters", FILTERS, ids=lambda filters: "+".join(f"{k}={v}" for k, v in filters.items()))
async def test_serve_every_filter_and_order(filters: dict[str, str], role: Role) -> None:
    actor = Actor(SOMEBODY, "somebody", role, ObjectId())
    for sort in SORT_VALUES:
        query = parse_query(actor, {**filters, "sort": sort})
        page = await read_page(
            collection_of(Ticket), query.where, query.order, scope=query.scope, cursor=None, limit=1, hint=query.hint
        )
        after = decode_cursor(query.scope, page.next_cursor) if page.next_cursor else None

        for segment in segments(query.order, None) + segments(query.order, after):
            found = collection_of(Ticket).find({"$and": [query.where, segment.where]}, hint=query.hint)
            plan = await found.sort(segment.keys).limit(51).explain()

            stages = _stages(plan["queryPlanner"]["winningPlan"])
            assert "IXSCAN" in stages
            assert not stages & {"COLLSCAN", "SORT"}, (stages, sort, segment)


async def test_words_are_looked_up_and_sorted_no_further_than_the_page() -> None:
    actor = Actor(SOMEBODY, "somebody", Role.AGENT, ObjectId())
    query = parse_query(actor, {"q": "ticket"})
    found = collection_of(Ticket).find(query.where)
    plan = (await found.sort(query.order.keys).limit(51).explain())["queryPlanner"]["winningPlan"]

    assert "COLLSCAN" not in _stages(plan)
    assert (plan["stage"], plan["limitAmount"]) == ("SORT", 51)


def _stages(plan: dict[str, Any]) -> set[str]:
    inner = [plan["inputStage"]] if "inputStage" in plan else plan.get("inputStages", [])
    return {plan["stage"]}.union(*map(_stages, inner))
