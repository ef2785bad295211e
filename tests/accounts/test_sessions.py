"""Staying in and signing out: refresh tokens rotate, and whatever ends a session ends all of it at once."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
from bson import ObjectId
from httpx import ASGITransport, AsyncClient, Response
from starlette.types import ASGIApp

from app.accounts.actor import Origin
from app.accounts.audit import AuditEntry
from app.accounts.commands.sessions import ABSOLUTE_TTL, IDLE_TTL
from app.accounts.commands.signin import REFRESH_GRACE, SignedIn, refresh_session
from app.accounts.documents import Session, User
from app.accounts.errors import InvalidRefreshToken
from app.accounts.tokens import Tokens
from app.platform.clock import now
from app.platform.mongo import collection_of
from tests.callers import BASE_URL, Caller
from tests.conftest import SECRET
from tests.factories.accounts import PASSWORD, add_session, add_user, tokens
from tests.platform.server_process import ServerProcess

MOMENT = datetime.fromisoformat("2026-11-22T12:00:00.500+00:00")


@pytest.fixture(scope="module")
async def elsewhere(mongodb_uri: str) -> AsyncIterator[ServerProcess]:
    async with ServerProcess(mongodb_uri, SECRET, LOG_LEVEL="INFO") as server:
        yield server


async def new_session() -> tuple[ObjectId, str]:
    """A session as of MOMENT, and its first refresh token."""
    actor, _ = await add_session(await add_user())
    window = {"rotatedAt": MOMENT, "createdAt": MOMENT, "expiresAt": MOMENT + IDLE_TTL}
    await collection_of(Session).update_one({"_id": actor.credential_id}, {"$set": window})
    return actor.credential_id, tokens().refresh(actor.credential_id, 0)


async def refresh(token: str, after: timedelta = timedelta()) -> SignedIn:
    return await refresh_session(token, Origin(), tokens=tokens(), now=MOMENT + after)


async def is_alive(session_id: ObjectId) -> bool:
    return await collection_of(Session).find_one({"_id": session_id}) is not None


async def ask(client: AsyncClient, token: str) -> Response:
    return await client.get("/api/me", headers={"Authorization": f"Bearer {token}"})


@pytest.mark.usefixtures("database")
class TestRefreshSession:
    async def test_gives_a_new_pair_that_goes_on(self) -> None:
        _, token = await new_session()

        for _ in range(3):
            signed_in = await refresh(token)

            assert signed_in.refresh_token != token
            assert tokens().read_access(Tokens(SECRET).access(signed_in.user["_id"], ObjectId(), now()))
            token = signed_in.refresh_token

    async def test_repeats_the_successor_within_ten_seconds(self) -> None:
        session_id, first = await new_session()
        second = (await refresh(first)).refresh_token

        again = await refresh(first, REFRESH_GRACE - timedelta(milliseconds=1))

        assert timedelta(seconds=10) == REFRESH_GRACE
        assert again.refresh_token == second
        assert await is_alive(session_id)
        assert (await refresh(second)).refresh_token not in (first, second)

    async def test_a_second_use_after_ten_seconds_ends_the_session(self) -> None:
        session_id, first = await new_session()
        second = (await refresh(first)).refresh_token

        with pytest.raises(InvalidRefreshToken):
            await refresh(first, REFRESH_GRACE)

        assert not await is_alive(session_id)
        with pytest.raises(InvalidRefreshToken):
            await refresh(second)

    async def test_a_second_use_once_the_successor_was_used_ends_the_session(self) -> None:
        session_id, first = await new_session()
        second = (await refresh(first)).refresh_token
        third = (await refresh(second)).refresh_token

        with pytest.raises(InvalidRefreshToken):
            await refresh(first)

        assert not await is_alive(session_id)
        with pytest.raises(InvalidRefreshToken):
            await refresh(third)

    async def test_two_at_once_get_one_successor(self) -> None:
        session_id, first = await new_session()

        both = await asyncio.gather(*(refresh(first) for _ in range(6)))

        assert len({signed_in.refresh_token for signed_in in both}) == 1
        session = await collection_of(Session).find_one({"_id": session_id})
        assert session is not None
        assert session["generation"] == 1

    async def test_ends_after_two_weeks_without_use(self) -> None:
        session_id, first = await new_session()
        second = (await refresh(first, IDLE_TTL - timedelta(seconds=1))).refresh_token
        _, unused = await new_session()

        with pytest.raises(InvalidRefreshToken):
            await refresh(unused, IDLE_TTL)

        assert (await refresh(second, IDLE_TTL)).refresh_token != second
        assert await is_alive(session_id)

    async def test_ends_after_thirty_days_however_often_it_was_renewed(self) -> None:
        session_id, token = await new_session()
        for days in (10, 20, 29):
            token = (await refresh(token, timedelta(days=days))).refresh_token

        with pytest.raises(InvalidRefreshToken):
            await refresh(token, ABSOLUTE_TTL)

        assert timedelta(days=30) == ABSOLUTE_TTL
        assert not await is_alive(session_id)
        # An end by age is no theft.
        assert await collection_of(AuditEntry).count_documents({"type": "session.refresh_reused"}) == 0

    @pytest.mark.parametrize("change", [{"active": False}, {"passwordVersion": 1}])
    async def test_is_refused_when_the_account_has_changed(self, change: dict[str, object]) -> None:
        _, token = await new_session()
        await collection_of(User).update_many({}, {"$set": change})

        with pytest.raises(InvalidRefreshToken):
            await refresh(token)

    async def test_a_forged_token_ends_nobodys_session(self) -> None:
        session_id, token = await new_session()
        stranger = Tokens("another secret, just as long as the one above").refresh(session_id, 0)

        with pytest.raises(InvalidRefreshToken):
            await refresh(stranger)

        assert await is_alive(session_id)
        await refresh(token)

    async def test_over_http_answers_like_login(self, nobody: AsyncClient) -> None:
        await add_user(username="stayer")
        first = (await nobody.post("/api/login", json={"username": "stayer", "password": PASSWORD})).json()

        answer = await nobody.post("/api/token/refresh", json={"refreshToken": first["refreshToken"]})

        assert answer.status_code == 200
        assert set(answer.json()) == set(first)
        assert answer.json()["user"] == first["user"]
        assert answer.headers["Cache-Control"] == "no-store"
        assert (await ask(nobody, answer.json()["token"])).status_code == 200
        assert (await ask(nobody, first["token"])).status_code == 200  # the session lives, and this until its hour ends

    async def test_refuses_a_stale_one_over_http(self, nobody: AsyncClient) -> None:
        answer = await nobody.post("/api/token/refresh", json={"refreshToken": tokens().refresh(ObjectId(), 0)})

        assert answer.status_code == 401
        assert answer.json()["code"] == "invalid_refresh_token"
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


class TestSignOut:
    async def test_ends_both_tokens_at_once(self, customer: Caller, nobody: AsyncClient) -> None:
        refresh_token = tokens().refresh(customer.actor.credential_id, 0)

        answer = await customer.post("/api/logout")

        assert answer.status_code == 204
        assert answer.content == b""
        assert (await customer.get("/api/me")).status_code == 403
        assert (await customer.get("/api/me")).json()["code"] == "invalid_token"
        refused = await nobody.post("/api/token/refresh", json={"refreshToken": refresh_token})
        assert refused.json()["code"] == "invalid_refresh_token"

    async def test_leaves_other_sessions_alone(self, app: ASGIApp, customer: Caller, agent: Caller) -> None:
        user = await collection_of(User).find_one({"_id": customer.actor.id})
        assert user is not None
        actor, token = await add_session(user)

        await customer.post("/api/logout")

        async with Caller(app, actor, token) as other_device:
            assert (await other_device.get("/api/me")).status_code == 200
        assert (await agent.get("/api/me")).status_code == 200

    async def test_needs_somebody_to_sign_out(self, nobody: AsyncClient) -> None:
        answer = await nobody.post("/api/logout")

        assert answer.status_code == 401
        assert answer.json()["code"] == "unauthenticated"

    async def test_an_expired_session_is_over_before_the_database_drops_it(self, customer: Caller) -> None:
        past = {"$set": {"expiresAt": now() - timedelta(milliseconds=1)}}
        await collection_of(Session).update_one({"_id": customer.actor.credential_id}, past)

        answer = await customer.get("/api/me")

        assert answer.status_code == 403
        assert answer.json()["code"] == "invalid_token"


@pytest.mark.usefixtures("database")
class TestSecondInstance:
    """Another process on the same database, which hears of nothing but by looking."""

    async def test_signs_in_here_and_works_there(self, elsewhere: ServerProcess, customer: Caller) -> None:
        async with AsyncClient(base_url=elsewhere.url) as there:
            assert (await ask(there, customer.token)).status_code == 200

    async def test_what_ends_a_session_here_ends_it_there(
        self, elsewhere: ServerProcess, admin: Caller, customer: Caller, agent: Caller
    ) -> None:
        assert (await customer.post("/api/logout")).status_code == 204
        assert (await admin.patch(f"/api/users/{agent.user_id}", json={"active": False})).status_code == 200

        async with AsyncClient(base_url=elsewhere.url) as there:
            for token in (customer.token, agent.token):
                assert (await ask(there, token)).json()["code"] == "invalid_token"

    async def test_a_change_of_role_here_is_in_force_there(
        self, elsewhere: ServerProcess, admin: Caller, customer: Caller
    ) -> None:
        await admin.patch(f"/api/users/{customer.user_id}", json={"role": "Agent"})

        async with AsyncClient(base_url=elsewhere.url) as there:
            answer = await there.get("/api/users", headers={"Authorization": f"Bearer {customer.token}"})

        assert answer.status_code == 200

    async def test_names_are_unique_across_both(
        self, costly_passwords: None, elsewhere: ServerProcess, app: ASGIApp
    ) -> None:
        body = {"username": "twice@example.com", "password": PASSWORD}
        async with (
            AsyncClient(transport=ASGITransport(app), base_url=BASE_URL) as here,
            AsyncClient(base_url=elsewhere.url) as there,
        ):
            answers = await asyncio.gather(*(client.post("/api/register", json=body) for client in (here, there)))

        assert sorted(answer.status_code for answer in answers) == [201, 409]
        assert await collection_of(User).count_documents({}) == 1
