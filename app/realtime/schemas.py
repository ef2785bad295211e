"""The event log on the wire."""

from pydantic import Field

from app.platform.wire import WireModel
from app.tickets.schemas import EventOut

CURSOR_EXAMPLE = "q83vEjRWeJASNIVH-PFWV0uskHNWucObwM1nQKHww7Kh1OX2ByGCawMoAgAAAAQrAiwBACluWhAEhUf48VZXS6yQc1a5w5vAzQ"


class NewsOut(WireModel):
    items: list[EventOut]
    next_cursor: str = Field(description="Always there: ask again with it as `since`")
