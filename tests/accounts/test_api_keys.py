"""API keys: shown once, good for their scopes and their owner's present role, and for nothing that lets people in."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId
from httpx import ASGITransport, AsyncClient

from app.accounts.audit import AuditEntry
from app.accounts.documents import ApiKey, SecurityPolicy, Session, User
from app.accounts.keys import is_key, key_digest, new_key
from app.platform.clock import now
from app.platform.mongo import collection_of
from app.platform.wire import instant
from tests.accounts.mfa import stored
from tests.callers import BASE_URL, Caller
from tests.conftest import Started
from tests.factories.accounts import PASSWORD, add_api_key, add_session
from tests.factories.tickets import open_ticket

TOMORROW_S = int(time.time()) + 86_400


async def create(caller: Caller, *scopes: str, **more: Any) -> dict[str, Any]:
    answer = await caller.post("/api/api-keys", json={"name": "robot", "scopes": list(scopes), **more})
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


@pytest.fixture
async def robot(app: Started) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(transport=ASGITransport(app), base_url=BASE_URL) as client:
        yield client


def bearing(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


class TestCreate:
    async def test_shows_the_key_once(self, customer: Caller) -> None:
        answer = await customer.post("/api/api-keys", json={"name": "nightly", "scopes": ["tickets", "read"]})

        body = answer.json()
        assert answer.status_code == 201
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Location"] == f"/api/api-keys/{body['id']}"
        assert is_key(body["key"])
        assert (body["name"], body["scopes"], body["hint"]) == ("nightly", ["read", "tickets"], body["key"][-4:])
        [listed] = (await customer.get("/api/api-keys")).json()["items"]
        assert listed == {name: value for name, value in body.items() if name != "key"}

    async def test_keeps_a_digest_alone(self, customer: Caller) -> None:
        created = await create(customer, "read")

        [row] = await collection_of(ApiKey).find().to_list()
        assert row["digest"] == key_digest(created["key"])
        assert created["key"] not in str(row)

    async def test_expires_after_ninety_days_or_when_it_says(self, customer: Caller) -> None:
        by_default = (await create(customer, "read"))["expiresAt"]
        chosen = instant(now() + timedelta(days=365))
        until = instant(now() + timedelta(days=90, minutes=1))

        assert instant(now() + timedelta(days=89)) < by_default < until
        assert (await create(customer, "read", expiresAt=chosen))["expiresAt"] == chosen

    @pytest.mark.parametrize(
        "wrong",
        [
            {"scopes": []},
            {"scopes": ["everything"]},
            {"scopes": "read"},
            {"name": ""},
            {"name": None},
            {"role": "Admin"},
            {"expiresAt": "2020-01-01T00:00:00Z"},
            {"expiresAt": "2999-01-01T00:00:00Z"},
            {"expiresAt": "2027-01-01T00:00:00"},
            {"expiresAt": "soon"},
            {"expiresAt": TOMORROW_S},
            {"expiresAt": TOMORROW_S + 0.5},
            {"expiresAt": str(TOMORROW_S)},
        ],
    )
    async def test_refuses_wrong_values(self, customer: Caller, wrong: dict[str, Any]) -> None:
        answer = await customer.post("/api/api-keys", json={"name": "robot", "scopes": ["read"], **wrong})

        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
        assert await collection_of(ApiKey).count_documents({}) == 0

    async def test_gives_no_scope_above_the_role(self, customer: Caller, agent: Caller, admin: Caller) -> None:
        for caller in (customer, agent):
            answer = await caller.post("/api/api-keys", json={"name": "robot", "scopes": ["read", "admin"]})

            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        await create(admin, "admin")
        assert await collection_of(ApiKey).count_documents({}) == 1

    async def test_ends_at_fifty(self, customer: Caller) -> None:
        for _ in range(50):
            await create(customer, "read")

        answer = await customer.post("/api/api-keys", json={"name": "robot", "scopes": ["read"]})

        assert (answer.status_code, answer.json()["code"]) == (409, "too_many_api_keys")
        assert await collection_of(ApiKey).count_documents({}) == 50

    async def test_ends_there_also_for_many_at_once(self, customer: Caller) -> None:
        for _ in range(47):
            await add_api_key(customer.actor.id)

        body = {"name": "robot", "scopes": ["read"]}
        answers = await asyncio.gather(*(customer.post("/api/api-keys", json=body) for _ in range(8)))

        assert sorted(answer.status_code for answer in answers) == [201] * 3 + [409] * 5
        assert await collection_of(ApiKey).count_documents({}) == 50

    async def test_a_repeated_request_makes_one_and_tells_no_secret(self, customer: Caller) -> None:
        body, headers = {"name": "robot", "scopes": ["read"]}, {"Idempotency-Key": "once"}
        first = await customer.post("/api/api-keys", json=body, headers=headers)

        again = await customer.post("/api/api-keys", json=body, headers=headers)

        assert again.status_code == 201
        assert again.headers["Idempotency-Replayed"] == "true"
        assert again.json() == {**first.json(), "key": None}
        assert again.headers["Cache-Control"] == "no-store"
        assert await collection_of(ApiKey).count_documents({}) == 1

    async def test_takes_a_recent_sign_in(self, customer: Caller, robot: AsyncClient) -> None:
        user = await stored(customer.actor.id)
        created = await create(customer, "read")
        _, token = await add_session(user, age=timedelta(minutes=11))

        making = await robot.post("/api/api-keys", json={"name": "r", "scopes": ["read"]}, headers=bearing(token))
        taking = await robot.delete(f"/api/api-keys/{created['id']}", headers=bearing(token))

        for answer in (making, taking):
            assert (answer.status_code, answer.json()["code"]) == (403, "reauthentication_required")
        assert await collection_of(ApiKey).count_documents({}) == 1


class TestUse:
    async def test_a_reader_sees_what_its_owner_sees(
        self, customer: Caller, other_customer: Caller, robot: AsyncClient
    ) -> None:
        mine, other = await open_ticket(customer), await open_ticket(other_customer)
        headers = bearing((await create(customer, "read"))["key"])

        listed = (await robot.get("/api/tickets", headers=headers)).json()["items"]

        assert [ticket["id"] for ticket in listed] == [mine["id"]]
        assert (await robot.get(f"/api/tickets/{mine['id']}", headers=headers)).status_code == 200
        assert (await robot.get(f"/api/tickets/{other['id']}", headers=headers)).status_code == 404
        assert (await robot.get("/api/events", headers=headers)).status_code == 200
        assert (await robot.get("/api/me", headers=headers)).json()["username"] == "customer"

    async def test_a_reader_changes_nothing(self, admin: Caller, robot: AsyncClient) -> None:
        ticket = await open_ticket(admin)
        headers = bearing((await create(admin, "read"))["key"])
        path = f"/api/tickets/{ticket['id']}"
        new = {"title": "New", "description": "By a robot", "priority": "Low"}
        patch = {"title": "Changed"}

        answers = [
            await robot.post("/api/tickets", json=new, headers=headers),
            await robot.patch(path, json=patch, headers=headers),
            await robot.delete(path, headers=headers),
            await robot.post("/api/tickets/bulk", json={"ids": [ticket["id"]], "patch": patch}, headers=headers),
            await robot.post("/graphql", json={"query": mutation(ticket["id"])}, headers=headers),
        ]

        for answer in answers[:4]:
            assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")
            assert 'error="insufficient_scope", scope="tickets"' in answer.headers["WWW-Authenticate"]
        assert answers[4].json()["errors"][0]["extensions"]["code"] == "insufficient_scope"
        assert (await admin.get(path)).json() == ticket

    async def test_a_worker_changes_tickets_as_its_owner_may(
        self, agent: Caller, customer: Caller, robot: AsyncClient
    ) -> None:
        ticket = await open_ticket(customer)
        path = f"/api/tickets/{ticket['id']}"
        of_agent = bearing((await create(agent, "tickets"))["key"])
        of_customer = bearing((await create(customer, "tickets"))["key"])

        assert (await robot.patch(path, json={"priority": "High"}, headers=of_agent)).status_code == 200
        assert (await robot.patch(path, json={"priority": "Low"}, headers=of_customer)).status_code == 403
        assert (await robot.patch(path, json={"title": "Mine"}, headers=of_customer)).status_code == 200
        assert (await robot.delete(path, headers=of_agent)).json()["code"] == "forbidden"
        [event] = (await agent.get(f"{path}/events?limit=1")).json()["items"]
        assert event["actor"]["username"] == "customer"

    async def test_only_an_admins_key_of_that_scope_runs_the_place(self, admin: Caller, robot: AsyncClient) -> None:
        for scope, status in (("read", 403), ("tickets", 403), ("admin", 201)):
            headers = bearing((await create(admin, scope))["key"])
            body = {"username": f"by-{scope}", "password": "a long passphrase"}

            answer = await robot.post("/api/users", json=body, headers=headers)

            assert answer.status_code == status
            assert (await robot.get("/api/audit", headers=headers)).status_code == (200 if status == 201 else 403)
            assert (await robot.get("/api/users", headers=headers)).status_code == 200

    async def test_follows_its_owners_role(self, admin: Caller, agent: Caller, robot: AsyncClient) -> None:
        headers = bearing((await create(agent, "tickets"))["key"])
        ticket = await open_ticket(admin)
        assert (await robot.get(f"/api/tickets/{ticket['id']}", headers=headers)).status_code == 200

        await admin.patch(f"/api/users/{agent.user_id}", json={"role": "Customer"})

        assert (await robot.get(f"/api/tickets/{ticket['id']}", headers=headers)).status_code == 404
        assert (await robot.get("/api/users", headers=headers)).status_code == 403

    async def test_an_admins_key_is_no_admin_once_its_owner_is_none(
        self, admin: Caller, callers: Any, robot: AsyncClient
    ) -> None:
        headers = bearing((await create(admin, "admin"))["key"])
        await collection_of(User).update_one({"_id": callers.agent.actor.id}, {"$set": {"role": "Admin"}})

        await callers.agent.patch(f"/api/users/{admin.user_id}", json={"role": "Agent"})

        assert (await robot.get("/api/audit", headers=headers)).status_code == 403
        assert (await robot.get("/api/tickets", headers=headers)).status_code == 200

    @pytest.mark.parametrize("end", ["deleted", "expired", "owner switched off", "owner deleted"])
    async def test_stops_at_once(self, admin: Caller, agent: Caller, robot: AsyncClient, end: str) -> None:
        created = await create(agent, "read")
        headers = bearing(created["key"])
        assert (await robot.get("/api/tickets", headers=headers)).status_code == 200

        match end:
            case "deleted":
                assert (await agent.delete(f"/api/api-keys/{created['id']}")).status_code == 204
            case "expired":
                await collection_of(ApiKey).update_one({}, {"$set": {"expiresAt": now()}})
            case "owner switched off":
                await admin.patch(f"/api/users/{agent.user_id}", json={"active": False})
            case "owner deleted":
                await admin.delete(f"/api/users/{agent.user_id}")
                assert await collection_of(ApiKey).count_documents({}) == 0

        answer = await robot.get("/api/tickets", headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (403, "Invalid or expired token")

    async def test_a_new_password_leaves_it_good(self, customer: Caller, robot: AsyncClient) -> None:
        headers = bearing((await create(customer, "read"))["key"])
        body = {"currentPassword": PASSWORD, "newPassword": "a new and long passphrase"}

        assert (await customer.post("/api/me/password", json=body)).status_code == 204

        assert (await robot.get("/api/me", headers=headers)).status_code == 200

    async def test_refuses_what_only_looks_like_one(self, customer: Caller, robot: AsyncClient) -> None:
        key = (await create(customer, "read"))["key"]
        wrong = "A" if key[10] != "A" else "B"

        for forgery in (new_key(), key[:10] + wrong + key[11:], key.lower(), f"{key}0", key[4:], "tkt_"):
            answer = await robot.get("/api/me", headers=bearing(forgery))

            assert (answer.status_code, answer.json()["code"]) == (403, "invalid_token")

    async def test_notes_its_last_use_now_and_then(self, customer: Caller, robot: AsyncClient) -> None:
        created = await create(customer, "read")
        assert created["lastUsedAt"] is None
        noted = []

        for age in (timedelta(), timedelta(), timedelta(minutes=6)):
            if age:
                await collection_of(ApiKey).update_one({}, {"$set": {"lastUsedAt": now() - age}})
            await robot.get("/api/me", headers=bearing(created["key"]))
            [listed] = (await customer.get("/api/api-keys")).json()["items"]
            noted.append(listed["lastUsedAt"])

        assert created["createdAt"] <= noted[0] == noted[1] < noted[2] <= instant(now())


class TestOffLimits:
    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("POST", "/api/me/password", {"currentPassword": PASSWORD, "newPassword": "a new and long passphrase"}),
            ("PATCH", "/api/me", {"email": "thief@example.com"}),
            ("PATCH", "/api/me", {"name": "Thief"}),
            ("POST", "/api/me/reauthenticate", {"password": PASSWORD}),
            ("POST", "/api/me/mfa/setup", None),
            ("POST", "/api/me/mfa/enable", {"otp": "123456"}),
            ("POST", "/api/me/mfa/disable", {"password": PASSWORD, "otp": "123456"}),
            ("POST", "/api/me/mfa/recovery-codes", None),
            ("GET", "/api/me/sessions", None),
            ("DELETE", "/api/me/sessions", None),
            ("DELETE", "/api/me/sessions/{session}", None),
            ("POST", "/api/logout", None),
            ("GET", "/api/api-keys", None),
            ("POST", "/api/api-keys", {"name": "another", "scopes": ["read"]}),
            ("DELETE", "/api/api-keys/{key}", None),
            ("PATCH", "/api/users/{user}", {"role": "Admin"}),
            ("PATCH", "/api/users/{user}", {"email": "thief@example.com"}),
            ("POST", "/api/users", {"username": "x", "password": "a long passphrase", "role": "Admin"}),
            ("DELETE", "/api/users/{user}/mfa", None),
            ("PATCH", "/api/security-policy", {"mfaRequiredFor": []}),
        ],
    )
    async def test_not_even_the_widest_key_touches_what_lets_people_in(
        self, admin: Caller, customer: Caller, robot: AsyncClient, method: str, path: str, body: dict[str, Any] | None
    ) -> None:
        created = await create(admin, "admin")
        names = {"session": admin.actor.credential_id, "key": created["id"], "user": customer.user_id}
        # Its first use is noted.
        assert (await robot.get("/api/me", headers=bearing(created["key"]))).status_code == 200
        before = await everything()

        answer = await robot.request(method, path.format(**names), json=body, headers=bearing(created["key"]))

        assert (answer.status_code, answer.json()["code"]) == (403, "session_required")
        assert await everything() == before


class TestList:
    async def test_is_the_callers_own(self, customer: Caller, other_customer: Caller) -> None:
        await create(customer, "read")

        assert (await other_customer.get("/api/api-keys")).json() == {"items": [], "nextCursor": None}

    async def test_anothers_key_is_not_there_to_delete(self, customer: Caller, admin: Caller) -> None:
        created = await create(customer, "read")

        for name in (created["id"], str(ObjectId()), "x"):
            assert (await admin.delete(f"/api/api-keys/{name}")).status_code == 404
        assert await collection_of(ApiKey).count_documents({}) == 1

    async def test_pages(self, customer: Caller) -> None:
        made = [(await create(customer, "read"))["id"] for _ in range(3)]

        first = await customer.get("/api/api-keys?limit=2")
        second = await customer.get("/api/api-keys", params={"limit": 2, "cursor": first.json()["nextCursor"]})

        assert [key["id"] for key in first.json()["items"] + second.json()["items"]] == made[::-1]

    async def test_both_ends_are_in_the_audit_log(self, customer: Caller) -> None:
        created = await create(customer, "read")
        await asyncio.gather(*(customer.delete(f"/api/api-keys/{created['id']}") for _ in range(3)))

        rows = await collection_of(AuditEntry).find({"type": {"$regex": "^api_key"}}).sort("_id", 1).to_list()
        assert [row["type"] for row in rows] == ["api_key.created", "api_key.deleted"]
        assert {str(row["details"]["key"]) for row in rows} == {created["id"]}


def mutation(ticket_id: str) -> str:
    return f'mutation {{ updateTicket(id: "{ticket_id}", patch: {{title: "Changed"}}) {{ id }} }}'


async def everything() -> list[Any]:
    collections = [collection_of(model) for model in (User, ApiKey, Session, SecurityPolicy)]
    return [await collection.find().sort("_id", 1).to_list() for collection in collections]
