"""Running accounts: reading, changing and removing them; what is changed is in force at once."""

import asyncio
from typing import Any

import pytest
from bson import ObjectId
from httpx import AsyncClient

from app.accounts.documents import Session, User
from app.accounts.roles import Role
from app.platform.mongo import collection_of
from app.platform.wire import Row
from tests.callers import Caller, Callers
from tests.factories.accounts import add_session, add_user, tokens
from tests.factories.tickets import open_ticket

STAFF = ["agent", "admin"]
OTHERS = [("nobody", 401, "unauthenticated"), ("customer", 403, "forbidden"), ("other customer", 403, "forbidden")]
NOT_ADMINS = [*OTHERS, ("agent", 403, "forbidden")]


async def stored(user_id: str) -> Row | None:
    return await collection_of(User).find_one({"_id": ObjectId(user_id)})


async def everything() -> list[Row]:
    users = await collection_of(User).find().sort("_id", 1).to_list()
    return users + await collection_of(Session).find().sort("_id", 1).to_list()


class TestReadUsers:
    @pytest.mark.parametrize("kind", STAFF)
    async def test_staff_may_list_and_read(self, callers: Callers, kind: str) -> None:
        client = callers.by_kind()[kind]

        listed = await client.get("/api/users")

        assert listed.status_code == 200
        names = [item["username"] for item in listed.json()["items"]]
        assert names == ["admin", "agent", "other-customer", "customer"]
        assert listed.json()["nextCursor"] is None
        one = await client.get(f"/api/users/{callers.customer.user_id}")
        assert one.json() == listed.json()["items"][3]

    @pytest.mark.parametrize(("kind", "status", "code"), OTHERS)
    async def test_others_may_not(self, callers: Callers, kind: str, status: int, code: str) -> None:
        for path in ("/api/users", f"/api/users/{callers.admin.user_id}", f"/api/users/{ObjectId()}"):
            answer = await callers.by_kind()[kind].get(path)

            assert (answer.status_code, answer.json()["code"]) == (status, code)

    async def test_pages_by_cursor_and_filters_by_role(self, admin: Caller) -> None:
        await collection_of(User).insert_one({"_id": ObjectId(), "username": "old", "password": "x", "__v": 0})

        first = (await admin.get("/api/users", params={"role": "Customer", "limit": 2})).json()
        second = await admin.get("/api/users", params={"role": "Customer", "limit": 2, "cursor": first["nextCursor"]})
        elsewhere = await admin.get("/api/users", params={"role": "Agent", "cursor": first["nextCursor"]})

        names = [item["username"] for item in first["items"] + second.json()["items"]]
        assert names == ["old", "other-customer", "customer"]
        assert second.json()["nextCursor"] is None
        assert (elsewhere.status_code, elsewhere.json()["code"]) == (400, "invalid_cursor")

    @pytest.mark.parametrize("query", ["role=admin", "role=", "limit=0", "limit=101", "limit=x", "limit=1e1"])
    async def test_refuses_questions_that_make_no_sense(self, admin: Caller, query: str) -> None:
        answer = await admin.get(f"/api/users?{query}")

        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
        assert [e["field"] for e in answer.json()["errors"]] == [query.partition("=")[0]]

    async def test_asks_for_the_role_before_the_parameters(self, customer: Caller) -> None:
        answer = await customer.get("/api/users?rol=Admin")

        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")

    @pytest.mark.parametrize("user_id", ["6740a1f0c3b2a1d4e5f60718", "6740a1f0c3b2a1d4e5f6071", "me", "%00", "%7B%7D"])
    async def test_unknown_ones_are_404(self, admin: Caller, user_id: str) -> None:
        for method in ("GET", "DELETE"):
            answer = await admin.request(method, f"/api/users/{user_id}")

            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert (await admin.patch(f"/api/users/{user_id}", json={"name": "x"})).status_code == 404

    async def test_no_answer_holds_a_secret(self, admin: Caller, customer: Caller) -> None:
        secrets = {"mfaSecret": "JBSWY3DPEHPK3PXP", "resetToken": "reset-me"}
        await collection_of(User).update_many({}, {"$set": secrets})

        answers = [
            await admin.get("/api/users"),
            await admin.get(f"/api/users/{customer.user_id}"),
            await admin.patch(f"/api/users/{customer.user_id}", json={"name": "C"}),
            await customer.get("/api/me"),
            await customer.patch("/api/me", json={"name": "D"}),
        ]

        for answer in answers:
            assert answer.status_code == 200
            for secret in ("$2b$", "password", "JBSWY3DPEHPK3PXP", "mfaSecret", "reset", "usernameKey"):
                assert secret not in answer.text


class TestUpdateUser:
    async def test_changes_what_is_sent_and_clears_what_is_null(self, admin: Caller, customer: Caller) -> None:
        path = f"/api/users/{customer.user_id}"
        await admin.patch(path, json={"email": " c@example.com ", "name": "Carol"})

        answer = await admin.patch(path, json={"email": None})

        assert answer.status_code == 200
        assert (answer.json()["email"], answer.json()["name"], answer.json()["role"]) == (None, "Carol", "Customer")

    async def test_a_role_is_in_force_at_the_next_request(self, admin: Caller, customer: Caller, agent: Caller) -> None:
        ticket = await open_ticket(agent)
        path = f"/api/tickets/{ticket['id']}"
        assert (await customer.get(path)).status_code == 404

        await admin.patch(f"/api/users/{customer.user_id}", json={"role": "Agent"})
        await admin.patch(f"/api/users/{agent.user_id}", json={"role": "Customer"})

        assert (await customer.get(path)).status_code == 200
        assert (await customer.get("/api/users")).status_code == 200
        assert (await agent.get("/api/users")).status_code == 403

    @pytest.mark.parametrize("name", [{}, {"username": None}, {"username": 7}], ids=["no", "null", "a number"])
    async def test_a_row_without_a_name_stands_in_nobodys_way(self, admin: Caller, name: Row) -> None:
        row: Row = {"_id": ObjectId(), "password": "$2b$12$", "role": "Agent", **name}
        await collection_of(User).insert_one(row)
        path = f"/api/users/{row['_id']}"

        listed = (await admin.get("/api/users")).json()["items"]
        asked = await admin.post("/graphql", json={"query": "{ users { edges { node { id username } } } }"})
        changed = await admin.patch(path, json={"email": "agent@example.com", "active": False})

        assert ("", str(row["_id"])) in [(user["username"], user["id"]) for user in listed]
        assert {"node": {"id": str(row["_id"]), "username": ""}} in asked.json()["data"]["users"]["edges"]
        assert (changed.status_code, changed.json()["username"]) == (200, "")
        assert (await admin.get("/api/audit")).json()["items"][0]["target"]["username"] == ""
        assert (await admin.delete(path)).status_code == 204

    async def test_a_session_that_switching_off_did_not_see_counts_no_more(
        self, admin: Caller, customer: Caller, nobody: AsyncClient
    ) -> None:
        path, user = f"/api/users/{customer.user_id}", await stored(customer.user_id)
        assert user is not None
        await admin.patch(path, json={"active": False})
        actor, token = await add_session(user)  # as a sign-in would, that began before

        await admin.patch(path, json={"active": True})

        answer = await nobody.get("/api/me", headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.json()["code"]) == (403, "invalid_token")
        refreshing = {"refreshToken": tokens().refresh(actor.credential_id, 0)}
        assert (await nobody.post("/api/token/refresh", json=refreshing)).status_code == 401

    async def test_switching_off_ends_every_session_for_good(
        self, admin: Caller, customer: Caller, nobody: AsyncClient
    ) -> None:
        refresh_token = tokens().refresh(customer.actor.credential_id, 0)

        answer = await admin.patch(f"/api/users/{customer.user_id}", json={"active": False})

        assert (answer.status_code, answer.json()["active"]) == (200, False)
        assert (await customer.get("/api/me")).json()["code"] == "invalid_token"
        await admin.patch(f"/api/users/{customer.user_id}", json={"active": True})
        assert (await customer.get("/api/me")).json()["code"] == "invalid_token"
        refused = await nobody.post("/api/token/refresh", json={"refreshToken": refresh_token})
        assert refused.json()["code"] == "invalid_refresh_token"

    @pytest.mark.parametrize(
        ("patch", "fields"),
        [
            ({"role": "Owner"}, ["role"]),
            ({"role": None}, ["role"]),
            ({"active": None}, ["active"]),
            ({"active": "false"}, ["active"]),
            ({"active": 0}, ["active"]),
            ({"username": "x"}, ["username"]),
            ({"password": "a perfectly good one"}, ["password"]),
            ({"mfaEnabled": False, "mfaSecret": None}, ["mfaEnabled", "mfaSecret"]),
            ({"name": "ok", "email": "x", "role": 1}, ["email", "role"]),
            ({"$set": {"role": "Admin"}, "name.first": "x"}, ["$set", "name.first"]),
        ],
    )
    async def test_refuses_other_values_and_changes_nothing(
        self, admin: Caller, customer: Caller, patch: dict[str, Any], fields: list[str]
    ) -> None:
        before = await everything()

        answer = await admin.patch(f"/api/users/{customer.user_id}", json=patch)

        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
        assert sorted(e["field"] for e in answer.json()["errors"]) == fields
        assert await everything() == before

    @pytest.mark.parametrize(("kind", "status", "code"), NOT_ADMINS)
    async def test_is_for_admins(self, callers: Callers, kind: str, status: int, code: str) -> None:
        client = callers.by_kind()[kind]
        before = await everything()

        for user_id in (callers.customer.user_id, callers.agent.user_id, callers.admin.user_id):
            for answer in (
                await client.patch(f"/api/users/{user_id}", json={"role": "Admin"}),
                await client.delete(f"/api/users/{user_id}"),
            ):
                assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert await everything() == before


class TestDeleteUser:
    async def test_removes_the_account_and_its_sessions(self, admin: Caller, customer: Caller) -> None:
        ticket = await open_ticket(customer)

        answer = await admin.delete(f"/api/users/{customer.user_id}")

        assert (answer.status_code, answer.content) == (204, b"")
        assert await stored(customer.user_id) is None
        assert await collection_of(Session).count_documents({"userId": customer.actor.id}) == 0
        assert (await customer.get("/api/me")).json()["code"] == "invalid_token"
        assert (await admin.get(f"/api/tickets/{ticket['id']}")).json()["requester"] == customer.user_id
        assert (await admin.delete(f"/api/users/{customer.user_id}")).status_code == 404


class TestLastAdmin:
    @pytest.mark.parametrize("patch", [{"role": "Agent"}, {"active": False}, {"role": "Admin", "active": False}, None])
    @pytest.mark.parametrize("others", [[], [{"active": False}]])
    async def test_stays(self, admin: Caller, patch: dict[str, Any] | None, others: list[dict[str, Any]]) -> None:
        for fields in others:
            await add_user(Role.ADMIN, **fields)
        before = await everything()
        path = f"/api/users/{admin.user_id}"

        answer = await (admin.delete(path) if patch is None else admin.patch(path, json=patch))

        assert (answer.status_code, answer.json()["code"]) == (409, "last_admin")
        assert await everything() == before

    async def test_may_change_what_does_not_matter(self, admin: Caller) -> None:
        patch = {"role": "Admin", "active": True, "name": "Boss"}

        answer = await admin.patch(f"/api/users/{admin.user_id}", json=patch)

        assert (answer.status_code, answer.json()["name"]) == (200, "Boss")

    @pytest.mark.parametrize("patch", [{"role": "Agent"}, {"active": False}, None])
    async def test_may_go_once_there_is_another(self, admin: Caller, patch: dict[str, Any] | None) -> None:
        await add_user(Role.ADMIN, usernameKey="other", active=None)  # as an old row may have it: on
        path = f"/api/users/{admin.user_id}"

        answer = await (admin.delete(path) if patch is None else admin.patch(path, json=patch))

        assert answer.status_code == (204 if patch is None else 200)

    @pytest.mark.parametrize("patch", [{"role": "Customer"}, {"active": False}, None])
    async def test_of_two_who_remove_each_other_at_once_one_stays(
        self, admin: Caller, callers: Callers, patch: dict[str, Any] | None
    ) -> None:
        actor, token = await add_session(await add_user(Role.ADMIN))
        async with Caller(callers._app, actor, token) as other:
            pairs = [(admin, other.user_id), (other, admin.user_id)]
            answers = await asyncio.gather(
                *(
                    c.delete(f"/api/users/{target}") if patch is None else c.patch(f"/api/users/{target}", json=patch)
                    for c, target in pairs
                )
            )

        statuses = sorted(answer.status_code for answer in answers)
        # The second finds itself the last, or, if it came a little later, no longer signed in or no Admin.
        assert statuses[0] in (200, 204)
        assert statuses[1] in (403, 409)
        assert await collection_of(User).count_documents({"role": "Admin", "active": True}) == 1
