"""New passwords: by who knows the old one, and by who can read the account's mail."""

import hashlib
import secrets
from datetime import datetime, timedelta

from bson import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession

from app.accounts.actor import Actor, Origin, username_of
from app.accounts.audit import AuditType, audit_row, record_audit
from app.accounts.documents import PasswordReset, Session, User
from app.accounts.errors import InvalidCredentials, InvalidResetToken
from app.accounts.messages import address_of, password_changed, password_reset_link, password_was_reset
from app.accounts.passwords import weakness
from app.accounts.queries import user_by_username
from app.accounts.schemas import ForgotRequest, PasswordChange, ResetRequest
from app.mail.outbox import Outbox
from app.platform.errors import FieldError, InvalidInput
from app.platform.idempotency import Once
from app.platform.mongo import collection_of, transaction
from app.platform.wire import JsonObject, Row

from .verification import Verifier, where

RESET_TTL = timedelta(hours=1)
_TOKEN_PREFIX, _TOKEN_BYTES = "pr_", 32
# Whom a link is made for that nobody gets, so that it takes as long.
_NOBODY: Row = {"username": "nobody@example.com"}


async def change_password(
    actor: Actor,
    body: JsonObject,
    origin: Origin,
    *,
    verifier: Verifier,
    now: datetime,
    once: Once[None] | None = None,
) -> None:
    """Sets a new password and ends the caller's other sessions.

    Raises `SessionRequired`, `ReauthenticationRequired`, `InvalidInput`, `InvalidCredentials`, `TooManyRequests`.
    """
    actor.require_recent_sign_in(now)
    change = PasswordChange.parse(body)
    user = await verifier.check_own_password(actor, change.current_password, origin, now)
    _require_strength(change.new_password, actor.username, "newPassword")
    version = user.get("passwordVersion", 0) + 1
    hashed = await verifier.passwords.hash(change.new_password, str(actor.id))
    audit = audit_row(AuditType.PASSWORD_CHANGED, at=now, origin=origin, actor=actor, target=user)

    async def write(session: AsyncClientSession) -> None:
        if once is not None:
            await once.remember(None, session)
        unchanged: Row = {"_id": actor.id, "password": user["password"]}
        update: Row = {"$set": {"password": hashed, "passwordVersion": version}}
        outcome = await collection_of(User).update_one(unchanged, update, session=session)
        if outcome.matched_count == 0:  # changed elsewhere meanwhile: what was given is no longer the password
            raise InvalidCredentials
        others: Row = {"userId": actor.id, "_id": {"$ne": actor.credential_id}}
        await collection_of(Session).delete_many(others, session=session)
        own: Row = {"$set": {"passwordVersion": version}}
        await collection_of(Session).update_one({"_id": actor.credential_id}, own, session=session)
        await collection_of(PasswordReset).delete_one({"_id": actor.id}, session=session)
        await record_audit(audit, session)
        await verifier.mail.post(password_changed(user, origin, now), session)

    await transaction(User, write)


async def request_reset(
    body: JsonObject, origin: Origin, *, public_url: str, mail: Outbox, now: datetime, once: Once[None] | None = None
) -> None:
    """Mails a link to a new password to the account's address, if there are such an account and such an address.

    Neither the answer nor the time it takes tells whether there are: the database is asked the same either way.
    Raises `InvalidInput`.
    """
    request = ForgotRequest.parse(body)
    user = await user_by_username(request.username)
    audit = audit_row(AuditType.PASSWORD_RESET_REQUESTED, at=now, origin=origin, target=user)
    is_reachable = user is not None and user.get("active") is not False and address_of(user) is not None
    account = user if user and is_reachable else {"_id": ObjectId(), **_NOBODY}

    async def write(session: AsyncClientSession) -> None:
        if once is not None:
            await once.remember(None, session)
        await record_audit(audit, session)
        token = _TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
        message = password_reset_link(account, f"{public_url}/reset-password#token={token}", origin, now)
        is_sent = await mail.post(message, session, good_until=now + RESET_TTL, is_decoy=not is_reachable)
        link: Row = {"digest": _digest(token), "expiresAt": now + RESET_TTL}
        # One that is not sent must not void the last that was.
        change: Row = {"$set" if is_sent else "$setOnInsert": link}
        await collection_of(PasswordReset).update_one({"_id": account["_id"]}, change, upsert=True, session=session)

    await transaction(PasswordReset, write)


async def reset_password(
    body: JsonObject, origin: Origin, *, verifier: Verifier, now: datetime, once: Once[None] | None = None
) -> None:
    """Sets a new password by a link's token and ends all sessions of the account; MFA stays as it is.

    Raises `InvalidInput`, after which the token is still good, `InvalidResetToken`, `TooManyRequests`.
    """
    request = ResetRequest.parse(body)
    link: Row = {"digest": _digest(request.token), "expiresAt": {"$gt": now}}
    stored = await collection_of(PasswordReset).find_one(link)
    user = stored and await collection_of(User).find_one({"_id": stored["_id"]})
    if not user:
        raise InvalidResetToken
    _require_strength(request.password, username_of(user), "password")
    hashed = await verifier.passwords.hash(request.password, where(origin))
    audit = audit_row(AuditType.PASSWORD_RESET, at=now, origin=origin, target=user)

    async def write(session: AsyncClientSession) -> None:
        if once is not None:
            await once.remember(None, session)
        # Not known before: the link may have been used, and the account switched off, at any moment until now.
        spent = await collection_of(PasswordReset).delete_one({"_id": user["_id"], **link}, session=session)
        active: Row = {"_id": user["_id"], "active": {"$ne": False}}
        proven: Row = {"password": hashed, "provenAddress": address_of(user)}
        update: Row = {"$set": proven, "$inc": {"passwordVersion": 1}}
        changed = await collection_of(User).update_one(active, update, session=session)
        if spent.deleted_count == 0 or changed.matched_count == 0:
            raise InvalidResetToken
        await collection_of(Session).delete_many({"userId": user["_id"]}, session=session)
        await record_audit(audit, session)
        await verifier.mail.post(password_was_reset(user, origin, now), session)

    await transaction(User, write)
    await verifier.forgive(username_of(user), origin)


def _digest(token: str) -> bytes:
    """What is stored of a token; of 256 random bits, so that it needs no slow hash."""
    return hashlib.sha256(token.encode()).digest()


def _require_strength(password: str, username: str, field: str) -> None:
    if reason := weakness(password, username):
        raise InvalidInput(FieldError(field, "weak_password", reason))
