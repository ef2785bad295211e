"""MFA demanded by role: who lacks it can set it up and do nothing else, at once and through every door."""

from typing import Any

import pytest
from httpx import AsyncClient

from app.accounts.documents import SecurityPolicy
from app.platform.mongo import collection_of
from tests.accounts.mfa import code, enable, log_in, turn_on
from tests.callers import Caller, Callers
from tests.factories.accounts import PASSWORD

SETUP_REQUIRED = (403, "mfa_setup_required")


async def demand(admin: Caller, *roles: str) -> None:
    answer = await admin.patch("/api/security-policy", json={"mfaRequiredFor": list(roles)})
    assert answer.status_code == 200, answer.text


class TestPolicy:
    async def test_demands_nothing_at_first(self, admin: Caller) -> None:
        assert (await admin.get("/api/security-policy")).json() == {"mfaRequiredFor": []}

    async def test_is_changed_and_told_to_the_audit_log(self, admin: Caller) -> None:
        await enable(admin)
        await demand(admin, "Admin", "Agent")

        assert (await admin.get("/api/security-policy")).json() == {"mfaRequiredFor": ["Agent", "Admin"]}
        await demand(admin, "Agent", "Admin")  # nothing new
        found = (await admin.get("/api/audit?type=security_policy.changed")).json()["items"]
        assert [entry["details"] for entry in found] == [{"mfaRequiredFor": {"from": [], "to": ["Agent", "Admin"]}}]

    @pytest.mark.parametrize("roles", [["Customer"], ["Agent", "Customer"], ["Owner"], "Agent", None, [None]])
    async def test_refuses_other_values(self, admin: Caller, roles: Any) -> None:
        answer = await admin.patch("/api/security-policy", json={"mfaRequiredFor": roles})

        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
        assert await collection_of(SecurityPolicy).count_documents({}) == 0

    async def test_an_empty_patch_changes_nothing(self, admin: Caller) -> None:
        await demand(admin, "Agent")

        answer = await admin.patch("/api/security-policy", json={})

        assert (answer.status_code, answer.json()) == (200, {"mfaRequiredFor": ["Agent"]})


class TestWhoLacksMfa:
    async def test_can_do_nothing_else(self, callers: Callers) -> None:
        await demand(callers.admin, "Agent")
        agent = callers.agent

        for method, path in [
            ("GET", "/api/tickets"),
            ("POST", "/api/tickets"),
            ("GET", "/api/users"),
            ("GET", "/api/events"),
            ("GET", "/api/events/stream"),
            ("POST", "/api/realtime/ticket"),
            ("PATCH", "/api/me"),
            ("GET", "/api/api-keys"),
            ("POST", "/api/me/mfa/disable"),
        ]:
            answer = await agent.request(method, path, json={})
            assert (answer.status_code, answer.json()["code"]) == SETUP_REQUIRED, path
        answer = await agent.post("/graphql", json={"query": "{ me { username } }"})
        assert answer.json()["errors"][0]["extensions"]["code"] == "mfa_setup_required"

    async def test_is_led_to_it_and_through(self, callers: Callers) -> None:
        await demand(callers.admin, "Agent")
        agent = callers.agent
        assert (await log_in(callers.nobody, "agent")).status_code == 200
        assert (await agent.get("/api/me")).json()["mfaEnabled"] is False
        assert (await agent.post("/api/me/reauthenticate", json={"password": PASSWORD})).status_code == 200

        await enable(agent)

        assert (await agent.get("/api/tickets")).status_code == 200

    async def test_can_sign_out(self, callers: Callers) -> None:
        await demand(callers.admin, "Agent")

        assert (await callers.agent.post("/api/logout")).status_code == 204

    async def test_others_go_on(self, callers: Callers) -> None:
        await turn_on(callers.admin.actor.id)
        await demand(callers.admin, "Agent", "Admin")

        for caller in (callers.customer, callers.admin):
            assert (await caller.get("/api/tickets")).status_code == 200

    async def test_who_gets_the_role_is_asked_at_once(self, callers: Callers) -> None:
        await demand(callers.admin, "Agent")
        customer = callers.customer

        await callers.admin.patch(f"/api/users/{customer.user_id}", json={"role": "Agent"})

        answer = await customer.get("/api/tickets")
        assert (answer.status_code, answer.json()["code"]) == SETUP_REQUIRED

    async def test_even_the_admin_who_demands_it(self, callers: Callers) -> None:
        await demand(callers.admin, "Admin")

        assert (await callers.admin.get("/api/audit")).json()["code"] == "mfa_setup_required"
        await enable(callers.admin)
        assert (await callers.admin.get("/api/audit")).status_code == 200

    async def test_an_api_key_is_no_way_around(self, callers: Callers) -> None:
        agent = callers.agent
        key = (await agent.post("/api/api-keys", json={"name": "robot", "scopes": ["tickets"]})).json()["key"]
        await demand(callers.admin, "Agent")

        for path in ("/api/tickets", "/api/me"):
            answer = await callers.nobody.get(path, headers={"Authorization": f"Bearer {key}"})

            expected = SETUP_REQUIRED if path == "/api/tickets" else (200, None)
            assert (answer.status_code, answer.json().get("code")) == expected


async def test_what_is_demanded_can_not_be_turned_off(callers: Callers, nobody: AsyncClient) -> None:
    agent = callers.agent
    secret, _ = await enable(agent)
    await demand(callers.admin, "Agent")

    proof = {"password": PASSWORD, "otp": code(secret=secret, steps=1)}
    answer = await agent.post("/api/me/mfa/disable", json=proof)

    assert (answer.status_code, answer.json()["code"]) == (409, "mfa_still_required")
    assert (await agent.get("/api/me")).json()["mfaEnabled"] is True
    # The code that came with it is not lost.
    assert (await log_in(nobody, "agent", otp=proof["otp"])).status_code == 200
