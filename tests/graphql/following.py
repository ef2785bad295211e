"""Following the event log by a subscription, and what it has to be equal to."""

from typing import Any

from app.events.catalog import EventType
from app.events.log import record
from app.platform.clock import now
from app.platform.wire import Row
from app.realtime.hub import Hub, Listener
from tests.callers import Caller, Callers
from tests.conftest import knows
from tests.factories.events import add_event
from tests.factories.tickets import events_of, open_ticket
from tests.live import Frame, eventually

ARGUMENTS = "$since: String, $ticketId: ID, $types: [String!]"
GIVEN = "since: $since, ticketId: $ticketId, types: $types"
FOLLOW = f"subscription ({ARGUMENTS}) {{ ticketEvents({GIVEN}) {{ type cursor ticketId ticket {{ version }} }} }}"
# All that an event has on the other doors.
WHOLE = f"""subscription ({ARGUMENTS}) {{
  ticketEvents({GIVEN}) {{
    id type ticketId at internal cursor
    actor {{ id username role }}
    changes {{ field from to }}
    ticket {{
      id number title description status priority waitingOn tags createdAt updatedAt firstRespondedAt resolvedAt
      closedAt reopenCount commentCount attachmentCount version
      assignedTo {{ id }} requester {{ id }} watchers {{ id }}
      sla {{ policy firstResponseDueAt resolutionDueAt firstResponseBreached resolutionBreached pausedMs }}
    }}
  }}
}}"""
# How many events of `a_story` each hears as they happen.
HEARD = {"customer": 4, "other customer": 8, "agent": 12, "admin": 12}


async def present(caller: Caller) -> str:
    """The cursor of the end of the log."""
    cursor: str = (await caller.get("/api/events")).json()["nextCursor"]
    return cursor


async def polled(caller: Caller, since: str) -> list[Frame]:
    """What polling tells."""
    items: list[Frame] = (await caller.get("/api/events", params={"since": since})).json()["items"]
    return items


async def change(caller: Caller, ticket: Frame, **fields: Any) -> None:
    answer = await caller.patch(f"/api/tickets/{ticket['id']}", json=fields)
    assert answer.status_code == 200, answer.text


async def a_story(callers: Callers) -> None:
    """Changes of every kind to three tickets, of which one passes from the customer to the other."""
    customer, other_customer, agent, admin = callers.customer, callers.other_customer, callers.agent, callers.admin
    first = await open_ticket(customer, tags=["printer"])
    second = await open_ticket(other_customer)
    await open_ticket(agent, requester=customer.user_id, watchers=[other_customer.user_id])
    await change(agent, first, status="In Progress", assignedTo=agent.user_id)
    await change(agent, second, assignedTo=admin.user_id, waitingOn="customer")
    await change(customer, first, status="Closed")
    await change(agent, first, requester=other_customer.user_id)
    await change(agent, first, title="The other customer's")
    await admin.delete(f"/api/tickets/{second['id']}")
    await admin.post(f"/api/tickets/{second['id']}/restore")
    await agent.post("/api/tickets/bulk", json={"ids": [first["id"], second["id"]], "patch": {"priority": "Low"}})


async def log_event(ticket: Row, *, internal: bool = False) -> None:
    """An event of the stored ticket, without the change that it tells of."""
    row = record(EventType.TICKET_UPDATED, ticket, at=now(), actor=None, internal=internal).row
    await add_event(row)


async def relayed(hub: Hub, ticket: Frame) -> None:
    """Returns when all that has happened to the ticket has been told."""
    newest = (await events_of(ticket["id"]))[-1]["_id"]
    await eventually(lambda: knows(hub, newest))


def listener_of(hub: Hub, caller: Caller) -> Listener:
    [listener] = hub._listeners[caller.actor.id]
    return listener


def forget(hub: Hub) -> str:
    """The process knows nothing more of what has happened, as after its start; the cursor of where it stands."""
    assert hub._past is not None
    ring = hub._past.ring
    hub.restart(ring.end, ring.end_cursor)
    return ring.end_cursor


def told(events: list[Frame]) -> list[tuple[str, str, int]]:
    return [(event["ticketId"], event["type"], event["ticket"]["version"]) for event in events]


def as_elsewhere(event: Frame) -> Frame:
    """An event of `WHOLE` as the other doors have it."""
    ticket = event["ticket"]
    people = {name: ticket[name] and ticket[name]["id"] for name in ("assignedTo", "requester")}
    watchers = [user["id"] for user in ticket["watchers"]]
    changes = {one["field"]: {"from": one["from"], "to": one["to"]} for one in event["changes"]}
    return event | {"comment": None, "changes": changes, "ticket": ticket | people | {"watchers": watchers}}
