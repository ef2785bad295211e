"""Carries what the follower of the event log sees to everybody who listens."""

import asyncio
import logging

from app.accounts.documents import ApiKey, SecurityPolicy, Session, User
from app.events.follow import EventFollower, Reached, Restarted, RowTouched
from app.events.replay import Logged

from .hub import Hub

logger = logging.getLogger(__name__)

# What the follower is to watch beside the events: whose role or account changes, whose session or key ends, and what is
# demanded of all.
WATCHED = {
    User: ("update", "replace", "delete"),
    Session: ("delete",),
    ApiKey: ("delete",),
    SecurityPolicy: ("insert", "update", "replace", "delete"),
}
# So many events are told in a row before the sockets get a turn to send.
AT_A_TIME = 64
RETRY_S = 1.0


async def relay(follower: EventFollower, hub: Hub) -> None:
    """For ever. After a fault of ours it starts over, which makes every stream say `resync`."""
    while True:
        try:
            await _relay(follower, hub)
        except Exception:  # whatever it is, live events must not be over because of it
            logger.exception("live events start over")
        await asyncio.sleep(RETRY_S)


async def _relay(follower: EventFollower, hub: Hub) -> None:
    told = 0
    async for news in follower.tail():
        match news:
            case Logged():
                hub.publish(news)
                told += 1
                if told % AT_A_TIME == 0:
                    await asyncio.sleep(0)
            case Reached():
                hub.reach(news.position, news.cursor)
            case RowTouched(collection=User.Settings.name):
                await hub.look_again(user_id=news.id)
            case RowTouched(collection=SecurityPolicy.Settings.name):
                await hub.look_again()
            case RowTouched():
                await hub.look_again(credential_id=news.id)
            case Restarted():
                hub.restart(news.position, news.cursor)
                await hub.look_again()
