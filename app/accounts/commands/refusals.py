"""What the audit log is told of signed-in people, and keys, who try what they may not."""

from contextlib import suppress
from datetime import datetime
from hashlib import sha256

from bson import ObjectId
from pymongo.errors import DuplicateKeyError

from app.accounts.actor import Actor, Origin
from app.accounts.audit import AuditType, audit_row, record_audit
from app.platform.errors import Forbidden

MINUTE_S = 60


async def record_refusal(actor: Actor, operation: str, error: Forbidden, origin: Origin, now: datetime) -> None:
    """One entry per person, operation and minute, however often they try: nobody can flood the log."""
    details = {"operation": operation, "code": error.code}
    row = audit_row(AuditType.ACCESS_DENIED, at=now, origin=origin, actor=actor, details=details)
    with suppress(DuplicateKeyError):
        await record_audit(row | {"_id": _id(f"{actor.id} {operation} {error.code}", now)})


def _id(what: str, now: datetime) -> ObjectId:
    """The same for the same within a minute; as every id, it begins with the time, by which the log is in order."""
    minute_s = int(now.timestamp()) // MINUTE_S * MINUTE_S
    return ObjectId(minute_s.to_bytes(4, "big") + sha256(what.encode()).digest()[:8])
