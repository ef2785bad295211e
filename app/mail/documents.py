"""What is stored about mail: each delivery with its fate, and the addresses that are left alone."""

from datetime import datetime
from enum import StrEnum

from beanie import Document
from pydantic import ConfigDict, Field
from pymongo import DESCENDING, IndexModel

from app.platform.wire import Id, stored_name


class DeliveryState(StrEnum):
    """What became of a mail so far."""

    PENDING = "pending"
    """Not tried yet."""
    FAILED = "failed"
    """Tried, and will be tried again."""
    HANDED_OVER = "handed_over"
    """The provider has it."""
    DELIVERED = "delivered"
    """The recipient's server has it, says the provider."""
    BOUNCED = "bounced"
    """The recipient's server refused it, says the provider."""
    DROPPED = "dropped"
    """The provider did not try, it says."""
    DEAD = "dead"
    """Given up; an Admin can have it tried again."""
    SKIPPED = "skipped"
    """When its turn came, nobody was to get it any more."""
    VOID = "void"
    """Never was a mail: written where the absence of one would tell something."""


WAITING = (DeliveryState.PENDING, DeliveryState.FAILED)


class Delivery(Document):
    """A mail to one person. One about an account is stored sealed; one about a ticket follows from its events."""

    model_config = ConfigDict(alias_generator=stored_name)

    state: DeliveryState
    is_urgent: bool = False
    """Goes before all that is not: somebody sits and waits for it."""
    user_id: Id | None = None
    to: str | None = None
    subject: str | None = None
    sealed: str | None = None
    """The whole mail, encrypted, where it can't be made anew."""
    ticket_id: Id | None = None
    events: list[Id] = Field(default_factory=list)
    created_at: datetime
    scheduled_at: datetime
    """When it was to go at first; `due_at` moves with every attempt."""
    due_at: datetime
    good_until: datetime | None = None
    give_up_at: datetime
    attempts: int = 0
    claim: str | None = None
    handed_over_at: datetime | None = None
    last_error: str | None = None
    expires_at: datetime | None = None
    """When the row goes; none as long as the mail waits."""

    class Settings:
        name = "deliveries"
        indexes = [
            IndexModel([("state", 1), ("isUrgent", DESCENDING), ("dueAt", 1)], name="queue"),
            IndexModel([("state", 1), ("_id", 1)], name="state_by_id"),
            IndexModel([("events", 1), ("userId", 1)], name="event", sparse=True),
            IndexModel([("ticketId", 1), ("userId", 1), ("scheduledAt", 1)], name="conversation"),
            IndexModel([("userId", 1), ("scheduledAt", 1)], name="recipient"),
            IndexModel("expiresAt", name="expiry", expireAfterSeconds=0),
        ]


class MailQuota(Document):
    """When the mails about accounts of one kind went to one recipient, in the last hour."""

    model_config = ConfigDict(alias_generator=stored_name)

    id: str  # type: ignore[assignment]  # a digest of both
    sent_at: list[datetime]
    expires_at: datetime

    class Settings:
        name = "mail_quotas"
        indexes = [IndexModel("expiresAt", name="expiry", expireAfterSeconds=0)]


class Suppression(Document):
    """An address that gets no mail, because mail to it came back or was complained about."""

    model_config = ConfigDict(alias_generator=stored_name)

    id: str  # type: ignore[assignment]  # the address in lower case
    reason: str
    at: datetime

    class Settings:
        name = "mail_suppressions"
