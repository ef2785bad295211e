"""Sessions: how they begin, how they stay alive, and all the ways in which they end."""

from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession

from app.accounts.actor import Actor, Origin
from app.accounts.audit import AuditType, audit_row, record_audit
from app.accounts.documents import ApiKey, Session
from app.accounts.queries import get_user
from app.platform.errors import NotFound
from app.platform.mongo import collection_of, transaction
from app.platform.wire import Row

# Whoever does not come back for two weeks signs in again, and everybody does once a month.
IDLE_TTL = timedelta(days=14)
ABSOLUTE_TTL = timedelta(days=30)
# Enough for every device of a person and for scripts that forget to sign out; the oldest make room.
MAX_SESSIONS = 100
# How exact "last used" is: so seldom does a request write.
USE_NOTED_EVERY = timedelta(minutes=5)


def session_row(user: Row, origin: Origin, now: datetime) -> Row:
    return {
        "_id": ObjectId(),
        "userId": user["_id"],
        "passwordVersion": user.get("passwordVersion", 0),
        "generation": 0,
        "rotatedAt": now,
        "createdAt": now,
        "authenticatedAt": now,
        "lastUsedAt": now,
        "expiresAt": now + min(IDLE_TTL, ABSOLUTE_TTL),
        "device": origin.device,
        "address": origin.address,
    }


def used(now: datetime) -> dict[str, Any]:
    """What using a session sets in it, as a stage of an update by pipeline."""
    last_end = {"$add": ["$createdAt", int(ABSOLUTE_TTL.total_seconds() * 1000)]}
    return {"lastUsedAt": now, "expiresAt": {"$min": [now + IDLE_TTL, last_end]}}


async def note_use(actor: Actor, now: datetime) -> None:
    """Keeps the session, or the key's mark of last use, up to date: once in a while, not with every request."""
    if actor.last_used_at is not None and now - actor.last_used_at < USE_NOTED_EVERY:
        return
    if actor.scope is not None:
        await collection_of(ApiKey).update_one({"_id": actor.credential_id}, {"$set": {"lastUsedAt": now}})
    else:
        await collection_of(Session).update_one({"_id": actor.credential_id}, [{"$set": used(now)}])


async def make_room(user_id: ObjectId) -> None:
    """Ends the oldest of more sessions than one user may have."""
    sessions = collection_of(Session)
    surplus = sessions.find({"userId": user_id}, {"_id": 1}).sort("_id", -1).skip(MAX_SESSIONS)
    if ids := [row["_id"] for row in await surplus.to_list()]:
        await sessions.delete_many({"_id": {"$in": ids}})


async def end_session(actor: Actor, session_id: ObjectId, *, origin: Origin, now: datetime) -> None:
    """Ends one of the caller's sessions: its tokens stop working at once. Raises `SessionRequired`, `NotFound`."""
    actor.require_session()
    event = AuditType.SIGN_OUT if session_id == actor.credential_id else AuditType.SESSION_ENDED
    if not await _end(actor, {"_id": session_id}, event, origin, now):
        raise NotFound


async def end_other_sessions(actor: Actor, *, origin: Origin, now: datetime) -> None:
    """Ends all of the caller's sessions but this one. Raises `SessionRequired`."""
    actor.require_session()
    await _end(actor, {"_id": {"$ne": actor.credential_id}}, AuditType.SESSION_ENDED, origin, now)


async def _end(actor: Actor, which: Row, event: AuditType, origin: Origin, now: datetime) -> bool:
    async def body(session: AsyncClientSession) -> bool:
        outcome = await collection_of(Session).delete_many({"userId": actor.id, **which}, session=session)
        if outcome.deleted_count == 0:
            return False
        target = await get_user(actor.id, session)
        details = {"sessions": outcome.deleted_count}
        row = audit_row(event, at=now, origin=origin, actor=actor, target=target, details=details)
        await record_audit(row, session)
        return True

    return await transaction(Session, body)
