"""Two processes of the service and nothing between them but MongoDB: they act as one."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest
from bson import ObjectId

from app.accounts.roles import Role
from tests.factories.accounts import PASSWORD
from tests.factories.tickets import open_ticket
from tests.faults.conftest import connected
from tests.faults.load import check_whole
from tests.services import Person, Rows, Service, person, session

Pair = tuple[httpx.AsyncClient, httpx.AsyncClient]


@pytest.fixture
def boss(twin_rows: Rows, twins: tuple[Service, Service]) -> Person:
    return person(twin_rows, Role.ADMIN)


@pytest.fixture
async def pair(twins: tuple[Service, Service], boss: Person) -> AsyncIterator[Pair]:
    """The same admin's connections to either process."""
    async with connected(twins[0], boss.headers) as one, connected(twins[1], boss.headers) as other:
        yield one, other


def events_of(rows: Rows, *ticket_ids: str) -> list[tuple[str, int]]:
    ids = [ObjectId(ticket_id) for ticket_id in ticket_ids]
    return sorted((str(event["ticketId"]), event["version"]) for event in rows.events.find({"ticketId": {"$in": ids}}))


class TestIdempotencyKey:
    async def test_50_creates_with_one_key_open_one_ticket(self, pair: Pair, twin_rows: Rows) -> None:
        key = uuid4().hex
        answers = await self.post_50(pair, "/api/tickets", {"title": "Once", "description": key}, key)

        [ticket] = twin_rows.tickets.find({"description": key})
        for answer in answers:
            if answer.status_code != 409:
                assert (answer.status_code, answer.json()["id"]) == (201, str(ticket["_id"]))
        assert events_of(twin_rows, str(ticket["_id"])) == [(str(ticket["_id"]), 1)]

    async def test_50_bulk_changes_with_one_key_change_once(self, pair: Pair, twin_rows: Rows) -> None:
        ids = [(await open_ticket(pair[0]))["id"] for _ in range(3)]
        key = uuid4().hex
        answers = await self.post_50(pair, "/api/tickets/bulk", {"ids": ids, "patch": {"title": key}}, key)

        for answer in answers:
            if answer.status_code != 409:
                assert answer.status_code == 200
                assert [(item["id"], item["ticket"]["version"]) for item in answer.json()["results"]] == [
                    (ticket_id, 2) for ticket_id in ids
                ]
        assert events_of(twin_rows, *ids) == sorted((ticket_id, version) for ticket_id in ids for version in (1, 2))

    async def post_50(self, pair: Pair, path: str, body: dict[str, Any], key: str) -> list[httpx.Response]:
        """All answers, with that to a repetition."""

        async def post(client: httpx.AsyncClient) -> httpx.Response:
            return await client.post(path, json=body, headers={"Idempotency-Key": key})

        answers = await asyncio.gather(*(post(client) for client in pair * 25))
        firsts = [a for a in answers if a.is_success and "Idempotency-Replayed" not in a.headers]
        assert len(firsts) == 1
        for answer in answers:
            if answer.status_code == 409:
                assert answer.json()["code"] == "idempotency_in_progress"
                assert int(answer.headers["Retry-After"]) > 0
        repeated = await asyncio.gather(*map(post, pair))
        assert [(again.content, again.headers["Idempotency-Replayed"]) for again in repeated] == [
            (firsts[0].content, "true")
        ] * 2
        return [*answers, *repeated]


class TestVersions:
    async def test_of_two_patches_with_one_if_match_one_succeeds(self, pair: Pair, twin_rows: Rows) -> None:
        ticket = await open_ticket(pair[0])
        for version in range(1, 6):
            answers = await asyncio.gather(
                *(
                    client.patch(
                        f"/api/tickets/{ticket['id']}",
                        json={"title": uuid4().hex},
                        headers={"If-Match": f'"{version}"'},
                    )
                    for client in pair
                )
            )
            winner, loser = sorted(answers, key=lambda answer: answer.status_code)
            assert (winner.status_code, winner.json()["version"]) == (200, version + 1)
            assert (loser.status_code, loser.json()["currentVersion"]) == (412, version + 1)
        assert events_of(twin_rows, ticket["id"]) == [(ticket["id"], version) for version in range(1, 7)]

    async def test_30_patches_at_once_each_make_one_version_or_none(self, pair: Pair, twin_rows: Rows) -> None:
        ticket = await open_ticket(pair[0])
        titles = [uuid4().hex for _ in range(30)]
        answers = await asyncio.gather(
            *(
                client.patch(f"/api/tickets/{ticket['id']}", json={"title": title})
                for client, title in zip(pair * 15, titles, strict=True)
            )
        )

        refused = [answer for answer in answers if answer.status_code != 200]
        assert {(answer.status_code, answer.json()["code"]) for answer in refused} <= {(409, "write_conflict")}
        done = {answer.json()["version"]: answer.json()["title"] for answer in answers if answer.status_code == 200}
        assert sorted(done) == list(range(2, len(answers) - len(refused) + 2))
        events = twin_rows.events.find({"ticketId": ObjectId(ticket["id"]), "type": "ticket.updated"})
        assert {event["version"]: event["changes"]["title"]["to"] for event in events} == done


class TestNumbers:
    async def test_100_creates_at_once_get_100_numbers(self, pair: Pair, twin_rows: Rows) -> None:
        async def open_5(client: httpx.AsyncClient) -> list[int]:
            return [(await open_ticket(client))["number"] for _ in range(5)]

        by_client = await asyncio.gather(*(open_5(client) for client in pair * 10))

        assert all(numbers == sorted(numbers) for numbers in by_client)
        assert len({number for numbers in by_client for number in numbers}) == 100
        check_whole(twin_rows)


class TestSessions:
    """What ends a session in one process ends it in the other, at the next request."""

    async def test_logout(self, pair: Pair) -> None:
        one, other = pair
        assert (await other.get("/api/me")).status_code == 200

        assert (await one.post("/api/logout")).status_code == 204

        assert_signed_out(await other.get("/api/me"))

    async def test_deactivation(self, pair: Pair, twins: tuple[Service, Service], twin_rows: Rows) -> None:
        agent = person(twin_rows, Role.AGENT)
        async with connected(twins[1], agent.headers) as connection:
            assert (await connection.get("/api/me")).status_code == 200

            assert (await pair[0].patch(f"/api/users/{agent.id}", json={"active": False})).status_code == 200

            assert_signed_out(await connection.get("/api/me"))

    async def test_change_of_password_ends_the_other_sessions(
        self, pair: Pair, twins: tuple[Service, Service], boss: Person, twin_rows: Rows
    ) -> None:
        one, other = pair
        second = session(twin_rows, boss.id, ObjectId(), datetime.now(UTC))
        async with connected(twins[1], second) as connection:
            assert (await connection.get("/api/me")).status_code == 200

            body = {"currentPassword": PASSWORD, "newPassword": "another horse, another staple"}
            assert (await one.post("/api/me/password", json=body)).status_code == 204

            assert_signed_out(await connection.get("/api/me"))
            assert (await other.get("/api/me")).status_code == 200

    async def test_change_of_role(self, pair: Pair, twins: tuple[Service, Service], twin_rows: Rows) -> None:
        agent = person(twin_rows, Role.AGENT)
        async with connected(twins[1], agent.headers) as connection:
            assert (await connection.get("/api/users")).status_code == 200

            assert (await pair[0].patch(f"/api/users/{agent.id}", json={"role": "Customer"})).status_code == 200

            assert (await connection.get("/api/users")).status_code == 403


def assert_signed_out(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["code"]) == (403, "invalid_token")
