"""Signing in, by password and second factor, staying in, and proving once more who one is."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError

from app.accounts.actor import STEP_UP, Actor, Origin
from app.accounts.audit import AuditType, audit_row, record_audit
from app.accounts.documents import Session, SpentToken, User
from app.accounts.errors import (
    InvalidCredentials,
    InvalidMfaToken,
    InvalidOtp,
    InvalidRecoveryCode,
    InvalidRefreshToken,
    InvalidToken,
    MfaRequired,
)
from app.accounts.queries import may_go_on, user_by_username
from app.accounts.schemas import Credentials, MfaAnswer, Proof, SecondFactor
from app.accounts.tokens import ACCESS_TTL, RefreshClaims, Tokens
from app.platform.errors import AppError
from app.platform.mongo import collection_of, transaction
from app.platform.wire import JsonObject, Row

from .sessions import make_room, session_row, used
from .verification import Verifier, where

# How long the token before the current one may be repeated: its answer may have got lost on the way.
REFRESH_GRACE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class SignedIn:
    token: str
    refresh_token: str
    user: Row

    @property
    def expires_in_s(self) -> int:
        return int(ACCESS_TTL.total_seconds())


async def sign_in(
    credentials: Credentials, origin: Origin, *, verifier: Verifier, tokens: Tokens, now: datetime
) -> SignedIn:
    """Opens a session.

    Raises `InvalidCredentials`, `MfaRequired` with an `mfaToken`, `InvalidOtp`, `TooManyRequests`.
    """
    with verifier.passwords.place(where(origin)) as place:
        user = await user_by_username(credentials.username)
        try:
            user = await verifier.check_password(credentials.username, user, credentials.password, origin, now, place)
        except InvalidCredentials as error:
            await _record_failure(user, error, origin, now)
            raise
    factor = None
    if user.get("mfaEnabled") is True:
        if credentials.otp is None:
            raise MfaRequired(tokens.mfa(user["_id"], user.get("passwordVersion", 0), now))
        factor = SecondFactor(otp=credentials.otp)
    session = await _open_session(user, factor, origin, verifier, now)
    return await _tokens_of(session, tokens, now)


async def complete_sign_in(
    answer: MfaAnswer, origin: Origin, *, verifier: Verifier, tokens: Tokens, now: datetime
) -> SignedIn:
    """Opens the session of a sign-in whose password was right. An `mfaToken` is good for one.

    Raises `InvalidMfaToken`, `InvalidOtp`, `InvalidRecoveryCode`, `TooManyRequests`.
    """
    try:
        claims = tokens.read_mfa(answer.mfa_token)
    except InvalidToken:
        raise InvalidMfaToken from None
    user = await collection_of(User).find_one({"_id": claims.user_id})
    if user is None or not may_go_on(user, {"passwordVersion": claims.password_version}):
        raise InvalidMfaToken
    spent = {"_id": claims.id, "expiresAt": claims.expires_at}
    session = await _open_session(user, answer.factor, origin, verifier, now, spent)
    return await _tokens_of(session, tokens, now)


async def _open_session(
    user: Row,
    factor: SecondFactor | None,
    origin: Origin,
    verifier: Verifier,
    now: datetime,
    mfa_token: Row | None = None,
) -> Row:
    row = session_row(user, origin, now)
    details = {"secondFactor": factor and factor.kind, "session": row["_id"]}

    async def write(session: AsyncClientSession) -> None:
        if mfa_token:
            await _spend(mfa_token, session)
        await collection_of(Session).insert_one(row, session=session)
        succeeded = audit_row(AuditType.SIGN_IN_SUCCEEDED, at=now, origin=origin, target=user, details=details)
        await record_audit(succeeded, session)

    try:
        await verifier.with_second_factor(user, factor, origin, now, write)
    except (InvalidOtp, InvalidRecoveryCode) as error:
        await _record_failure(user, error, origin, now)
        raise
    await make_room(user["_id"])
    return row


async def _tokens_of(session: Row, tokens: Tokens, now: datetime) -> SignedIn:
    # Read after the session is there: an account that was closed meanwhile shows here, one closed later finds it.
    user = await collection_of(User).find_one({"_id": session["userId"]})
    if user is None or not may_go_on(user, session):
        await collection_of(Session).delete_one({"_id": session["_id"]})
        raise InvalidCredentials
    return SignedIn(tokens.access(user["_id"], session["_id"], now), tokens.refresh(session["_id"], 0), user)


async def _spend(token: Row, session: AsyncClientSession) -> None:
    """Raises `InvalidMfaToken` for one that was used before."""
    try:
        await collection_of(SpentToken).insert_one(token, session=session)
    except DuplicateKeyError:
        raise InvalidMfaToken from None


async def _record_failure(user: Row | None, error: AppError, origin: Origin, now: datetime) -> None:
    """Not what was given as a name: people type passwords there."""
    details = {"reason": error.code}
    await record_audit(audit_row(AuditType.SIGN_IN_FAILED, at=now, origin=origin, target=user, details=details))


async def reauthenticate(
    actor: Actor, body: JsonObject, origin: Origin, *, verifier: Verifier, now: datetime
) -> datetime:
    """Renews the proof of identity of this session; answers until when it counts.

    Raises `SessionRequired`, `InvalidInput`, `InvalidCredentials`, `MfaRequired`, `InvalidOtp`, `InvalidRecoveryCode`,
    `TooManyRequests`.
    """
    actor.require_session()
    proof = Proof.parse(body)
    succeeded = audit_row(AuditType.REAUTHENTICATION_SUCCEEDED, at=now, origin=origin, actor=actor)

    async def write(session: AsyncClientSession) -> None:
        change: Row = {"$set": {"authenticatedAt": now}}
        await collection_of(Session).update_one({"_id": actor.credential_id}, change, session=session)
        await record_audit(succeeded, session)

    await verifier.prove(actor, proof, origin, now, write)
    return now + STEP_UP


async def refresh_session(token: str, origin: Origin, *, tokens: Tokens, now: datetime) -> SignedIn:
    """A new pair for a refresh token. Raises `InvalidRefreshToken`.

    A token is good once. The one before the current may be repeated for 10 s while the current one is unused, and
    gets the same successor again; any other second use means that two parties hold the token, and ends the session.
    """
    claims = tokens.read_refresh(token)
    sessions = collection_of(Session)
    alive: Row = {"_id": claims.session_id, "expiresAt": {"$gt": now}}
    rotated = await sessions.find_one_and_update(
        {**alive, "generation": claims.generation},
        [{"$set": {"generation": claims.generation + 1, "rotatedAt": now, **used(now)}}],
    )
    if rotated is None:
        repeatable = {"generation": claims.generation + 1, "rotatedAt": {"$gt": now - REFRESH_GRACE}}
        rotated = await sessions.find_one({**alive, **repeatable})
    if rotated is None:
        await _end_reused(claims, origin, now)
        raise InvalidRefreshToken
    user = await collection_of(User).find_one({"_id": rotated["userId"]})
    if user is None or not may_go_on(user, rotated):
        raise InvalidRefreshToken
    access = tokens.access(user["_id"], claims.session_id, now)
    return SignedIn(access, tokens.refresh(claims.session_id, claims.generation + 1), user)


async def _end_reused(claims: RefreshClaims, origin: Origin, now: datetime) -> None:
    async def body(session: AsyncClientSession) -> None:
        ended = await collection_of(Session).find_one_and_delete({"_id": claims.session_id}, session=session)
        if ended is None or ended["expiresAt"] <= now:
            return
        user = await collection_of(User).find_one({"_id": ended["userId"]}, session=session)
        details = {"session": claims.session_id}
        row = audit_row(AuditType.SESSION_REFRESH_REUSED, at=now, origin=origin, target=user, details=details)
        await record_audit(row, session)

    await transaction(Session, body)
