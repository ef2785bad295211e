"""Opening and changing tickets: over REST, on a real database."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId
from httpx import AsyncClient, Response

from app.accounts.roles import Role
from app.events.log import Event
from app.platform.clock import now
from app.platform.mongo import collection_of
from app.platform.sequence import Counter
from app.tickets.commands import NUMBERS
from app.tickets.documents import Ticket
from tests.callers import Caller, Callers
from tests.factories.accounts import add_user
from tests.factories.tickets import events_of, open_ticket, stored_ticket
from tests.tickets.refusals import refused


async def patch(caller: AsyncClient, ticket: dict[str, Any], body: Any, **headers: str) -> Response:
    return await caller.patch(f"/api/tickets/{ticket['id']}", json=body, headers=headers)


class TestOpenTicket:
    async def test_stores_the_ticket_and_one_event(self, customer: Caller) -> None:
        ticket = await open_ticket(customer, priority="High", tags=["printer", "printer"])

        assert ticket["status"] == "Open"
        assert ticket["priority"] == "High"
        assert ticket["tags"] == ["printer"]
        assert ticket["requester"] == customer.user_id
        assert ticket["version"] == 1
        assert (await stored_ticket(ticket["id"]))["number"] == ticket["number"]
        events = await events_of(ticket["id"])
        assert [(event["type"], event["version"]) for event in events] == [("ticket.created", 1)]
        assert events[0]["actor"] == {"id": customer.actor.id, "username": "customer", "role": "Customer"}

    async def test_answers_where_it_is_and_its_version(self, customer: Caller) -> None:
        answer = await customer.post("/api/tickets", json={"title": " a ", "description": "b"})

        ticket = answer.json()
        assert answer.headers["location"] == f"/api/tickets/{ticket['id']}"
        assert answer.headers["etag"] == '"1"'
        assert (ticket["title"], ticket["priority"]) == ("a", "Medium")
        assert (await customer.get(answer.headers["location"])).json() == ticket

    async def test_numbers_increase(self, customer: Caller) -> None:
        numbers = [(await open_ticket(customer))["number"] for _ in range(3)]

        assert numbers == sorted(set(numbers))

    @pytest.mark.parametrize("at_once", [1, 12])
    async def test_steps_of_the_counter_that_a_dying_database_lost_are_made_again(
        self, customer: Caller, at_once: int
    ) -> None:
        numbers = [(await open_ticket(customer))["number"] for _ in range(5)]
        await collection_of(Counter).update_one({"_id": NUMBERS}, {"$set": {"value": numbers[1]}})

        again = await asyncio.gather(*(open_ticket(customer) for _ in range(at_once)))

        given = [ticket["number"] for ticket in again]
        assert len({*numbers, *given}) == 5 + at_once
        assert min(given) > numbers[-1]
        for ticket in again:
            assert (await events_of(ticket["id"]))[0]["ticket"]["number"] == ticket["number"]

    async def test_an_agent_opens_for_another(self, agent: Caller, customer: Caller) -> None:
        ticket = await open_ticket(agent, requester=customer.user_id, assignedTo=agent.user_id)

        assert ticket["requester"] == customer.user_id
        assert (await customer.get(f"/api/tickets/{ticket['id']}")).status_code == 200

    async def test_an_agent_alone_is_the_requester(self, agent: Caller) -> None:
        assert (await open_ticket(agent))["requester"] == agent.user_id

    @pytest.mark.parametrize("field", ["assignedTo", "requester", "watchers", "status", "waitingOn"])
    async def test_a_customer_is_refused_what_is_not_theirs(self, customer: Caller, agent: Caller, field: str) -> None:
        body = {"title": "t", "description": "d", field: agent.user_id}
        answer = await customer.post("/api/tickets", json=body)

        await refused(answer, 403, "forbidden")
        assert await collection_of(Ticket).count_documents({}) == 0
        assert await collection_of(Event).count_documents({}) == 0

    async def test_all_wrong_fields_are_named_at_once(self, customer: Caller) -> None:
        body = {"title": "  ", "priority": "Urgent", "tags": ["x" * 51], "colour": "red", "role": "Admin"}
        answer = await customer.post("/api/tickets", json=body)

        await refused(answer, 422, "invalid_input")
        found = {(error["field"], error["code"]) for error in answer.json()["errors"]}
        assert found == {
            ("title", "string_too_short"),
            ("description", "required"),
            ("priority", "enum"),
            ("tags.0", "string_too_long"),
            ("colour", "unknown_field"),
            ("role", "unknown_field"),
        }
        assert await collection_of(Ticket).count_documents({}) == 0

    @pytest.mark.parametrize("field", ["assignedTo", "requester", "watchers"])
    async def test_people_must_be_there_and_active(self, agent: Caller, field: str) -> None:
        gone = await add_user(Role.AGENT, active=False)
        for user_id in (str(gone["_id"]), str(ObjectId())):
            value = [user_id] if field == "watchers" else user_id
            answer = await agent.post("/api/tickets", json={"title": "t", "description": "d", field: value})

            await refused(answer, 422, "invalid_input")
            assert answer.json()["errors"][0]["field"] == field

    async def test_all_wrong_people_are_named_at_once(self, agent: Caller, customer: Caller) -> None:
        stranger = str(ObjectId())
        people = {"assignedTo": customer.user_id, "requester": stranger, "watchers": [agent.user_id, stranger]}
        answer = await agent.post("/api/tickets", json={"title": "t", "description": "d", **people})

        await refused(answer, 422, "invalid_input")
        assert {e["field"]: e["code"] for e in answer.json()["errors"]} == {
            "assignedTo": "not_assignable",
            "requester": "unknown_user",
            "watchers": "unknown_user",
        }

    async def test_the_assignee_must_work_tickets(self, agent: Caller, customer: Caller) -> None:
        body = {"title": "t", "description": "d", "assignedTo": customer.user_id}
        answer = await agent.post("/api/tickets", json=body)

        await refused(answer, 422, "invalid_input")
        assert answer.json()["errors"][0]["code"] == "not_assignable"


class TestChangeTicket:
    async def test_several_fields_are_one_version_and_one_event(self, agent: Caller, customer: Caller) -> None:
        ticket = await open_ticket(customer)
        answer = await patch(agent, ticket, {"status": "In Progress", "assignedTo": agent.user_id, "title": "New"})

        changed = answer.json()
        assert (changed["version"], answer.headers["etag"]) == (2, '"2"')
        assert (changed["status"], changed["assignedTo"], changed["title"]) == ("In Progress", agent.user_id, "New")
        events = await events_of(ticket["id"])
        assert [event["type"] for event in events] == ["ticket.created", "ticket.status_changed"]
        assert set(events[1]["changes"]) == {"status", "assignedTo", "title"}

    async def test_nothing_changed_is_no_version_and_no_event(self, customer: Caller) -> None:
        ticket = await open_ticket(customer)
        answer = await patch(customer, ticket, {"title": ticket["title"]})

        assert (answer.status_code, answer.json()) == (200, ticket)
        assert len(await events_of(ticket["id"])) == 1

    async def test_the_story_of_a_ticket(self, agent: Caller, customer: Caller) -> None:
        ticket = await open_ticket(customer)
        for caller, status in [
            (agent, "In Progress"),
            (agent, "Resolved"),
            (customer, "Open"),
            (agent, "Resolved"),
            (customer, "Closed"),
        ]:
            answer = await patch(caller, ticket, {"status": status})
            assert answer.status_code == 200, answer.text

        final = answer.json()
        assert (final["reopenCount"], final["version"]) == (1, 6)
        assert final["resolvedAt"] <= final["closedAt"]
        assert [event["version"] for event in await events_of(ticket["id"])] == [1, 2, 3, 4, 5, 6]

    @pytest.mark.parametrize("reference", ["id", "number"])
    async def test_goes_by_id_or_number(self, agent: Caller, reference: str) -> None:
        ticket = await open_ticket(agent)
        answer = await agent.patch(f"/api/tickets/{ticket[reference]}", json={"priority": "Low"})

        assert answer.json()["priority"] == "Low"

    async def test_null_clears_what_can_be_empty_and_nothing_else(self, agent: Caller) -> None:
        ticket = await open_ticket(agent, tags=["a"], watchers=[agent.user_id], assignedTo=agent.user_id)
        nulls = {"tags": None, "watchers": None, "assignedTo": None, "requester": None}

        cleared = (await patch(agent, ticket, nulls)).json()
        again = (await patch(agent, ticket, nulls)).json()

        assert cleared == cleared | {"tags": [], "watchers": [], "assignedTo": None, "requester": None, "version": 2}
        assert again == cleared
        for field in ("title", "description", "status", "priority"):
            await refused(await patch(agent, ticket, {field: None}), 422, "invalid_input", ticket["id"], 2)

    async def test_others_never_hear_of_it(self, other_customer: Caller, customer: Caller) -> None:
        ticket = await open_ticket(customer)
        answer = await patch(other_customer, ticket, {"priority": "Nonsense"}, **{"If-Match": '"9"'})

        await refused(answer, 404, "not_found", ticket["id"])

    async def test_a_field_of_others_is_refused_beside_legal_ones(self, customer: Caller) -> None:
        ticket = await open_ticket(customer)
        answer = await patch(customer, ticket, {"title": "mine", "priority": "Nonsense"}, **{"If-Match": '"9"'})

        await refused(answer, 403, "forbidden", ticket["id"])

    async def test_the_version_is_asked_before_the_values(self, customer: Caller) -> None:
        ticket = await open_ticket(customer)
        answer = await patch(customer, ticket, {"title": ""}, **{"If-Match": '"9"'})

        await refused(answer, 412, "version_conflict", ticket["id"])
        assert answer.json()["currentVersion"] == 1

    @pytest.mark.parametrize("tag", ['"1"', "*", '"7", "1"', '"7","1" , W/"3"'])
    async def test_a_version_that_matches_goes_through(self, customer: Caller, tag: str) -> None:
        ticket = await open_ticket(customer)

        assert (await patch(customer, ticket, {"title": "x"}, **{"If-Match": tag})).status_code == 200

    @pytest.mark.parametrize("tag", ['"2"', 'W/"1"', "1", '""', "garbage"])
    async def test_any_other_version_does_not(self, customer: Caller, tag: str) -> None:
        ticket = await open_ticket(customer)

        await refused(
            await patch(customer, ticket, {"title": "x"}, **{"If-Match": tag}), 412, "version_conflict", ticket["id"]
        )

    async def test_an_illegal_move_names_the_legal_ones(self, agent: Caller) -> None:
        ticket = await open_ticket(agent)
        await patch(agent, ticket, {"status": "Closed"})
        answer = await patch(agent, ticket, {"status": "Resolved", "title": "x"})

        await refused(answer, 409, "illegal_transition", ticket["id"], 2)
        assert answer.json()["legalTransitions"] == ["Open"]

    @pytest.mark.parametrize("field", ["version", "createdAt", "number", "resolvedAt", "id", "sla", "commentCount"])
    async def test_what_the_service_sets_nobody_else_does(self, admin: Caller, field: str) -> None:
        ticket = await open_ticket(admin)

        await refused(await patch(admin, ticket, {field: 1}), 422, "invalid_input", ticket["id"])

    async def test_a_former_requester_loses_sight(
        self, agent: Caller, customer: Caller, other_customer: Caller
    ) -> None:
        ticket = await open_ticket(customer)
        await patch(agent, ticket, {"requester": other_customer.user_id})

        for path in (f"/api/tickets/{ticket['id']}", f"/api/tickets/{ticket['id']}/events"):
            assert (await customer.get(path)).status_code == 404
            assert (await other_customer.get(path)).status_code == 200

    async def test_a_customer_reopens_within_the_window_only(self, agent: Caller, customer: Caller) -> None:
        ticket = await open_ticket(customer)
        await patch(agent, ticket, {"status": "Resolved"})
        long_ago = {"$set": {"resolvedAt": now() - timedelta(days=15)}}
        await collection_of(Ticket).update_one({"_id": ObjectId(ticket["id"])}, long_ago)

        answer = await patch(customer, ticket, {"status": "Open"})
        await refused(answer, 409, "reopen_window_over", ticket["id"], 2)
        assert (await patch(agent, ticket, {"status": "Open"})).status_code == 200

    async def test_a_customer_edits_only_while_open(self, agent: Caller, customer: Caller) -> None:
        ticket = await open_ticket(customer)
        assert (await patch(customer, ticket, {"description": "More"})).status_code == 200
        await patch(agent, ticket, {"status": "In Progress"})

        await refused(await patch(customer, ticket, {"description": "Else"}), 409, "not_editable", ticket["id"], 3)


class TestOddValues:
    """The original service did not check what its updates wrote."""

    async def test_are_shown_alike_everywhere_and_can_be_repaired(self, callers: Callers) -> None:
        ticket = await open_ticket(callers.customer)
        path = f"/api/tickets/{ticket['id']}"
        query = f'{{ ticket(id: "{ticket["id"]}") {{ status priority waitingOn }} }}'
        odd = {"status": "Pending", "priority": "Urgent", "waitingOn": "nobody"}
        await collection_of(Ticket).update_one({"_id": ObjectId(ticket["id"])}, {"$set": odd})
        shown = {"status": "Open", "priority": "Medium", "waitingOn": None}

        listed = (await callers.agent.get("/api/tickets")).json()["items"]
        asked = await callers.agent.post("/graphql", json={"query": query})

        assert (await callers.agent.get(path)).json() == listed[0] == ticket
        assert asked.json()["data"]["ticket"] == shown
        assert (await patch(callers.customer, ticket, {"title": "Still mine to change"})).status_code == 200
        repaired = await patch(callers.agent, ticket, {"status": "In Progress", "priority": "High"})
        assert (repaired.status_code, repaired.json()["status"]) == (200, "In Progress")
        assert (await events_of(ticket["id"]))[-1]["changes"] == {
            "status": {"from": "Open", "to": "In Progress"},
            "priority": {"from": "Medium", "to": "High"},
        }
        stored = await stored_ticket(ticket["id"])
        assert (stored["status"], stored["priority"]) == ("In Progress", "High")

    async def test_spoil_nothing_for_the_others_of_a_bulk(self, agent: Caller) -> None:
        odd, sound = await open_ticket(agent), await open_ticket(agent)
        await collection_of(Ticket).update_one({"_id": ObjectId(odd["id"])}, {"$set": {"status": "Pending"}})

        body = {"ids": [odd["id"], sound["id"]], "patch": {"status": "Closed"}}
        answer = await agent.post("/api/tickets/bulk", json=body)

        assert [result["status"] for result in answer.json()["results"]] == [200, 200]


async def test_those_who_are_named_already_may_stay(agent: Caller, admin: Caller) -> None:
    leaving, new = await add_user(Role.AGENT), await add_user(Role.AGENT)
    ticket = await open_ticket(agent, watchers=[str(leaving["_id"])], assignedTo=str(leaving["_id"]))
    await admin.patch(f"/api/users/{leaving['_id']}", json={"active": False})
    watchers = [str(leaving["_id"]), str(new["_id"])]

    answer = await patch(agent, ticket, {"watchers": watchers, "assignedTo": str(leaving["_id"])})
    assert (answer.status_code, answer.json()["watchers"]) == (200, watchers)
    other = await open_ticket(agent)
    await refused(await patch(agent, other, {"watchers": watchers}), 422, "invalid_input", other["id"])
