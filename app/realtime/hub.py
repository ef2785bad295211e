"""Everybody who listens in this process: who they are by now, what they hear, and when they have to go.

Nothing is queued for anybody. Who is at the end of the ring is handed each new event; who has fallen behind, or comes
back, reads on from their place. So a slow reader costs what is in its socket's buffer, and nobody waits for it.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable

from bson import ObjectId
from pymongo.errors import PyMongoError

from app.accounts.actor import Actor
from app.accounts.errors import InvalidToken, MfaSetupRequired
from app.accounts.queries import actor_of
from app.accounts.tokens import AccessClaims
from app.events.cursor import LogPosition
from app.events.replay import EventReader, Logged
from app.platform.clock import now
from app.platform.metrics import EVENTS_DELIVERED, STREAMS, STREAMS_ENDED

from .audience import Group, group_of
from .feed import Feed, Past, Resync
from .protocol import (
    MFA_REQUIRED,
    NOT_READY,
    RESTARTING,
    SESSION_OVER,
    TOKEN_EXPIRED,
    TOO_MANY_STREAMS,
    TOO_SLOW,
    Ending,
    Options,
    StreamEnds,
)
from .ring import Broadcast, Ring

logger = logging.getLogger("app.access")

MAX_STREAMS_PER_USER = 20
SWEEP_S = 1.0
# Listeners that are looked up at the same time, when all are.
LOOKS_AT_ONCE = 20


class Listener:
    """Somebody connected by one door."""

    def __init__(self, door: str, claims: AccessClaims, end: Callable[[Ending], None]) -> None:
        """`end` closes the connection; it is called at most once, and must not wait."""
        self.door = door
        self.claims = claims
        self.actor: Actor | None = None
        self.feeds: set[Feed] = set()
        self.began = time.monotonic()
        # Once this is set, nothing more may be told.
        self.ending: Ending | None = None
        self.end = end
        # Looks are made in turn, so that of two the later one has the last word.
        self.looking = asyncio.Lock()


class Hub:
    """One per process. Between two `await`s nothing happens, so each event meets listeners in a settled state."""

    def __init__(self, reader: EventReader) -> None:
        self.is_open = asyncio.Event()
        """Set once the log is being followed, so that there is something to listen to."""
        self._reader = reader
        self._past: Past | None = None
        self._is_closing = False
        self._listeners: defaultdict[ObjectId, set[Listener]] = defaultdict(set)
        self._feeds: defaultdict[Group, set[Feed]] = defaultdict(set)

    # What the event log says, by the relay.

    def restart(self, position: LogPosition, cursor: str) -> None:
        """The log is followed from here on; what lies before can't be told by this process."""
        ring = Ring(position, cursor)
        if self._past is None:
            self._past = Past(self._reader, ring)
            self.is_open.set()
            return
        self._past.restart(ring)
        for feeds in self._feeds.values():
            for feed in feeds:
                feed.restarted()

    def publish(self, logged: Logged) -> None:
        past = self._following()
        before = past.ring.end
        item = Broadcast(logged)
        told = 0
        for group in past.ring.append(item):
            # `get`, so that a group without feeds does not come to be.
            told += sum(feed.offer(item, before) for feed in self._feeds.get(group, ()))
        EVENTS_DELIVERED.inc(told)
        past.moved()

    def reach(self, position: LogPosition, cursor: str) -> None:
        past = self._following()
        past.ring.reach(position, cursor)
        past.moved()

    async def look_again(self, user_id: ObjectId | None = None, credential_id: ObjectId | None = None) -> None:
        """Finds out again who these are, after something happened to their account, session or key; or who all are."""
        found = self._listeners.get(user_id, set()) if user_id else self._everybody()
        chosen = [one for one in found if credential_id is None or one.claims.credential_id == credential_id]
        for start in range(0, len(chosen), LOOKS_AT_ONCE):
            await asyncio.gather(*map(self._look_or_end, chosen[start : start + LOOKS_AT_ONCE]))

    # What the doors ask for.

    def check_open(self) -> None:
        """Raises `StreamEnds` while nobody can be let in."""
        if self._is_closing:
            raise StreamEnds(RESTARTING)
        if self._past is None:
            raise StreamEnds(NOT_READY)

    async def enter(self, listener: Listener) -> None:
        """Lets somebody listen who has a good token. Raises `InvalidToken`, `MfaSetupRequired`, `StreamEnds`."""
        self.check_open()
        own = self._listeners[listener.claims.user_id]
        if len(own) >= MAX_STREAMS_PER_USER:
            raise StreamEnds(TOO_MANY_STREAMS)
        # Before the look, so that what changes during it is noticed.
        own.add(listener)
        STREAMS.labels(listener.door).inc()
        try:
            await self._look(listener)
        except BaseException:
            self.leave(listener)
            raise

    def leave(self, listener: Listener) -> None:
        """Forgets a listener and its feeds; a second time does nothing."""
        own = self._listeners.get(listener.claims.user_id, set())
        if listener not in own:
            return
        own.remove(listener)
        if not own:
            del self._listeners[listener.claims.user_id]
        STREAMS.labels(listener.door).dec()
        logger.info(
            "stream",
            extra={
                "door": listener.door,
                "user_id": str(listener.claims.user_id),
                "ended_with": listener.ending and int(listener.ending.code),
                "duration_ms": round((time.monotonic() - listener.began) * 1000),
            },
        )
        self._close_feeds(listener)

    async def renew(self, listener: Listener, claims: AccessClaims) -> None:
        """Goes on with another token of the same user, if the last one is still good. Raises `InvalidToken`."""
        if listener.claims.expires_at <= now():
            raise InvalidToken
        listener.claims = claims
        await self._look(listener)

    async def open_feed(
        self, listener: Listener, options: Options, sink: Callable[[Broadcast], bool] | None = None
    ) -> tuple[Feed, str, Resync | None]:
        """A feed for somebody who has entered; the cursor of its place; and whether what `since` asks for is lost.

        Nothing has been told when this returns, and whatever the caller does before its next `await` comes first.
        """
        feed = Feed(self._following(), options, sink)
        cursor, resync = await feed.start(options.since)
        if listener.ending or listener.actor is None:
            raise StreamEnds(listener.ending or SESSION_OVER)
        if listener not in self._listeners.get(listener.claims.user_id, ()):  # it has left meanwhile
            raise asyncio.CancelledError
        listener.feeds.add(feed)
        self._join_group(feed, listener.actor)
        return feed, cursor, resync

    def close_feed(self, listener: Listener, feed: Feed) -> None:
        if feed in listener.feeds:
            listener.feeds.remove(feed)
            self._leave_group(feed)
            feed.close()

    def end(self, listener: Listener, ending: Ending) -> None:
        """The listener hears nothing more, from this moment on; its connection is closed."""
        if listener.ending is None:
            listener.ending = ending
            STREAMS_ENDED.labels(str(int(ending.code))).inc()
            self._close_feeds(listener)
            listener.end(ending)

    # What goes on beside.

    async def watch(self) -> None:
        """Ends, every second, the streams whose token has expired and those that nobody reads; for ever."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep()

    def sweep(self) -> None:
        moment = now()
        for listener in self._everybody():
            if listener.claims.expires_at <= moment:
                self.end(listener, TOKEN_EXPIRED)
            elif any(feed.is_too_slow() for feed in listener.feeds):
                self.end(listener, TOO_SLOW)

    def close(self) -> None:
        """Ends all streams, so that their clients go elsewhere, and lets nobody in any more."""
        self._is_closing = True
        for listener in self._everybody():
            self.end(listener, RESTARTING)

    def _following(self) -> Past:
        if self._past is None:
            raise StreamEnds(NOT_READY)
        return self._past

    def _everybody(self) -> list[Listener]:
        return [listener for own in self._listeners.values() for listener in own]

    async def _look(self, listener: Listener) -> None:
        async with listener.looking:
            listener.actor = await actor_of(listener.claims, now())
            for feed in listener.feeds:
                self._leave_group(feed)
                self._join_group(feed, listener.actor)

    async def _look_or_end(self, listener: Listener) -> None:
        try:
            await self._look(listener)
        except InvalidToken:
            self.end(listener, SESSION_OVER)
        except MfaSetupRequired:
            self.end(listener, MFA_REQUIRED)
        except PyMongoError:  # who they are can't be known, so they hear nothing
            self.end(listener, NOT_READY)

    def _close_feeds(self, listener: Listener) -> None:
        for feed in list(listener.feeds):
            self.close_feed(listener, feed)

    def _join_group(self, feed: Feed, actor: Actor) -> None:
        feed.actor = actor
        self._feeds[group_of(actor)].add(feed)

    def _leave_group(self, feed: Feed) -> None:
        group = group_of(feed.actor)
        self._feeds[group].discard(feed)
        if not self._feeds[group]:
            del self._feeds[group]
