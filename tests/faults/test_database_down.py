"""Without a database, or with one that hangs: a quick and honest refusal, and nothing to do afterwards."""

import asyncio
from collections.abc import Mapping

import httpx
import pytest

from app.accounts.roles import Role
from tests.factories.tickets import open_ticket
from tests.faults.conftest import connected
from tests.faults.kinds import Taken, every_kind, timed
from tests.faults.load import check_whole
from tests.services import Mongod, Person, Rows, Service, person, until

# The contract's bounds (§2).
DOWN_S = 5
HANGING_S = 20


class TestDown:
    async def test_everything_is_refused_within_5_seconds_and_works_again_afterwards(
        self, mongod: Mongod, rows: Rows, service: Service, admin: Person, client: httpx.AsyncClient
    ) -> None:
        tickets = await two_tickets(client)
        await asyncio.to_thread(mongod.kill)

        # First over connections that broke, then by a service that knows.
        for _ in range(2):
            answers = await every_kind(client, admin, *tickets)
            assert_refused(answers, DOWN_S)
            assert (await client.get("/healthz")).status_code == 200
            readiness = await timed(client.get("/readyz"))
            assert readiness.answer.status_code == 503
            assert readiness.seconds < DOWN_S

        await asyncio.to_thread(mongod.start)
        await until(service.is_ready)
        check_whole(rows)
        assert rows.tickets.count_documents({}) == 2
        assert rows.idempotency.count_documents({}) == 0
        await assert_works(client, admin)
        assert "Traceback" not in service.output()

    async def test_writes_under_way_are_answered_within_5_seconds(
        self, mongod: Mongod, rows: Rows, client: httpx.AsyncClient
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
        self, mongod: Mongod, service: Service, admin: Person
    ) -> None:
        service.kill()
        await asyncio.to_thread(mongod.kill)
        service.launch()
        await until(service.is_listening)

        async with connected(service, admin.headers) as client:
            assert (await client.get("/healthz")).status_code == 200
            assert_refused({"readiness": await timed(client.get("/readyz"))}, DOWN_S)
            assert_refused(await every_kind(client, admin, str(admin.id), str(admin.id)), DOWN_S)

            await asyncio.to_thread(mongod.start)
            await until(service.is_ready)
            await assert_works(client, admin)
        assert "Traceback" not in service.output()


class TestHanging:
    async def test_everything_is_refused_within_20_seconds_and_works_again_afterwards(
        self, mongod: Mongod, rows: Rows, service: Service, admin: Person, client: httpx.AsyncClient
    ) -> None:
        tickets = [(await open_ticket(client))["id"] for _ in range(10)]
        writes = asyncio.gather(
            *(timed(client.patch(f"/api/tickets/{ticket}", json={"title": "Under way"})) for ticket in tickets)
        )
        await until(lambda: service.requests_in_progress() > 0)
        mongod.freeze()

        health = timed(client.get("/healthz"))
        answers, healthy = await asyncio.gather(every_kind(client, admin, *tickets[:2]), health)

        assert healthy.answer.status_code == 200
        assert_refused(answers, HANGING_S)
        for taken in await writes:
            assert taken.answer.status_code in {200, 503}
            assert taken.seconds < HANGING_S
        mongod.thaw()
        await until(service.is_ready)
        check_whole(rows)
        await assert_works(client, admin)
        assert "Traceback" not in service.output()


class TestServerErrors:
    """What a server says while it changes its role, is overloaded or ends: an outage, not a fault of ours."""

    # One that limits time, one by which the driver changes its mind about the server, one that only we know.
    @pytest.mark.parametrize("code", [50, 10107, 11601])
    async def test_are_an_outage(
        self, code: int, mongod: Mongod, twins: tuple[Service, Service], twin_rows: Rows
    ) -> None:
        admin = person(twin_rows, Role.ADMIN)
        async with connected(twins[0], admin.headers) as client:
            tickets = await two_tickets(client)
            for commands in (["find", "aggregate"], ["findAndModify", "insert", "update"], ["commitTransaction"]):
                with mongod.failing(commands, errorCode=code):
                    answers = await every_kind(client, admin, *tickets)
                for kind, taken in answers.items():
                    assert taken.answer.status_code in {200, 401, 409, 503}, (kind, commands, taken.answer.text)
            check_whole(twin_rows)


def assert_refused(answers: Mapping[str, Taken], within_s: float) -> None:
    for kind, taken in answers.items():
        assert taken.answer.status_code == 503, (kind, taken.answer.text)
        assert taken.answer.headers["content-type"] == "application/problem+json"
        assert taken.answer.json()["code"] == "database_unavailable"
        assert int(taken.answer.headers["Retry-After"]) > 0
        assert taken.seconds < within_s, kind


async def two_tickets(client: httpx.AsyncClient) -> tuple[str, str]:
    return (await open_ticket(client))["id"], (await open_ticket(client))["id"]


async def assert_works(client: httpx.AsyncClient, admin: Person) -> None:
    tickets = await two_tickets(client)
    answers = await every_kind(client, admin, *tickets)
    assert {kind: taken.answer.status_code for kind, taken in answers.items()} == {
        "login": 200,
        "refresh": 401,
        "list": 200,
        "get": 200,
        "create": 201,
        "keyed create": 201,
        "patch": 200,
        "bulk": 200,
    }
