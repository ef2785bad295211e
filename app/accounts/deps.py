"""What routes ask for: the caller, and the parts of the service that were built at start-up."""

from typing import Annotated

from bson import ObjectId
from fastapi import Depends, Request
from starlette.requests import HTTPConnection

from app.platform.clock import now
from app.platform.errors import NotFound, Unauthenticated
from app.platform.idempotency import Idempotency

from .actor import Actor
from .errors import InvalidToken
from .passwords import PasswordPool
from .queries import actor_of
from .tokens import Tokens

# What every operation for signed-in users may answer.
SIGNED_OUT = (Unauthenticated, InvalidToken)


def bearer_token(connection: HTTPConnection) -> str | None:
    """What the `Authorization` header carries; None without a bearer token."""
    scheme, _, token = connection.headers.get("authorization", "").strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


async def current_actor(request: Request) -> Actor:
    """The signed-in user. Raises `Unauthenticated` without a token, `InvalidToken` for one that is not good."""
    token = bearer_token(request)
    if token is None:
        raise Unauthenticated
    tokens: Tokens = request.state.tokens
    request.state.claims = tokens.read_access(token)
    actor = await actor_of(request.state.claims, now())
    request.state.actor = actor
    return actor


async def _tokens(request: Request) -> Tokens:
    tokens: Tokens = request.state.tokens
    return tokens


async def _passwords(request: Request) -> PasswordPool:
    pool: PasswordPool = request.state.passwords
    return pool


async def _idempotency(request: Request) -> Idempotency:
    idempotency: Idempotency = request.state.idempotency
    return idempotency


def object_id(text: str) -> ObjectId:
    """An id from a path. Raises `NotFound`: what can't be an id names nothing."""
    if not ObjectId.is_valid(text):
        raise NotFound
    return ObjectId(text)


CurrentActor = Annotated[Actor, Depends(current_actor)]
TheTokens = Annotated[Tokens, Depends(_tokens)]
ThePasswords = Annotated[PasswordPool, Depends(_passwords)]
TheIdempotency = Annotated[Idempotency, Depends(_idempotency)]
