"""Whether somebody may do a thing at all is said before anything about what they sent, and before what was stored."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient

from app.accounts.documents import Session, User
from app.platform.mongo import collection_of
from tests.callers import BASE_URL, Caller
from tests.conftest import Started
from tests.factories.accounts import PASSWORD

MALFORMED: list[dict[str, Any]] = [
    {"json": {}},
    {"content": b"{", "headers": {"Content-Type": "application/json"}},
    {"content": b"a=b", "headers": {"Content-Type": "text/plain"}},
    {"json": {}, "headers": {"Idempotency-Key": ""}},
]
FOR_ADMINS = [
    ("POST", "/api/users"),
    ("PATCH", "/api/users/6740a1f0c3b2a1d4e5f60718"),
    ("PATCH", "/api/security-policy"),
]
FOR_PERSONS = [
    ("PATCH", "/api/me"),
    ("POST", "/api/me/password"),
    ("POST", "/api/me/reauthenticate"),
    ("POST", "/api/me/mfa/enable"),
    ("POST", "/api/me/mfa/disable"),
    ("POST", "/api/me/mfa/recovery-codes"),
    ("POST", "/api/api-keys"),
]


@pytest.fixture
async def robot(app: Started, admin: Caller) -> AsyncIterator[AsyncClient]:
    """An Admin's key, which may do all that a key can."""
    made = await admin.post("/api/api-keys", json={"name": "robot", "scopes": ["admin"]})
    headers = {"Authorization": f"Bearer {made.json()['key']}"}
    async with AsyncClient(transport=ASGITransport(app), base_url=BASE_URL, headers=headers) as client:
        yield client


@pytest.mark.parametrize("sent", MALFORMED, ids=["empty", "no JSON", "of another type", "with a bad key"])
class TestBeforeTheBody:
    @pytest.mark.parametrize(("method", "path"), FOR_ADMINS)
    async def test_the_role_counts(self, customer: Caller, method: str, path: str, sent: dict[str, Any]) -> None:
        answer = await customer.request(method, path, **sent)

        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")

    @pytest.mark.parametrize(("method", "path"), FOR_PERSONS)
    async def test_a_key_is_no_session(self, robot: AsyncClient, method: str, path: str, sent: dict[str, Any]) -> None:
        answer = await robot.request(method, path, **sent)

        assert (answer.status_code, answer.json()["code"]) == (403, "session_required")


async def test_a_stored_answer_is_only_for_who_may_still_ask(admin: Caller) -> None:
    asked: dict[str, Any] = {
        "json": {"username": "carol", "password": PASSWORD},
        "headers": {"Idempotency-Key": "once"},
    }
    assert (await admin.post("/api/users", **asked)).status_code == 201
    assert (await admin.post("/api/users", **asked)).headers["Idempotency-Replayed"] == "true"
    await collection_of(User).update_one({"_id": admin.actor.id}, {"$set": {"role": "Customer"}})

    answer = await admin.post("/api/users", **asked)

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


@pytest.mark.parametrize("path", ["/api/me/mfa/enable", "/api/me/mfa/disable"])
async def test_who_proved_themselves_long_ago_is_told_so_before_their_values(customer: Caller, path: str) -> None:
    await collection_of(Session).update_one(
        {"_id": customer.actor.credential_id}, [{"$set": {"authenticatedAt": {"$subtract": ["$createdAt", 660_000]}}}]
    )

    answer = await customer.post(path, json={})

    assert (answer.status_code, answer.json()["code"]) == (403, "reauthentication_required")
