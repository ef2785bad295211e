"""Reading tickets: filters, orders, pages, and the indexes under them."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId

from app.platform.clock import now
from app.platform.mongo import collection_of
from app.platform.wire import Row, instant
from app.tickets.documents import Ticket
from app.tickets.filters import SORT_VALUES
from app.tickets.lifecycle import Priority, Status
from tests.callers import Caller
from tests.factories.tickets import add_tickets, open_ticket, ticket_row

SOMEBODY = ObjectId()
T0 = datetime(2026, 6, 1, 12, tzinfo=UTC)


async def listed(caller: Caller, **parameters: Any) -> list[dict[str, Any]]:
    answer = await caller.get("/api/tickets", params=parameters)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


class TestFilters:
    @pytest.mark.parametrize(
        ("parameters", "match", "other"),
        [
            ({"status": "In Progress"}, {"status": "In Progress"}, {"status": "Open"}),
            ({"priority": "High"}, {"priority": "High"}, {"priority": "Low"}),
            ({"assignedTo": str(SOMEBODY)}, {"assignedTo": SOMEBODY}, {"assignedTo": ObjectId()}),
            ({"assignedTo": "none"}, {"assignedTo": None}, {"assignedTo": SOMEBODY}),
            ({"requester": str(SOMEBODY)}, {"requester": SOMEBODY}, {"requester": None}),
            ({"tag": "printer"}, {"tags": ["slow", "printer"]}, {"tags": ["printers"]}),
            ({"q": "PRINTER stopped"}, {"description": "My printer has stopped"}, {"title": "printer works"}),
            ({"q": "printer stop"}, {"description": "My printer has stopped"}, {"title": "printers stopped"}),
            ({"q": "-printer"}, {"title": "a printer"}, {"title": "a screen"}),
            ({"q": "the"}, {"title": "the"}, {"title": "a"}),
            ({"waitingOn": "customer"}, {"waitingOn": "customer"}, {"waitingOn": None}),
            ({"waitingOn": "none"}, {"waitingOn": None}, {"waitingOn": "third_party"}),
            ({"breached": "true"}, {"sla": {"resolutionBreached": True}}, {"sla": {"resolutionBreached": False}}),
            ({"breached": "true"}, {"sla": {"firstResponseBreached": True}}, {}),
            ({"breached": "false"}, {}, {"sla": {"firstResponseBreached": True}}),
            ({"createdAfter": instant(T0)}, {"createdAt": T0 + timedelta(milliseconds=1)}, {"createdAt": T0}),
            ({"createdBefore": instant(T0)}, {"createdAt": T0 - timedelta(milliseconds=1)}, {"createdAt": T0}),
            ({"updatedAfter": instant(T0)}, {"updatedAt": T0 + timedelta(milliseconds=1)}, {"updatedAt": T0}),
            ({"status": "Open", "tag": "a"}, {"tags": ["a"]}, {"tags": ["a"], "status": "Closed"}),
        ],
    )
    async def test_find_what_matches_and_nothing_else(
        self, agent: Caller, parameters: dict[str, str], match: Row, other: Row
    ) -> None:
        wanted = ticket_row(**match)
        await add_tickets(wanted, ticket_row(**other), ticket_row(**match, deletedAt=now()))

        assert [item["id"] for item in await listed(agent, **parameters)] == [str(wanted["_id"])]

    @pytest.mark.parametrize("sort", ["number", "-number"])
    async def test_a_list_by_one_field_has_all_values_of_the_other_in_order(self, agent: Caller, sort: str) -> None:
        """Status and priority share an index, as do assignee and status; the original's rows may lack either."""
        rows = [
            ticket_row(status=status, priority=priority, assignedTo=SOMEBODY)
            for status in (*Status, None)
            for priority in (*Priority, None)
        ]
        numbers = random.Random(sort).sample(range(1, 1_000), len(rows))
        for row, number in zip(rows, numbers, strict=True):
            row["number"] = number
        await add_tickets(*rows)
        asked = [("status", value) for value in Status] + [("priority", value) for value in Priority]

        for field, value in [*asked, ("assignedTo", SOMEBODY)]:
            found = await listed(agent, **{field: value, "sort": sort, "limit": 100})

            expected = sorted(row["number"] for row in rows if row[field] == value)
            assert [item["number"] for item in found] == (expected[::-1] if sort == "-number" else expected)

    async def test_of_what_nobody_changed_the_time_of_change_is_not_known(self, agent: Caller) -> None:
        """As the parameters' descriptions say of tickets of the original service."""
        changed, old = ticket_row(updatedAt=T0), ticket_row(createdAt=T0 + timedelta(days=1))
        del old["updatedAt"]
        await add_tickets(changed, old)
        ids = [str(row["_id"]) for row in (old, changed)]

        assert [item["id"] for item in await listed(agent, updatedAfter=instant(T0 - timedelta(days=1)))] == ids[1:]
        assert [item["id"] for item in await listed(agent, sort="updatedAt")] == ids
        assert [item["id"] for item in await listed(agent, sort="-updatedAt")] == ids[::-1]

    async def test_me_is_the_caller(self, agent: Caller) -> None:
        mine = await open_ticket(agent, assignedTo=agent.user_id)
        await open_ticket(agent)

        assert [item["id"] for item in await listed(agent, assignedTo="me")] == [mine["id"]]

    async def test_customers_see_their_own_whatever_they_ask(self, customer: Caller, other_customer: Caller) -> None:
        mine = await open_ticket(customer)
        await open_ticket(other_customer)

        assert await listed(customer) == [mine]
        assert await listed(customer, q="printer") == [mine]
        assert await listed(customer, requester=other_customer.user_id) == []

    @pytest.mark.parametrize(
        ("parameter", "value"),
        [
            ("status", "open"),
            ("priority", ""),
            ("assignedTo", "somebody"),
            ("requester", "12"),
            ("tag", ""),
            ("tag", "x" * 51),
            ("q", "x" * 201),
            ("q", "a\x00b"),
            ("waitingOn", "us"),
            ("breached", "yes"),
            ("createdAfter", "yesterday"),
            ("createdBefore", "2026-13-01"),
            ("updatedAfter", ""),
            ("sort", "title"),
            ("sort", "--number"),
            ("limit", "0"),
            ("limit", "101"),
            ("limit", "ten"),
            ("limit", "\N{FULLWIDTH DIGIT ONE}0"),
            ("statsu", "Open"),
        ],
    )
    async def test_wrong_values_are_refused(self, agent: Caller, parameter: str, value: str) -> None:
        answer = await agent.get("/api/tickets", params={parameter: value})

        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
        assert [error["field"] for error in answer.json()["errors"]] == [parameter]

    async def test_all_wrong_parameters_are_named_at_once(self, agent: Caller) -> None:
        answer = await agent.get("/api/tickets?status=x&limit=0&sort=y&foo=1")

        assert [error["field"] for error in answer.json()["errors"]] == ["foo", "limit", "sort", "status"]

    @pytest.mark.parametrize(
        "query", ["status=Open&status=Closed", "tag=a&tag=a", "limit=1&limit=2", "cursor=&cursor="]
    )
    async def test_none_may_come_twice(self, agent: Caller, query: str) -> None:
        answer = await agent.get(f"/api/tickets?{query}")

        [error] = answer.json()["errors"]
        assert (answer.status_code, error["code"]) == (422, "repeated_parameter")
        assert error["field"] == query.partition("=")[0]


class TestPages:
    @pytest.mark.parametrize("sort", SORT_VALUES)
    async def test_every_order_is_walked_to_its_end(self, agent: Caller, sort: str) -> None:
        rows = [ticket_row(updatedAt=T0 + timedelta(seconds=n % 3)) for n in range(7)]
        old = [{k: v for k, v in ticket_row().items() if k not in {"number", "updatedAt"}} for _ in range(3)]
        await add_tickets(*rows, *old)
        seen: list[str] = []
        parameters = {"sort": sort, "limit": "2"}
        while True:
            answer = await agent.get("/api/tickets", params=parameters)
            seen += [item["id"] for item in answer.json()["items"]]
            if answer.json()["nextCursor"] is None:
                assert "link" not in answer.headers
                break
            parameters["cursor"] = answer.json()["nextCursor"]

        field = sort.removeprefix("-")
        with_value = sorted((row[field], row["_id"]) for row in rows + old if field in row)
        without = sorted(row["_id"] for row in rows + old if field not in row)
        ascending = without + [row_id for _, row_id in with_value]
        assert seen == [str(row_id) for row_id in (ascending[::-1] if sort.startswith("-") else ascending)]

    async def test_the_link_leads_on(self, agent: Caller) -> None:
        await add_tickets(*(ticket_row() for _ in range(3)))
        first = await agent.get("/api/tickets?limit=2&status=Open")
        target = first.headers["link"].removeprefix("<").removesuffix('>; rel="next"')

        assert len((await agent.get(target)).json()["items"]) == 1

    @pytest.mark.parametrize("other", ["?status=Open", "?sort=number", "?q=ticket", "/{id}/events"])
    async def test_a_cursor_fits_no_other_list(self, agent: Caller, other: str) -> None:
        ticket = await open_ticket(agent)
        await open_ticket(agent)
        cursor = (await agent.get("/api/tickets?limit=1")).json()["nextCursor"]
        path = f"/api/tickets{other}".replace("{id}", ticket["id"])
        answer = await agent.get(f"{path}{'&' if '?' in path else '?'}cursor={cursor}")

        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")

    @pytest.mark.parametrize("cursor", ["", "x", "AAAA", "%00", "é", "a" * 5000])
    async def test_garbage_is_no_cursor(self, agent: Caller, cursor: str) -> None:
        answer = await agent.get("/api/tickets", params={"cursor": cursor})

        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")

    async def test_10_000_tickets_under_change_are_all_seen_once(self, agent: Caller) -> None:
        rows = [ticket_row(createdAt=T0 - timedelta(seconds=n // 3)) for n in range(10_000)]
        await add_tickets(*rows)
        tickets, seen, cursor = collection_of(Ticket), list[str](), None
        removed = set[ObjectId]()
        for page in range(1000):
            answer = await agent.get("/api/tickets", params={"limit": 100, **({"cursor": cursor} if cursor else {})})
            seen += [item["id"] for item in answer.json()["items"]]
            cursor = answer.json()["nextCursor"]
            if cursor is None:
                break
            # Before, at and behind where we are: new ones, deleted ones, changed ones.
            await add_tickets(ticket_row(createdAt=now()), ticket_row(createdAt=T0 - timedelta(seconds=page * 40)))
            for victim in (rows[page * 50], rows[-1 - page * 50], rows[page * 100 + 99]):
                removed.add(victim["_id"])
                await tickets.update_one({"_id": victim["_id"]}, {"$set": {"deletedAt": now()}})
            await tickets.update_one({"_id": rows[page * 90 + 7]["_id"]}, {"$set": {"title": "changed"}})

        stayed = {str(row["_id"]) for row in rows if row["_id"] not in removed}
        assert len(seen) == len(set(seen))
        assert stayed <= set(seen)


class TestHistory:
    async def test_is_paged_oldest_first(self, agent: Caller) -> None:
        ticket = await open_ticket(agent)
        for n in range(4):
            await agent.patch(f"/api/tickets/{ticket['id']}", json={"title": f"Title {n}"})
        path = f"/api/tickets/{ticket['id']}/events"
        first = (await agent.get(path, params={"limit": 3})).json()
        rest = (await agent.get(path, params={"limit": 3, "cursor": first["nextCursor"]})).json()

        versions = [event["ticket"]["version"] for event in first["items"] + rest["items"]]
        assert versions == [1, 2, 3, 4, 5]
        assert rest["nextCursor"] is None
        last = rest["items"][-1]
        assert last["changes"] == {"title": {"from": "Title 2", "to": "Title 3"}}
        assert (last["ticketId"], last["cursor"], last["internal"]) == (ticket["id"], None, False)
        assert last["ticket"] == (await agent.get(f"/api/tickets/{ticket['id']}")).json()

    async def test_refuses_parameters_that_it_does_not_have(self, agent: Caller) -> None:
        ticket = await open_ticket(agent)
        answer = await agent.get(f"/api/tickets/{ticket['id']}/events?limt=3")

        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "limt")

    @pytest.mark.parametrize("query", ["limt=3", "limit=0", "limit=1&limit=2"])
    async def test_access_comes_before_the_parameters(
        self, customer: Caller, other_customer: Caller, query: str
    ) -> None:
        ticket = await open_ticket(customer)
        answer = await other_customer.get(f"/api/tickets/{ticket['id']}/events?{query}")

        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


class TestIfNoneMatch:
    @pytest.mark.parametrize("tag", ['"1"', 'W/"1"', '"7", "1"', "*"])
    async def test_the_same_version_is_not_sent_again(self, customer: Caller, tag: str) -> None:
        ticket = await open_ticket(customer)
        answer = await customer.get(f"/api/tickets/{ticket['id']}", headers={"If-None-Match": tag})

        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", '"1"')

    async def test_another_version_is(self, customer: Caller) -> None:
        ticket = await open_ticket(customer)
        await customer.patch(f"/api/tickets/{ticket['id']}", json={"title": "x"})
        answer = await customer.get(f"/api/tickets/{ticket['id']}", headers={"If-None-Match": '"1"'})

        assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')

    async def test_access_comes_first(self, customer: Caller, other_customer: Caller) -> None:
        ticket = await open_ticket(customer)
        answer = await other_customer.get(f"/api/tickets/{ticket['id']}", headers={"If-None-Match": "*"})

        assert answer.status_code == 404
