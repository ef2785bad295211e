"""The list of one's sessions, and ending them one by one or all others."""

from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId
from httpx import AsyncClient

from app.accounts.audit import AuditEntry
from app.accounts.commands.sessions import ABSOLUTE_TTL, IDLE_TTL, MAX_SESSIONS
from app.accounts.documents import Session
from app.platform.clock import now
from app.platform.mongo import collection_of
from app.platform.wire import instant
from tests.accounts.mfa import log_in, stored
from tests.callers import Caller
from tests.factories.accounts import add_session, add_user


async def sessions_of(caller: Caller) -> list[dict[str, Any]]:
    answer = await caller.get("/api/me/sessions")
    assert answer.status_code == 200
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def session_of(session_id: ObjectId) -> dict[str, Any]:
    row = await collection_of(Session).find_one({"_id": session_id})
    assert row is not None
    return row


def bearing(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class TestList:
    async def test_says_where_and_when(self, customer: Caller, nobody: AsyncClient) -> None:
        before = instant(now())
        await nobody.post(
            "/api/login",
            json={"username": "customer", "password": "correct horse battery staple"},
            headers={"User-Agent": "a" * 500},
        )

        newest, own = await sessions_of(customer)

        assert newest["device"] == "a" * 200
        assert newest["address"] == "127.0.0.1"
        assert before <= newest["createdAt"] <= instant(now())
        assert newest["lastUsedAt"] == newest["createdAt"]
        assert newest["expiresAt"] > instant(now() + IDLE_TTL - timedelta(minutes=1))
        assert (newest["current"], own["current"]) == (False, True)
        assert own["id"] == str(customer.actor.credential_id)

    async def test_shows_nobody_elses_and_none_that_has_ended(self, customer: Caller, agent: Caller) -> None:
        await add_session(await stored(agent.actor.id))
        await add_session(await stored(customer.actor.id), expiresAt=now() - timedelta(seconds=1))

        assert [session["id"] for session in await sessions_of(customer)] == [str(customer.actor.credential_id)]

    async def test_pages_from_the_newest(self, customer: Caller) -> None:
        made = [str((await add_session(await stored(customer.actor.id)))[0].credential_id) for _ in range(4)]

        first = await customer.get("/api/me/sessions?limit=3")
        rest = await customer.get("/api/me/sessions", params={"limit": 3, "cursor": first.json()["nextCursor"]})

        found = [session["id"] for session in first.json()["items"] + rest.json()["items"]]
        assert found == [*made[::-1], str(customer.actor.credential_id)]
        assert rest.json()["nextCursor"] is None

    async def test_old_sessions_that_say_less_are_shown(self, customer: Caller) -> None:
        """Those of an earlier version of the service."""
        unset = {"$unset": {"lastUsedAt": 1, "authenticatedAt": 1, "device": 1}}
        await collection_of(Session).update_one({"_id": customer.actor.credential_id}, unset)

        [session] = await sessions_of(customer)

        assert session["lastUsedAt"] == session["createdAt"]
        assert session["device"] is None
        assert (await customer.patch("/api/me", json={"email": "new@example.com"})).status_code == 200


class TestEnd:
    async def test_one_stops_working_at_once(self, customer: Caller, nobody: AsyncClient) -> None:
        actor, token = await add_session(await stored(customer.actor.id))
        assert (await nobody.get("/api/me", headers=bearing(token))).status_code == 200

        answer = await customer.delete(f"/api/me/sessions/{actor.credential_id}")

        assert answer.status_code == 204
        assert (await nobody.get("/api/me", headers=bearing(token))).status_code == 403
        assert len(await sessions_of(customer)) == 1
        assert (await customer.delete(f"/api/me/sessions/{actor.credential_id}")).status_code == 404

    async def test_ones_own_is_signing_out(self, customer: Caller) -> None:
        answer = await customer.delete(f"/api/me/sessions/{customer.actor.credential_id}")

        assert answer.status_code == 204
        assert (await customer.get("/api/me")).status_code == 403

    @pytest.mark.parametrize("kind", ["another's", "nobody's", "no id"])
    async def test_what_is_not_ones_own_is_not_there(self, customer: Caller, admin: Caller, kind: str) -> None:
        name = {"another's": admin.actor.credential_id, "nobody's": ObjectId(), "no id": "current"}[kind]

        answer = await customer.delete(f"/api/me/sessions/{name}")

        assert answer.status_code == 404
        assert (await admin.get("/api/me")).status_code == 200

    async def test_all_others_leave_this_one(self, customer: Caller, agent: Caller, nobody: AsyncClient) -> None:
        user = await stored(customer.actor.id)
        others = [(await add_session(user))[1] for _ in range(3)]

        answer = await customer.delete("/api/me/sessions")

        assert answer.status_code == 204
        for token in others:
            assert (await nobody.get("/api/me", headers=bearing(token))).status_code == 403
        for caller in (customer, agent):
            assert (await caller.get("/api/me")).status_code == 200
        [entry] = await collection_of(AuditEntry).find({"type": "session.ended"}).to_list()
        assert entry["details"] == {"sessions": 3}


class TestLife:
    async def test_beyond_a_hundred_the_oldest_end(self, nobody: AsyncClient) -> None:
        user = await add_user(username="busy")
        made = [(await add_session(user))[0].credential_id for _ in range(MAX_SESSIONS)]
        stranger, _ = await add_session(await add_user())

        assert (await log_in(nobody, "busy")).status_code == 200

        kept = {row["_id"] for row in await collection_of(Session).find({"userId": user["_id"]}).to_list()}
        assert len(kept) == MAX_SESSIONS == 100
        assert made[0] not in kept
        assert set(made[1:]) <= kept
        assert await session_of(stranger.credential_id)

    async def test_use_puts_the_end_off(self, nobody: AsyncClient) -> None:
        started = timedelta(days=3)
        actor, token = await add_session(await add_user(), age=started)
        before = await session_of(actor.credential_id)
        await collection_of(Session).update_one({}, {"$set": {"expiresAt": now() + timedelta(days=1)}})

        await nobody.get("/api/me", headers=bearing(token))

        after = await session_of(actor.credential_id)
        assert after["lastUsedAt"] > before["lastUsedAt"] + started - timedelta(minutes=1)
        assert after["expiresAt"] == after["lastUsedAt"] + IDLE_TTL

    async def test_but_never_beyond_thirty_days_from_the_start(self, nobody: AsyncClient) -> None:
        actor, token = await add_session(await add_user(), age=timedelta(days=29), expiresAt=now() + timedelta(hours=1))

        await nobody.get("/api/me", headers=bearing(token))

        after = await session_of(actor.credential_id)
        assert after["expiresAt"] == after["createdAt"] + ABSOLUTE_TTL

    async def test_not_every_request_writes(self, customer: Caller) -> None:
        before = await session_of(customer.actor.credential_id)

        for _ in range(3):
            await customer.get("/api/me")

        assert await session_of(customer.actor.credential_id) == before

    async def test_one_that_was_not_used_in_time_is_over(self, nobody: AsyncClient) -> None:
        _, token = await add_session(await add_user(), expiresAt=now() - timedelta(milliseconds=1))

        assert (await nobody.get("/api/me", headers=bearing(token))).status_code == 403
