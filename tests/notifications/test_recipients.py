"""Who is told of which event, as a table over everything that can happen."""

from typing import Any, NamedTuple

import pytest

from app.accounts.roles import Role
from app.events.catalog import EventType
from app.notifications.kinds import Kind
from app.notifications.recipients import recipients
from tests.notifications.life import Life, person

ANN, BOB, CAROL, WALT = person(), person(username="bob"), person(Role.CUSTOMER, "carol"), person(username="walt")
NAMES = {ANN["id"]: "ann", BOB["id"]: "bob", CAROL["id"]: "carol", WALT["id"]: "walt"}
# Carol's ticket, which Ann works on and Walt watches.
PEOPLE = {"requester": CAROL["id"], "assignedTo": ANN["id"], "watchers": [WALT["id"]]}
CREATED, CHANGED = EventType.TICKET_CREATED, EventType.TICKET_STATUS_CHANGED
ASSIGNED, UPDATED, COMMENT = EventType.TICKET_ASSIGNED, EventType.TICKET_UPDATED, EventType.COMMENT_CREATED


class Case(NamedTuple):
    what: str
    event_type: EventType
    by: dict[str, Any] | None
    told: dict[str, str]
    before: dict[str, Any] = {}
    changed: dict[str, Any] = {}
    internal: bool = False

    def __str__(self) -> str:
        return self.what


# fmt: off
TABLE = [
    Case("opened by the requester", CREATED, CAROL, {"carol": "created", "walt": "created", "ann": "assigned"}),
    Case("opened by the assignee", CREATED, ANN, {"carol": "created", "walt": "created"}),
    Case("opened by a watcher", CREATED, WALT, {"carol": "created", "ann": "assigned"}),
    Case("opened by nobody", CREATED, None, {"carol": "created", "walt": "created", "ann": "assigned"}),
    Case("opened for oneself", CREATED, ANN, {"ann": "created"},
         {"requester": ANN["id"], "watchers": [ANN["id"]]}),
    Case("opened without anybody", CREATED, None, {}, {"requester": None, "assignedTo": None, "watchers": []}),
    Case("assigned to another", ASSIGNED, WALT, {"bob": "assigned"}, {}, {"assignedTo": BOB["id"]}),
    Case("assigned to oneself", ASSIGNED, BOB, {}, {}, {"assignedTo": BOB["id"]}),
    Case("assigned to nobody", ASSIGNED, WALT, {}, {}, {"assignedTo": None}),
    Case("begun", CHANGED, ANN, {"carol": "statusChanged", "walt": "statusChanged"}, {}, {"status": "In Progress"}),
    Case("begun and assigned", CHANGED, ANN, {"carol": "statusChanged", "walt": "statusChanged", "bob": "assigned"},
         {}, {"status": "In Progress", "assignedTo": BOB["id"]}),
    Case("assigned to a watcher and begun", CHANGED, ANN, {"carol": "statusChanged", "walt": "assigned statusChanged"},
         {}, {"status": "In Progress", "assignedTo": WALT["id"]}),
    Case("resolved", CHANGED, ANN, {"carol": "resolved", "walt": "resolved"}, {}, {"status": "Resolved"}),
    Case("resolved by a watcher", CHANGED, WALT, {"carol": "resolved"}, {}, {"status": "Resolved"}),
    Case("closed while open", CHANGED, ANN, {"carol": "resolved", "walt": "resolved"}, {}, {"status": "Closed"}),
    Case("closed while in progress", CHANGED, ANN, {"carol": "resolved", "walt": "resolved"},
         {"status": "In Progress"}, {"status": "Closed"}),
    Case("closed by the requester", CHANGED, CAROL, {"walt": "resolved"}, {}, {"status": "Closed"}),
    Case("closed after it was resolved", CHANGED, ANN, {"carol": "statusChanged", "walt": "statusChanged"},
         {"status": "Resolved"}, {"status": "Closed"}),
    Case("put back", CHANGED, ANN, {"carol": "statusChanged", "walt": "statusChanged"},
         {"status": "In Progress"}, {"status": "Open"}),
    Case("reopened by the requester", CHANGED, CAROL, {"ann": "statusChanged", "walt": "statusChanged"},
         {"status": "Closed"}, {"status": "Open"}),
    Case("reopened by the assignee", CHANGED, ANN, {"carol": "statusChanged", "walt": "statusChanged"},
         {"status": "Resolved"}, {"status": "In Progress"}),
    Case("commented by the requester", COMMENT, CAROL, {"ann": "commented", "walt": "commented"}),
    Case("commented by the assignee", COMMENT, ANN, {"carol": "commented", "walt": "commented"}),
    Case("commented, which reopens it", COMMENT, CAROL,
         {"ann": "commented statusChanged", "walt": "commented statusChanged"},
         {"status": "Resolved"}, {"status": "Open"}),
    Case("commented among us", COMMENT, BOB, {"ann": "commented", "walt": "commented"}, internal=True),
    Case("commented among us by the assignee", COMMENT, ANN, {"walt": "commented"}, internal=True),
    Case("close to a deadline", EventType.SLA_WARNING, None, {"ann": "sla"}, internal=True),
    Case("past a deadline", EventType.SLA_BREACHED, None, {"ann": "sla"}),
    Case("past a deadline, nobody's", EventType.SLA_BREACHED, None, {}, {"assignedTo": None}),
    *(Case(f"{field} changed", UPDATED, ANN, {}, {}, {field: value}) for field, value in
      {"title": "New", "priority": "High", "tags": ["x"], "watchers": [BOB["id"]], "requester": BOB["id"]}.items()),
    *(Case(str(event_type), event_type, ANN, {}) for event_type in EventType
      if event_type not in {CREATED, CHANGED, ASSIGNED, COMMENT, EventType.SLA_WARNING, EventType.SLA_BREACHED}),
]
# fmt: on


@pytest.mark.parametrize("case", TABLE, ids=str)
def test_those_and_no_others_are_told(case: Case) -> None:
    life = Life(**PEOPLE | case.before)

    event = life.step(case.event_type, case.by, internal=case.internal, **case.changed)

    told = {NAMES[user_id]: " ".join(sorted(kinds)) for user_id, kinds in recipients(event).items()}
    assert told == case.told


def test_the_table_has_every_type() -> None:
    assert {case.event_type for case in TABLE} == set(EventType)


def test_a_person_named_in_many_ways_is_told_once() -> None:
    life = Life(requester=ANN["id"], assignedTo=ANN["id"], watchers=[ANN["id"], ANN["id"]])

    assert recipients(life.commented(BOB, "Hm")) == {ANN["id"]: {Kind.COMMENTED}}
    assert recipients(life.commented(ANN, "Hm")) == {}
