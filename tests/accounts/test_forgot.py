"""Asking for a link to a new password: what is mailed to whom, and that the answer tells nobody anything."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from httpx import AsyncClient, Response

from app.accounts.audit import AuditEntry
from app.accounts.documents import PasswordReset
from app.accounts.messages import address_of
from app.mail.documents import Delivery, MailQuota
from app.platform.clock import now
from app.platform.idempotency import IdempotencyRow
from app.platform.mongo import collection_of
from app.platform.wire import Row
from tests.conftest import COMMANDS
from tests.factories.accounts import add_user
from tests.mailbox import LINK, Mailbox, text_of, tokens_in

SUBJECT = "Choose a new password"
HOUR = timedelta(hours=1)


async def ask(client: AsyncClient, username: str, **headers: str) -> Response:
    return await client.post("/api/password/forgot", json={"username": username}, headers=headers)


async def links() -> list[Row]:
    return await collection_of(PasswordReset).find().to_list()


def seen(answer: Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    """All that a client can tell answers apart by."""
    own = {"x-request-id", "ratelimit", "ratelimit-policy"}
    return answer.status_code, answer.content, sorted(item for item in answer.headers.items() if item[0] not in own)


class TestMail:
    async def test_brings_a_link_that_is_good_for_an_hour(self, nobody: AsyncClient, mailbox: Mailbox) -> None:
        user = await add_user(username="carol", email="carol@example.com")
        before = now()

        answer = await ask(nobody, "carol")

        assert (answer.status_code, answer.content) == (202, b"")
        (mail,) = await mailbox.read()
        assert (mail["To"], mail["Subject"]) == ("carol@example.com", SUBJECT)
        found = LINK.search(text_of(mail))
        assert found
        assert found[1] == "http://localhost:8000"
        (row,) = await links()
        assert row["_id"] == user["_id"]
        assert before + HOUR <= row["expiresAt"] <= now() + HOUR

    @pytest.mark.parametrize(
        ("username", "email", "address"),
        [
            ("carol", "c@example.com", "c@example.com"),
            ("carol@example.com", "c@example.com", "c@example.com"),
            ("carol@example.com", None, "carol@example.com"),
            ("carol@example.com", "", "carol@example.com"),
            ("carol@example.com", "c@example.com\r\nBcc: eve@example.com", "carol@example.com"),
        ],
    )
    async def test_goes_to_the_e_mail_else_to_a_name_that_is_an_address(
        self, nobody: AsyncClient, mailbox: Mailbox, username: str, email: str | None, address: str
    ) -> None:
        await add_user(username=username, email=email)

        await ask(nobody, username)

        assert await mailbox.told() == [(address, SUBJECT)]

    async def test_reaches_users_of_the_original(self, nobody: AsyncClient, mailbox: Mailbox) -> None:
        row = {"username": "Old@example.com", "password": "$2b$12$", "role": "Customer"}
        await collection_of(PasswordReset).database["users"].insert_one(row)

        await ask(nobody, "Old@example.com")

        assert await mailbox.told() == [("Old@example.com", SUBJECT)]

    async def test_a_newer_link_takes_the_place_of_the_last(self, nobody: AsyncClient, mailbox: Mailbox) -> None:
        await add_user(username="carol", email="carol@example.com")

        await ask(nobody, "carol")
        await ask(nobody, "CAROL ")

        assert len(set(tokens_in(await mailbox.read()))) == 2
        assert len(await links()) == 1

    async def test_there_are_three_an_hour_and_the_last_stays_good(self, nobody: AsyncClient, mailbox: Mailbox) -> None:
        await add_user(username="carol", email="carol@example.com")
        await add_user(username="dave", email="dave@example.com")

        answers = [await ask(nobody, "carol") for _ in range(3)]
        third = await links()
        answers += [await ask(nobody, "carol") for _ in range(2)]

        assert len(await mailbox.read()) == 3
        assert await links() == third
        assert {str(seen(answer)) for answer in answers} == {str(seen(answers[0]))}
        await ask(nobody, "dave")
        assert len(await mailbox.read()) == 4

    async def test_there_are_more_after_an_hour(self, nobody: AsyncClient, mailbox: Mailbox) -> None:
        await add_user(username="carol", email="carol@example.com")
        for _ in range(3):
            await ask(nobody, "carol")
        long_ago = [now() - HOUR] * 2 + [now() - HOUR / 2]
        await collection_of(MailQuota).update_one({}, {"$set": {"sentAt": long_ago}})

        for _ in range(3):
            await ask(nobody, "carol")

        assert len(await mailbox.read()) == 5

    async def test_of_many_at_once_three_are_mailed(self, nobody: AsyncClient, mailbox: Mailbox) -> None:
        await add_user(username="carol", email="carol@example.com")

        answers = await asyncio.gather(*(ask(nobody, "carol") for _ in range(12)))

        assert {answer.status_code for answer in answers} == {202}
        assert len(await mailbox.read()) == 3
        assert len(await links()) == 1


UNMAILABLE: list[dict[str, Any] | None] = [
    None,
    {"username": "carol", "email": None},
    {"username": "carol", "email": "carol@example.com", "active": False},
]


class TestSilence:
    @pytest.mark.parametrize("fields", UNMAILABLE, ids=["unknown", "without an address", "switched off"])
    async def test_others_get_the_same_answer_and_no_mail(
        self, nobody: AsyncClient, mailbox: Mailbox, fields: dict[str, Any] | None
    ) -> None:
        await add_user(username="known", email="known@example.com")
        user = await add_user(**fields) if fields else None
        expected = await ask(nobody, "known")

        answer = await ask(nobody, "carol")

        assert seen(answer) == seen(expected)
        assert await mailbox.told() == [("known@example.com", SUBJECT)]
        if user:
            assert await collection_of(PasswordReset).find_one({"_id": user["_id"]}) is None

    @pytest.mark.parametrize("fields", UNMAILABLE, ids=["unknown", "without an address", "switched off"])
    async def test_the_database_is_asked_the_same(
        self, nobody: AsyncClient, mailbox: Mailbox, fields: dict[str, Any] | None
    ) -> None:
        await add_user(username="known", email="known@example.com")
        if fields:
            await add_user(**fields)

        # Twice, since a first link is made and a second one takes its place; and with a key.
        costs = {name: [await cost(nobody, name), await cost(nobody, name)] for name in ("known", "carol")}
        keyed = {name: await cost(nobody, name, **{"Idempotency-Key": name}) for name in ("known", "carol")}

        assert costs["known"] == costs["carol"]
        once = ["find", "insert", "findAndModify", "insert", "update", "commitTransaction"]
        assert costs["known"][0] == costs["known"][1] == once
        assert keyed["known"] == keyed["carol"]

    async def test_what_was_typed_for_a_name_is_kept_nowhere(self, nobody: AsyncClient, mailbox: Mailbox) -> None:
        await ask(nobody, "typed-my-password-here")

        models = (PasswordReset, AuditEntry, Delivery, MailQuota)
        everything = [await collection_of(model).find().to_list() for model in models]
        assert [len(rows) for rows in everything] == [1, 1, 1, 1]
        assert "typed" not in repr(everything)


async def cost(client: AsyncClient, username: str, **headers: str) -> list[str]:
    COMMANDS.names.clear()
    await ask(client, username, **headers)
    return list(COMMANDS.names)


class TestSecrets:
    async def test_the_token_is_in_the_mail_alone(
        self, nobody: AsyncClient, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG")
        await add_user(username="carol", email="carol@example.com")

        answer = await ask(nobody, "carol", **{"Idempotency-Key": "k"})

        models = (PasswordReset, AuditEntry, IdempotencyRow, Delivery)
        stored = [await collection_of(model).find().to_list() for model in models]
        assert [len(rows) for rows in stored] == [1, 1, 1, 1]
        (token,) = tokens_in(await mailbox.read())
        logged = [vars(record) for record in caplog.records if record.name.startswith("app")]
        for place in (stored, logged, answer.headers, answer.content):
            assert token not in repr(place)
            assert token.removeprefix("pr_") not in repr(place)

    async def test_the_audit_log_knows_who_was_asked_for(self, nobody: AsyncClient, mailbox: Mailbox) -> None:
        user = await add_user(username="carol", email="carol@example.com")

        await ask(nobody, "carol", **{"User-Agent": "a browser"})
        await ask(nobody, "nobody at all")

        rows = await collection_of(AuditEntry).find().sort("_id", 1).to_list()
        assert [row["type"] for row in rows] == ["password.reset_requested"] * 2
        assert [row["target"] and row["target"]["id"] for row in rows] == [user["_id"], None]
        assert (rows[0]["actor"], rows[0]["device"]) == (None, "a browser")


class TestRepetition:
    async def test_a_key_mails_once(self, nobody: AsyncClient, mailbox: Mailbox) -> None:
        await add_user(username="carol", email="carol@example.com")
        first = await ask(nobody, "carol", **{"Idempotency-Key": "k"})
        row = await links()

        again = await ask(nobody, "carol", **{"Idempotency-Key": "k"})

        assert (first.status_code, again.status_code) == (202, 202)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert len(await mailbox.read()) == 1
        assert await links() == row


@pytest.mark.parametrize(
    "body", [{}, {"username": None}, {"username": 7}, {"username": "x" * 1025}, {"email": "a@b.c"}]
)
async def test_refuses_what_is_no_request(nobody: AsyncClient, mailbox: Mailbox, body: Row) -> None:
    answer = await nobody.post("/api/password/forgot", json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert await links() == []


@pytest.mark.parametrize(
    ("user", "address"),
    [
        ({"username": "carol"}, None),
        ({"username": "carol@localhost"}, None),
        ({"username": "a@b@c.example"}, None),
        ({"username": "a,b@c.example"}, None),
        ({"username": "Carol <carol@c.example>"}, None),
        ({"username": "carol@c.example\n"}, None),
        ({"username": "carol\x00@c.example"}, None),
        ({"username": "x" * 250 + "@c.example"}, None),
        ({"username": 7}, None),
        ({"username": "carol+tag@c.example"}, "carol+tag@c.example"),
        ({"username": "carol@c.example", "email": "other@c.example"}, "other@c.example"),
    ],
)
def test_mail_goes_only_to_what_is_an_address(user: Row, address: str | None) -> None:
    assert address_of(user) == address
