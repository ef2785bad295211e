"""Clients that go away, dawdle or come in crowds harm nobody but themselves."""

import asyncio
from typing import Any

import httpx

from tests.factories.accounts import COSTLY_HASH, PASSWORD
from tests.factories.tickets import open_ticket
from tests.faults.load import check_whole
from tests.faults.slow import SlowRequest
from tests.services import Person, Rows, Service, until

BODY = {"title": "Never mind", "description": "Its sender may be gone"}
LOGINS = 40


class TestDisconnect:
    async def test_with_half_a_body_changes_nothing(self, service: Service, rows: Rows, admin: Person) -> None:
        requests = [await SlowRequest.begin(service, "POST", "/api/tickets", admin.headers, BODY) for _ in range(10)]
        await until(lambda: service.requests_in_progress() == len(requests))

        for request in requests:
            request.hang_up()

        await until(lambda: service.requests_in_progress() == 0)
        assert rows.tickets.count_documents({}) == 0
        assert rows.events.count_documents({}) == 0
        assert "Traceback" not in service.output()

    async def test_before_the_answer_leaves_nothing_by_halves(
        self, service: Service, rows: Rows, admin: Person, client: httpx.AsyncClient
    ) -> None:
        ticket = await open_ticket(client)
        path = f"/api/tickets/{ticket['id']}"
        for number in range(5):
            bulk = {"ids": [ticket["id"]], "patch": {"title": f"Bulk title {number}"}}
            requests: list[tuple[str, str, dict[str, Any]]] = [
                ("POST", "/api/tickets", BODY),
                ("PATCH", path, {"title": f"Title {number}"}),
                ("POST", "/api/tickets/bulk", bulk),
            ]
            for method, target, body in requests:
                keyed = admin.headers | ({"Idempotency-Key": f"{target} {number}"} if method == "POST" else {})
                request = await SlowRequest.begin(service, method, target, keyed, body)
                await request.send_rest()
                request.hang_up()

        await until(lambda: service.requests_in_progress() == 0)
        check_whole(rows)
        assert "Traceback" not in service.output()
        answer = await client.post("/api/tickets", json=BODY, headers={"Idempotency-Key": "/api/tickets 0"})
        assert answer.status_code == 201
        assert rows.tickets.count_documents({"title": BODY["title"]}) == (
            rows.idempotency.count_documents({"status": 201})
        )


class TestSlowBody:
    async def test_holds_up_nobody_else_and_is_served_in_the_end(
        self, service: Service, admin: Person, client: httpx.AsyncClient
    ) -> None:
        slow = [await SlowRequest.begin(service, "POST", "/api/tickets", admin.headers, BODY) for _ in range(50)]
        await until(lambda: service.requests_in_progress() == len(slow))

        await asyncio.gather(*(open_ticket(client) for _ in range(20)))
        assert service.requests_in_progress() == len(slow)

        answers = await asyncio.gather(*(request.finish() for request in slow))
        assert [status for status, _ in answers] == [201] * len(slow)


class TestCrowdOfLogins:
    async def test_the_surplus_is_refused_and_others_are_served_meanwhile(
        self, rows: Rows, admin: Person, client: httpx.AsyncClient
    ) -> None:
        # Checks of the other hashes of these tests take too little to be in each other's way.
        rows.users.update_one({"_id": admin.id}, {"$set": {"password": COSTLY_HASH}})
        credentials = {"username": admin.username, "password": PASSWORD}
        logins = [asyncio.create_task(client.post("/api/login", json=credentials)) for _ in range(LOGINS)]

        reads = 0
        while not all(login.done() for login in logins):
            assert (await client.get("/api/tickets")).status_code == 200
            reads += 1

        answers = [login.result() for login in logins]
        assert reads > 1
        assert {answer.status_code for answer in answers} == {200, 429}
        for answer in answers:
            if answer.status_code == 429:
                assert int(answer.headers["Retry-After"]) > 0
