"""What SendGrid says of mails that it took: whether it is SendGrid that says so, and what it means to us."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import orjson
from bson import ObjectId
from sendgrid.helpers.eventwebhook import EventWebhook

from app.mail.documents import DeliveryState
from app.mail.sendgrid import DELIVERY_ARGUMENT, MAX_REASON

from .errors import InvalidSignature

# SendGrid repeats for a day what it was not thanked for; whoever repeats it later is somebody else.
MAX_AGE = timedelta(hours=24)
# By how much its clock may be ahead of ours.
MAX_AHEAD = timedelta(minutes=1)
_MAX_DIGITS = 12
# The address is good; its server only did not want this mail now.
_BLOCKED = "blocked"


class Reason(StrEnum):
    """Why an address gets no mail any more."""

    BOUNCE = "bounce"
    COMPLAINT = "complaint"


_SUPPRESSED = {"Bounced Address": Reason.BOUNCE, "Spam Reporting Address": Reason.COMPLAINT}


@dataclass(frozen=True, slots=True)
class Feedback:
    """One of SendGrid's words on one delivery."""

    delivery_id: ObjectId
    address: str
    """In lower case."""
    state: DeliveryState | None = None
    """What became of the mail; None: nothing new."""
    reason: str | None = None
    suppression: Reason | None = None
    """Why the address is to be left alone; None: it is not."""


def check_signature(key: str | None, signature: str, timestamp: str, body: bytes, *, now: datetime) -> None:
    """Raises `InvalidSignature` unless SendGrid, whose public key this is, has just signed this body."""
    if key is None or not _is_recent(timestamp, now):
        raise InvalidSignature
    try:
        is_genuine = EventWebhook(key).verify_signature(body.decode(), signature, timestamp)
    except ValueError:  # the body is no text, or the signature no base64
        raise InvalidSignature from None
    if not is_genuine:
        raise InvalidSignature


def read_feedback(body: bytes) -> list[Feedback]:
    """What concerns us of a batch of events; the rest, and what is malformed, is passed over."""
    try:
        events = orjson.loads(body)
    except orjson.JSONDecodeError:
        return []
    return list(_feedback(events)) if isinstance(events, list) else []


def _is_recent(timestamp: str, now: datetime) -> bool:
    if not (timestamp.isascii() and timestamp.isdigit()) or len(timestamp) > _MAX_DIGITS:
        return False
    age = timedelta(seconds=now.timestamp() - int(timestamp))
    return -MAX_AHEAD <= age <= MAX_AGE


def _feedback(events: list[Any]) -> Iterator[Feedback]:
    for event in events:
        if not isinstance(event, dict):
            continue
        delivery, address = event.get(DELIVERY_ARGUMENT), event.get("email")
        if isinstance(delivery, str) and ObjectId.is_valid(delivery) and isinstance(address, str):
            told = _meaning(event)
            if told is not None:
                yield Feedback(ObjectId(delivery), address.casefold(), *told)


def _meaning(event: Mapping[str, Any]) -> tuple[DeliveryState | None, str | None, Reason | None] | None:
    given = event.get("reason")
    reason = given[:MAX_REASON] if isinstance(given, str) else None
    match event.get("event"):
        case "delivered":
            return DeliveryState.DELIVERED, None, None
        case "bounce":
            return DeliveryState.BOUNCED, reason, None if event.get("type") == _BLOCKED else Reason.BOUNCE
        case "dropped":
            return DeliveryState.DROPPED, reason, _SUPPRESSED.get(reason or "")
        case "spamreport":
            return None, None, Reason.COMPLAINT
    return None
