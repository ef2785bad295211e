"""Without a database, or with one that hangs: a quick and honest refusal, and nothing to do afterwards."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from uuid import uuid4

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
UNDER_WAY = 20


@pytest.fixture
def newcomer(mongod: Mongod, rows: Rows, tmp_path: Path) -> Iterator[Service]:
    """Another process of the service, not yet started."""
    service = Service(mongod.uri(rows.name), tmp_path / "newcomer.log")
    try:
        yield service
    finally:
        service.kill()


class TestDown:
    async def test_everything_is_refused_within_5_seconds_and_works_again_afterwards(
        self, mongod: Mongod, rows: Rows, service: Service, newcomer: Service, admin: Person, client: httpx.AsyncClient
    ) -> None:
        tickets = [(await open_ticket(client))["id"] for _ in range(UNDER_WAY + 2)]
        writes = [asyncio.create_task(timed(patch(client, ticket))) for ticket in tickets[2:] for _ in range(3)]
        # Of a first one that is only committed, the answer could still be lost with the database.
        await asyncio.wait(writes, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.to_thread(mongod.kill)
        newcomer.launch()

        # First over connections that broke, then by a service that knows, and by one that has never seen a database.
        await refuses_everything(client, admin, tickets)
        under_way = await asyncio.gather(*writes)
        await until(newcomer.is_listening)
        async with connected(newcomer, admin.headers) as newcomers_client:
            await asyncio.gather(
                refuses_everything(client, admin, tickets), refuses_everything(newcomers_client, admin, tickets)
            )

            assert {one.answer.status_code for one in under_way} == {200, 503}
            assert max(one.seconds for one in under_way) < DOWN_S
            await asyncio.to_thread(mongod.start)
            await until(service.is_ready)
            await until(newcomer.is_ready)
            check_whole(rows)
            assert rows.tickets.count_documents({}) == len(tickets)
            assert rows.idempotency.count_documents({}) == 0
            done = sum(one.answer.status_code == 200 for one in under_way)
            assert rows.events.count_documents({"type": "ticket.updated"}) >= done
            await assert_works(client, admin, "by the first")
            await assert_works(newcomers_client, admin, "by the newcomer")
        assert "Traceback" not in service.output() + newcomer.output()


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
        await assert_works(client, admin, "afterwards")
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


async def refuses_everything(client: httpx.AsyncClient, admin: Person, tickets: Sequence[str]) -> None:
    """But the question whether the process lives."""
    refusals, readiness, health = await asyncio.gather(
        every_kind(client, admin, *tickets[:2]), timed(client.get("/readyz")), client.get("/healthz")
    )
    assert_refused({**refusals, "readiness": readiness}, DOWN_S)
    assert health.status_code == 200


async def patch(client: httpx.AsyncClient, ticket_id: str) -> httpx.Response:
    return await client.patch(f"/api/tickets/{ticket_id}", json={"title": uuid4().hex})


async def two_tickets(client: httpx.AsyncClient) -> tuple[str, str]:
    return (await open_ticket(client))["id"], (await open_ticket(client))["id"]


async def assert_works(client: httpx.AsyncClient, admin: Person, key: str) -> None:
    tickets = await two_tickets(client)
    answers = await every_kind(client, admin, *tickets, key=key)
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
