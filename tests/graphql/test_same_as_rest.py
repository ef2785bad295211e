"""The two doors lead into one house: what REST answers, GraphQL answers, page by page and refusal by refusal."""

from typing import Any

import pytest
from bson import ObjectId

from app.graphql.inputs import TicketFilter
from app.platform.clock import now
from app.tickets.filters import FILTER_PARAMETERS
from tests.callers import Caller
from tests.factories.accounts import add_user
from tests.factories.tickets import add_tickets, open_ticket, ticket_row
from tests.graphql.asking import data, everything, post, refusal

TICKET = """{
  id number title description status priority waitingOn assignedTo { id } requester { id } watchers { id } tags
  createdAt updatedAt firstRespondedAt resolvedAt closedAt reopenCount
  sla { policy firstResponseDueAt resolutionDueAt firstResponseBreached resolutionBreached pausedMs }
  commentCount attachmentCount version
}"""
PAGE = """query ($first: Int, $after: String, $filter: TicketFilter, $orderBy: String) {
  ticketConnection(first: $first, after: $after, filter: $filter, orderBy: $orderBy) {
    edges { cursor node { id } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}"""
# An id that nobody has.
NOBODY = "6740a1f0c3b2a1d4e5f60720"
UPDATE = "mutation ($id: ID!, $patch: TicketPatch!) { updateTicket(id: $id, patch: $patch) " + TICKET + " }"
CREATE = "mutation ($input: TicketInput) { createTicket(ticketInput: $input) " + TICKET + " }"


def as_rest(ticket: dict[str, Any]) -> dict[str, Any]:
    """A ticket of GraphQL with ids for its users, as REST has them."""
    ids = {name: ticket[name] and ticket[name]["id"] for name in ("assignedTo", "requester")}
    return {**ticket, **ids, "watchers": [user["id"] for user in ticket["watchers"]]}


async def old_and_new_tickets(requester: ObjectId, assignee: ObjectId) -> None:
    """Some of everything that lists are filtered and sorted by, equal sort keys and the original's gaps included."""
    moment = now()
    rows = [
        ticket_row(
            requester=requester,
            status=status,
            priority=priority,
            assignedTo=assignee if priority == "High" else None,
            waitingOn="customer" if priority == "Low" else None,
            tags=["printer"] if status == "Open" else [],
            createdAt=moment,
        )
        for status in ("Open", "Resolved")
        for priority in ("Low", "Medium", "High")
    ]
    rows += [ticket_row(requester=requester, title="Ünïcode printer-42 <b>", sla={"firstResponseBreached": True})]
    bare = {"_id": ObjectId(), "title": "Old", "description": "Old", "requester": requester, "__v": 0}
    await add_tickets(*rows, bare)


class TestOneTicket:
    async def test_has_the_fields_of_rest(self, agent: Caller, customer: Caller) -> None:
        watcher = await add_user()
        opened = await open_ticket(
            agent, requester=customer.user_id, assignedTo=agent.user_id, watchers=[str(watcher["_id"])], tags=["a", "b"]
        )
        await agent.patch(f"/api/tickets/{opened['id']}", json={"status": "Resolved"})
        rest = (await agent.get(f"/api/tickets/{opened['id']}")).json()

        for reference in (opened["id"], str(opened["number"])):
            found = await data(agent, "query ($id: ID!) { ticket(id: $id) " + TICKET + " }", id=reference)
            assert as_rest(found["ticket"]) == rest

    async def test_of_the_original_service_has_them_too(self, agent: Caller) -> None:
        ticket_id = ObjectId()
        await add_tickets({"_id": ticket_id, "title": "Old", "description": "Old", "status": "Open", "__v": 0})

        found = await data(agent, "query ($id: ID!) { ticket(id: $id) " + TICKET + " }", id=str(ticket_id))

        assert as_rest(found["ticket"]) == (await agent.get(f"/api/tickets/{ticket_id}")).json()

    async def test_is_created_and_changed_alike(self, agent: Caller, customer: Caller) -> None:
        fields = {"title": " T ", "description": "D", "tags": ["x", "x", "y"], "requester": customer.user_id}
        changes = {"status": "In Progress", "assignedTo": agent.user_id, "waitingOn": "customer", "tags": []}

        by_rest = await open_ticket(agent, **fields)
        by_graphql = as_rest((await data(agent, CREATE, input=fields))["createTicket"])
        assert differences(by_rest, by_graphql) == {"id", "number", "createdAt", "updatedAt"}

        by_rest = (await agent.patch(f"/api/tickets/{by_rest['id']}", json=changes)).json()
        updated = await data(agent, UPDATE, id=by_graphql["id"], patch=changes)
        assert differences(by_rest, as_rest(updated["updateTicket"])) == {"id", "number", "createdAt", "updatedAt"}


def differences(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name in one if one[name] != other[name]}


FILTERS: list[dict[str, Any]] = [
    {},
    {"status": "Open"},
    {"status": "Resolved", "priority": "High"},
    {"assignedTo": "me"},
    {"assignedTo": "none"},
    {"requester": "me"},
    {"tag": "printer"},
    {"q": "printer-42"},
    {"waitingOn": "none"},
    {"waitingOn": "customer"},
    {"breached": True},
    {"breached": False},
    {"createdAfter": "2020-01-01T00:00:00Z"},
    {"createdBefore": "2020-01-01"},
    {"updatedAfter": "2020-01-01T00:00:00+01:00", "status": "Open"},
]


class TestLists:
    @pytest.mark.parametrize("filters", FILTERS, ids=str)
    @pytest.mark.parametrize("sort", [None, "createdAt", "-updatedAt", "number"])
    async def test_pages_and_cursors_are_the_same(
        self, agent: Caller, customer: Caller, filters: dict[str, Any], sort: str | None
    ) -> None:
        await old_and_new_tickets(customer.actor.id, agent.actor.id)
        texts = {name: str(value).lower() if isinstance(value, bool) else value for name, value in filters.items()}
        query = {**texts, "limit": "2", **({"sort": sort} if sort else {})}
        cursor = None

        while True:
            rest = (await agent.get("/api/tickets", params={**query, **({"cursor": cursor} if cursor else {})})).json()
            page = await data(agent, PAGE, first=2, after=cursor, filter=filters, orderBy=sort)
            connection = page["ticketConnection"]
            info = connection["pageInfo"]

            assert [edge["node"]["id"] for edge in connection["edges"]] == [item["id"] for item in rest["items"]]
            assert info["hasNextPage"] == (rest["nextCursor"] is not None)
            assert info["hasPreviousPage"] == (cursor is not None)
            if not info["hasNextPage"]:
                break
            assert info["endCursor"] == rest["nextCursor"] == connection["edges"][-1]["cursor"]
            assert info["startCursor"] == connection["edges"][0]["cursor"]
            cursor = rest["nextCursor"]

    async def test_each_edges_cursor_leads_on_from_there_in_rest(self, agent: Caller, customer: Caller) -> None:
        await old_and_new_tickets(customer.actor.id, agent.actor.id)
        edges = (await data(agent, PAGE, filter={"status": "Open"}))["ticketConnection"]["edges"]
        ids = [edge["node"]["id"] for edge in edges]

        for place, edge in enumerate(edges, start=1):
            rest = await agent.get("/api/tickets", params={"status": "Open", "cursor": edge["cursor"]})
            assert [item["id"] for item in rest.json()["items"]] == ids[place:]

    async def test_a_last_page_has_an_end_that_new_tickets_follow(self, agent: Caller) -> None:
        await add_tickets(ticket_row())
        page = (await data(agent, PAGE, orderBy="createdAt"))["ticketConnection"]
        assert not page["pageInfo"]["hasNextPage"]
        opened = await open_ticket(agent)

        more = (await data(agent, PAGE, orderBy="createdAt", after=page["pageInfo"]["endCursor"]))["ticketConnection"]

        assert [edge["node"]["id"] for edge in more["edges"]] == [opened["id"]]

    async def test_an_empty_page_has_no_ends(self, customer: Caller) -> None:
        assert (await data(customer, PAGE))["ticketConnection"] == {
            "edges": [],
            "pageInfo": {"hasNextPage": False, "hasPreviousPage": False, "startCursor": None, "endCursor": None},
        }

    async def test_customers_find_their_own(self, customer: Caller, other_customer: Caller, agent: Caller) -> None:
        await old_and_new_tickets(customer.actor.id, agent.actor.id)

        for caller, count in ((customer, 8), (other_customer, 0), (agent, 8)):
            assert len((await data(caller, PAGE))["ticketConnection"]["edges"]) == count
            assert len((await data(caller, "{ tickets { id } }"))["tickets"]) == count

    def test_filters_have_the_names_of_rest(self) -> None:
        names = {parameter["name"] for parameter in FILTER_PARAMETERS} - {"sort"}

        assert TicketFilter().given() == {}
        assert TicketFilter(**dict.fromkeys(TicketFilter.__annotations__)).given().keys() == names

    async def test_null_filters_are_none(self, agent: Caller) -> None:
        await add_tickets(ticket_row())
        names = [parameter["name"] for parameter in FILTER_PARAMETERS if parameter["name"] != "sort"]

        page = await data(agent, PAGE, filter=dict.fromkeys(names), first=None, after=None, orderBy=None)

        assert len(page["ticketConnection"]["edges"]) == 1

    async def test_users_page_by_rests_cursors(self, agent: Caller) -> None:
        for _ in range(3):
            await add_user()
        text = """query ($role: String, $after: String) { users(role: $role, first: 2, after: $after) {
          edges { node { id username role name email active mfaEnabled createdAt } } pageInfo { endCursor }
        } }"""
        cursor: str | None = None
        for _ in range(2):
            given = {"role": "Customer", "limit": "2", **({"cursor": cursor} if cursor else {})}
            rest = (await agent.get("/api/users", params=given)).json()
            page = (await data(agent, text, role="Customer", after=cursor))["users"]

            assert [edge["node"] for edge in page["edges"]] == rest["items"]
            assert page["pageInfo"]["endCursor"] == rest["nextCursor"]
            cursor = rest["nextCursor"]

    async def test_history_is_rests_with_changes_as_a_list(self, agent: Caller) -> None:
        ticket = await open_ticket(agent)
        await agent.patch(f"/api/tickets/{ticket['id']}", json={"title": "New", "assignedTo": agent.user_id})
        await agent.patch(f"/api/tickets/{ticket['id']}", json={"status": "Resolved"})
        text = """query ($id: ID!, $first: Int, $after: String) { ticket(id: $id) {
          history(first: $first, after: $after) {
            edges { cursor node {
              id type ticketId at actor { id username role } changes { field from to } internal cursor ticket %s
            } }
            pageInfo { hasNextPage endCursor }
          }
        } }"""
        cursor: str | None = None
        for _ in range(2):
            given = {"limit": "2", **({"cursor": cursor} if cursor else {})}
            rest = (await agent.get(f"/api/tickets/{ticket['id']}/events", params=given)).json()
            page = (await data(agent, text % TICKET, id=ticket["id"], first=2, after=cursor))["ticket"]["history"]

            assert [event_as_rest(edge["node"]) for edge in page["edges"]] == rest["items"]
            assert page["pageInfo"]["hasNextPage"] == (rest["nextCursor"] is not None)
            if rest["nextCursor"]:
                assert page["pageInfo"]["endCursor"] == rest["nextCursor"]
            cursor = rest["nextCursor"]
        assert cursor is None


def event_as_rest(event: dict[str, Any]) -> dict[str, Any]:
    changes = {change["field"]: {"from": change["from"], "to": change["to"]} for change in event["changes"]}
    return {**event, "changes": changes, "comment": None, "ticket": as_rest(event["ticket"])}


WRONG_QUESTIONS: list[tuple[dict[str, str], dict[str, Any]]] = [
    ({"status": "open"}, {"filter": {"status": "open"}}),
    ({"status": ""}, {"filter": {"status": ""}}),
    ({"priority": "Urgent", "waitingOn": "me"}, {"filter": {"priority": "Urgent", "waitingOn": "me"}}),
    ({"assignedTo": "nobody"}, {"filter": {"assignedTo": "nobody"}}),
    ({"requester": "x" * 24}, {"filter": {"requester": "x" * 24}}),
    ({"tag": ""}, {"filter": {"tag": ""}}),
    ({"q": "x" * 201}, {"filter": {"q": "x" * 201}}),
    ({"createdAfter": "yesterday"}, {"filter": {"createdAfter": "yesterday"}}),
    ({"limit": "0", "sort": "title"}, {"first": 0, "orderBy": "title"}),
    ({"limit": "101"}, {"first": 101}),
    ({"limit": "-1"}, {"first": -1}),
    ({"sort": ""}, {"orderBy": ""}),
    ({"cursor": ""}, {"after": ""}),
    ({"cursor": "x"}, {"after": "x"}),
]
GRAPHQL_NAMES = {"limit": "first", "sort": "orderBy"}


class TestRefusals:
    @pytest.mark.parametrize(("rest", "graphql"), WRONG_QUESTIONS, ids=str)
    async def test_of_questions(self, agent: Caller, rest: dict[str, str], graphql: dict[str, Any]) -> None:
        problem = (await agent.get("/api/tickets", params=rest)).json()

        extensions = await refusal(agent, PAGE, **graphql)

        assert (extensions["code"], extensions["status"]) == (problem["code"], problem["status"])
        wanted = [{**e, "field": GRAPHQL_NAMES.get(e["field"], e["field"])} for e in problem.get("errors") or []]
        assert sorted(extensions.get("errors", []), key=str) == sorted(wanted, key=str)

    @pytest.mark.parametrize(
        "fields",
        [
            {"title": "", "description": ""},
            {"title": "x" * 201, "description": "D", "priority": "Urgent"},
            {"title": "T", "description": "D", "priority": None},
            {"title": "T", "description": "D", "tags": ["x" * 51]},
            {"title": "T\x00", "description": "D"},
            {"title": "T", "description": "D", "assignedTo": "me"},
            {"title": "T", "description": "D", "assignedTo": NOBODY},
            {"title": "T", "description": "D", "watchers": ["x", NOBODY]},
            {"title": "T", "description": "D", "watchers": None, "tags": None},
        ],
        ids=str,
    )
    async def test_of_new_tickets(self, agent: Caller, fields: dict[str, Any]) -> None:
        problem = (await agent.post("/api/tickets", json=fields)).json()
        before = await everything()

        extensions = await refusal(agent, CREATE, input=fields)

        assert extensions["code"] == problem["code"] == "invalid_input"
        assert extensions["errors"] == problem["errors"]
        assert await everything() == before

    @pytest.mark.parametrize(
        "fields",
        [
            {"title": None},
            {"status": "Done", "priority": None},
            {"status": "Open", "title": ""},
            {"assignedTo": NOBODY},
            {"waitingOn": "nobody"},
            {"tags": [""], "watchers": ["x"]},
            {"status": "Resolved"},
        ],
        ids=str,
    )
    async def test_of_changes(self, agent: Caller, fields: dict[str, Any]) -> None:
        ticket = await open_ticket(agent)
        await agent.patch(f"/api/tickets/{ticket['id']}", json={"status": "Closed"})
        problem = (await agent.patch(f"/api/tickets/{ticket['id']}", json=fields)).json()
        before = await everything()

        extensions = await refusal(agent, UPDATE, id=ticket["id"], patch=fields)

        assert (extensions["code"], extensions["status"]) == (problem["code"], problem["status"])
        for extra in ("errors", "legalTransitions"):
            assert extensions.get(extra) == problem.get(extra)
        assert await everything() == before

    @pytest.mark.parametrize("reference", ["", "0", "x", "9" * 30, NOBODY, "\x00", "٣"])
    async def test_of_references(self, admin: Caller, reference: str) -> None:
        for text in (
            "query ($id: ID!) { ticket(id: $id) { id } }",
            "query ($id: ID!) { user(id: $id) { id } }",
            "mutation ($id: ID!) { deleteTicket(id: $id) }",
            "mutation ($id: ID!) { restoreTicket(id: $id) { id } }",
            "mutation ($id: ID!) { updateTicket(id: $id, patch: {}) { id } }",
        ):
            assert (await refusal(admin, text, id=reference))["code"] == "not_found"

    async def test_message_is_rests_detail(self, agent: Caller) -> None:
        problem = (await agent.get("/api/tickets", params={"status": "open"})).json()

        answer = await post(agent, PAGE, filter={"status": "open"})

        assert answer.json()["errors"][0]["message"] == problem["detail"]
