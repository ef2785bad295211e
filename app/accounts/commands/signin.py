"""Signing in, staying in and signing out."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from bson import ObjectId

from app.accounts.actor import Actor
from app.accounts.documents import Session, User
from app.accounts.errors import InvalidCredentials, InvalidOtp, InvalidRefreshToken, MfaRequired
from app.accounts.passwords import PasswordPool
from app.accounts.queries import may_go_on, user_by_username
from app.accounts.schemas import Credentials
from app.accounts.tokens import ACCESS_TTL, Tokens
from app.accounts.totp import matching_step
from app.platform.mongo import collection_of
from app.platform.wire import Row

SESSION_TTL = timedelta(days=30)
# How long the token before the current one may be repeated: its answer may have got lost on the way.
REFRESH_GRACE = timedelta(seconds=10)
MAX_DEVICE = 200


@dataclass(frozen=True, slots=True)
class SignedIn:
    token: str
    refresh_token: str
    user: Row

    @property
    def expires_in_s(self) -> int:
        return int(ACCESS_TTL.total_seconds())


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a sign-in comes from, for the list of sessions."""

    device: str | None
    address: str | None


async def sign_in(
    credentials: Credentials, origin: Origin, *, passwords: PasswordPool, tokens: Tokens, now: datetime
) -> SignedIn:
    """Opens a session. Raises `InvalidCredentials`, `MfaRequired`, `InvalidOtp`, `TooManyRequests`."""
    user = await user_by_username(credentials.username)
    is_right = await passwords.check(credentials.password, user.password if user else None)
    if user is None or not is_right or not user.active:
        raise InvalidCredentials
    if user.mfa_enabled:
        await _accept_otp(user, credentials.otp, now)
    return await _open_session(user, origin, tokens, now)


async def _accept_otp(user: User, otp: str | None, now: datetime) -> None:
    if otp is None:
        raise MfaRequired
    step = matching_step(user.mfa_secret or "", otp, now)
    if step is None:
        raise InvalidOtp
    # Compare-and-set, so that of two parallel sign-ins with one code only one succeeds.
    is_unused: Row = {"$or": [{"mfaLastStep": None}, {"mfaLastStep": {"$lt": step}}]}
    outcome = await collection_of(User).update_one({"_id": user.id, **is_unused}, {"$set": {"mfaLastStep": step}})
    if outcome.matched_count == 0:
        raise InvalidOtp


async def _open_session(user: User, origin: Origin, tokens: Tokens, now: datetime) -> SignedIn:
    session_id = ObjectId()
    row = {
        "_id": session_id,
        "userId": user.id,
        "passwordVersion": user.password_version,
        "generation": 0,
        "rotatedAt": now,
        "createdAt": now,
        "expiresAt": now + SESSION_TTL,
        "device": origin.device[:MAX_DEVICE] if origin.device else None,
        "address": origin.address,
    }
    await collection_of(Session).insert_one(row)
    # Read after the session is there: an account that was closed meanwhile shows here, one closed later finds it.
    stored = await collection_of(User).find_one({"_id": user.id})
    if stored is None or not may_go_on(stored, row):
        await collection_of(Session).delete_one({"_id": session_id})
        raise InvalidCredentials
    return SignedIn(tokens.access(stored["_id"], session_id, now), tokens.refresh(session_id, 0), stored)


async def refresh_session(token: str, *, tokens: Tokens, now: datetime) -> SignedIn:
    """A new pair for a refresh token. Raises `InvalidRefreshToken`.

    A token is good once. The one before the current may be repeated for 10 s while the current one is unused, and
    gets the same successor again; any other second use means that two parties hold the token, and ends the session.
    """
    claims = tokens.read_refresh(token)
    sessions = collection_of(Session)
    rotated = await sessions.find_one_and_update(
        {"_id": claims.session_id, "generation": claims.generation, "expiresAt": {"$gt": now}},
        {"$inc": {"generation": 1}, "$set": {"rotatedAt": now}},
    )
    if rotated is None:
        repeatable = {
            "_id": claims.session_id,
            "generation": claims.generation + 1,
            "rotatedAt": {"$gt": now - REFRESH_GRACE},
            "expiresAt": {"$gt": now},
        }
        rotated = await sessions.find_one(repeatable)
    if rotated is None:
        await sessions.delete_one({"_id": claims.session_id})
        raise InvalidRefreshToken
    user = await collection_of(User).find_one({"_id": rotated["userId"]})
    if user is None or not may_go_on(user, rotated):
        raise InvalidRefreshToken
    access = tokens.access(user["_id"], claims.session_id, now)
    return SignedIn(access, tokens.refresh(claims.session_id, claims.generation + 1), user)


async def sign_out(actor: Actor) -> None:
    """Ends the caller's session: its tokens stop working at once, everywhere."""
    await collection_of(Session).delete_one({"_id": actor.session_id})
