"""Choosing a new password by a mailed link: once, in time, for this account, with nothing left behind."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from httpx import AsyncClient, Response

from app.accounts.audit import AuditEntry
from app.accounts.documents import PasswordReset, Session, User
from app.platform.clock import now
from app.platform.idempotency import IdempotencyRow
from app.platform.mongo import collection_of
from app.platform.wire import Row
from tests.callers import Caller
from tests.factories.accounts import PASSWORD, PASSWORD_HASH, add_session, add_user, tokens
from tests.mailbox import Mailbox, tokens_in

NEW = "an entirely different passphrase"
WAS_RESET = "Your password was reset"


@pytest.fixture
async def carol(customer: Caller) -> Caller:
    """The customer, with an address for mail and a second session."""
    await collection_of(User).update_one({"_id": customer.actor.id}, {"$set": {"email": "carol@example.com"}})
    await add_session(await user_of(customer))
    return customer


async def user_of(caller: Caller) -> Row:
    row = await collection_of(User).find_one({"_id": caller.actor.id})
    assert row is not None
    return row


async def link_to(nobody: AsyncClient, mailbox: Mailbox, username: str = "customer") -> str:
    """The token of a link that was just mailed."""
    await mailbox.clear()
    assert (await nobody.post("/api/password/forgot", json={"username": username})).status_code == 202
    (token,) = tokens_in(await mailbox.read())
    await mailbox.clear()
    return token


async def reset(nobody: AsyncClient, token: str, password: str = NEW, **headers: str) -> Response:
    return await nobody.post("/api/password/reset", json={"token": token, "password": password}, headers=headers)


async def log_in(client: AsyncClient, password: str, username: str = "customer") -> int:
    return (await client.post("/api/login", json={"username": username, "password": password})).status_code


async def stored(caller: Caller) -> list[Any]:
    """All that a refusal must leave as it was."""
    own = {"userId": caller.actor.id}
    sessions = await collection_of(Session).find(own).sort("_id", 1).to_list()
    resets = {"type": "password.reset"}
    audit, keys = collection_of(AuditEntry), collection_of(IdempotencyRow)
    return [await user_of(caller), sessions, await audit.count_documents(resets), await keys.count_documents({})]


def refused(answer: Response) -> bool:
    return (answer.status_code, answer.json()["code"]) == (400, "invalid_reset_token")


class TestReset:
    async def test_sets_the_password_and_ends_every_session(
        self, carol: Caller, nobody: AsyncClient, mailbox: Mailbox
    ) -> None:
        token = await link_to(nobody, mailbox)
        refresh_token = tokens().refresh(carol.actor.credential_id, 0)

        answer = await reset(nobody, token)

        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["Cache-Control"] == "no-store"
        assert await collection_of(Session).count_documents({"userId": carol.actor.id}) == 0
        assert (await carol.get("/api/me")).json()["code"] == "invalid_token"
        assert (await nobody.post("/api/token/refresh", json={"refreshToken": refresh_token})).status_code == 401
        assert await log_in(nobody, PASSWORD) == 401
        assert await log_in(nobody, NEW) == 200
        assert (await user_of(carol))["passwordVersion"] == 1

    async def test_is_told_and_recorded(self, carol: Caller, nobody: AsyncClient, mailbox: Mailbox) -> None:
        await reset(nobody, await link_to(nobody, mailbox))

        assert await mailbox.told() == [("carol@example.com", WAS_RESET)]
        (row,) = await collection_of(AuditEntry).find({"type": "password.reset"}).to_list()
        assert (row["actor"], row["target"]["id"]) == (None, carol.actor.id)

    async def test_leaves_everything_else_as_it_was(
        self, costly_passwords: None, carol: Caller, nobody: AsyncClient, mailbox: Mailbox
    ) -> None:
        mfa: Row = {"mfaEnabled": True, "mfaSecret": "JBSWY3DPEHPK3PXP", "recoveryCodes": ["a digest"]}
        await collection_of(User).update_one({"_id": carol.actor.id}, {"$set": mfa})
        before = await user_of(carol)

        await reset(nobody, await link_to(nobody, mailbox))

        after = await user_of(carol)
        assert after.pop("provenAddress") == "carol@example.com"
        assert after | {"password": before["password"], "passwordVersion": 0} == before
        assert after["password"].startswith("$2b$12$")
        signing_in = await nobody.post("/api/login", json={"username": "customer", "password": NEW})
        assert signing_in.json()["code"] == "mfa_required"

    async def test_touches_nobody_else(
        self, carol: Caller, other_customer: Caller, nobody: AsyncClient, mailbox: Mailbox
    ) -> None:
        before = await stored(other_customer)

        await reset(nobody, await link_to(nobody, mailbox))

        assert (await stored(other_customer))[:2] == before[:2]
        assert (await other_customer.get("/api/me")).status_code == 200

    async def test_works_for_users_of_the_original(self, nobody: AsyncClient, mailbox: Mailbox) -> None:
        row = {"username": "old@example.com", "password": PASSWORD_HASH, "role": "Customer"}
        await collection_of(User).insert_one(dict(row))

        answer = await reset(nobody, await link_to(nobody, mailbox, "old@example.com"))

        assert answer.status_code == 204
        assert await log_in(nobody, NEW, "old@example.com") == 200
        assert await log_in(nobody, PASSWORD, "old@example.com") == 401

    async def test_works_for_who_never_had_a_sound_password(self, nobody: AsyncClient, mailbox: Mailbox) -> None:
        await add_user(username="broken@example.com", password=None)

        assert (await reset(nobody, await link_to(nobody, mailbox, "broken@example.com"))).status_code == 204
        assert await log_in(nobody, NEW, "broken@example.com") == 200


async def spend(token: str, nobody: AsyncClient, _carol: Caller) -> str:
    assert (await reset(nobody, token, "the first one of the passphrases")).status_code == 204
    return token


async def expire(token: str, _nobody: AsyncClient, carol: Caller) -> str:
    an_hour_later: Row = {"$set": {"expiresAt": now()}}
    await collection_of(PasswordReset).update_one({"_id": carol.actor.id}, an_hour_later)
    return token


async def replace(token: str, nobody: AsyncClient, _carol: Caller) -> str:
    await nobody.post("/api/password/forgot", json={"username": "customer"})
    return token


async def change_password(token: str, _nobody: AsyncClient, carol: Caller) -> str:
    change = {"currentPassword": PASSWORD, "newPassword": "one of the other passphrases"}
    assert (await carol.post("/api/me/password", json=change)).status_code == 204
    return token


async def change_email(token: str, _nobody: AsyncClient, carol: Caller) -> str:
    assert (await carol.patch("/api/me", json={"email": "carol@elsewhere.example"})).status_code == 200
    return token


async def switch_off(token: str, _nobody: AsyncClient, carol: Caller) -> str:
    await collection_of(User).update_one({"_id": carol.actor.id}, {"$set": {"active": False}})
    return token


async def take_the_digest(_token: str, _nobody: AsyncClient, carol: Caller) -> str:
    row = await collection_of(PasswordReset).find_one({"_id": carol.actor.id})
    assert row is not None
    return str(row["digest"].hex())


async def alter(token: str, _nobody: AsyncClient, _carol: Caller) -> str:
    return token[:-1] + ("a" if token[-1] != "a" else "b")


async def cut(token: str, _nobody: AsyncClient, _carol: Caller) -> str:
    return token.removeprefix("pr_")


async def blanks(token: str, _nobody: AsyncClient, _carol: Caller) -> str:
    return f" {token} "


async def nothing(_token: str, _nobody: AsyncClient, _carol: Caller) -> str:
    return ""


Ruin = Callable[[str, AsyncClient, Caller], Awaitable[str]]
RUINS = (
    *(spend, expire, replace, change_password, change_email, switch_off),
    *(take_the_digest, alter, cut, blanks, nothing),
)


class TestRefusal:
    @pytest.mark.parametrize("ruin", RUINS, ids=lambda ruin: ruin.__name__)
    async def test_one_answer_to_every_token_that_is_no_good(
        self, carol: Caller, nobody: AsyncClient, mailbox: Mailbox, ruin: Ruin
    ) -> None:
        token = await ruin(await link_to(nobody, mailbox), nobody, carol)
        before = await stored(carol)
        await mailbox.clear()

        answer = await reset(nobody, token)

        assert refused(answer)
        assert answer.json()["detail"] == "This link is wrong, expired, spent or replaced by a newer one"
        assert await stored(carol) == before
        assert await mailbox.read() == []

    @pytest.mark.parametrize("weak", ["short", "password123", "CUSTOMER", "x1" * 37, "aaaaaaaa", ""])
    async def test_a_weak_password_does_not_cost_the_link(
        self, carol: Caller, nobody: AsyncClient, mailbox: Mailbox, weak: str
    ) -> None:
        token = await link_to(nobody, mailbox)
        before = await stored(carol)

        answer = await reset(nobody, token, weak, **{"Idempotency-Key": "k"})

        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
        assert [(error["field"], error["code"]) for error in answer.json()["errors"]] == [("password", "weak_password")]
        assert await stored(carol) == before
        assert (await reset(nobody, token)).status_code == 204

    async def test_a_link_of_one_account_is_nothing_for_another(
        self, carol: Caller, nobody: AsyncClient, mailbox: Mailbox
    ) -> None:
        await add_user(username="dave", email="dave@example.com")
        of_dave = await link_to(nobody, mailbox, "dave")
        before = await stored(carol)

        assert (await reset(nobody, of_dave)).status_code == 204

        assert (await stored(carol))[:2] == before[:2]
        assert await log_in(nobody, NEW, "dave") == 200

    async def test_the_row_of_somebody_unknown_opens_nothing(self, nobody: AsyncClient, database: None) -> None:
        await nobody.post("/api/password/forgot", json={"username": "nobody at all"})
        users = await collection_of(User).find().to_list()
        (row,) = await collection_of(PasswordReset).find().to_list()

        answer = await reset(nobody, str(row["digest"].hex()))

        assert refused(answer)
        assert await collection_of(User).find().to_list() == users

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"token": "pr_x"},
            {"password": NEW},
            {"token": 7, "password": NEW},
            {"token": {"$ne": ""}, "password": NEW},
            {"token": "pr_x", "password": NEW, "userId": "6740a1f0c3b2a1d4e5f60718"},
            {"token": "pr_\x00", "password": NEW},
        ],
    )
    async def test_what_is_no_request(self, nobody: AsyncClient, body: Row) -> None:
        answer = await nobody.post("/api/password/reset", json=body)

        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


class TestRaces:
    async def test_of_parallel_uses_one_wins(
        self, costly_passwords: None, carol: Caller, nobody: AsyncClient, mailbox: Mailbox
    ) -> None:
        token = await link_to(nobody, mailbox)
        wanted = [f"a passphrase of number {number}" for number in range(4)]

        answers = await asyncio.gather(*(reset(nobody, token, password) for password in wanted))

        assert sorted(answer.status_code for answer in answers) == [204, 400, 400, 400]
        winner = wanted[[answer.status_code for answer in answers].index(204)]
        assert await log_in(nobody, winner) == 200
        assert (await user_of(carol))["passwordVersion"] == 1
        assert await collection_of(AuditEntry).count_documents({"type": "password.reset"}) == 1
        assert await mailbox.told() == [("carol@example.com", WAS_RESET)]

    async def test_a_sign_in_with_the_old_password_meanwhile_is_dead(
        self, carol: Caller, nobody: AsyncClient, mailbox: Mailbox
    ) -> None:
        before = await user_of(carol)
        await reset(nobody, await link_to(nobody, mailbox))

        # What a sign-in stores that checked the old password before and got to this point after the reset.
        _, token = await add_session(before)

        answer = await nobody.get("/api/me", headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.json()["code"]) == (403, "invalid_token")


class TestRepetition:
    async def test_a_key_is_answered_again_and_nothing_usable_is_kept(
        self, carol: Caller, nobody: AsyncClient, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG")
        token = await link_to(nobody, mailbox)
        first = await reset(nobody, token, **{"Idempotency-Key": "k"})

        again = await reset(nobody, token, **{"Idempotency-Key": "k"})

        assert (first.status_code, again.status_code) == (204, 204)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert await mailbox.told() == [("carol@example.com", WAS_RESET)]
        models = (IdempotencyRow, AuditEntry, PasswordReset)
        rows = [await collection_of(model).find().to_list() for model in models]
        logged = [vars(record) for record in caplog.records if record.name.startswith("app")]
        for secret in (token, NEW, "$2b$"):
            assert secret not in repr(rows)
            assert secret not in repr(logged)
        assert rows[2] == []
