"""Mutations: merge patches, preconditions, many tickets at once, several in one document; one event for each change."""

from typing import Any

import pytest
from bson import ObjectId

from tests.callers import Caller
from tests.factories.tickets import events_of, open_ticket, stored_ticket
from tests.graphql.asking import counts, data, everything, post, refusal

UPDATE = """mutation ($id: ID!, $patch: TicketPatch!, $version: Int) {
  updateTicket(id: $id, patch: $patch, version: $version) { id version status waitingOn tags assignedTo { id } }
}"""
DELETE = "mutation ($id: ID!, $version: Int) { deleteTicket(id: $id, version: $version) }"
RESTORE = "mutation ($id: ID!) { restoreTicket(id: $id) { id version } }"
BULK = """mutation ($ids: [ID!]!, $patch: TicketPatch!) { bulkUpdateTickets(ids: $ids, patch: $patch) {
  id status ticket { id priority version requester { id } }
  error { code detail errors { field code message } legalTransitions }
} }"""

NOBODY = "6740a1f0c3b2a1d4e5f60720"


class TestUpdate:
    async def test_changes_only_what_is_given(self, agent: Caller) -> None:
        ticket = await open_ticket(agent, tags=["a"], assignedTo=agent.user_id)

        updated = (await data(agent, UPDATE, id=ticket["id"], patch={"waitingOn": "customer"}))["updateTicket"]

        assert updated == {
            "id": ticket["id"], "version": 2, "status": "Open", "waitingOn": "customer", "tags": ["a"],
            "assignedTo": {"id": agent.user_id},
        }  # fmt: skip
        [_, event] = await events_of(ticket["id"])
        assert event["changes"] == {"waitingOn": {"from": None, "to": "customer"}}

    async def test_null_clears_what_can_be_empty(self, agent: Caller) -> None:
        ticket = await open_ticket(agent, assignedTo=agent.user_id)
        await agent.patch(f"/api/tickets/{ticket['id']}", json={"waitingOn": "third_party"})
        patch = {"assignedTo": None, "waitingOn": None, "requester": None}

        updated = (await data(agent, UPDATE, id=ticket["id"], patch=patch))["updateTicket"]

        assert (updated["assignedTo"], updated["waitingOn"]) == (None, None)
        assert (await stored_ticket(ticket["id"]))["requester"] is None

    async def test_a_patch_that_changes_nothing_writes_nothing(self, agent: Caller) -> None:
        ticket = await open_ticket(agent)
        before = await everything()

        for patch in ({}, {"status": "Open"}, {"title": ticket["title"], "tags": []}):
            assert (await data(agent, UPDATE, id=ticket["id"], patch=patch))["updateTicket"]["version"] == 1

        assert await everything() == before

    async def test_variables_that_are_not_given_leave_as_it_is(self, agent: Caller) -> None:
        ticket = await open_ticket(agent, tags=["a"])
        text = """mutation ($id: ID!, $title: String, $tags: [String!]) {
          updateTicket(id: $id, patch: {title: $title, tags: $tags}) { title tags }
        }"""

        updated = await data(agent, text, id=ticket["id"], title="New")

        assert updated["updateTicket"] == {"title": "New", "tags": ["a"]}

    async def test_by_number(self, agent: Caller) -> None:
        ticket = await open_ticket(agent)

        updated = await data(agent, UPDATE, id=ticket["number"], patch={"priority": "Low"})

        assert updated["updateTicket"]["id"] == ticket["id"]

    async def test_version_is_the_one_to_change(self, agent: Caller, admin: Caller) -> None:
        ticket = await open_ticket(agent)
        await data(agent, UPDATE, id=ticket["id"], patch={"priority": "Low"}, version=1)
        before = await everything()

        for caller, text in ((agent, UPDATE), (admin, DELETE)):
            patch: dict[str, Any] = {"patch": {"priority": "High"}} if text == UPDATE else {}
            for version in (1, 3, 0, -2):
                extensions = await refusal(caller, text, id=ticket["id"], version=version, **patch)
                assert (extensions["code"], extensions["currentVersion"]) == ("version_conflict", 2)
        assert await everything() == before
        assert (await data(admin, DELETE, id=ticket["id"], version=2))["deleteTicket"] == ticket["id"]

    async def test_access_comes_before_the_version_and_that_before_the_values(
        self, agent: Caller, customer: Caller, other_customer: Caller
    ) -> None:
        ticket = await open_ticket(customer)
        patch = {"status": "Done", "priority": "Urgent"}

        for caller, version, code in (
            (other_customer, 7, "not_found"),
            (customer, 7, "forbidden"),
            (agent, 7, "version_conflict"),
            (agent, 1, "invalid_input"),
        ):
            assert (await refusal(caller, UPDATE, id=ticket["id"], patch=patch, version=version))["code"] == code

    @pytest.mark.parametrize("field", ["role", "password", "createdAt", "version", "_id", "$set"])
    async def test_fields_that_nobody_sets_are_not_in_the_schema(self, agent: Caller, field: str) -> None:
        ticket = await open_ticket(agent)

        answer = await post(agent, UPDATE, id=ticket["id"], patch={field: 1})

        assert answer.json()["errors"][0]["extensions"]["code"] == "graphql_invalid_variables"
        assert (await stored_ticket(ticket["id"]))["version"] == 1


class TestDeleteAndRestore:
    async def test_there_and_back(self, admin: Caller) -> None:
        ticket = await open_ticket(admin)

        assert await data(admin, DELETE, id=ticket["number"]) == {"deleteTicket": ticket["id"]}
        assert (await data(admin, "{ tickets { id } }"))["tickets"] == []
        assert (await refusal(admin, DELETE, id=ticket["id"]))["code"] == "not_found"
        restored = await data(admin, RESTORE, id=ticket["id"])

        assert restored["restoreTicket"] == {"id": ticket["id"], "version": 3}
        assert [event["type"] for event in await events_of(ticket["id"])] == [
            "ticket.created", "ticket.deleted", "ticket.restored"
        ]  # fmt: skip


class TestBulk:
    async def test_each_ticket_has_its_own_result(self, agent: Caller, customer: Caller) -> None:
        opened, closed, gone = await open_ticket(customer), await open_ticket(customer), str(ObjectId())
        await agent.patch(f"/api/tickets/{closed['id']}", json={"status": "Closed"})
        patch = {"status": "Resolved", "priority": "High"}

        results = (await data(agent, BULK, ids=[closed["id"], gone, opened["id"]], patch=patch))["bulkUpdateTickets"]

        assert [(result["id"], result["status"]) for result in results] == [
            (closed["id"], 409), (gone, 404), (opened["id"], 200)
        ]  # fmt: skip
        assert results[0]["error"] == {
            "code": "illegal_transition",
            "detail": "A ticket can't go from Closed to Resolved; legal from here: Open",
            "errors": None,
            "legalTransitions": ["Open"],
        }
        assert results[1]["error"]["code"] == "not_found"
        assert results[2]["ticket"] == {
            "id": opened["id"], "priority": "High", "version": 2, "requester": {"id": customer.user_id}
        }  # fmt: skip
        assert [result["ticket"] is None for result in results] == [True, True, False]
        assert results[2]["error"] is None

    @pytest.mark.parametrize(
        ("ids", "patch", "field"),
        [
            ([], {}, "ids"),
            (["x"], {}, "ids.0"),
            ([NOBODY] * 2, {}, "ids"),
            ([NOBODY], {"status": "Done"}, "patch.status"),
        ],
    )
    async def test_wrong_requests_are_refused_as_a_whole(
        self, agent: Caller, ids: list[str], patch: dict[str, Any], field: str
    ) -> None:
        problem = (await agent.post("/api/tickets/bulk", json={"ids": ids, "patch": patch})).json()

        extensions = await refusal(agent, BULK, ids=ids, patch=patch)

        assert extensions["code"] == "invalid_input"
        assert extensions["errors"] == problem["errors"]
        assert extensions["errors"][0]["field"] == field


class TestSeveral:
    async def test_are_done_in_order_each_on_its_own(self, agent: Caller) -> None:
        ticket = await open_ticket(agent)
        text = """mutation ($id: ID!) {
          one: updateTicket(id: $id, version: 1, patch: {status: "Resolved"}) { version }
          two: updateTicket(id: $id, version: 1, patch: {status: "Closed"}) { version }
          three: updateTicket(id: $id, version: 2, patch: {status: "Closed"}) { version history { edges { cursor } } }
        }"""

        answer = (await post(agent, text, id=ticket["id"])).json()

        assert [error["path"] for error in answer["errors"]] == [["two"]]
        assert answer["errors"][0]["extensions"]["currentVersion"] == 2
        assert (answer["data"]["one"], answer["data"]["two"]) == ({"version": 2}, None)
        assert answer["data"]["three"]["version"] == 3
        assert len(answer["data"]["three"]["history"]["edges"]) == 3
        assert await counts() == [1, 3, 0]
