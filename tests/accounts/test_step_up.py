"""What lets people in can be changed only by who has proved lately who they are."""

from datetime import timedelta
from typing import Any

import pytest
from httpx import AsyncClient

from app.accounts.audit import AuditEntry
from app.accounts.documents import ApiKey, SecurityPolicy, Session, User
from app.platform.clock import now
from app.platform.mongo import collection_of
from app.platform.wire import instant
from tests.accounts.mfa import stored
from tests.callers import Caller, Callers
from tests.factories.accounts import PASSWORD, add_session

JUST_TOO_OLD = timedelta(minutes=10, seconds=1)
RECENT = timedelta(minutes=9, seconds=30)
PROTECTED: list[tuple[str, str, dict[str, Any] | None]] = [
    ("POST", "/api/me/password", {"currentPassword": PASSWORD, "newPassword": "a new and long passphrase"}),
    ("PATCH", "/api/me", {"email": "new@example.com"}),
    ("PATCH", "/api/me", {"email": None, "name": "Ada"}),
    ("POST", "/api/me/mfa/setup", None),
    ("POST", "/api/me/mfa/enable", {"otp": "123456"}),
    ("POST", "/api/me/mfa/disable", {"password": PASSWORD, "otp": "123456"}),
    ("POST", "/api/me/mfa/recovery-codes", None),
    ("DELETE", "/api/users/{user}/mfa", None),
    ("PATCH", "/api/users/{user}", {"role": "Agent"}),
    ("PATCH", "/api/users/{user}", {"role": "Customer", "name": "Carol"}),
    ("PATCH", "/api/users/{user}", {"email": "new@example.com"}),
    ("POST", "/api/users", {"username": "new", "password": "a long passphrase", "role": "Agent"}),
    ("POST", "/api/api-keys", {"name": "robot", "scopes": ["read"]}),
    ("DELETE", "/api/api-keys/{key}", None),
    ("PATCH", "/api/security-policy", {"mfaRequiredFor": ["Admin"]}),
]
OPEN: list[tuple[str, str, dict[str, Any] | None]] = [
    ("GET", "/api/me", None),
    ("PATCH", "/api/me", {"name": "Ada"}),
    ("GET", "/api/me/sessions", None),
    ("DELETE", "/api/me/sessions", None),
    ("GET", "/api/api-keys", None),
    ("GET", "/api/users", None),
    ("GET", "/api/audit", None),
    ("GET", "/api/security-policy", None),
    ("PATCH", "/api/users/{user}", {"name": "Carol"}),
    ("PATCH", "/api/users/{user}", {"active": False}),
    ("POST", "/api/users", {"username": "new", "password": "a long passphrase"}),
    ("POST", "/api/logout", None),
]


async def everything() -> list[Any]:
    models = (User, Session, ApiKey, SecurityPolicy)
    return [await collection_of(model).find().sort("_id", 1).to_list() for model in models]


async def aged(caller: Caller, age: timedelta) -> dict[str, str]:
    """The headers of a session of the caller's that began so long ago, and is in use."""
    _, token = await add_session(await stored(caller.actor.id), age=age, lastUsedAt=now())
    return {"Authorization": f"Bearer {token}"}


async def named(callers: Callers, path: str) -> str:
    key = await callers.admin.post("/api/api-keys", json={"name": "old", "scopes": ["read"]})
    return path.format(user=callers.customer.user_id, key=key.json()["id"])


@pytest.mark.parametrize(("method", "path", "body"), PROTECTED)
async def test_an_old_sign_in_is_refused(callers: Callers, method: str, path: str, body: dict[str, Any] | None) -> None:
    path, headers = await named(callers, path), await aged(callers.admin, JUST_TOO_OLD)
    before = await everything()

    answer = await callers.nobody.request(method, path, json=body, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (403, "reauthentication_required")
    assert await everything() == before


@pytest.mark.parametrize(("method", "path", "body"), PROTECTED)
async def test_a_proof_of_who_one_is_opens_it(
    callers: Callers, method: str, path: str, body: dict[str, Any] | None
) -> None:
    path, headers = await named(callers, path), await aged(callers.admin, JUST_TOO_OLD)
    # As `reauthenticate` leaves it, without the quarter of a second that it takes.
    await collection_of(Session).update_many({}, {"$set": {"authenticatedAt": now()}})

    answer = await callers.nobody.request(method, path, json=body, headers=headers)

    # MFA is off, so some of these have nothing to do.
    assert answer.status_code in (200, 201, 204, 409)


@pytest.mark.parametrize(("method", "path", "body"), OPEN)
async def test_all_else_takes_no_proof(callers: Callers, method: str, path: str, body: dict[str, Any] | None) -> None:
    path, headers = await named(callers, path), await aged(callers.admin, timedelta(days=20))

    answer = await callers.nobody.request(method, path, json=body, headers=headers)

    assert answer.is_success, answer.text


async def test_ten_minutes_count(callers: Callers) -> None:
    headers = await aged(callers.admin, RECENT)

    answer = await callers.nobody.patch("/api/me", json={"email": "new@example.com"}, headers=headers)

    assert answer.status_code == 200


async def test_a_refreshed_token_proves_nothing(customer: Caller, nobody: AsyncClient) -> None:
    """Else whoever has stolen a refresh token could go on for ever."""
    from_long_ago = {"$set": {"authenticatedAt": now() - JUST_TOO_OLD}}
    await collection_of(Session).update_one({"_id": customer.actor.credential_id}, from_long_ago)
    signed_in = (await nobody.post("/api/login", json={"username": "customer", "password": PASSWORD})).json()
    await collection_of(Session).update_many({}, from_long_ago)

    refreshed = await nobody.post("/api/token/refresh", json={"refreshToken": signed_in["refreshToken"]})
    headers = {"Authorization": f"Bearer {refreshed.json()['token']}"}

    answer = await nobody.patch("/api/me", json={"email": "thief@example.com"}, headers=headers)
    assert answer.json()["code"] == "reauthentication_required"


class TestReauthenticate:
    async def test_says_until_when_it_counts(self, customer: Caller) -> None:
        before = now()

        answer = await customer.post("/api/me/reauthenticate", json={"password": PASSWORD})

        ten_minutes = timedelta(minutes=10)
        assert answer.status_code == 200
        assert instant(before + ten_minutes) <= answer.json()["validUntil"] <= instant(now() + ten_minutes)

    async def test_counts_for_this_session_alone(self, callers: Callers) -> None:
        mine, other = [await aged(callers.customer, JUST_TOO_OLD) for _ in range(2)]

        await callers.nobody.post("/api/me/reauthenticate", json={"password": PASSWORD}, headers=mine)

        answers = [
            await callers.nobody.patch("/api/me", json={"email": "new@example.com"}, headers=headers)
            for headers in (mine, other)
        ]
        assert [answer.status_code for answer in answers] == [200, 403]

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            ({"password": "wrong"}, 401, "invalid_credentials"),
            ({"password": ""}, 401, "invalid_credentials"),
            ({}, 422, "invalid_input"),
            ({"password": PASSWORD, "username": "admin"}, 422, "invalid_input"),
        ],
    )
    async def test_a_wrong_proof_changes_nothing(
        self, callers: Callers, body: dict[str, str], status: int, code: str
    ) -> None:
        headers = await aged(callers.customer, JUST_TOO_OLD)
        before = await everything()

        answer = await callers.nobody.post("/api/me/reauthenticate", json=body, headers=headers)

        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert await everything() == before

    async def test_both_outcomes_are_in_the_audit_log(self, customer: Caller) -> None:
        for password in ("wrong", PASSWORD):
            await customer.post("/api/me/reauthenticate", json={"password": password})

        rows = await collection_of(AuditEntry).find({"type": {"$regex": "^reauth"}}).sort("_id", 1).to_list()
        assert [row["type"] for row in rows] == ["reauthentication.failed", "reauthentication.succeeded"]
        assert {row["actor"]["username"] for row in rows} == {"customer"}
