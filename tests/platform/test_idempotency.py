"""One key, one change: repeated, reused, raced, refused."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from httpx import AsyncClient, Response
from pymongo.asynchronous.client_session import AsyncClientSession
from starlette.requests import Request

from app.accounts.documents import User
from app.events.log import Event
from app.platform.errors import Conflict, IdempotencyInProgress, IdempotencyKeyReused
from app.platform.idempotency import KEEP_S, Answer, Idempotency, IdempotencyRow, Once
from app.platform.mongo import collection_of, transaction
from app.tickets.documents import Ticket
from tests.callers import Caller
from tests.factories.accounts import PASSWORD

BODY = {"title": "Printer down", "description": "It stopped."}


async def open_one(client: AsyncClient, key: str | None, **changes: Any) -> Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await client.post("/api/tickets", json=BODY | changes, headers=headers)


async def counts() -> list[int]:
    """How many tickets, events and remembered keys there are."""
    return [await collection_of(model).count_documents({}) for model in (Ticket, Event, IdempotencyRow)]


class TestReplay:
    async def test_answers_status_headers_and_body_again(self, customer: Caller) -> None:
        first = await open_one(customer, "k")

        again = await open_one(customer, "k")

        assert (first.status_code, again.status_code) == (201, 201)
        assert again.content == first.content
        for name in ("etag", "location", "content-type"):
            assert again.headers[name] == first.headers[name]
        assert again.headers["Idempotency-Replayed"] == "true"
        assert "Idempotency-Replayed" not in first.headers
        assert again.headers["X-Request-ID"] != first.headers["X-Request-ID"]
        assert await counts() == [1, 1, 1]

    async def test_is_the_first_answer_even_after_a_change(self, customer: Caller) -> None:
        first = await open_one(customer, "k")
        await customer.patch(f"/api/tickets/{first.json()['id']}", json={"title": "New title"})

        again = await open_one(customer, "k")

        assert again.json() == first.json()

    async def test_the_order_of_members_makes_no_other_body(self, customer: Caller) -> None:
        await open_one(customer, "k")

        again = await customer.post("/api/tickets", json=dict(reversed(BODY.items())), headers={"Idempotency-Key": "k"})

        assert again.headers["Idempotency-Replayed"] == "true"

    async def test_another_body_is_refused(self, customer: Caller) -> None:
        await open_one(customer, "k")

        for changes in ({"title": "Another"}, {"priority": "Medium"}, {"title": 1}, {"role": "Admin"}):
            answer = await open_one(customer, "k", **changes)

            assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
            assert answer.json()["errors"] == []
        assert await counts() == [1, 1, 1]

    async def test_other_users_and_paths_have_keys_of_their_own(
        self, customer: Caller, other_customer: Caller, admin: Caller
    ) -> None:
        answers = [await open_one(caller, "k") for caller in (customer, other_customer, admin)]
        body = {"username": "x", "password": PASSWORD}
        answers.append(await admin.post("/api/users", json=body, headers={"Idempotency-Key": "k"}))

        assert [answer.status_code for answer in answers] == [201] * 4
        assert len({answer.json()["id"] for answer in answers}) == 4
        assert await counts() == [3, 3, 4]

    async def test_without_a_key_each_request_counts(self, customer: Caller) -> None:
        await open_one(customer, None)
        await open_one(customer, None)

        assert await counts() == [2, 2, 0]

    async def test_a_refusal_is_not_remembered(self, customer: Caller) -> None:
        refused = await open_one(customer, "k", title="")
        forbidden = await open_one(customer, "k", assignedTo=customer.user_id)

        corrected = await open_one(customer, "k")

        assert (refused.status_code, forbidden.status_code, corrected.status_code) == (422, 403, 201)
        assert "Idempotency-Replayed" not in corrected.headers
        assert await counts() == [1, 1, 1]

    async def test_of_many_at_once_one_makes_the_ticket(self, customer: Caller) -> None:
        answers = await asyncio.gather(*(open_one(customer, "k") for _ in range(12)))

        created = [answer for answer in answers if answer.status_code == 201]
        waiting = [answer for answer in answers if answer.status_code == 409]
        assert len(created) + len(waiting) == 12
        assert len({answer.json()["id"] for answer in created}) == 1
        assert len([answer for answer in created if "Idempotency-Replayed" not in answer.headers]) == 1
        assert {answer.json()["code"] for answer in waiting} <= {"idempotency_in_progress"}
        assert {answer.headers["Retry-After"] for answer in waiting} <= {"1"}
        assert await counts() == [1, 1, 1]
        assert (await open_one(customer, "k")).json() == created[0].json()

    async def test_of_many_at_once_with_other_bodies_one_wins(self, customer: Caller) -> None:
        answers = await asyncio.gather(*(open_one(customer, "k", title=f"Title {n}") for n in range(8)))

        assert [answer.status_code for answer in answers].count(201) == 1
        codes = {answer.json().get("code") for answer in answers if answer.status_code != 201}
        assert codes <= {"idempotency_in_progress", "idempotency_key_reused"}
        assert await counts() == [1, 1, 1]


class TestKey:
    @pytest.mark.parametrize("key", ["k", "x" * 255, "a b", "~!@#$%^&*()", "null", "'", '"half', "6740a1f0-c3b2"])
    async def test_takes_printable_ascii(self, customer: Caller, key: str) -> None:
        assert (await open_one(customer, key)).status_code == 201
        assert (await open_one(customer, key)).headers["Idempotency-Replayed"] == "true"

    async def test_quoted_is_bare(self, customer: Caller) -> None:
        first = await open_one(customer, '"a key"')

        assert (await open_one(customer, "a key")).json() == first.json()
        assert (await open_one(customer, '  "a key" ')).json() == first.json()
        assert (await counts())[0] == 1

    @pytest.mark.parametrize("key", [b"", b" ", b'""', b"x" * 256, "schlüssel".encode(), b"a\x7f", b"a\tb", b"\xff"])
    async def test_refuses_everything_else(self, customer: Caller, key: bytes) -> None:
        answer = await customer.post("/api/tickets", json=BODY, headers=[(b"Idempotency-Key", key)])

        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_idempotency_key")
        assert await counts() == [0, 0, 0]

    async def test_refuses_two(self, customer: Caller) -> None:
        two = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]

        answer = await customer.post("/api/tickets", json=BODY, headers=two)

        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_idempotency_key")


class TestStoredRow:
    async def test_holds_no_secret(self, admin: Caller, nobody: AsyncClient) -> None:
        key = {"Idempotency-Key": "the-key"}
        await nobody.post("/api/register", json={"username": "a", "password": PASSWORD}, headers=key)
        await admin.post("/api/users", json={"username": "b", "password": PASSWORD, "role": "Agent"}, headers=key)

        rows = await collection_of(IdempotencyRow).find().to_list()

        assert len(rows) == 2
        for secret in (PASSWORD, "$2b$", "the-key", admin.token):
            assert secret not in repr(rows)

    @pytest.mark.usefixtures("database")
    async def test_goes_after_a_day(self) -> None:
        indexes = await collection_of(IdempotencyRow).index_information()

        assert KEEP_S == 86_400
        assert indexes["expiry"]["key"] == [("at", 1)]
        assert indexes["expiry"]["expireAfterSeconds"] == KEEP_S


@pytest.mark.usefixtures("database")
class TestRun:
    """With commands of our own, to be there at the right moment."""

    idempotency = Idempotency(b"key")
    request = Request({"type": "http", "method": "POST", "path": "/x", "headers": [(b"idempotency-key", b"k")]})

    async def run(
        self, command: Callable[[Once[str] | None], Awaitable[str]], body: object = None
    ) -> tuple[int, bytes]:
        answer = await self.idempotency.run(self.request, body, command, lambda text: Answer(201, text.encode()))
        return answer.status_code, bytes(answer.body)

    @staticmethod
    async def store(once: Once[str] | None, text: str) -> str:
        assert once is not None
        kept = once

        async def body(session: AsyncClientSession) -> None:
            await kept.remember(text, session)
            await collection_of(User).insert_one({"username": text}, session=session)

        await transaction(IdempotencyRow, body)
        return text

    async def test_key_and_change_come_together_or_not_at_all(self) -> None:
        async def fail_after_remembering(once: Once[str] | None) -> str:
            assert once is not None
            kept = once

            async def body(session: AsyncClientSession) -> None:
                await kept.remember("lost", session)
                await collection_of(User).insert_one({"username": "lost"}, session=session)
                raise RuntimeError

            await transaction(IdempotencyRow, body)
            return "never"

        with pytest.raises(RuntimeError):
            await self.run(fail_after_remembering)

        assert await collection_of(IdempotencyRow).count_documents({}) == 0
        assert await collection_of(User).count_documents({}) == 0
        assert await self.run(lambda once: self.store(once, "kept")) == (201, b"kept")

    async def test_what_the_first_request_did_stops_nobody(self) -> None:
        async def stopped(once: Once[str] | None) -> str:
            # The first request, meanwhile, in another process; then this one finds the name taken.
            await self.store(once, "first")
            raise Conflict

        assert await self.run(stopped) == (201, b"first")

    async def test_another_bodys_first_request_stops_it(self) -> None:
        async def stopped(_once: Once[str] | None) -> str:
            await self.run(lambda other: self.store(other, "first"), body="other")
            raise Conflict

        with pytest.raises(IdempotencyKeyReused):
            await self.run(stopped, body="this")

    async def test_hears_that_the_first_is_still_running(self) -> None:
        async def overtaken(once: Once[str] | None) -> str:
            assert once is not None
            kept = once

            async def slow(session: AsyncClientSession) -> None:
                await kept.remember("slow", session)
                with pytest.raises(IdempotencyInProgress):
                    await self.store(kept, "second")

            await transaction(IdempotencyRow, slow)
            return "slow"

        assert await self.run(overtaken) == (201, b"slow")
        assert await collection_of(User).count_documents({}) == 0
