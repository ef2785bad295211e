"""Reads the event log in a process of its own: follows it, and is one of its consumers.

A program: its arguments are the database's URI and the length of a lease in seconds. It writes what its follower tells,
a JSON value a line, and into the collection `effects` a row for each event that it handles.
"""

import asyncio
import os
import sys

import orjson
from pymongo import UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession

from app.events import consume as consuming
from app.events.cursor import Cursors
from app.events.follow import EventFollower, Reached, RowTouched
from app.events.log import Event
from app.events.replay import EventReader, Logged
from app.lifespan import DOCUMENTS
from app.platform.mongo import collection_of, connect, prepare
from app.platform.wire import Row
from app.realtime.relay import WATCHED

NAME = "effects"


async def handle(rows: list[Row], session: AsyncClientSession) -> None:
    """A row for each event, with how often it came and to which process."""
    effect = {"$inc": {"times": 1}, "$push": {"by": os.getpid()}}
    writes = [UpdateOne({"_id": row["_id"]}, effect, upsert=True) for row in rows]
    await collection_of(Event).database[NAME].bulk_write(writes, session=session)


async def follow(follower: EventFollower) -> None:
    async for news in follower.tail():
        match news:
            case Logged():
                tell("event", str(news.row["_id"]))
            case RowTouched():
                tell("touched", news.collection, str(news.id))
            case Reached():
                pass
            case _:
                tell("restarted")


def tell(*words: str) -> None:
    sys.stdout.buffer.write(orjson.dumps(words) + b"\n")
    sys.stdout.buffer.flush()


async def main(uri: str, lease_s: int) -> None:
    consuming.LEASE_S = lease_s
    consuming.RENEW_S = lease_s / 3
    database = connect(uri)
    await prepare(database, DOCUMENTS)
    reader = EventReader(Cursors(b"a key of the fault tests"))
    follower = EventFollower(reader, WATCHED)
    async with asyncio.TaskGroup() as group:
        group.create_task(follow(follower))
        group.create_task(consuming.consume(NAME, reader, follower, handle))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
