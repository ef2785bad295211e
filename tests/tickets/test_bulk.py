"""One patch for many tickets: each on its own merits."""

from typing import Any

from bson import ObjectId

from app.platform.idempotency import IdempotencyRow
from app.platform.mongo import collection_of
from tests.callers import Caller
from tests.factories.tickets import events_of, open_ticket, stored_ticket


async def test_results_come_in_request_order_each_with_its_own_status(agent: Caller, admin: Caller) -> None:
    first, closed, last, gone = [await open_ticket(agent) for _ in range(4)]
    await agent.patch(f"/api/tickets/{closed['id']}", json={"status": "Closed"})
    await admin.delete(f"/api/tickets/{gone['id']}")
    unknown = str(ObjectId())

    ids = [last["id"], unknown, closed["id"], gone["id"], first["id"]]
    answer = await agent.post("/api/tickets/bulk", json={"ids": ids, "patch": {"status": "Resolved"}})

    results = answer.json()["results"]
    assert [(result["id"], result["status"]) for result in results] == [
        (last["id"], 200),
        (unknown, 404),
        (closed["id"], 409),
        (gone["id"], 404),
        (first["id"], 200),
    ]
    assert results[0]["ticket"] == (await agent.get(f"/api/tickets/{last['id']}")).json()
    assert (results[2]["ticket"], results[2]["error"]["code"]) == (None, "illegal_transition")
    assert results[2]["error"]["legalTransitions"] == ["Open"]
    for ticket in (first, last):
        types = [event["type"] for event in await events_of(ticket["id"])]
        assert types == ["ticket.created", "ticket.status_changed"]


async def test_what_does_not_change_has_no_event(agent: Caller) -> None:
    low, high = await open_ticket(agent, priority="Low"), await open_ticket(agent, priority="High")

    body = {"ids": [low["id"], high["id"]], "patch": {"priority": "High"}}
    results = (await agent.post("/api/tickets/bulk", json=body)).json()["results"]

    assert [result["ticket"]["version"] for result in results] == [2, 1]
    assert len(await events_of(high["id"])) == 1


async def test_repeated_with_its_key_it_happens_once(agent: Caller) -> None:
    ticket = await open_ticket(agent)
    body = {"ids": [ticket["id"]], "patch": {"priority": "High"}}

    first = await agent.post("/api/tickets/bulk", json=body, headers={"Idempotency-Key": "k"})
    await agent.patch(f"/api/tickets/{ticket['id']}", json={"priority": "Low"})
    again = await agent.post("/api/tickets/bulk", json=body, headers={"Idempotency-Key": "k"})

    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    assert (await stored_ticket(ticket["id"]))["priority"] == "Low"


async def test_a_key_is_kept_also_when_nothing_changed(agent: Caller) -> None:
    ticket = await open_ticket(agent, priority="High")
    body = {"ids": [ticket["id"]], "patch": {"priority": "High"}}
    await agent.post("/api/tickets/bulk", json=body, headers={"Idempotency-Key": "k"})

    assert await collection_of(IdempotencyRow).count_documents({}) == 1


async def test_customers_may_not(customer: Caller) -> None:
    ticket = await open_ticket(customer)
    answer = await customer.post("/api/tickets/bulk", json={"ids": [ticket["id"]], "patch": {"title": "x"}})

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert len(await events_of(ticket["id"])) == 1


async def test_what_is_finished_does_not_begin_to_wait(agent: Caller) -> None:
    closed, opened = await open_ticket(agent), await open_ticket(agent)
    await agent.patch(f"/api/tickets/{closed['id']}", json={"status": "Closed"})

    body = {"ids": [closed["id"], opened["id"]], "patch": {"waitingOn": "customer"}}
    refused, changed = (await agent.post("/api/tickets/bulk", json=body)).json()["results"]

    assert (refused["status"], changed["status"]) == (422, 200)
    assert [error["field"] for error in refused["error"]["errors"]] == ["waitingOn"]
    assert (await stored_ticket(closed["id"]))["waitingOn"] is None


async def test_wrong_values_change_nothing(agent: Caller) -> None:
    ticket = await open_ticket(agent)
    one = ticket["id"]
    wrong: list[dict[str, Any]] = [
        {"ids": [], "patch": {"title": "x"}},
        {"ids": [one, one], "patch": {"title": "x"}},
        {"ids": ["nonsense"], "patch": {"title": "x"}},
        {"ids": [str(ObjectId()) for _ in range(101)], "patch": {"title": "x"}},
        {"ids": [one], "patch": {"title": "", "colour": "red"}},
        {"ids": [one], "patch": {"assignedTo": str(ObjectId())}},
        {"ids": [one]},
    ]
    no_objects: list[Any] = [None, [], "title"]
    wrong += [{"ids": [one], "patch": patch} for patch in no_objects]
    for body in wrong:
        answer = await agent.post("/api/tickets/bulk", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input"), body
        assert answer.json()["errors"], body
        assert "TicketPatch" not in answer.text

    assert len(await events_of(one)) == 1
