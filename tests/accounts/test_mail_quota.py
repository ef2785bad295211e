"""Mails about accounts to one recipient: three of a kind an hour, and nobody uses up what an owner's are taken from."""

from datetime import timedelta

import pytest
from httpx import AsyncClient

from app.accounts.actor import Actor, Origin
from app.accounts.commands.people import change_profile
from app.accounts.commands.verification import Verifier
from app.accounts.documents import ApiKey, User
from app.platform.attempts import Attempts
from app.platform.clock import now
from app.platform.errors import TooManyRequests
from app.platform.mongo import collection_of
from tests.accounts.mfa import stored
from tests.callers import Caller
from tests.conftest import Started
from tests.factories.accounts import add_session, add_user
from tests.mailbox import Mailbox, tokens_in

STRANGER, OTHER = "stranger@example.com", "other@example.com"
CHANGED, NEW_KEY, LINK = "Your e-mail address was changed", "A new API key was made", "Choose a new password"


async def ask_for_links(client: AsyncClient, username: str, times: int = 4) -> None:
    for _ in range(times):
        assert (await client.post("/api/password/forgot", json={"username": username})).status_code == 202


async def make_keys(caller: Caller, times: int = 4) -> None:
    for _ in range(times):
        assert (await caller.post("/api/api-keys", json={"name": "k", "scopes": ["read"]})).status_code == 201


async def set_email(caller: Caller, email: str) -> None:
    assert (await caller.patch("/api/me", json={"email": email})).status_code == 200


class TestQuota:
    async def test_changing_to_and_fro_fills_no_mailbox(self, customer: Caller, mailbox: Mailbox) -> None:
        for _ in range(5):
            for email in (STRANGER, OTHER):
                await set_email(customer, email)

        assert await mailbox.told() == [(OTHER, CHANGED)] * 3 + [(STRANGER, CHANGED)] * 3
        assert (await stored(customer.actor.id))["email"] == OTHER

    async def test_nor_do_api_keys_which_are_made_all_the_same(self, customer: Caller, mailbox: Mailbox) -> None:
        await set_email(customer, STRANGER)

        await make_keys(customer, 5)

        assert await mailbox.told() == [(STRANGER, NEW_KEY)] * 3
        assert await collection_of(ApiKey).count_documents({}) == 5

    async def test_many_accounts_with_one_address_share_it_however_it_is_written(
        self, nobody: AsyncClient, mailbox: Mailbox
    ) -> None:
        for number, email in enumerate((STRANGER, STRANGER.upper(), "stranger+1@example.com", STRANGER)):
            await add_user(username=f"sock{number}", email=email)

        for number in range(4):
            await ask_for_links(nobody, f"sock{number}")

        assert [subject for _, subject in await mailbox.told()] == [LINK] * 3

    async def test_a_change_of_address_starts_no_new_count(
        self, customer: Caller, nobody: AsyncClient, mailbox: Mailbox
    ) -> None:
        await set_email(customer, STRANGER)
        await ask_for_links(nobody, "customer")

        await set_email(customer, OTHER)
        await set_email(customer, STRANGER)
        await ask_for_links(nobody, "customer")

        assert len(tokens_in(await mailbox.read())) == 3

    async def test_one_kind_leaves_room_for_the_others(self, customer: Caller, mailbox: Mailbox) -> None:
        await set_email(customer, STRANGER)

        await make_keys(customer)
        await set_email(customer, OTHER)

        assert (STRANGER, CHANGED) in await mailbox.told()

    async def test_who_is_named_by_the_address_has_a_count_of_their_own(
        self, nobody: AsyncClient, mailbox: Mailbox
    ) -> None:
        await add_user(username="sock", email=STRANGER)
        await add_user(username=STRANGER)

        for username in ("sock", STRANGER):
            await ask_for_links(nobody, username)

        assert len(await mailbox.read()) == 6

    async def test_so_has_who_used_a_link_that_went_there(
        self, customer: Caller, nobody: AsyncClient, mailbox: Mailbox
    ) -> None:
        await set_email(customer, STRANGER)
        await ask_for_links(nobody, "customer", 1)
        (token,) = tokens_in(await mailbox.read())
        reset = await nobody.post("/api/password/reset", json={"token": token, "password": "an even longer passphrase"})
        assert reset.status_code == 204
        assert (await stored(customer.actor.id))["provenAddress"] == STRANGER
        await mailbox.clear()
        await add_user(username="sock", email=STRANGER)

        await ask_for_links(nobody, "sock")
        await ask_for_links(nobody, "customer")

        # Two of the address's, of which one was the customer's own before, and three of the customer's.
        assert len(tokens_in(await mailbox.read())) == 5


class TestChanges:
    @pytest.fixture
    async def owner(self, database: None) -> Actor:
        actor, _ = await add_session(await add_user(username="owner"))
        return actor

    async def test_of_the_address_wait_longer_after_five(self, app: Started, owner: Actor, mailbox: Mailbox) -> None:
        own: Verifier = app.state["verifier"]
        verifier = Verifier(own.passwords, own.secrets, Attempts(b"addresses", is_on=True), own.mail)
        moment = now()

        async def change(email: str, after_s: int = 0) -> None:
            at = moment + timedelta(seconds=after_s)
            await change_profile(owner, {"email": email}, Origin(), verifier=verifier, now=at)

        for number in range(6):
            await change(f"victim{number}@example.com")
        with pytest.raises(TooManyRequests) as refusal:
            await change("victim6@example.com")

        assert refusal.value.headers["Retry-After"] == "1"
        # What changes nothing is not counted.
        await change("victim5@example.com")
        await change("victim6@example.com", after_s=1)
        user = await collection_of(User).find_one({"_id": owner.id})
        assert user is not None
        assert user["email"] == "victim6@example.com"
