"""Putting mail into the queue, in the transaction of the change that it tells of: both are there, or neither."""

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson
from bson import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession

from app.platform.clock import now
from app.platform.mongo import collection_of
from app.platform.secretbox import SecretBox
from app.platform.wire import Row

from .documents import Delivery, DeliveryState, MailQuota
from .message import Message

# How long a mail is tried before it is given up.
TRY_FOR = timedelta(hours=24)
# More of one kind than that in an hour, and somebody is filling a mailbox that need not be theirs.
MAX_PER_HOUR = 3
_HOUR = timedelta(hours=1)
_SEALED_FIELDS = ("to", "subject", "text", "html")


class Outbox:
    """The queue's entrance for mails about accounts; they are sealed, since they may hold a link to a new password."""

    def __init__(self, secrets: SecretBox) -> None:
        self._secrets = secrets

    async def post(
        self,
        message: Message | None,
        session: AsyncClientSession,
        *,
        good_until: datetime | None = None,
        is_decoy: bool = False,
    ) -> bool:
        """Queues the mail with what else the session writes; answers whether it will be sent.

        None, for somebody without an address, queues nothing. A decoy, and what is over the quota, costs as much and is
        never sent: time must not tell whether there is a mail.
        """
        if message is None:
            return False
        row = self._row(message) | {"goodUntil": good_until}
        is_sent = await _take_from_quota(message, row["createdAt"], session) and not is_decoy
        if not is_sent:
            row |= {"state": DeliveryState.VOID, "to": None, "sealed": None, "expiresAt": row["createdAt"]}
        await collection_of(Delivery).insert_one(row, session=session)
        return is_sent

    def open(self, sealed: str) -> Message | None:
        """The mail that was sealed; None when no key fits any more."""
        content = self._secrets.open(sealed)
        return None if content is None else Message(**orjson.loads(content))

    def _row(self, message: Message) -> Row:
        content = orjson.dumps({name: getattr(message, name) for name in _SEALED_FIELDS}).decode()
        described = {"to": message.to, "subject": message.subject, "sealed": self._secrets.seal(content)}
        return new_delivery(now(), isUrgent=True, **described)


async def _take_from_quota(message: Message, at: datetime, session: AsyncClientSession) -> bool:
    """Counts the mail; False when there were as many in the last hour as may be."""
    digest = hashlib.sha256(f"{message.subject}\0{message.quota}".encode()).hexdigest()
    recent: Row = {"$filter": {"input": {"$ifNull": ["$sentAt", []]}, "cond": {"$gt": ["$$this", at - _HOUR]}}}
    has_room: Row = {"$lt": [{"$size": "$sentAt"}, MAX_PER_HOUR]}
    counted: Row = {"$cond": [has_room, {"$concatArrays": ["$sentAt", [at]]}, "$sentAt"]}
    before = await collection_of(MailQuota).find_one_and_update(
        {"_id": digest},
        [{"$set": {"sentAt": recent}}, {"$set": {"sentAt": counted, "expiresAt": at + _HOUR}}],
        upsert=True,
        session=session,
    )
    return before is None or sum(moment > at - _HOUR for moment in before["sentAt"]) < MAX_PER_HOUR


def new_delivery(at: datetime, **fields: Any) -> Row:
    """The row of a mail that is to go at once, unless the fields say otherwise."""
    row: Row = {
        "_id": ObjectId(),
        "state": DeliveryState.PENDING,
        "isUrgent": False,
        "userId": None,
        "to": None,
        "subject": None,
        "sealed": None,
        "ticketId": None,
        "createdAt": at,
        "scheduledAt": at,
        "goodUntil": None,
        "attempts": 0,
        "claim": None,
        "handedOverAt": None,
        "lastError": None,
        "expiresAt": None,
        **fields,
    }
    return {**row, "dueAt": row["scheduledAt"], "giveUpAt": row["scheduledAt"] + TRY_FOR}


async def encrypt_anew(secrets: SecretBox) -> tuple[int, int]:
    """Seals all waiting mail that the newest key did not seal; answers how many, and how many no key can read."""
    deliveries = collection_of(Delivery)
    renewed = unreadable = 0
    async for row in deliveries.find({"sealed": {"$type": "string"}}, {"sealed": 1}):
        if secrets.is_current(row["sealed"]):
            continue
        content = secrets.open(row["sealed"])
        if content is None:
            unreadable += 1
            continue
        change: Mapping[str, Any] = {"$set": {"sealed": secrets.seal(content)}}
        outcome = await deliveries.update_one({"_id": row["_id"], "sealed": row["sealed"]}, change)
        renewed += outcome.modified_count
    return renewed, unreadable
