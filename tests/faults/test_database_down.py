"""Without a database, or with one that hangs: a quick and honest refusal of everything, and nothing to do afterwards."""

import asyncio
from collections.abc import Mapping

import httpx

from tests.factories.tickets import open_ticket
from tests.faults.conftest import connected
from tests.faults.kinds import Taken, every_kind, timed
from tests.faults.load import check_whole
from tests.services import Mongod, Person, Rows, Service, until

# The contract's bounds (§2).
DOWN_S = 5
HANGING_S = 20


class TestDown:
    async def test_everything_is_refused_within_5_seconds_and_works_again_afterwards(
        self, mongod: Mongod, rows: Rows, service: Service, admin: Person, client: httpx.AsyncClient
    ) -> None:
        ticket = await open_ticket(client)
        await asyncio.to_thread(mongod.kill)

        # First over connections that broke, then by a service that knows.
        for _ in range(2):
            answers = await every_kind(client, ticket["id"], admin)
            assert_refused(answers, DOWN_S)
            assert (await client.get("/healthz")).status_code == 200
            readiness = await timed(client.get("/readyz"))
            assert readiness.answer.status_code == 503
            assert readiness.seconds < DOWN_S

        await asyncio.to_thread(mongod.start)
        await until(service.is_ready)
        check_whole(rows)
        assert rows.tickets.count_documents({}) == 1
        assert rows.idempotency.count_documents({}) == 0
        await assert_works(client, admin)
        assert "Traceback" not in service.output()

    async def test_writes_under_way_are_answered_within_5_seconds(
        self, mongod: Mongod, rows: Rows, service: Service, client: httpx.AsyncClient
    ) -> None:
        tickets = await asyncio.gather(*(open_ticket(client) for _ in range(20)))
        writes = [
            timed(client.patch(f"/api/tickets/{ticket['id']}", json={"title": f"Change {number}"}))
            for ticket in tickets
            for number in range(3)
        ]
        pending = asyncio.gather(*writes)
        await until(lambda: rows.events.count_documents({"type": "ticket.updated"}) > 0)
        await asyncio.to_thread(mongod.kill)

        taken = await pending

        assert {one.answer.status_code for one in taken} <= {200, 503}
        assert 503 in {one.answer.status_code for one in taken}
        assert max(one.seconds for one in taken) < DOWN_S
        await asyncio.to_thread(mongod.start)
        check_whole(rows)
        done = [one.answer.json()["title"] for one in taken if one.answer.status_code == 200]
        assert rows.events.count_documents({"type": "ticket.updated"}) >= len(done)

    async def test_a_service_that_starts_meanwhile_becomes_ready_by_itself(
        self, mongod: Mongod, rows: Rows, service: Service, admin: Person
    ) -> None:
        service.kill()
        await asyncio.to_thread(mongod.kill)
        service.launch()
        await until(service.is_listening)

        async with connected(service, admin.headers) as client:
            assert (await client.get("/healthz")).status_code == 200
            assert_refused({"readiness": await timed(client.get("/readyz"))}, DOWN_S)
            assert_refused(await every_kind(client, str(admin.id), admin), DOWN_S)

            await asyncio.to_thread(mongod.start)
            await until(service.is_ready)
            await assert_works(client, admin)
        assert "Traceback" not in service.output()


class TestHanging:
    async def test_everything_is_refused_within_20_seconds_and_works_again_afterwards(
        self, mongod: Mongod, rows: Rows, service: Service, admin: Person, client: httpx.AsyncClient
    ) -> None:
        ticket = await open_ticket(client)
        mongod.freeze()

        health, answers = await asyncio.gather(timed(client.get("/healthz")), every_kind(client, ticket["id"], admin))

        assert health.answer.status_code == 200
        assert_refused(answers, HANGING_S)
        mongod.thaw()
        await until(service.is_ready)
        check_whole(rows)
        await assert_works(client, admin)
        assert "Traceback" not in service.output()


def assert_refused(answers: Mapping[str, Taken], within_s: float) -> None:
    print({kind: (taken.answer.status_code, round(taken.seconds, 2)) for kind, taken in answers.items()})
    for kind, taken in answers.items():
        assert taken.answer.status_code == 503, (kind, taken.answer.text)
        assert taken.answer.headers["content-type"] == "application/problem+json"
        assert taken.answer.json()["code"] == "database_unavailable"
        assert int(taken.answer.headers["Retry-After"]) > 0
        assert taken.seconds < within_s, kind


async def assert_works(client: httpx.AsyncClient, admin: Person) -> None:
    ticket = await open_ticket(client)
    answers = await every_kind(client, ticket["id"], admin)
    assert {kind: taken.answer.status_code for kind, taken in answers.items()} == {
        "login": 200,
        "refresh": 401,
        "list": 200,
        "get": 200,
        "create": 201,
        "keyed create": 201,
        "patch": 200,
        "bulk": 200,
        "delete": 204,
    }
