"""What a patch does to a ticket: fields, differences and the one event."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from app.accounts.actor import Actor
from app.accounts.roles import Role
from app.events.catalog import EventType
from app.platform.errors import InvalidInput
from app.tickets.changes import complete, plan_change, plan_deletion, plan_restoration
from app.tickets.errors import IllegalTransition, NotEditable, ReopenWindowOver
from app.tickets.lifecycle import DONE, LEGAL_MOVES, Priority, Status, WaitingOn

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
EARLIER = NOW - timedelta(days=1)
AGENT = Actor(ObjectId(), "agent", Role.AGENT, ObjectId())
CUSTOMER = Actor(ObjectId(), "customer", Role.CUSTOMER, ObjectId())
SOMEBODY = ObjectId()

patches = st.fixed_dictionaries(
    {},
    optional={
        "title": st.sampled_from(["Printer", "Screen"]),
        "status": st.sampled_from(Status),
        "priority": st.sampled_from(Priority),
        "waitingOn": st.sampled_from([None, *WaitingOn]),
        "assignedTo": st.sampled_from([None, SOMEBODY]),
        "tags": st.lists(st.sampled_from(["a", "b"]), unique=True),
    },
)


def ticket(**fields: Any) -> dict[str, Any]:
    return complete(
        {"_id": ObjectId(), "title": "Printer", "description": "Down", "createdAt": EARLIER, "version": 7, **fields}
    )


@pytest.mark.parametrize("odd", ["Urgent", "", "open", 1, ["Open"], {"a": 1}])
def test_values_that_there_are_none_of_count_as_missing(odd: Any) -> None:
    found = complete({"_id": ObjectId(), "status": odd, "priority": odd, "waitingOn": odd})

    assert (found["status"], found["priority"], found["waitingOn"]) == (Status.OPEN, Priority.MEDIUM, None)


def test_a_patch_that_changes_nothing_plans_nothing() -> None:
    plan = plan_change(ticket(), {"title": "Printer", "status": Status.OPEN, "tags": []}, AGENT, NOW)

    assert plan.fields == {}
    assert plan.changes == {}


def test_every_field_that_changed_is_told_with_its_former_value() -> None:
    plan = plan_change(ticket(tags=["a"]), {"title": "Screen", "tags": ["a", "b"]}, AGENT, NOW)

    assert plan.fields == {"title": "Screen", "tags": ["a", "b"], "updatedAt": NOW, "version": 8}
    assert plan.changes == {
        "title": {"from": "Printer", "to": "Screen"},
        "tags": {"from": ["a"], "to": ["a", "b"]},
    }


def test_what_a_move_sets_is_told_too() -> None:
    plan = plan_change(ticket(), {"status": Status.RESOLVED}, AGENT, NOW)

    assert plan.changes == {
        "resolvedAt": {"from": None, "to": NOW},
        "status": {"from": Status.OPEN, "to": Status.RESOLVED},
    }


@pytest.mark.parametrize(
    ("patch", "event_type"),
    [
        ({"status": Status.RESOLVED, "assignedTo": SOMEBODY, "title": "x"}, EventType.TICKET_STATUS_CHANGED),
        ({"assignedTo": SOMEBODY, "title": "x"}, EventType.TICKET_ASSIGNED),
        ({"status": Status.OPEN, "assignedTo": SOMEBODY}, EventType.TICKET_ASSIGNED),
        ({"title": "x"}, EventType.TICKET_UPDATED),
    ],
)
def test_a_patch_of_several_fields_is_one_event(patch: dict[str, Any], event_type: EventType) -> None:
    assert plan_change(ticket(), patch, AGENT, NOW).event_type is event_type


def test_finishing_ends_the_wait() -> None:
    waiting = ticket(waitingOn=WaitingOn.CUSTOMER)

    assert plan_change(waiting, {"status": Status.RESOLVED}, AGENT, NOW).fields["waitingOn"] is None


@pytest.mark.parametrize("waiting_on", WaitingOn)
@pytest.mark.parametrize("before", Status)
@pytest.mark.parametrize("after", [None, *Status])
def test_what_is_finished_does_not_wait(waiting_on: WaitingOn, before: Status, after: Status | None) -> None:
    patch = {"waitingOn": waiting_on} if after is None else {"status": after, "waitingOn": waiting_on}
    row = ticket(status=before, waitingOn=WaitingOn.CUSTOMER if before not in DONE else None)

    if (after or before) in DONE:
        with pytest.raises(InvalidInput, match="waitingOn"):
            plan_change(row, patch, AGENT, NOW)
    elif after in (None, before) or after in LEGAL_MOVES[before]:
        assert (row | plan_change(row, patch, AGENT, NOW).fields)["waitingOn"] is waiting_on


def test_an_illegal_move_says_which_are_legal() -> None:
    with pytest.raises(IllegalTransition) as refusal:
        plan_change(ticket(status="Closed"), {"status": Status.RESOLVED}, AGENT, NOW)

    assert refusal.value.extra == {"legalTransitions": ["Open"]}


@pytest.mark.parametrize("status", ["In Progress", "Resolved", "Closed"])
def test_a_customer_edits_only_while_open(status: str) -> None:
    with pytest.raises(NotEditable):
        plan_change(ticket(status=status, resolvedAt=NOW), {"title": "x"}, CUSTOMER, NOW)


@pytest.mark.parametrize(("age", "is_allowed"), [(timedelta(days=14), True), (timedelta(days=14, seconds=1), False)])
def test_a_customer_reopens_for_14_days(age: timedelta, *, is_allowed: bool) -> None:
    closed = ticket(status="Closed", resolvedAt=NOW - timedelta(days=90), closedAt=NOW - age)

    if is_allowed:
        assert plan_change(closed, {"status": Status.OPEN}, CUSTOMER, NOW).fields["reopenCount"] == 1
    else:
        with pytest.raises(ReopenWindowOver):
            plan_change(closed, {"status": Status.OPEN}, CUSTOMER, NOW)


def test_deletion_and_restoration_raise_the_version() -> None:
    deleted = plan_deletion(ticket(), NOW)
    assert deleted.fields == {"deletedAt": NOW, "updatedAt": NOW, "version": 8}
    assert deleted.event_type is EventType.TICKET_DELETED

    restored = plan_restoration(ticket(deletedAt=EARLIER), NOW)
    assert restored.fields == {"deletedAt": None, "updatedAt": NOW, "version": 8}
    assert restored.event_type is EventType.TICKET_RESTORED


@given(st.sampled_from(Status), st.lists(patches, max_size=8))
def test_whatever_is_done_the_ticket_stays_consistent(status: Status, many: list[dict[str, Any]]) -> None:
    row = ticket(status=status, resolvedAt=EARLIER if status in DONE else None)
    for patch in many:
        before = row
        try:
            plan = plan_change(row, patch, AGENT, NOW)
        except IllegalTransition:
            assert patch["status"] not in LEGAL_MOVES[Status(row["status"])]
            continue
        except InvalidInput:
            assert patch["waitingOn"] is not None
            continue
        row = row | plan.fields

        assert row["waitingOn"] is None or row["status"] not in DONE
        assert (row["resolvedAt"] is not None) == (row["status"] in DONE)
        assert row["closedAt"] is None or row["status"] == Status.CLOSED
        assert row["version"] == before["version"] + bool(plan.changes)
        assert all(row[name] == change["to"] for name, change in plan.changes.items())
        assert all(before[name] == change["from"] for name, change in plan.changes.items())
