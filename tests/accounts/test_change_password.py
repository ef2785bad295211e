"""What a new password takes, and what it leaves: a recent sign-in, a word in the log and in the mail, no old links."""

from datetime import timedelta

import pytest
from httpx import AsyncClient

from app.accounts.actor import STEP_UP
from app.accounts.audit import AuditEntry
from app.accounts.documents import PasswordReset, Session, User
from app.platform.clock import now
from app.platform.mongo import collection_of
from tests.callers import Caller
from tests.factories.accounts import PASSWORD
from tests.mailbox import Mailbox, tokens_in

NEW = "an entirely different passphrase"
CHANGE = {"currentPassword": PASSWORD, "newPassword": NEW}
TOLD = ("carol@example.com", "Your password was changed")


@pytest.fixture
async def carol(customer: Caller) -> Caller:
    """The customer, with an address for mail."""
    await collection_of(User).update_one({"_id": customer.actor.id}, {"$set": {"email": "carol@example.com"}})
    return customer


async def test_is_told_and_recorded(carol: Caller, mailbox: Mailbox) -> None:
    answer = await carol.post("/api/me/password", json=CHANGE, headers={"User-Agent": "a browser"})

    assert (answer.status_code, answer.headers["Cache-Control"]) == (204, "no-store")
    assert await mailbox.told() == [TOLD]
    (row,) = await collection_of(AuditEntry).find({"type": "password.changed"}).to_list()
    assert row["actor"]["id"] == row["target"]["id"] == carol.actor.id
    assert row["device"] == "a browser"
    assert PASSWORD not in repr(row)
    assert NEW not in repr(row)


async def test_a_repeated_key_is_told_once(carol: Caller, mailbox: Mailbox) -> None:
    for _ in range(2):
        answer = await carol.post("/api/me/password", json=CHANGE, headers={"Idempotency-Key": "k"})
        assert answer.status_code == 204

    assert await mailbox.told() == [TOLD]
    assert await collection_of(AuditEntry).count_documents({"type": "password.changed"}) == 1


async def test_who_has_no_address_is_not_told(customer: Caller, mailbox: Mailbox) -> None:
    assert (await customer.post("/api/me/password", json=CHANGE)).status_code == 204

    assert await mailbox.told() == []


async def test_voids_a_link_that_was_mailed_before(carol: Caller, nobody: AsyncClient, mailbox: Mailbox) -> None:
    await nobody.post("/api/password/forgot", json={"username": "customer"})
    (token,) = tokens_in(await mailbox.read())

    await carol.post("/api/me/password", json=CHANGE)

    assert await collection_of(PasswordReset).count_documents({}) == 0
    answer = await nobody.post("/api/password/reset", json={"token": token, "password": "yet another passphrase"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_reset_token")


@pytest.mark.parametrize("body", [CHANGE, {}, {"currentPassword": "wrong", "newPassword": "short"}])
async def test_takes_a_recent_sign_in_before_anything_else(
    carol: Caller, mailbox: Mailbox, body: dict[str, str]
) -> None:
    long_ago = now() - STEP_UP - timedelta(seconds=1)
    await collection_of(Session).update_one({"_id": carol.actor.credential_id}, {"$set": {"authenticatedAt": long_ago}})
    before = await collection_of(User).find_one({"_id": carol.actor.id})

    answer = await carol.post("/api/me/password", json=body)

    assert (answer.status_code, answer.json()["code"]) == (403, "reauthentication_required")
    assert await collection_of(User).find_one({"_id": carol.actor.id}) == before
    assert await collection_of(AuditEntry).count_documents({"type": "password.changed"}) == 0
    assert await mailbox.told() == []


async def test_a_refusal_is_no_change_but_recorded_as_a_refusal(carol: Caller, mailbox: Mailbox) -> None:
    answer = await carol.post("/api/me/password", json=CHANGE | {"currentPassword": "wrong"})

    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")
    assert await mailbox.told() == []
    assert [row["type"] for row in await collection_of(AuditEntry).find().to_list()] == ["reauthentication.failed"]
