"""Who may see and change what: the tables, and that both statements of `may see` are one rule."""

from typing import Any

import pytest
from bson import ObjectId
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.accounts.actor import Actor
from app.accounts.roles import Role
from app.platform.clock import now
from app.platform.errors import Forbidden
from app.platform.mongo import collection_of
from app.tickets.changes import complete
from app.tickets.documents import Ticket
from app.tickets.lifecycle import Status
from app.tickets.policy import SETTABLE, check_may_change, check_may_open, may_see, visible_to
from app.tickets.schemas import TicketCreate, TicketPatch

PEOPLE = [ObjectId() for _ in range(3)]
CUSTOMER = Actor(PEOPLE[0], "customer", Role.CUSTOMER, ObjectId())
AGENT = Actor(PEOPLE[1], "agent", Role.AGENT, ObjectId())

actors = st.builds(
    Actor,
    id=st.sampled_from(PEOPLE),
    username=st.just("somebody"),
    role=st.sampled_from(Role),
    credential_id=st.builds(ObjectId),
)
stored = st.fixed_dictionaries(
    {"title": st.just("t"), "description": st.just("d"), "createdAt": st.builds(now)},
    optional={
        "requester": st.sampled_from([None, *PEOPLE]),
        "assignedTo": st.sampled_from([None, *PEOPLE]),
        "watchers": st.lists(st.sampled_from(PEOPLE), unique=True),
        "deletedAt": st.one_of(st.none(), st.builds(now)),
        "status": st.sampled_from(Status),
    },
)


@given(actor=actors, rows=st.lists(stored, max_size=8))
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_filter_and_the_function_are_one_rule(
    database: None, actor: Actor, rows: list[dict[str, Any]]
) -> None:
    tickets = collection_of(Ticket)
    await tickets.delete_many({})
    rows = [{"_id": ObjectId(), **row} for row in rows]
    if rows:
        await tickets.insert_many(rows)

    found = {row["_id"] async for row in tickets.find(visible_to(actor))}

    assert found == {row["_id"] for row in rows if may_see(actor, row)}


@pytest.mark.parametrize("field", sorted(SETTABLE - {"title", "description", "priority", "tags"}))
def test_a_customer_may_not_open_with(field: str) -> None:
    with pytest.raises(Forbidden, match=field):
        check_may_open(CUSTOMER, {"title": "t", field: str(ObjectId())})


def test_a_customer_may_name_themselves_as_requester() -> None:
    check_may_open(CUSTOMER, {"requester": str(CUSTOMER.id)})
    check_may_open(CUSTOMER, {"requester": None})


@pytest.mark.parametrize("field", sorted(SETTABLE - {"title", "description", "status"}))
def test_a_customer_may_not_change(field: str) -> None:
    with pytest.raises(Forbidden, match=field):
        check_may_change(CUSTOMER, complete({"_id": ObjectId()}), {"title": "fine", field: "whatever"})


@pytest.mark.parametrize(
    ("before", "allowed"),
    [
        ("Open", {"Open", "Closed"}),
        ("In Progress", {"In Progress", "Closed"}),
        ("Resolved", {"Resolved", "Closed", "Open"}),
        ("Closed", {"Closed", "Open"}),
    ],
)
def test_a_customer_may_move(before: str, allowed: set[str]) -> None:
    ticket = complete({"_id": ObjectId(), "status": before})
    for status in Status:
        if status in allowed:
            check_may_change(CUSTOMER, ticket, {"status": status})
        else:
            with pytest.raises(Forbidden):
                check_may_change(CUSTOMER, ticket, {"status": status})


@pytest.mark.parametrize("status", [[], {}, ["Closed"], 5, None, "closed"])
def test_what_is_no_status_is_left_to_the_schema(status: Any) -> None:
    check_may_change(CUSTOMER, complete({"_id": ObjectId()}), {"status": status})


def test_an_agent_may_set_every_field() -> None:
    check_may_open(AGENT, dict.fromkeys(SETTABLE, "x"))
    check_may_change(AGENT, complete({"_id": ObjectId()}), dict.fromkeys(SETTABLE, "x"))


def test_the_settable_fields_are_those_of_the_schemas() -> None:
    aliases = {field.alias for model in (TicketCreate, TicketPatch) for field in model.model_fields.values()}

    assert aliases == SETTABLE
