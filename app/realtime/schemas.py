"""The event log on the wire."""

from pydantic import Field

from app.platform.wire import WireModel
from app.tickets.schemas import EventOut

CURSOR_EXAMPLE = "q83vEjRWeJASNIVH-PFWV0uskHNWucObwM1nQKHww7Kh1OX2ByGCawMoAgAAAAQrAiwBACluWhAEhUf48VZXS6yQc1a5w5vAzQ"


class NewsOut(WireModel):
    items: list[EventOut]
    next_cursor: str = Field(description="Always there: ask again with it as `since`")


class TicketToStreamOut(WireModel):
    ticket: str = Field(description="Send it as `?ticket=` of `/ws` or `/api/events/stream`: it opens one stream")
    expires_in: int = Field(description="Seconds that it can be used within")
