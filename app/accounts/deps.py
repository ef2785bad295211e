"""What routes ask for: the caller, and the parts of the service that were built at start-up."""

from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from typing import Annotated, Self

from bson import ObjectId
from fastapi import Depends, Path, Request
from starlette.requests import HTTPConnection

from app.mail.outbox import Outbox
from app.platform.clock import now
from app.platform.errors import NotFound, TooManyRequests, Unauthenticated
from app.platform.idempotency import Idempotency
from app.platform.ratelimit import Budgets

from .actor import Actor, Origin
from .commands.sessions import note_use
from .commands.verification import Verifier
from .errors import InvalidToken, MfaSetupRequired, ReauthenticationRequired, SessionRequired
from .passwords import PasswordPool
from .queries import actor_of, claims_of
from .roles import Permission
from .schemas import USER_EXAMPLE
from .tokens import Tokens

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
    moment, token = now(), bearer_token(request)
    with Charge(request, token) as charge:
        if token is None:
            raise Unauthenticated
        claims = await claims_of(token, request.state.tokens, moment)
        charge.names(claims.user_id)
        actor = await actor_of(claims, moment, may_lack_mfa=may_lack_mfa)
    await note_use(actor, moment)
    request.state.claims = claims
    request.state.actor = actor
    return actor


async def person(actor: Annotated[Actor, Depends(current_actor)]) -> Actor:
    """The signed-in user, for what API keys can't do. Raises `SessionRequired`, and as `current_actor` does."""
    actor.require_session()
    return actor


async def enrolling_person(actor: Annotated[Actor, Depends(enrolling_actor)]) -> Actor:
    """The same, for what leads to MFA or out again."""
    actor.require_session()
    return actor


def allowed(permission: Permission) -> Callable[[Actor], Awaitable[Actor]]:
    """For operations that read a body, or an answer that was stored: whose right it is comes before (contract §2).

    What it gives raises `Forbidden`, `InsufficientScope`, and as `current_actor` does.
    """

    async def actor_allowed(actor: Annotated[Actor, Depends(current_actor)]) -> Actor:
        actor.require(permission)
        return actor

    return actor_allowed


class Charge:
    """Around finding out who sent a token: one request of the user's, if it is good, else one of the address's.

    So nobody spends another's budget with a token that has ended. One that was good the last time is charged before it
    is looked up. Any other is looked up first; but one that has ended is not, once its address has nothing left. Raises
    `TooManyRequests`.
    """

    def __init__(self, connection: HTTPConnection, token: str | None, *, is_stream: bool = False) -> None:
        self._connection = connection
        self._token = token
        self._is_stream = is_stream
        self._budgets: Budgets = connection.state.budgets
        self._owner = self._budgets.owner_of(token)
        self._named: ObjectId | None = None

    def __enter__(self) -> Self:
        if self._owner is not None:
            self._charge_user(self._owner)
        elif self._budgets.is_bad(self._token):
            self._budgets.check_address(self._connection)
        return self

    def names(self, user_id: ObjectId) -> None:
        """Tells whom the token names, before it is looked up. Raises `TooManyRequests` if they have nothing left."""
        self._named = user_id
        if self._owner is None:
            self._budgets.check_user(self._connection, user_id)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        match error:
            case None | MfaSetupRequired() if self._owner is None and self._named is not None:
                self._budgets.remember(self._token, self._named)
                # A stream is open by now, and the next is refused before it is.
                with suppress(TooManyRequests) if self._is_stream else nullcontext():
                    self._charge_user(self._named)
            case Unauthenticated() | InvalidToken():
                if self._named is not None:  # signed by us; anybody can make others, in any number
                    self._budgets.remember(self._token, None)
                self._budgets.charge_address(self._connection)

    def _charge_user(self, user_id: ObjectId) -> None:
        self._budgets.charge_user(self._connection, user_id)
        if not self._is_stream:
            self._budgets.hold_place(self._connection, user_id)


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
Person = Annotated[Actor, Depends(person)]
EnrollingPerson = Annotated[Actor, Depends(enrolling_person)]
UserManager = Annotated[Actor, Depends(allowed(Permission.MANAGE_USERS))]
PolicyMaker = Annotated[Actor, Depends(allowed(Permission.SET_SECURITY_POLICY))]
TheTokens = Annotated[Tokens, Depends(_tokens)]
ThePasswords = Annotated[PasswordPool, Depends(_passwords)]
TheVerifier = Annotated[Verifier, Depends(_verifier)]
TheMail = Annotated[Outbox, Depends(_mail)]
TheIdempotency = Annotated[Idempotency, Depends(_idempotency)]
TheOrigin = Annotated[Origin, Depends(_origin)]
