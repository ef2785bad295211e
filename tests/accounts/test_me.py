"""One's own account: reading it, changing it, and a new password that ends every other session."""

import asyncio
from typing import Any

import pytest
from httpx import AsyncClient
from starlette.types import ASGIApp

from app.accounts.documents import Session, User
from app.platform.idempotency import IdempotencyRow
from app.platform.mongo import collection_of
from app.platform.wire import Row
from tests.callers import Caller
from tests.factories.accounts import PASSWORD, add_session, tokens

NEW = "an entirely different passphrase"
CHANGE = {"currentPassword": PASSWORD, "newPassword": NEW}


async def user_of(caller: Caller) -> Row:
    row = await collection_of(User).find_one({"_id": caller.actor.id})
    assert row is not None
    return row


async def sessions_of(caller: Caller) -> list[Row]:
    return await collection_of(Session).find({"userId": caller.actor.id}).to_list()


async def log_in(client: AsyncClient, password: str) -> int:
    return (await client.post("/api/login", json={"username": "customer", "password": password})).status_code


class TestMe:
    async def test_is_the_caller_as_the_database_has_them(self, customer: Caller) -> None:
        await collection_of(User).update_one({"_id": customer.actor.id}, {"$set": {"role": "Agent", "name": "C"}})

        answer = await customer.get("/api/me")

        assert answer.status_code == 200
        assert (answer.json()["role"], answer.json()["name"]) == ("Agent", "C")
        assert answer.headers["Cache-Control"] == "private, no-cache"

    async def test_changes_e_mail_and_name(self, customer: Caller) -> None:
        answer = await customer.patch("/api/me", json={"email": "c@example.com", "name": " Carol "})

        assert answer.status_code == 200
        assert (answer.json()["email"], answer.json()["name"]) == ("c@example.com", "Carol")
        cleared = await customer.patch("/api/me", json={"email": None})
        assert (cleared.json()["email"], cleared.json()["name"]) == (None, "Carol")

    @pytest.mark.parametrize("field", ["role", "active", "username", "password", "mfaEnabled", "id", "passwordVersion"])
    async def test_gives_nobody_more_rights(self, customer: Caller, field: str) -> None:
        before = await user_of(customer)

        answer = await customer.patch("/api/me", json={"name": "C", field: "Admin"})

        assert answer.status_code == 422
        assert [(e["field"], e["code"]) for e in answer.json()["errors"]] == [(field, "unknown_field")]
        assert await user_of(customer) == before


class TestChangePassword:
    async def test_keeps_this_session_and_ends_the_others(
        self, app: ASGIApp, customer: Caller, nobody: AsyncClient
    ) -> None:
        actor, token = await add_session(await user_of(customer))
        refresh_tokens = [
            tokens().refresh(session_id, 0) for session_id in (actor.credential_id, customer.actor.credential_id)
        ]

        answer = await customer.post("/api/me/password", json=CHANGE)

        assert (answer.status_code, answer.content) == (204, b"")
        assert (await customer.get("/api/me")).status_code == 200
        async with Caller(app, actor, token) as other_device:
            assert (await other_device.get("/api/me")).json()["code"] == "invalid_token"
        refreshed = [await nobody.post("/api/token/refresh", json={"refreshToken": t}) for t in refresh_tokens]
        assert [answer.status_code for answer in refreshed] == [401, 200]
        assert await log_in(nobody, PASSWORD) == 401
        assert await log_in(nobody, NEW) == 200

    @pytest.mark.parametrize(
        ("change", "status", "code"),
        [
            ({"currentPassword": "wrong"}, 401, "invalid_credentials"),
            ({"currentPassword": PASSWORD + " "}, 401, "invalid_credentials"),
            ({"currentPassword": ""}, 401, "invalid_credentials"),
            ({"currentPassword": None}, 422, "invalid_input"),
            ({"newPassword": "short"}, 422, "invalid_input"),
            ({"newPassword": "password123"}, 422, "invalid_input"),
            ({"newPassword": "CUSTOMER"}, 422, "invalid_input"),
            ({"newPassword": "x1" * 37}, 422, "invalid_input"),
            ({"newPassword": "with\x00nul and more"}, 422, "invalid_input"),
            ({"userId": "6740a1f0c3b2a1d4e5f60718"}, 422, "invalid_input"),
        ],
    )
    async def test_refuses_and_changes_nothing(
        self, customer: Caller, change: dict[str, Any], status: int, code: str
    ) -> None:
        await add_session(await user_of(customer))
        before = (await user_of(customer), await sessions_of(customer))

        answer = await customer.post("/api/me/password", json=CHANGE | change, headers={"Idempotency-Key": "k"})

        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert (await user_of(customer), await sessions_of(customer)) == before
        assert await collection_of(IdempotencyRow).count_documents({}) == 0

    async def test_a_session_opened_with_the_old_password_meanwhile_is_dead(
        self, app: ASGIApp, customer: Caller
    ) -> None:
        before = await user_of(customer)
        await customer.post("/api/me/password", json=CHANGE)

        # What a sign-in stores that checked the old password before and got to this point after the change.
        actor, token = await add_session(before)

        async with Caller(app, actor, token) as raced:
            answer = await raced.get("/api/me")
            refreshed = await raced.post(
                "/api/token/refresh", json={"refreshToken": tokens().refresh(actor.credential_id, 0)}
            )
        assert (answer.status_code, answer.json()["code"]) == (403, "invalid_token")
        assert (refreshed.status_code, refreshed.json()["code"]) == (401, "invalid_refresh_token")

    async def test_of_two_at_once_one_wins(self, costly_passwords: None, customer: Caller, nobody: AsyncClient) -> None:
        others = [f"a passphrase of number {number}" for number in range(3)]

        answers = await asyncio.gather(
            *(customer.post("/api/me/password", json=CHANGE | {"newPassword": new}) for new in others)
        )

        assert sorted(answer.status_code for answer in answers) == [204, 401, 401]
        winner = others[[answer.status_code for answer in answers].index(204)]
        assert await log_in(nobody, winner) == 200
        assert (await user_of(customer))["passwordVersion"] == 1
        assert (await customer.get("/api/me")).status_code == 200

    async def test_a_repeated_key_is_answered_again_and_stores_no_password(self, customer: Caller) -> None:
        key = {"Idempotency-Key": "change-1"}
        first = await customer.post("/api/me/password", json=CHANGE, headers=key)

        again = await customer.post("/api/me/password", json=CHANGE, headers=key)

        assert (first.status_code, again.status_code) == (204, 204)
        assert again.headers["Idempotency-Replayed"] == "true"
        rows = await collection_of(IdempotencyRow).find().to_list()
        assert len(rows) == 1
        assert PASSWORD not in repr(rows)
        assert NEW not in repr(rows)
        assert "$2b$" not in repr(rows)

    async def test_needs_somebody(self, nobody: AsyncClient) -> None:
        answer = await nobody.post("/api/me/password", json=CHANGE)

        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
