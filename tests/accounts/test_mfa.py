"""One-time codes at sign-in: required, checked, and good once."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import bcrypt
import pyotp
import pytest
from bson import ObjectId
from httpx import AsyncClient, Response

from app.accounts.actor import Origin
from app.accounts.commands.signin import sign_in
from app.accounts.commands.verification import Verifier
from app.accounts.documents import Session, User
from app.accounts.errors import InvalidCredentials, InvalidOtp
from app.accounts.schemas import Credentials
from app.platform.clock import now
from app.platform.mongo import collection_of
from app.platform.wire import Row
from tests.conftest import Started
from tests.factories.accounts import PASSWORD, tokens

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
NOWHERE = Origin()
NOON = datetime.fromisoformat("2026-11-22T12:00:00+00:00")


async def add_mfa_user(**fields: Any) -> Row:
    """An old account with MFA on and its secret in the clear, as the original kept it."""
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4, b"2a")).decode()
    row: Row = {
        "_id": ObjectId(),
        "username": "careful",
        "password": hashed,
        "role": "Agent",
        "mfaEnabled": True,
        "mfaSecret": SECRET,
        "__v": 0,
        **fields,
    }
    await collection_of(User).insert_one(row)
    return row


async def log_in(client: AsyncClient, **more: Any) -> Response:
    return await client.post("/api/login", json={"username": "careful", "password": PASSWORD, **more})


def code(moment: datetime | None = None, secret: str = SECRET) -> str:
    return pyotp.TOTP(secret).at(moment or now())


async def session_count() -> int:
    return await collection_of(Session).count_documents({})


class TestLoginWithMfa:
    async def test_asks_for_a_code_and_opens_no_session(self, nobody: AsyncClient) -> None:
        user = await add_mfa_user()
        before = await session_count()

        answer = await log_in(nobody)

        assert answer.status_code == 401
        assert answer.json()["code"] == "mfa_required"
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert "token" not in answer.json()
        assert await session_count() == before
        assert await collection_of(User).find_one({"_id": user["_id"]}) == user

    async def test_lets_the_right_code_in(self, nobody: AsyncClient) -> None:
        await add_mfa_user()

        answer = await log_in(nobody, otp=code())

        assert answer.status_code == 200
        assert answer.json()["user"]["mfaEnabled"] is True
        assert SECRET not in answer.text

    @pytest.mark.parametrize("otp", ["", "000", "abcdef", "1234567", "\u0661\u0662\u0663\u0664\u0665\u0666"])
    async def test_refuses_a_wrong_code(self, nobody: AsyncClient, otp: str) -> None:
        user = await add_mfa_user()
        before = await session_count()

        answer = await log_in(nobody, otp=otp)

        assert answer.status_code == 401
        assert answer.json()["code"] == "invalid_otp"
        assert await session_count() == before
        assert await collection_of(User).find_one({"_id": user["_id"]}) == user

    async def test_takes_a_code_to_the_letter(self, nobody: AsyncClient) -> None:
        await add_mfa_user()

        answer = await log_in(nobody, otp=f"{code()} ")

        assert answer.json()["code"] == "invalid_otp"

    async def test_refuses_another_secrets_code(self, nobody: AsyncClient) -> None:
        await add_mfa_user()

        answer = await log_in(nobody, otp=code(secret=SECRET[::-1]))

        assert answer.json()["code"] == "invalid_otp"

    async def test_tells_nothing_of_the_code_to_who_has_no_password(self, nobody: AsyncClient) -> None:
        user = await add_mfa_user()

        for otp in (None, "000000", code()):
            answer = await log_in(nobody, password="wrong", otp=otp)

            assert answer.json()["code"] == "invalid_credentials"
        assert await collection_of(User).find_one({"_id": user["_id"]}) == user

    async def test_accepts_each_code_once(self, nobody: AsyncClient) -> None:
        await add_mfa_user()
        otp = code()
        assert (await log_in(nobody, otp=otp)).status_code == 200
        before = await session_count()

        again = await log_in(nobody, otp=otp)

        assert again.status_code == 401
        assert again.json()["code"] == "invalid_otp"
        assert await session_count() == before

    async def test_accepts_a_code_once_in_parallel(self, nobody: AsyncClient) -> None:
        await add_mfa_user()
        otp = code()
        before = await session_count()

        answers = await asyncio.gather(*(log_in(nobody, otp=otp) for _ in range(8)))

        assert sorted(answer.status_code for answer in answers) == [200] + [401] * 7
        assert {answer.json().get("code") for answer in answers} == {None, "invalid_otp"}
        assert await session_count() == before + 1

    @pytest.mark.parametrize("secret", ["JBSWY3DPEHPK3PXP", "jbswy3dpehpk3pxp", "JBSW Y3DP EHPK 3PXP"])
    async def test_takes_the_short_secrets_of_old_set_ups(self, nobody: AsyncClient, secret: str) -> None:
        await add_mfa_user(mfaSecret=secret)
        # Ten zero bytes after the key make no other HMAC, but a length that the second implementation accepts.
        padded = "JBSWY3DPEHPK3PXP" + "A" * 16

        answer = await log_in(nobody, otp=code(secret=padded))

        assert answer.status_code == 200

    @pytest.mark.parametrize("secret", [None, "", "not base32!"])
    async def test_without_a_sound_secret_no_code_is_right(self, nobody: AsyncClient, secret: str | None) -> None:
        await add_mfa_user(mfaSecret=secret)

        answer = await log_in(nobody, otp=code(secret="A" * 32))  # an all-zero key is what an empty one amounts to

        assert answer.status_code == 401
        assert answer.json()["code"] == "invalid_otp"


@pytest.fixture
def verifier(app: Started, database: None) -> Verifier:
    found: Verifier = app.state["verifier"]
    return found


class TestSignIn:
    """The command itself, at a time of our choosing."""

    async def test_an_older_code_is_dead_once_a_newer_one_was_used(self, verifier: Verifier) -> None:
        await add_mfa_user()
        older, newer = code(NOON - timedelta(seconds=30)), code(NOON)

        async def sign_in_with(otp: str) -> None:
            credentials = Credentials(username="careful", password=PASSWORD, otp=otp)
            await sign_in(credentials, NOWHERE, verifier=verifier, tokens=tokens(), now=NOON)

        await sign_in_with(newer)
        with pytest.raises(InvalidOtp):
            await sign_in_with(older)
        await sign_in_with(code(NOON + timedelta(seconds=30)))

    @pytest.mark.parametrize("change", [{"active": False}, {"passwordVersion": 1}])
    async def test_is_void_when_the_account_is_closed_during_the_check(
        self, costly_passwords: None, verifier: Verifier, change: dict[str, Any]
    ) -> None:
        user = await add_mfa_user(mfaEnabled=False)
        pool = verifier.passwords
        credentials = Credentials(username="careful", password=PASSWORD)
        busy = [asyncio.ensure_future(pool.hash("keeps the threads busy", "busy")) for _ in range(2)]
        await asyncio.sleep(0)
        while not pool._executor._work_queue.empty():  # noqa: ASYNC110 - the threads tell nobody that they have begun
            await asyncio.sleep(0)
        signing_in = asyncio.ensure_future(sign_in(credentials, NOWHERE, verifier=verifier, tokens=tokens(), now=now()))
        # It has read the user and waits for a thread, but tells nobody.
        while pool._executor._work_queue.empty():  # noqa: ASYNC110
            await asyncio.sleep(0)

        await collection_of(User).update_one({"_id": user["_id"]}, {"$set": change})

        with pytest.raises(InvalidCredentials):
            await signing_in
        assert await collection_of(Session).count_documents({"userId": user["_id"]}) == 0
        await asyncio.gather(*busy)
