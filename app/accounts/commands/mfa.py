"""Multi-factor authentication of an account: set up, on, off, and reset for who has lost everything."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from bson import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession

from app.accounts.actor import Actor, Origin
from app.accounts.audit import AuditType, audit_row, record_audit
from app.accounts.documents import User
from app.accounts.errors import InvalidOtp, MfaAlreadyOn, MfaNotOn, MfaNotSetUp, MfaStillRequired
from app.accounts.messages import mfa_disabled, mfa_enabled, mfa_reset, recovery_codes_renewed
from app.accounts.queries import get_user, mfa_is_required
from app.accounts.recovery import code_digest, new_codes
from app.accounts.roles import Permission
from app.accounts.schemas import OneTimeCode, Proof
from app.accounts.totp import matching_step, new_secret, otpauth_uri
from app.platform.idempotency import Once
from app.platform.mongo import collection_of, transaction
from app.platform.secretbox import SecretBox
from app.platform.wire import JsonObject, Row

from .verification import Verifier

# What an account without MFA holds of it.
_OFF: Row = {
    "$set": {"mfaEnabled": False, "mfaSecret": None, "mfaLastStep": None, "mfaPendingSecret": None, "recoveryCodes": []}
}


_Write = Callable[[AsyncClientSession], Awaitable[object]]


class _NotAsExpected(Exception):
    """The account is no longer as it was read; nothing was written."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What the authenticator is given, by copy or as a picture."""

    secret: str
    uri: str


async def set_up_mfa(actor: Actor, *, secrets: SecretBox, now: datetime) -> Setup:
    """Begins a set-up, which takes the place of one that was not completed; MFA stays off until a code was right.

    Raises `SessionRequired`, `ReauthenticationRequired`, `MfaAlreadyOn`.
    """
    actor.require_recent_sign_in(now)
    secret = new_secret()
    off: Row = {"_id": actor.id, "mfaEnabled": {"$ne": True}}
    pending: Row = {"$set": {"mfaPendingSecret": secrets.seal(secret)}}
    outcome = await collection_of(User).update_one(off, pending)
    if outcome.matched_count == 0:
        raise MfaAlreadyOn
    return Setup(secret, otpauth_uri(secret, actor.username))


async def enable_mfa(
    actor: Actor,
    body: JsonObject,
    origin: Origin,
    *,
    verifier: Verifier,
    now: datetime,
    once: Once[list[str]] | None = None,
) -> list[str]:
    """Completes a set-up with the authenticator's first code; answers the recovery codes, which nobody can read again.

    Raises `SessionRequired`, `ReauthenticationRequired`, `InvalidInput`, `MfaAlreadyOn`, `MfaNotSetUp`, `InvalidOtp`,
    `TooManyRequests`.
    """
    actor.require_recent_sign_in(now)
    otp = OneTimeCode.parse(body).otp
    user = await get_user(actor.id)
    if user.get("mfaEnabled") is True:
        raise MfaAlreadyOn
    pending = user.get("mfaPendingSecret")
    secret = verifier.secrets.open(pending) if pending else None
    if secret is None:
        raise MfaNotSetUp
    counted = await verifier.begin_code(user, origin, now)
    step = matching_step(secret, otp, now)
    if step is None:
        raise InvalidOtp
    codes = new_codes()
    on: Row = {
        "mfaEnabled": True,
        "mfaSecret": verifier.secrets.seal(secret),
        "mfaLastStep": step,
        "mfaPendingSecret": None,
        "recoveryCodes": [code_digest(code) for code in codes],
    }
    row = audit_row(AuditType.MFA_ENABLED, at=now, origin=origin, actor=actor, target=user)
    still_off: Row = {"_id": actor.id, "mfaEnabled": {"$ne": True}, "mfaPendingSecret": pending}
    notice = partial(verifier.mail.post, mfa_enabled(user, origin, now))
    if not await _change(still_off, {"$set": on}, row, notice, partial(once.remember, codes) if once else None):
        raise MfaNotSetUp
    await verifier.code_was_right(counted, now)
    return codes


async def disable_mfa(
    actor: Actor,
    body: JsonObject,
    origin: Origin,
    *,
    verifier: Verifier,
    now: datetime,
    once: Once[None] | None = None,
) -> None:
    """Turns it off, by password and code.

    Raises `SessionRequired`, `ReauthenticationRequired`, `InvalidInput`, `MfaNotOn`, `MfaStillRequired`,
    `InvalidCredentials`, `MfaRequired`, `InvalidOtp`, `InvalidRecoveryCode`, `TooManyRequests`.
    """
    actor.require_recent_sign_in(now)
    proof = Proof.parse(body)
    user = await get_user(actor.id)
    if user.get("mfaEnabled") is not True:
        raise MfaNotOn
    row = audit_row(AuditType.MFA_DISABLED, at=now, origin=origin, actor=actor, target=user)

    async def write(session: AsyncClientSession) -> None:
        if once is not None:
            await once.remember(None, session)
        if await mfa_is_required(actor.role, session):
            raise MfaStillRequired
        await collection_of(User).update_one({"_id": actor.id}, _OFF, session=session)
        await record_audit(row, session)
        await verifier.mail.post(mfa_disabled(user, origin, now), session)

    await verifier.prove(actor, proof, origin, now, write)


async def renew_recovery_codes(
    actor: Actor, origin: Origin, *, verifier: Verifier, now: datetime, once: Once[list[str]] | None = None
) -> list[str]:
    """Ten new codes; those from before are void. Raises `SessionRequired`, `ReauthenticationRequired`, `MfaNotOn`."""
    actor.require_recent_sign_in(now)
    user, codes = await get_user(actor.id), new_codes()
    row = audit_row(AuditType.MFA_RECOVERY_CODES_RENEWED, at=now, origin=origin, actor=actor, target=user)
    renewed: Row = {"$set": {"recoveryCodes": [code_digest(code) for code in codes]}}
    on: Row = {"_id": actor.id, "mfaEnabled": True}
    notice = partial(verifier.mail.post, recovery_codes_renewed(user, origin, now))
    if not await _change(on, renewed, row, notice, partial(once.remember, codes) if once else None):
        raise MfaNotOn
    return codes


async def reset_mfa(actor: Actor, user_id: ObjectId, origin: Origin, *, verifier: Verifier, now: datetime) -> None:
    """Turns another's MFA off, for who can't any more; they are told.

    Raises `Forbidden`, `InsufficientScope`, `NotFound`, `SessionRequired`, `ReauthenticationRequired`, `MfaNotOn`.
    """
    actor.require(Permission.MANAGE_USERS)
    user = await get_user(user_id)
    actor.require_recent_sign_in(now)
    row = audit_row(AuditType.MFA_RESET, at=now, origin=origin, actor=actor, target=user)
    notice = partial(verifier.mail.post, mfa_reset(user, origin, now))
    if not await _change({"_id": user_id, "mfaEnabled": True}, _OFF, row, notice):
        raise MfaNotOn


async def encrypt_anew(secrets: SecretBox) -> tuple[int, int]:
    """Encrypts all secrets that the newest key did not write; answers how many, and how many no key can read."""
    users = collection_of(User)
    renewed = unreadable = 0
    async for row in users.find({"mfaSecret": {"$type": "string"}}, {"mfaSecret": 1}):
        stored = row["mfaSecret"]
        if not stored or secrets.is_current(stored):
            continue
        secret = secrets.open(stored)
        if secret is None:
            unreadable += 1
            continue
        # Only what it was read from: somebody may be setting up another one at this moment.
        change: Row = {"$set": {"mfaSecret": secrets.seal(secret)}}
        outcome = await users.update_one({"_id": row["_id"], "mfaSecret": stored}, change)
        renewed += outcome.modified_count
    return renewed, unreadable


async def _change(where: Row, change: Row, audit: Row, notice: _Write, remember: _Write | None = None) -> bool:
    """Changes the one account that is as `where` says, and tells the audit log and the owner; False if it is not so."""

    async def body(session: AsyncClientSession) -> None:
        if remember is not None:
            await remember(session)
        outcome = await collection_of(User).update_one(where, change, session=session)
        if outcome.matched_count == 0:
            raise _NotAsExpected
        await record_audit(audit, session)
        await notice(session)

    try:
        await transaction(User, body)
    except _NotAsExpected:
        return False
    return True
