"""Putting mail into the queue, in the transaction of the change that it tells of: both are there, or neither."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson
from bson import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession

from app.platform.clock import now
from app.platform.commit import Insert
from app.platform.mongo import collection_of
from app.platform.secretbox import SecretBox
from app.platform.wire import Row

from .documents import Delivery, DeliveryState
from .message import Message

# How long a mail is tried before it is given up.
TRY_FOR = timedelta(hours=24)
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
    ) -> None:
        """Queues the mail with what else the session writes; None, for somebody without an address, queues nothing.

        A decoy costs as much and is never sent: for where time must not tell whether there is a mail.
        """
        if message is None:
            return
        row = self._row(message) | {"goodUntil": good_until}
        if is_decoy:
            row |= {"state": DeliveryState.VOID, "to": None, "sealed": None, "expiresAt": row["createdAt"]}
        await collection_of(Delivery).insert_one(row, session=session)

    def writes(self, message: Message | None) -> list[Insert]:
        """The same, as what `commit` takes."""
        return [] if message is None else [Insert(Delivery, self._row(message))]

    def open(self, sealed: str) -> Message | None:
        """The mail that was sealed; None when no key fits any more."""
        content = self._secrets.open(sealed)
        return None if content is None else Message(**orjson.loads(content))

    def _row(self, message: Message) -> Row:
        content = orjson.dumps({name: getattr(message, name) for name in _SEALED_FIELDS}).decode()
        described = {"to": message.to, "subject": message.subject, "sealed": self._secrets.seal(content)}
        return new_delivery(now(), isUrgent=True, **described)


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
