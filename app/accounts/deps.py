"""What routes ask for: the caller, and the parts of the service that were built at start-up."""

from collections.abc import Awaitable
from datetime import datetime
from typing import Annotated

from bson import ObjectId
from fastapi import Depends, Path, Request
from starlette.requests import HTTPConnection

from app.mail.outbox import Outbox
from app.platform.clock import now
from app.platform.errors import NotFound, Unauthenticated
from app.platform.idempotency import Idempotency
from app.platform.ratelimit import Budgets

from .actor import Actor, Origin
from .commands.sessions import note_use
from .commands.verification import Verifier
from .errors import InvalidToken, MfaSetupRequired, ReauthenticationRequired, SessionRequired
from .passwords import PasswordPool
from .queries import actor_of, claims_of
from .schemas import USER_EXAMPLE
from .tokens import AccessClaims, Tokens

# What every operation for signed-in users may answer.
SIGNED_OUT = (Unauthenticated, InvalidToken, MfaSetupRequired)
# The same of operations that who must set up MFA may use before.
ENROLLING = (Unauthenticated, InvalidToken)
# What changes to how somebody gets in may answer.
STEP_UP_ERRORS = (SessionRequired, ReauthenticationRequired)
MAX_DEVICE = 200


def bearer_token(connection: HTTPConnection) -> str | None:
    """What the `Authorization` header carries; None without a bearer token."""
    scheme, _, token = connection.headers.get("authorization", "").strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def origin_of(connection: HTTPConnection) -> Origin:
    device = connection.headers.get("user-agent", "")[:MAX_DEVICE]
    return Origin(device or None, connection.client.host if connection.client else None)


async def current_actor(request: Request) -> Actor:
    """The signed-in user, or the owner of an API key.

    Raises `Unauthenticated` without a token, `InvalidToken` for one that is not good, `MfaSetupRequired` for users
    who must set up MFA before anything else.
    """
    return await _actor(request, may_lack_mfa=False)


async def enrolling_actor(request: Request) -> Actor:
    """The same, for the few operations that lead to MFA or out again."""
    return await _actor(request, may_lack_mfa=True)


async def _actor(request: Request, *, may_lack_mfa: bool) -> Actor:
    moment = now()
    claims = await charged(request, _claims(request, moment))
    budgets: Budgets = request.state.budgets
    budgets.hold_place(request, claims.user_id)
    actor = await actor_of(claims, moment, may_lack_mfa=may_lack_mfa)
    await note_use(actor, moment)
    request.state.claims = claims
    request.state.actor = actor
    return actor


async def _claims(request: Request, now: datetime) -> AccessClaims:
    token = bearer_token(request)
    if token is None:
        raise Unauthenticated
    return await claims_of(token, request.state.tokens, now)


async def charged(connection: HTTPConnection, claims: Awaitable[AccessClaims]) -> AccessClaims:
    """The claims, at the cost of one of the user's requests; of one of the address's where they name nobody.

    Raises `TooManyRequests`, or what stands in the way of the claims.
    """
    budgets: Budgets = connection.state.budgets
    try:
        read = await claims
    except (Unauthenticated, InvalidToken):
        budgets.charge_address(connection)
        raise
    budgets.charge_user(connection, read.user_id)
    return read


async def anonymous(request: Request) -> None:
    """For operations that need no token: costs one of the address's requests. Raises `TooManyRequests`."""
    budgets: Budgets = request.state.budgets
    budgets.charge_address(request)


async def _tokens(request: Request) -> Tokens:
    tokens: Tokens = request.state.tokens
    return tokens


async def _passwords(request: Request) -> PasswordPool:
    pool: PasswordPool = request.state.passwords
    return pool


async def _verifier(request: Request) -> Verifier:
    verifier: Verifier = request.state.verifier
    return verifier


async def _idempotency(request: Request) -> Idempotency:
    idempotency: Idempotency = request.state.idempotency
    return idempotency


async def _mail(request: Request) -> Outbox:
    outbox: Outbox = request.state.mail
    return outbox


async def _origin(request: Request) -> Origin:
    return origin_of(request)


def object_id(text: str) -> ObjectId:
    """An id from a path. Raises `NotFound`: what can't be an id names nothing."""
    if not ObjectId.is_valid(text):
        raise NotFound
    return ObjectId(text)


UserReference = Annotated[str, Path(alias="userId", description="The user's id", examples=[USER_EXAMPLE["id"]])]
Anonymous = Depends(anonymous)
CurrentActor = Annotated[Actor, Depends(current_actor)]
EnrollingActor = Annotated[Actor, Depends(enrolling_actor)]
TheTokens = Annotated[Tokens, Depends(_tokens)]
ThePasswords = Annotated[PasswordPool, Depends(_passwords)]
TheVerifier = Annotated[Verifier, Depends(_verifier)]
TheMail = Annotated[Outbox, Depends(_mail)]
TheIdempotency = Annotated[Idempotency, Depends(_idempotency)]
TheOrigin = Annotated[Origin, Depends(_origin)]
