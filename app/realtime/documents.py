"""What is stored about live streams: which of their tickets have been used."""

from datetime import datetime

from beanie import Document
from pydantic import ConfigDict
from pymongo import IndexModel

from app.platform.wire import stored_name


class UsedTicket(Document):
    """A stream's ticket that was redeemed, by its id; it is good for one stream, in whichever process."""

    model_config = ConfigDict(alias_generator=stored_name)

    id: str  # type: ignore[assignment]  # the ticket's own id
    door: str
    expires_at: datetime

    class Settings:
        name = "stream_tickets"
        indexes = [IndexModel("expiresAt", name="expiry", expireAfterSeconds=0)]
