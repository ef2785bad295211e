"""People who call the API: an HTTP client each, signed in as somebody."""

from types import TracebackType
from typing import Any, Self

from httpx import ASGITransport, AsyncClient
from starlette.types import ASGIApp

from app.accounts.actor import Actor
from app.accounts.roles import Role
from tests.factories.accounts import add_session, add_user

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
        self.customer = await caller(self._app, Role.CUSTOMER, username="customer")
        self.other_customer = await caller(self._app, Role.CUSTOMER, username="other-customer")
        self.agent = await caller(self._app, Role.AGENT, username="agent")
        self.admin = await caller(self._app, Role.ADMIN, username="admin")
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
