"""One request of every kind, to see how each takes an outage."""

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass

import httpx
from bson import ObjectId

from app.accounts.tokens import Tokens
from tests.factories.accounts import PASSWORD
from tests.services import SECRET, Person


@dataclass(frozen=True, slots=True)
class Taken:
    """An answer and how long it took."""

    answer: httpx.Response
    seconds: float


async def every_kind(
    client: httpx.AsyncClient, admin: Person, ticket_id: str, other_ticket_id: str, *, key: str = "meanwhile"
) -> dict[str, Taken]:
    """The answers, asked for at the same time; two tickets, so that the writes are not in each other's way."""
    body = {"title": "Asked", "description": "Meanwhile"}
    bulk = {"ids": [other_ticket_id], "patch": {"title": "Meanwhile"}}
    kinds = {
        "login": client.post("/api/login", json={"username": admin.username, "password": PASSWORD}),
        "refresh": client.post("/api/token/refresh", json={"refreshToken": Tokens(SECRET).refresh(ObjectId(), 0)}),
        "list": client.get("/api/tickets"),
        "get": client.get(f"/api/tickets/{ticket_id}"),
        "create": client.post("/api/tickets", json=body),
        "keyed create": client.post("/api/tickets", json=body, headers={"Idempotency-Key": key}),
        "patch": client.patch(f"/api/tickets/{ticket_id}", json={"title": "Meanwhile"}),
        "bulk": client.post("/api/tickets/bulk", json=bulk),
    }
    taken = await asyncio.gather(*map(timed, kinds.values()))
    return dict(zip(kinds, taken, strict=True))


async def timed(request: Awaitable[httpx.Response]) -> Taken:
    started = time.perf_counter()
    answer = await request
    return Taken(answer, time.perf_counter() - started)
