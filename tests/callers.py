"""People who call the API: an HTTP client each, signed in as somebody."""

import asyncio
from types import TracebackType
from typing import Any, Self

from httpx import ASGITransport, AsyncClient
from starlette.types import ASGIApp

from app.accounts.actor import Actor
from app.accounts.documents import Session, User
from app.accounts.roles import Role
from app.platform.mongo import collection_of
from tests.factories.accounts import add_session, add_user, session_row, signed_in, user_row

BASE_URL = "http://service"


class Caller(AsyncClient):
    """A client that sends its user's token with every request."""

    def __init__(self, app: ASGIApp, actor: Actor, token: str, **more: Any) -> None:
        super().__init__(
            transport=ASGITransport(app), base_url=BASE_URL, headers={"Authorization": f"Bearer {token}"}, **more
        )
        self.actor = actor
        self.token = token

    @property
    def user_id(self) -> str:
        return str(self.actor.id)


async def caller(app: ASGIApp, role: Role, **fields: Any) -> Caller:
    """A new user of the role, signed in."""
    user = await add_user(role, **fields)
    actor, token = await add_session(user)
    return Caller(app, actor, token)


class Callers:
    """One of each kind; `async with` opens their accounts and closes their clients."""

    nobody: AsyncClient
    customer: Caller
    other_customer: Caller
    agent: Caller
    admin: Caller

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __aenter__(self) -> Self:
        self.nobody = AsyncClient(transport=ASGITransport(self._app), base_url=BASE_URL)
        kinds = {
            "customer": Role.CUSTOMER,
            "other-customer": Role.CUSTOMER,
            "agent": Role.AGENT,
            "admin": Role.ADMIN,
        }
        users = [user_row(role, username=name) for name, role in kinds.items()]
        sessions = [session_row(user) for user in users]
        await asyncio.gather(collection_of(User).insert_many(users), collection_of(Session).insert_many(sessions))
        self.customer, self.other_customer, self.agent, self.admin = (
            Caller(self._app, *signed_in(user, session)) for user, session in zip(users, sessions, strict=True)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for client in (self.nobody, self.customer, self.other_customer, self.agent, self.admin):
            await client.aclose()

    def by_kind(self) -> dict[str, AsyncClient]:
        return {
            "nobody": self.nobody,
            "customer": self.customer,
            "other customer": self.other_customer,
            "agent": self.agent,
            "admin": self.admin,
        }
