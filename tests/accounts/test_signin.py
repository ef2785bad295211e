"""Signing in over HTTP: what comes back, who is let in, and that refusals tell nothing apart."""

import asyncio
from collections.abc import Callable
from typing import Any

import bcrypt
import pytest
from bson import ObjectId
from httpx import AsyncClient, Response

from app.accounts.documents import Session, User
from app.accounts.roles import Role
from app.platform.mongo import collection_of
from app.platform.wire import Row
from tests.factories.accounts import COSTLY_HASH, PASSWORD, PASSWORD_HASH, add_user

INVALID = {
    "type": "about:blank",
    "title": "Unauthorized",
    "status": 401,
    "detail": "Invalid username or password",
    "code": "invalid_credentials",
    "error": "Invalid username or password",
    "instance": "/api/login",
}
BOTH = ("username", "password")
CountChecks = Callable[[], int]


async def log_in(client: AsyncClient, username: str, password: str = PASSWORD, **more: Any) -> Response:
    return await client.post("/api/login", json={"username": username, "password": password, **more})


async def add_old_user(username: str, **fields: Any) -> Row:
    """A document as Mongoose wrote it, with few rounds so that many fit into a test."""
    hashed = bcrypt.hashpw(PASSWORD.encode()[:72], bcrypt.gensalt(4, b"2a")).decode()
    row: Row = {
        "_id": ObjectId(),
        "username": username,
        "password": hashed,
        "role": "Customer",
        "mfaEnabled": False,
        "__v": 0,
        **fields,
    }
    await collection_of(User).insert_one(row)
    return row


async def session_count() -> int:
    return await collection_of(Session).count_documents({})


@pytest.fixture
def checks(costly_passwords: None, monkeypatch: pytest.MonkeyPatch) -> CountChecks:
    """How many bcrypt checks ran, each with 12 rounds."""
    seen: list[bytes] = []
    real = bcrypt.checkpw

    def counted(password: bytes, hashed: bytes) -> bool:
        seen.append(hashed)
        return real(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", counted)

    def count() -> int:
        assert all(hashed.startswith(b"$2b$12$") for hashed in seen)
        return len(seen)

    return count


class TestLogin:
    async def test_answers_a_pair_of_tokens_and_the_user(self, nobody: AsyncClient) -> None:
        user = await add_user(Role.AGENT, username="dave@example.com", name="Dave")

        answer = await log_in(nobody, "dave@example.com")

        body = answer.json()
        assert answer.status_code == 200
        assert set(body) == {"token", "tokenType", "expiresIn", "refreshToken", "user"}
        assert (body["tokenType"], body["expiresIn"]) == ("Bearer", 3600)
        assert body["user"] == {
            "id": str(user["_id"]),
            "username": "dave@example.com",
            "role": "Agent",
            "email": None,
            "name": "Dave",
            "active": True,
            "mfaEnabled": False,
            "createdAt": user["createdAt"].isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
        assert answer.headers["Cache-Control"] == "no-store"
        me = await nobody.get("/api/me", headers={"Authorization": f"Bearer {body['token']}"})
        assert me.json() == body["user"]

    async def test_tells_an_unknown_name_not_from_a_wrong_password(
        self, nobody: AsyncClient, checks: CountChecks
    ) -> None:
        await add_user(username="known", password=COSTLY_HASH)
        sessions = await session_count()

        wrong = await log_in(nobody, "known", "not the password")
        checked_for_wrong = checks()
        unknown = await log_in(nobody, "unknown")

        for answer in (wrong, unknown):
            assert answer.status_code == 401
            assert {name: value for name, value in answer.json().items() if name != "requestId"} == INVALID
        assert wrong.headers.keys() == unknown.headers.keys()
        assert checked_for_wrong == 1
        assert checks() == 2
        assert await session_count() == sessions

    async def test_a_user_who_is_switched_off_is_refused_like_any_other(
        self, nobody: AsyncClient, checks: CountChecks
    ) -> None:
        await add_user(username="gone", password=COSTLY_HASH, active=False)
        sessions = await session_count()

        answer = await log_in(nobody, "gone")

        assert answer.status_code == 401
        assert {name: value for name, value in answer.json().items() if name != "requestId"} == INVALID
        assert checks() == 1
        assert await session_count() == sessions

    async def test_a_key_of_an_earlier_version_is_no_hindrance(self, nobody: AsyncClient) -> None:
        name = "Rene\u0301"
        await add_user(username=name, usernameKey=name.casefold())

        answer = await nobody.post("/api/login", json={"username": name, "password": PASSWORD})

        assert answer.status_code == 200

    @pytest.mark.parametrize(
        "given", ["carol@example.com", "CAROL@Example.com", "  carol@example.com ", "Carol@EXAMPLE.COM"]
    )
    async def test_new_accounts_are_found_in_any_case(self, nobody: AsyncClient, given: str) -> None:
        await add_user(username="Carol@Example.com")

        answer = await log_in(nobody, given)

        assert answer.status_code == 200
        assert answer.json()["user"]["username"] == "Carol@Example.com"

    @pytest.mark.parametrize("password", [PASSWORD + " ", " " + PASSWORD, PASSWORD.upper(), PASSWORD[:-1]])
    async def test_passwords_are_taken_to_the_letter(self, nobody: AsyncClient, password: str) -> None:
        await add_old_user("exact")

        assert (await log_in(nobody, "exact", password)).status_code == 401

    @pytest.mark.parametrize(
        ("body", "fields"),
        [
            ({}, {"username": "required", "password": "required"}),
            ({"username": "a", "password": "b", "role": "Admin"}, {"role": "unknown_field"}),
            ({"username": {"$gt": ""}, "password": {"$gt": ""}}, dict.fromkeys(BOTH, "string_type")),
            ({"username": "a\x00", "password": "b\x00"}, dict.fromkeys(BOTH, "value_error")),
            ({"username": "a" * 1025, "password": "b" * 4097}, dict.fromkeys(BOTH, "string_too_long")),
            ({"username": None, "password": 1}, dict.fromkeys(BOTH, "string_type")),
            ({"username": "a", "password": "b", "otp": 123456}, {"otp": "string_type"}),
        ],
    )
    async def test_refuses_values_that_can_not_be(
        self, nobody: AsyncClient, checks: CountChecks, body: dict[str, Any], fields: dict[str, str]
    ) -> None:
        answer = await nobody.post("/api/login", json=body)

        assert answer.status_code == 422
        assert answer.json()["code"] == "invalid_input"
        assert {e["field"]: e["code"] for e in answer.json()["errors"]} == fields
        assert checks() == 0

    async def test_the_eleventh_at_once_is_told_to_wait(self, costly_passwords: None, nobody: AsyncClient) -> None:
        await add_user(username="busy", password=COSTLY_HASH)
        body = {"username": "busy", "password": "wrong"}

        answers = await asyncio.gather(*(nobody.post("/api/login", json=body) for _ in range(24)))

        by_status = {status: [a for a in answers if a.status_code == status] for status in (401, 429)}
        assert len(by_status[401]) + len(by_status[429]) == 24
        assert len(by_status[401]) >= 10
        assert by_status[429]
        assert {a.json()["code"] for a in by_status[429]} == {"too_many_requests"}
        assert all(int(a.headers["Retry-After"]) >= 1 for a in by_status[429])
        assert (await log_in(nobody, "busy")).status_code == 200

    async def test_remembers_where_it_came_from(self, nobody: AsyncClient) -> None:
        user = await add_old_user("traveller")

        answer = await nobody.post(
            "/api/login",
            json={"username": "traveller", "password": PASSWORD},
            headers={"User-Agent": "x" * 5000},
        )

        session = await collection_of(Session).find_one({"userId": user["_id"]})
        assert answer.status_code == 200
        assert session is not None
        assert session["device"] == "x" * 200
        assert session["address"] == "127.0.0.1"


class TestOldAccounts:
    async def test_sign_in_as_mongoose_left_them(self, nobody: AsyncClient) -> None:
        user = await add_old_user("Old.Timer@example.com", role="Admin")

        answer = await log_in(nobody, "Old.Timer@example.com")

        assert answer.status_code == 200
        assert answer.json()["user"] == {
            "id": str(user["_id"]),
            "username": "Old.Timer@example.com",
            "role": "Admin",
            "email": None,
            "name": None,
            "active": True,
            "mfaEnabled": False,
            "createdAt": None,
        }
        assert await collection_of(User).find_one({"_id": user["_id"]}) == user
        headers = {"Authorization": f"Bearer {answer.json()['token']}"}
        assert (await nobody.get("/api/users", headers=headers)).status_code == 200

    async def test_two_that_differ_in_case_are_two(self, nobody: AsyncClient) -> None:
        upper = await add_old_user("Bob")
        lower = await add_old_user("bob", password=PASSWORD_HASH)

        assert (await log_in(nobody, "Bob")).json()["user"]["id"] == str(upper["_id"])
        assert (await log_in(nobody, "bob")).json()["user"]["id"] == str(lower["_id"])
        assert (await log_in(nobody, "BOB")).status_code == 401

    async def test_blanks_around_an_old_name_belong_to_it(self, nobody: AsyncClient) -> None:
        user = await add_old_user(" spaced ")

        assert (await log_in(nobody, " spaced ")).json()["user"]["id"] == str(user["_id"])
        assert (await log_in(nobody, "spaced")).status_code == 401

    async def test_a_password_over_72_bytes_still_counts_to_there(self, nobody: AsyncClient) -> None:
        long = "long password " * 10
        hashed = bcrypt.hashpw(long.encode()[:72], bcrypt.gensalt(4, b"2a")).decode()
        await add_old_user("wordy", password=hashed)

        assert (await log_in(nobody, "wordy", long)).status_code == 200

    @pytest.mark.parametrize(
        "fields",
        [
            {"role": None, "mfaEnabled": None, "mfaSecret": None, "email": None, "active": None},
            {"role": "Superuser", "__v": 12, "resetToken": "x", "loginCount": 3},
        ],
    )
    async def test_odd_fields_give_no_rights_and_do_no_harm(self, nobody: AsyncClient, fields: dict[str, Any]) -> None:
        await add_old_user("odd", **fields)

        answer = await log_in(nobody, "odd")

        assert answer.status_code == 200
        assert answer.json()["user"]["role"] == "Customer"

    @pytest.mark.parametrize("password", [None, "", "plain text", "$2a$10$broken"])
    async def test_without_a_sound_hash_nobody_gets_in(self, nobody: AsyncClient, password: str | None) -> None:
        await add_old_user("broken", password=password)

        for guess in (str(password), ""):
            answer = await log_in(nobody, "broken", guess)

            assert answer.status_code == 401
            assert answer.json()["code"] == "invalid_credentials"
