"""MFA turned on, off, renewed and reset: only with proof, only once, and nothing readable is left behind."""

import asyncio
from datetime import timedelta

import pyotp
import pytest
from bson import ObjectId
from httpx import AsyncClient

from app.accounts.audit import AuditEntry
from app.accounts.documents import User
from app.platform.mongo import collection_of
from tests.accounts.mfa import SECRET, code, enable, log_in, mfa_token, set_up, stored, turn_on
from tests.callers import Caller
from tests.factories.accounts import PASSWORD, add_session

OLD = timedelta(minutes=10, seconds=1)


async def audited(event: str) -> list[ObjectId]:
    """Whose accounts the log has this event about."""
    found = collection_of(AuditEntry).find({"type": event}).sort("_id", 1)
    return [row["target"]["id"] for row in await found.to_list()]


class TestSetUp:
    async def test_gives_secret_uri_and_picture(self, customer: Caller) -> None:
        answer = await customer.post("/api/me/mfa/setup")

        body = answer.json()
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "no-store"
        read = pyotp.parse_uri(body["otpauthUri"])
        assert isinstance(read, pyotp.TOTP)
        assert (read.secret, read.name, read.issuer) == (body["secret"], "customer", "Ticketing")
        assert len(body["secret"]) == 32
        assert body["qrSvg"].startswith("<svg ")

    async def test_leaves_mfa_off_and_keeps_nothing_readable(self, customer: Caller, nobody: AsyncClient) -> None:
        secret = await set_up(customer)

        row = await stored(customer.actor.id)
        assert row["mfaEnabled"] is False
        assert secret not in str(row)
        assert (await log_in(nobody, "customer")).status_code == 200
        assert (await customer.get("/api/me")).json()["mfaEnabled"] is False

    async def test_a_second_one_takes_the_place_of_the_first(self, customer: Caller) -> None:
        first = await set_up(customer)
        second = await set_up(customer)

        refused = await customer.post("/api/me/mfa/enable", json={"otp": code(secret=first)})
        accepted = await customer.post("/api/me/mfa/enable", json={"otp": code(secret=second)})

        assert (refused.status_code, refused.json()["code"]) == (401, "invalid_otp")
        assert accepted.status_code == 200

    async def test_is_refused_once_it_is_on(self, customer: Caller) -> None:
        await enable(customer)
        before = await stored(customer.actor.id)

        answer = await customer.post("/api/me/mfa/setup")

        assert (answer.status_code, answer.json()["code"]) == (409, "mfa_already_on")
        assert await stored(customer.actor.id) == before


class TestEnable:
    async def test_turns_it_on_with_ten_recovery_codes(self, customer: Caller, nobody: AsyncClient) -> None:
        secret, codes = await enable(customer)

        row = await stored(customer.actor.id)
        assert row["mfaEnabled"] is True
        assert len(set(codes)) == 10
        assert not any(text in str(row) for text in [secret, *codes])
        assert (await log_in(nobody, "customer")).json()["code"] == "mfa_required"
        assert (await log_in(nobody, "customer", otp=code(secret=secret, steps=1))).status_code == 200
        assert await audited("mfa.enabled") == [customer.actor.id]

    async def test_the_code_that_did_it_is_used_up(self, customer: Caller, nobody: AsyncClient) -> None:
        secret = await set_up(customer)
        otp = code(secret=secret)
        assert (await customer.post("/api/me/mfa/enable", json={"otp": otp})).status_code == 200

        assert (await log_in(nobody, "customer", otp=otp)).json()["code"] == "invalid_otp"

    @pytest.mark.parametrize("otp", ["000000", "", "12345", "abcdef"])
    async def test_a_wrong_code_changes_nothing(self, customer: Caller, otp: str) -> None:
        await set_up(customer)
        before = await stored(customer.actor.id)

        answer = await customer.post("/api/me/mfa/enable", json={"otp": otp})

        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_otp")
        assert await stored(customer.actor.id) == before
        assert await audited("mfa.enabled") == []

    async def test_without_a_set_up_there_is_nothing_to_enable(self, customer: Caller) -> None:
        answer = await customer.post("/api/me/mfa/enable", json={"otp": "123456"})

        assert (answer.status_code, answer.json()["code"]) == (409, "mfa_not_set_up")

    async def test_of_many_at_once_one_wins(self, customer: Caller) -> None:
        otp = code(secret=await set_up(customer))

        answers = await asyncio.gather(*(customer.post("/api/me/mfa/enable", json={"otp": otp}) for _ in range(6)))

        assert sorted(answer.status_code for answer in answers) == [200] + [409] * 5
        won = next(answer.json()["recoveryCodes"] for answer in answers if answer.status_code == 200)
        assert len(won) == 10
        assert len(await audited("mfa.enabled")) == 1

    async def test_anothers_set_up_is_of_no_use(self, customer: Caller, other_customer: Caller) -> None:
        secret = await set_up(customer)
        await set_up(other_customer)

        answer = await other_customer.post("/api/me/mfa/enable", json={"otp": code(secret=secret)})

        assert answer.json()["code"] == "invalid_otp"
        assert (await stored(customer.actor.id))["mfaEnabled"] is False


class TestDisable:
    async def test_takes_password_and_code(self, customer: Caller, nobody: AsyncClient) -> None:
        secret, _ = await enable(customer)

        proof = {"password": PASSWORD, "otp": code(secret=secret, steps=1)}
        answer = await customer.post("/api/me/mfa/disable", json=proof)

        row = await stored(customer.actor.id)
        assert answer.status_code == 204
        assert (row["mfaEnabled"], row["mfaSecret"], row["recoveryCodes"]) == (False, None, [])
        assert (await log_in(nobody, "customer")).status_code == 200
        assert await audited("mfa.disabled") == [customer.actor.id]

    async def test_takes_a_recovery_code_in_place_of_the_authenticator(self, customer: Caller) -> None:
        _, codes = await enable(customer)

        answer = await customer.post("/api/me/mfa/disable", json={"password": PASSWORD, "recoveryCode": codes[3]})

        assert answer.status_code == 204

    @pytest.mark.parametrize(
        ("proof", "status", "refusal"),
        [
            ({"password": "wrong", "otp": "right"}, 401, "invalid_credentials"),
            ({"password": PASSWORD, "otp": "000000"}, 401, "invalid_otp"),
            ({"password": PASSWORD, "recoveryCode": "0000-0000-0000-0000"}, 401, "invalid_recovery_code"),
            ({"password": PASSWORD}, 401, "mfa_required"),
            ({"password": PASSWORD, "otp": "right", "recoveryCode": "x"}, 422, "invalid_input"),
            ({"otp": "right"}, 422, "invalid_input"),
        ],
    )
    async def test_is_refused_without_either(
        self, customer: Caller, proof: dict[str, str], status: int, refusal: str
    ) -> None:
        secret, _ = await enable(customer)
        before = await stored(customer.actor.id)
        if proof.get("otp") == "right":
            proof = proof | {"otp": code(secret=secret, steps=1)}

        answer = await customer.post("/api/me/mfa/disable", json=proof)

        assert (answer.status_code, answer.json()["code"]) == (status, refusal)
        assert await stored(customer.actor.id) == before
        assert await audited("mfa.disabled") == []

    async def test_what_is_off_can_not_be_turned_off(self, customer: Caller) -> None:
        answer = await customer.post("/api/me/mfa/disable", json={"password": PASSWORD, "otp": "123456"})

        assert (answer.status_code, answer.json()["code"]) == (409, "mfa_not_on")


class TestRecoveryCodes:
    async def test_each_opens_one_session(self, customer: Caller, nobody: AsyncClient) -> None:
        _, codes = await enable(customer)

        for recovery_code in codes[:2]:
            body = {"mfaToken": await mfa_token(nobody, "customer"), "recoveryCode": recovery_code}
            assert (await nobody.post("/api/login/mfa", json=body)).status_code == 200
            again = {"mfaToken": await mfa_token(nobody, "customer"), "recoveryCode": recovery_code}
            refused = await nobody.post("/api/login/mfa", json=again)

            assert (refused.status_code, refused.json()["code"]) == (401, "invalid_recovery_code")
        assert len((await stored(customer.actor.id))["recoveryCodes"]) == 8
        assert await audited("mfa.recovery_code_used") == [customer.actor.id] * 2

    async def test_one_at_many_doors_opens_one(self, customer: Caller, nobody: AsyncClient) -> None:
        _, codes = await enable(customer)
        tokens = [await mfa_token(nobody, "customer") for _ in range(4)]

        answers = await asyncio.gather(
            *(nobody.post("/api/login/mfa", json={"mfaToken": t, "recoveryCode": codes[0]}) for t in tokens)
        )

        assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401]

    async def test_new_ones_void_the_old(self, customer: Caller, nobody: AsyncClient) -> None:
        _, old = await enable(customer)

        answer = await customer.post("/api/me/mfa/recovery-codes")

        new = answer.json()["recoveryCodes"]
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "no-store"
        assert len(set(new) - set(old)) == 10
        body = {"mfaToken": await mfa_token(nobody, "customer")}
        assert (await nobody.post("/api/login/mfa", json=body | {"recoveryCode": old[0]})).status_code == 401
        assert (await nobody.post("/api/login/mfa", json=body | {"recoveryCode": new[0]})).status_code == 200

    async def test_there_are_none_without_mfa(self, customer: Caller) -> None:
        answer = await customer.post("/api/me/mfa/recovery-codes")

        assert (answer.status_code, answer.json()["code"]) == (409, "mfa_not_on")

    async def test_anothers_is_of_no_use(self, customer: Caller, other_customer: Caller, nobody: AsyncClient) -> None:
        _, codes = await enable(customer)
        await enable(other_customer)

        body = {"mfaToken": await mfa_token(nobody, "other-customer"), "recoveryCode": codes[0]}
        answer = await nobody.post("/api/login/mfa", json=body)

        assert answer.json()["code"] == "invalid_recovery_code"
        assert len((await stored(customer.actor.id))["recoveryCodes"]) == 10


class TestReset:
    async def test_lets_who_has_lost_everything_in_again(
        self, admin: Caller, customer: Caller, nobody: AsyncClient
    ) -> None:
        await enable(customer)

        answer = await admin.delete(f"/api/users/{customer.user_id}/mfa")

        assert answer.status_code == 204
        assert (await log_in(nobody, "customer")).status_code == 200
        assert "mfaSecret" not in str((await admin.get(f"/api/users/{customer.user_id}")).json())
        [entry] = await collection_of(AuditEntry).find({"type": "mfa.reset"}).to_list()
        assert (entry["actor"]["id"], entry["target"]["id"]) == (admin.actor.id, customer.actor.id)

    async def test_is_an_admins(self, agent: Caller, customer: Caller) -> None:
        await turn_on(customer.actor.id)

        for caller in (agent, customer):
            answer = await caller.delete(f"/api/users/{customer.user_id}/mfa")

            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert (await stored(customer.actor.id))["mfaSecret"] == SECRET

    async def test_says_when_there_is_nothing_to_reset(self, admin: Caller, customer: Caller) -> None:
        answer = await admin.delete(f"/api/users/{customer.user_id}/mfa")

        assert (answer.status_code, answer.json()["code"]) == (409, "mfa_not_on")
        assert (await admin.delete(f"/api/users/{ObjectId()}/mfa")).status_code == 404


class TestStepUp:
    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/api/me/mfa/setup", None),
            ("/api/me/mfa/enable", {"otp": "123456"}),
            ("/api/me/mfa/disable", {"password": PASSWORD, "otp": "123456"}),
            ("/api/me/mfa/recovery-codes", None),
        ],
    )
    async def test_an_old_sign_in_is_not_enough(
        self, customer: Caller, nobody: AsyncClient, path: str, body: dict[str, str] | None
    ) -> None:
        _, token = await add_session(await stored(customer.actor.id), age=OLD)
        before = await collection_of(User).find().to_list()

        answer = await nobody.post(path, json=body, headers={"Authorization": f"Bearer {token}"})

        assert (answer.status_code, answer.json()["code"]) == (403, "reauthentication_required")
        assert await collection_of(User).find().to_list() == before


class TestRepeatedRequests:
    async def test_a_set_up_that_is_completed_twice_is_completed_once(self, customer: Caller) -> None:
        otp, key = code(secret=await set_up(customer)), {"Idempotency-Key": "on"}
        first = await customer.post("/api/me/mfa/enable", json={"otp": otp}, headers=key)
        before = await stored(customer.actor.id)

        again = await customer.post("/api/me/mfa/enable", json={"otp": otp}, headers=key)

        assert (first.status_code, again.status_code) == (200, 200)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert again.json() == {"recoveryCodes": None}
        assert await stored(customer.actor.id) == before

    async def test_a_refused_one_is_not_remembered(self, customer: Caller) -> None:
        secret, key = await set_up(customer), {"Idempotency-Key": "on"}
        refused = await customer.post("/api/me/mfa/enable", json={"otp": "000000"}, headers=key)

        right = await customer.post("/api/me/mfa/enable", json={"otp": code(secret=secret)}, headers=key)

        assert (refused.status_code, right.status_code) == (401, 200)
        assert len(right.json()["recoveryCodes"]) == 10

    async def test_new_codes_are_made_once(self, customer: Caller) -> None:
        await enable(customer)
        first = await customer.post("/api/me/mfa/recovery-codes", headers={"Idempotency-Key": "new"})
        before = await stored(customer.actor.id)

        again = await customer.post("/api/me/mfa/recovery-codes", headers={"Idempotency-Key": "new"})

        assert len(first.json()["recoveryCodes"]) == 10
        assert again.json() == {"recoveryCodes": None}
        assert await stored(customer.actor.id) == before

    async def test_turned_off_twice_is_turned_off_once(self, customer: Caller) -> None:
        _, codes = await enable(customer)
        body, key = {"password": PASSWORD, "recoveryCode": codes[0]}, {"Idempotency-Key": "off"}

        answers = [await customer.post("/api/me/mfa/disable", json=body, headers=key) for _ in range(2)]

        assert [answer.status_code for answer in answers] == [204, 204]
        assert answers[1].headers["Idempotency-Replayed"] == "true"
        assert await audited("mfa.disabled") == [customer.actor.id]
