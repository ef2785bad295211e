"""A hub of one's own, told of the event log step by step: what the service's own is told as it happens."""

from app.accounts.tokens import derive_key
from app.events.cursor import Cursors
from app.events.replay import EventReader
from app.realtime.feed import Resync
from app.realtime.hub import Hub, Listener
from app.realtime.protocol import Ending
from app.realtime.ring import Broadcast
from tests.callers import Caller
from tests.conftest import SECRET
from tests.factories.accounts import tokens

CURSORS = Cursors(derive_key(SECRET, "event-cursor"))


class Relay:
    """A reader of the log that has come so far, and its hub."""

    def __init__(self) -> None:
        self.reader = EventReader(CURSORS)
        self.hub = Hub(self.reader)

    async def start(self) -> None:
        """From the present end of the log on; a second time, what lies between is lost."""
        end = await self.reader.end()
        self.position = end.position
        self.hub.restart(end.position, end.next_cursor)

    async def follow(self, at_most: int = 1_000) -> int:
        """Tells of so many events, and if there are no more, of the end; answers how many there were."""
        stretch = await self.reader.after(self.position, at_most=at_most)
        for logged in stretch.events:
            self.hub.publish(logged)
        if len(stretch.events) < at_most:
            self.hub.reach(stretch.position, stretch.next_cursor)
        self.position = stretch.position
        return len(stretch.events)

    async def present(self) -> str:
        return (await self.reader.end()).next_cursor

    async def enter(self, who: Caller) -> Listener:
        def end(_ending: Ending) -> None:
            pass

        listener = Listener("test", tokens().read_access(who.token), end)
        await self.hub.enter(listener)
        return listener


def told(news: list[Broadcast] | Resync) -> list[Broadcast]:
    assert not isinstance(news, Resync)
    return news
