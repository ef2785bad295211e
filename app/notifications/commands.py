"""What changes wishes about mail and what becomes of mails."""

from collections.abc import Collection, Mapping
from datetime import datetime

from bson import ObjectId
from pymongo import UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession

from app.accounts.actor import Actor
from app.accounts.roles import Permission, Scope
from app.mail.documents import Delivery, DeliveryState, Suppression
from app.mail.outbox import TRY_FOR
from app.mail.sender import KEEP
from app.platform.commit import StaleWrite, Update, commit
from app.platform.errors import NotFound
from app.platform.idempotency import Once
from app.platform.mongo import collection_of, transaction
from app.platform.wire import JsonObject, NoFields, Row

from .addresses import read_unsubscribe_token
from .documents import NotificationPreferences
from .errors import NotDead
from .feedback import Feedback, Reason, check_signature, read_feedback
from .kinds import Kind
from .queries import get_delivery, switched_off
from .schemas import NotificationsPatch

# What the provider said that outweighs what it says else, whichever comes first.
_OUTWEIGHED_BY: Mapping[DeliveryState, tuple[DeliveryState, ...]] = {
    DeliveryState.DELIVERED: (DeliveryState.BOUNCED, DeliveryState.DROPPED),
    DeliveryState.DROPPED: (DeliveryState.BOUNCED,),
    DeliveryState.BOUNCED: (),
}


async def change_preferences(actor: Actor, body: JsonObject) -> Collection[str]:
    """Says of which kinds of news the caller wants mail; answers those that are switched off.

    Raises `InsufficientScope`, `InvalidInput`.
    """
    actor.require_scope(Scope.TICKETS)
    patch = NotificationsPatch.parse(body).given()
    off, on = ([kind for kind, is_wanted in patch.items() if is_wanted is wanted] for wanted in (False, True))
    present = {"$ifNull": ["$off", []]}
    changed = {"$setUnion": [{"$setDifference": [present, on]}, off]}
    await collection_of(NotificationPreferences).update_one(
        {"_id": actor.id}, [{"$set": {"off": changed}}], upsert=True
    )
    return await switched_off(actor.id)


async def unsubscribe(token: str, *, key: bytes) -> Kind:
    """Switches off what the link in a mail says, for whom it was made. Raises `InvalidUnsubscribeToken`."""
    user_id, kind = read_unsubscribe_token(token, key)
    change: Row = {"$addToSet": {"off": kind}}
    await collection_of(NotificationPreferences).update_one({"_id": user_id}, change, upsert=True)
    return kind


async def retry_delivery(
    actor: Actor, delivery_id: ObjectId, body: JsonObject, *, now: datetime, once: Once[Row] | None = None
) -> Row:
    """Has a mail that was given up tried again, at once and for as long as a new one.

    Raises `Forbidden`, `InsufficientScope`, `NotFound`, `InvalidInput`, `NotDead`.
    """
    actor.require(Permission.MANAGE_MAIL)
    row = await get_delivery(delivery_id)
    NoFields.parse(body)
    if row["state"] != DeliveryState.DEAD:
        raise NotDead
    change = _as_new(now)
    try:
        where: Row = {"_id": delivery_id, "state": DeliveryState.DEAD}
        return await commit([Update(Delivery, where, {"$set": change})], once=once, result=row | change)
    except StaleWrite:
        raise NotDead from None


async def retry_deliveries(actor: Actor, body: JsonObject, *, now: datetime, once: Once[int] | None = None) -> int:
    """Has all mails that were given up tried again; answers how many.

    Raises `Forbidden`, `InsufficientScope`, `InvalidInput`.
    """
    actor.require(Permission.MANAGE_MAIL)
    NoFields.parse(body)
    dead: Row = {"state": DeliveryState.DEAD}

    async def write(session: AsyncClientSession) -> int:
        # By the snapshot that the update sees: the answer to a key is stored before the change is made.
        count = await collection_of(Delivery).count_documents(dead, session=session)
        if once is not None:
            await once.remember(count, session)
        await collection_of(Delivery).update_many(dead, {"$set": _as_new(now)}, session=session)
        return count

    return await transaction(Delivery, write)


async def delete_suppression(actor: Actor, address: str) -> None:
    """Lets an address have mail again. Raises `Forbidden`, `InsufficientScope`, `NotFound`."""
    actor.require(Permission.MANAGE_MAIL)
    outcome = await collection_of(Suppression).delete_one({"_id": address.casefold()})
    if outcome.deleted_count == 0:
        raise NotFound


async def record_feedback(body: bytes, signature: str, timestamp: str, *, key: str | None, now: datetime) -> None:
    """Notes what SendGrid says became of mails, as far as they are ours and went where it says.

    In whichever order it says so, and however often, the outcome is the same. Raises `InvalidSignature`.
    """
    check_signature(key, signature, timestamp, body, now=now)
    told = read_feedback(body)
    if not told:
        return
    ids = list({feedback.delivery_id for feedback in told})
    found = collection_of(Delivery).find({"_id": {"$in": ids}, "to": {"$type": "string"}}, {"to": 1})
    addresses = {row["_id"]: row["to"].casefold() async for row in found}
    ours = [feedback for feedback in told if addresses.get(feedback.delivery_id) == feedback.address]
    # The addresses first: SendGrid comes again if what follows fails.
    if suppressions := [_suppress(feedback, now) for feedback in ours if feedback.suppression is not None]:
        await collection_of(Suppression).bulk_write(suppressions)
    if fates := [_note(feedback, feedback.state, now) for feedback in ours if feedback.state is not None]:
        await collection_of(Delivery).bulk_write(fates)


def _as_new(now: datetime) -> Row:
    again = {"state": DeliveryState.PENDING, "attempts": 0, "claim": None}
    return again | {"dueAt": now, "giveUpAt": now + TRY_FOR, "expiresAt": None}


def _note(feedback: Feedback, state: DeliveryState, now: datetime) -> UpdateOne:
    change = {"state": state, "claim": None, "sealed": None, "lastError": feedback.reason, "expiresAt": now + KEEP}
    is_news = {"_id": feedback.delivery_id, "state": {"$nin": [state, *_OUTWEIGHED_BY[state]]}}
    return UpdateOne(is_news, {"$set": change})


def _suppress(feedback: Feedback, now: datetime) -> UpdateOne:
    """What people say weighs more than what servers do."""
    first: Row = {"reason": feedback.suppression, "at": now}
    change: Row = {"$setOnInsert": first}
    if feedback.suppression is Reason.COMPLAINT:
        change = {"$set": {"reason": Reason.COMPLAINT}, "$setOnInsert": {"at": now}}
    return UpdateOne({"_id": feedback.address}, change, upsert=True)
