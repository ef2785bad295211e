"""Signing in in two steps: the `mfaToken` between password and code, and how often a code may be wrong."""

import asyncio
from datetime import timedelta

import jwt
import pytest
from bson import ObjectId
from cryptography.fernet import Fernet
from httpx import AsyncClient

from app.accounts.commands.mfa import encrypt_anew
from app.accounts.commands.verification import Verifier
from app.accounts.documents import Session, User
from app.accounts.tokens import MFA_TTL, derive_key
from app.platform.clock import now
from app.platform.mongo import collection_of
from app.platform.secretbox import SecretBox
from tests.accounts.mfa import SECRET, code, log_in, mfa_token, stored, turn_on
from tests.callers import Caller
from tests.conftest import SECRET as JWT_SECRET
from tests.conftest import Started
from tests.factories.accounts import PASSWORD, tokens


@pytest.fixture(autouse=True)
async def _with_mfa(customer: Caller) -> None:
    await turn_on(customer.actor.id)


async def session_count() -> int:
    return await collection_of(Session).count_documents({})


class TestTwoSteps:
    async def test_the_answer_that_carries_the_token_is_kept_by_nobody(self, nobody: AsyncClient) -> None:
        answer = await log_in(nobody, "customer")

        assert (answer.status_code, answer.json()["code"]) == (401, "mfa_required")
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="ticketing"'

    async def test_the_token_and_a_code_open_a_session(self, nobody: AsyncClient) -> None:
        token = await mfa_token(nobody, "customer")

        answer = await nobody.post("/api/login/mfa", json={"mfaToken": token, "otp": code()})

        body = answer.json()
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "no-store"
        assert body["user"]["username"] == "customer"
        headers = {"Authorization": f"Bearer {body['token']}"}
        assert (await nobody.get("/api/me", headers=headers)).status_code == 200
        assert (await nobody.post("/api/token/refresh", json={"refreshToken": body["refreshToken"]})).status_code == 200

    async def test_the_token_is_good_once(self, nobody: AsyncClient) -> None:
        token = await mfa_token(nobody, "customer")
        first = await nobody.post("/api/login/mfa", json={"mfaToken": token, "otp": code()})
        before = await session_count()

        again = await nobody.post("/api/login/mfa", json={"mfaToken": token, "otp": code(steps=1)})

        assert first.status_code == 200
        assert (again.status_code, again.json()["code"]) == (401, "invalid_mfa_token")
        assert await session_count() == before
        # The code that came with it is not lost.
        assert (await log_in(nobody, "customer", otp=code(steps=1))).status_code == 200

    async def test_a_wrong_code_leaves_the_token_good(self, nobody: AsyncClient) -> None:
        token = await mfa_token(nobody, "customer")

        wrong = await nobody.post("/api/login/mfa", json={"mfaToken": token, "otp": "000000"})
        right = await nobody.post("/api/login/mfa", json={"mfaToken": token, "otp": code()})

        assert (wrong.status_code, wrong.json()["code"]) == (401, "invalid_otp")
        assert right.status_code == 200

    async def test_one_code_at_many_doors_opens_one(self, nobody: AsyncClient) -> None:
        held = [await mfa_token(nobody, "customer") for _ in range(3)]
        otp, before = code(), await session_count()

        two_steps = [nobody.post("/api/login/mfa", json={"mfaToken": token, "otp": otp}) for token in held]
        one_step = [log_in(nobody, "customer", otp=otp) for _ in range(3)]
        answers = await asyncio.gather(*two_steps, *one_step)

        assert sorted(answer.status_code for answer in answers) == [200] + [401] * 5
        assert await session_count() == before + 1

    async def test_the_token_is_worth_nothing_elsewhere(self, nobody: AsyncClient) -> None:
        token = await mfa_token(nobody, "customer")

        as_access = await nobody.get("/api/me", headers={"Authorization": f"Bearer {token}"})
        as_refresh = await nobody.post("/api/token/refresh", json={"refreshToken": token})

        assert (as_access.status_code, as_access.json()["code"]) == (403, "invalid_token")
        assert (as_refresh.status_code, as_refresh.json()["code"]) == (401, "invalid_refresh_token")

    async def test_refuses_every_other_token(self, customer: Caller, nobody: AsyncClient) -> None:
        good = jwt.decode(await mfa_token(nobody, "customer"), options={"verify_signature": False})
        key = derive_key(JWT_SECRET, "mfa-token")

        def forged(key: bytes = key, kind: str = "mfa+jwt", **changes: object) -> str:
            return jwt.encode({**good, **changes}, key, "HS256", {"typ": kind})

        forgeries = [
            *("", "x", customer.token, tokens().refresh(customer.actor.credential_id, 0)),
            tokens().mfa(customer.actor.id, 0, now() - MFA_TTL - timedelta(seconds=1)),
            tokens().mfa(ObjectId(), 0, now()),
            tokens().mfa(customer.actor.id, 1, now()),
            forged(b"another key that is long enough for this"),
            forged(JWT_SECRET.encode()),
            forged(kind="at+jwt"),
            forged(aud="another"),
            jwt.encode(good, "", "none", {"typ": "mfa+jwt"}),
        ]
        before = await session_count()
        for forgery in forgeries:
            answer = await nobody.post("/api/login/mfa", json={"mfaToken": forgery, "otp": code()})

            assert (answer.status_code, answer.json()["code"]) == (401, "invalid_mfa_token"), forgery
        assert await session_count() == before
        assert (await nobody.post("/api/login/mfa", json={"mfaToken": forged(), "otp": code()})).status_code == 200

    @pytest.mark.parametrize("change", [{"active": False}, {"passwordVersion": 1}])
    async def test_ends_when_the_account_changes_in_between(
        self, customer: Caller, nobody: AsyncClient, change: dict[str, object]
    ) -> None:
        token = await mfa_token(nobody, "customer")
        await collection_of(User).update_one({"_id": customer.actor.id}, {"$set": change})

        answer = await nobody.post("/api/login/mfa", json={"mfaToken": token, "otp": code()})

        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_mfa_token")

    @pytest.mark.parametrize("body", [{}, {"otp": "1", "recoveryCode": "2"}, {"otp": "1", "password": "x"}])
    async def test_takes_one_code_and_nothing_else(self, nobody: AsyncClient, body: dict[str, str]) -> None:
        token = await mfa_token(nobody, "customer")

        answer = await nobody.post("/api/login/mfa", json={"mfaToken": token, **body})

        assert answer.status_code == 422


class TestSecretsAtRest:
    async def test_one_in_the_clear_is_encrypted_at_its_next_use(self, customer: Caller, nobody: AsyncClient) -> None:
        assert (await stored(customer.actor.id))["mfaSecret"] == SECRET

        assert (await log_in(nobody, "customer", otp=code())).status_code == 200

        assert SECRET not in str(await stored(customer.actor.id))
        assert (await log_in(nobody, "customer", otp=code(steps=1))).status_code == 200

    async def test_one_of_an_older_key_is_renewed_by_use(
        self, customer: Caller, nobody: AsyncClient, verifier: Verifier
    ) -> None:
        older = SecretBox([Fernet.generate_key()])
        await turn_on(customer.actor.id, mfaSecret=older.seal(SECRET))

        # A service that does not have the key lets nobody in, and changes nothing.
        assert (await log_in(nobody, "customer", otp=code())).json()["code"] == "invalid_otp"
        assert older.open((await stored(customer.actor.id))["mfaSecret"]) == SECRET

    async def test_all_can_be_encrypted_anew(self, customer: Caller, other_customer: Caller, agent: Caller) -> None:
        old, new, foreign = (Fernet.generate_key() for _ in range(3))
        await turn_on(other_customer.actor.id, mfaSecret=SecretBox([old]).seal(SECRET))
        await turn_on(agent.actor.id, mfaSecret=SecretBox([foreign]).seal(SECRET))
        box = SecretBox([new, old])

        assert await encrypt_anew(box) == (2, 1)

        only_new = SecretBox([new])
        for caller in (customer, other_customer):
            secret = (await stored(caller.actor.id))["mfaSecret"]
            assert SECRET not in secret
            assert only_new.open(secret) == SECRET
        assert SecretBox([foreign]).open((await stored(agent.actor.id))["mfaSecret"]) == SECRET
        assert await encrypt_anew(box) == (0, 1)


@pytest.fixture
def verifier(app: Started) -> Verifier:
    found: Verifier = app.state["verifier"]
    return found


async def test_proves_nothing_about_an_account_without_the_password(nobody: AsyncClient) -> None:
    for password in ("wrong", ""):
        answer = await nobody.post("/api/login", json={"username": "customer", "password": password, "otp": code()})

        assert answer.json()["code"] == "invalid_credentials"
        assert "mfaToken" not in answer.json()


async def test_reauthentication_takes_a_code_as_well(customer: Caller) -> None:
    without = await customer.post("/api/me/reauthenticate", json={"password": PASSWORD})
    wrong = await customer.post("/api/me/reauthenticate", json={"password": PASSWORD, "otp": "000000"})
    right = await customer.post("/api/me/reauthenticate", json={"password": PASSWORD, "otp": code()})
    again = await customer.post("/api/me/reauthenticate", json={"password": PASSWORD, "otp": code()})

    answers = [(answer.status_code, answer.json().get("code")) for answer in (without, wrong, right, again)]
    assert answers == [(401, "mfa_required"), (401, "invalid_otp"), (200, None), (401, "invalid_otp")]
