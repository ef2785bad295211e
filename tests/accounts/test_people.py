"""Opening accounts: by anybody, by an Admin, and the very first."""

import asyncio
from typing import Any

import bcrypt
import pytest
from bson import ObjectId
from httpx import AsyncClient

from app.accounts.commands.people import create_first_admin
from app.accounts.documents import User
from app.accounts.passwords import PasswordPool
from app.accounts.roles import Role
from app.platform.clock import now
from app.platform.errors import InvalidInput
from app.platform.mongo import collection_of
from tests.callers import Caller, Callers
from tests.conftest import SECRET
from tests.factories.accounts import PASSWORD, PASSWORD_HASH, add_user
from tests.platform.server_process import ServerProcess

OLD = {"password": PASSWORD_HASH, "role": "Customer", "mfaEnabled": False, "__v": 0}


async def user_count() -> int:
    return await collection_of(User).count_documents({})


def registration(**changes: Any) -> dict[str, Any]:
    return {"username": "carol@example.com", "password": PASSWORD, **changes}


class TestRegister:
    async def test_opens_a_customers_account(self, costly_passwords: None, nobody: AsyncClient) -> None:
        answer = await nobody.post("/api/register", json=registration(username=" Carol@example.com ", name="Carol"))

        body = answer.json()
        stored = await collection_of(User).find_one({"username": "Carol@example.com"})
        assert answer.status_code == 201
        assert stored is not None
        assert body == {
            "id": str(stored["_id"]),
            "username": "Carol@example.com",
            "role": "Customer",
            "email": None,
            "name": "Carol",
            "active": True,
            "mfaEnabled": False,
            "createdAt": body["createdAt"],
        }
        assert stored["usernameKey"] == "carol@example.com"
        assert stored["password"].startswith("$2b$12$")
        assert bcrypt.checkpw(PASSWORD.encode(), stored["password"].encode())
        login = await nobody.post("/api/login", json={"username": "carol@example.com", "password": PASSWORD})
        assert login.status_code == 200

    @pytest.mark.parametrize(
        ("changes", "field", "code"),
        [
            ({"role": "Admin"}, "role", "unknown_field"),
            ({"role": "Customer"}, "role", "unknown_field"),
            ({"active": True}, "active", "unknown_field"),
            ({"_id": "6740a1f0c3b2a1d4e5f60718"}, "_id", "unknown_field"),
            ({"mfaEnabled": True}, "mfaEnabled", "unknown_field"),
            ({"passwordVersion": 1}, "passwordVersion", "unknown_field"),
            ({"$set": {"role": "Admin"}}, "$set", "unknown_field"),
            ({"username": "   "}, "username", "string_too_short"),
            ({"username": "x" * 255}, "username", "string_too_long"),
            ({"username": "a\u202eb"}, "username", "value_error"),
            ({"username": "a\nb"}, "username", "value_error"),
            ({"username": "a\x00b"}, "username", "value_error"),
            ({"username": ["a"]}, "username", "string_type"),
            ({"username": None}, "username", "string_type"),
            ({"email": "no address"}, "email", "string_pattern_mismatch"),
            ({"email": "a@b.c\r\nBcc: d@e.f"}, "email", "string_pattern_mismatch"),
            ({"name": "x" * 201}, "name", "string_too_long"),
            ({"password": "short"}, "password", "weak_password"),
            ({"password": "Password123"}, "password", "weak_password"),
            ({"password": "CAROL@EXAMPLE.COM"}, "password", "weak_password"),
            ({"password": "ä" * 37}, "password", "weak_password"),
            ({"password": "x" * 4097}, "password", "string_too_long"),
            ({"password": "nul\x00nul\x00nul"}, "password", "value_error"),
        ],
    )
    async def test_refuses_and_stores_nothing(
        self, nobody: AsyncClient, changes: dict[str, Any], field: str, code: str
    ) -> None:
        before = await user_count()

        answer = await nobody.post("/api/register", json=registration(**changes))

        assert answer.status_code == 422
        assert answer.json()["code"] == "invalid_input"
        assert [(e["field"], e["code"]) for e in answer.json()["errors"]] == [(field, code)]
        assert await user_count() == before

    async def test_names_a_weak_password_beside_all_else(self, nobody: AsyncClient) -> None:
        answer = await nobody.post("/api/register", json=registration(username=" ", password="short", email="x"))

        assert [e["field"] for e in answer.json()["errors"]] == ["username", "password", "email"]

    @pytest.mark.parametrize("name", ["carol@example.com", "CAROL@EXAMPLE.COM", "  Carol@Example.com\t"])
    @pytest.mark.parametrize("is_old", [True, False])
    async def test_refuses_a_name_that_is_taken_in_any_case(
        self, nobody: AsyncClient, name: str, *, is_old: bool
    ) -> None:
        if is_old:
            await collection_of(User).insert_one({"_id": ObjectId(), "username": "Carol@example.com", **OLD})
        else:
            await add_user(username="Carol@example.com")
        before = await user_count()

        answer = await nobody.post("/api/register", json=registration(username=name))

        assert answer.status_code == 409
        assert answer.json()["code"] == "username_taken"
        assert await user_count() == before

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (" lonely ", "lonely"),
            ("\tLonely", "lonely"),
            ("ren\u00e9", "rene\u0301"),
            ("rene\u0301", "REN\u00c9"),
            ("carol", "\uff43arol"),
        ],
    )
    @pytest.mark.parametrize("is_old", [True, False])
    async def test_refuses_a_name_that_looks_like_another(
        self, nobody: AsyncClient, old: str, new: str, *, is_old: bool
    ) -> None:
        if is_old:
            await collection_of(User).insert_one({"_id": ObjectId(), "username": old, **OLD})
        else:
            await add_user(username=old)

        answer = await nobody.post("/api/register", json=registration(username=new))

        assert (answer.status_code, answer.json()["code"]) == (409, "username_taken")

    @pytest.mark.parametrize(("old", "new"), [("lone ly", "lonely"), ("rene", "ren\u00e9"), ("a.b", "ab")])
    async def test_takes_what_is_another_name(self, nobody: AsyncClient, old: str, new: str) -> None:
        await collection_of(User).insert_one({"_id": ObjectId(), "username": old, **OLD})

        assert (await nobody.post("/api/register", json=registration(username=new))).status_code == 201

    async def test_of_two_ways_to_write_a_name_at_once_one_gets_it(self, nobody: AsyncClient) -> None:
        names = ["ren\u00e9", "rene\u0301"]
        answers = await asyncio.gather(
            *(nobody.post("/api/register", json=registration(username=name)) for name in names)
        )

        assert sorted(answer.status_code for answer in answers) == [201, 409]

    async def test_of_two_at_once_one_gets_the_name(self, costly_passwords: None, nobody: AsyncClient) -> None:
        before = await user_count()
        names = ["carol@example.com", "Carol@example.com", "CAROL@EXAMPLE.COM", "carol@example.com"]

        answers = await asyncio.gather(
            *(nobody.post("/api/register", json=registration(username=name)) for name in names)
        )

        assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
        assert {answer.json().get("code") for answer in answers} == {None, "username_taken"}
        assert await user_count() == before + 1

    async def test_is_the_same_account_for_a_repeated_key(self, nobody: AsyncClient) -> None:
        key = {"Idempotency-Key": "register-1"}
        first = await nobody.post("/api/register", json=registration(), headers=key)

        again = await nobody.post("/api/register", json=registration(), headers=key)

        assert (first.status_code, again.status_code) == (201, 201)
        assert again.json() == first.json()
        assert again.headers["Idempotency-Replayed"] == "true"

    @pytest.mark.usefixtures("callers")
    async def test_can_be_switched_off(self, mongodb_uri: str) -> None:
        before = await user_count()

        async with (
            ServerProcess(mongodb_uri, SECRET, LOG_LEVEL="INFO", REGISTRATION="off") as server,
            AsyncClient(base_url=server.url) as client,
        ):
            answer = await client.post("/api/register", json=registration(role="Admin"))

        assert answer.status_code == 403
        assert answer.json()["code"] == "registration_closed"
        assert await user_count() == before


class TestCreateUser:
    @pytest.mark.parametrize("role", ["Admin", "Agent", "Customer"])
    async def test_opens_an_account_of_any_role(self, admin: Caller, role: str) -> None:
        answer = await admin.post("/api/users", json=registration(role=role, email="c@example.com"))

        assert answer.status_code == 201
        assert (answer.json()["role"], answer.json()["email"]) == (role, "c@example.com")
        assert answer.headers["Location"] == f"/api/users/{answer.json()['id']}"
        assert (await admin.get(answer.headers["Location"])).json() == answer.json()

    @pytest.mark.parametrize(
        ("kind", "status", "code"),
        [("nobody", 401, "unauthenticated"), ("customer", 403, "forbidden"), ("agent", 403, "forbidden")],
    )
    async def test_is_for_admins(self, callers: Callers, kind: str, status: int, code: str) -> None:
        before = await user_count()

        answer = await callers.by_kind()[kind].post("/api/users", json=registration(role="Admin", nonsense=1))

        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert await user_count() == before

    @pytest.mark.parametrize("role", ["admin", "Owner", "", None, 1, ["Admin"]])
    async def test_refuses_roles_that_are_none(self, admin: Caller, role: Any) -> None:
        before = await user_count()

        answer = await admin.post("/api/users", json=registration(role=role))

        assert answer.status_code == 422
        assert [e["field"] for e in answer.json()["errors"]] == ["role"]
        assert await user_count() == before

    async def test_refuses_a_taken_name(self, admin: Caller) -> None:
        answer = await admin.post("/api/users", json=registration(username="AGENT"))

        assert answer.status_code == 409
        assert answer.json()["code"] == "username_taken"


@pytest.mark.usefixtures("database")
class TestCreateFirstAdmin:
    @staticmethod
    async def create(username: str = "root", password: str = PASSWORD) -> bool:
        pool = PasswordPool()
        try:
            return await create_first_admin(username, password, passwords=pool, now=now())
        finally:
            pool.close()

    async def test_opens_the_first_and_no_second(self) -> None:
        assert await self.create()
        assert not await self.create()
        assert not await self.create("another")

        stored = await collection_of(User).find().to_list()
        assert [(row["username"], row["role"]) for row in stored] == [("root", "Admin")]

    @pytest.mark.parametrize("fields", [{}, {"active": False}])
    async def test_does_nothing_where_an_admin_is(self, fields: dict[str, Any]) -> None:
        await add_user(Role.ADMIN, username="boss", **fields)

        assert not await self.create()
        assert await user_count() == 1

    @pytest.mark.parametrize("name", ["root", "ROOT"])
    async def test_never_touches_an_account_that_exists(self, name: str) -> None:
        row = {"_id": ObjectId(), "username": "root", **OLD}
        await collection_of(User).insert_one(row)

        assert not await self.create(name, "another long password")
        assert await collection_of(User).find().to_list() == [row]

    async def test_of_two_processes_that_start_at_once_one_creates_it(self, costly_passwords: None) -> None:
        assert sorted(await asyncio.gather(self.create(), self.create())) == [False, True]
        assert await user_count() == 1

    @pytest.mark.parametrize(("username", "password"), [("", PASSWORD), ("root", "short"), ("root", "password123")])
    async def test_refuses_what_no_account_may_have(self, username: str, password: str) -> None:
        with pytest.raises(InvalidInput):
            await self.create(username, password)

        assert await user_count() == 0
