"""From events to mails that wait to be sent: one for each person and ticket, however much happens in between."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from bson import ObjectId
from pymongo import InsertOne, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession

from app.mail.documents import Delivery, DeliveryState
from app.mail.outbox import new_delivery
from app.platform.clock import now
from app.platform.mongo import collection_of
from app.platform.wire import Row

from .recipients import recipients

# Between two mails about a ticket to the same person: the first goes at once, what happens next is gathered.
WINDOW = timedelta(seconds=60)
# No more than so many mails to one person within an hour; those beyond wait for the next one. More than anybody can
# cause by work, and so few that a loop of programs is no flood.
HOUR, MAX_PER_HOUR = timedelta(hours=1), 1_500
# In one mail; of more, those at both ends are kept, which say what was before and what is now.
MAX_EVENTS = 500

# A ticket and a person.
Pair = tuple[ObjectId, ObjectId]


async def notify(events: list[Row], session: AsyncClientSession) -> None:
    """Queues the mails about these events with what else the session writes. Events that come again change nothing.

    Accounts and wishes are looked at when the mail is sent. Where the sender takes a mail at the same moment as this
    adds to it, the transaction fails for a write conflict and is run again.
    """
    concerned = await _not_yet_told(events, session)
    if not concerned:
        return
    at = now()
    recent = await _recent(concerned, at, session)
    schedule = await _schedule(concerned, at, session)
    writes: list[InsertOne[Row] | UpdateOne] = []
    for (ticket_id, user_id), event_ids in concerned.items():
        earlier = recent.get((ticket_id, user_id), [])
        waiting = next((row for row in earlier if _can_be_added_to(row)), None)
        if waiting is not None:
            writes.append(UpdateOne({"_id": waiting["_id"]}, _adding(event_ids)))
            continue
        earliest = max([at, *(row["scheduledAt"] + WINDOW for row in earlier)])
        about = {"userId": user_id, "ticketId": ticket_id, "events": event_ids}
        writes.append(InsertOne(new_delivery(at, scheduledAt=schedule.place(user_id, earliest), **about)))
    await collection_of(Delivery).bulk_write(writes, session=session)


class _Schedule:
    """When mails to each person are to go: the newest `MAX_PER_HOUR` of those that went or wait."""

    def __init__(self, newest: dict[ObjectId, list[datetime]]) -> None:
        self._newest = newest

    def place(self, user_id: ObjectId, earliest: datetime) -> datetime:
        """Takes the next place from then on."""
        newest = self._newest.setdefault(user_id, [])
        place = max(earliest, min(newest) + HOUR) if len(newest) == MAX_PER_HOUR else earliest
        self._newest[user_id] = sorted([*newest, place])[-MAX_PER_HOUR:]
        return place


async def _not_yet_told(events: Iterable[Row], session: AsyncClientSession) -> dict[Pair, list[ObjectId]]:
    """The events that each person is to be told, by ticket, without those that a mail of theirs has already."""
    told = {(event["_id"], user_id): event["ticketId"] for event in events for user_id in recipients(event)}
    if not told:
        return {}
    mailed = collection_of(Delivery).find(
        {"events": {"$in": list({event_id for event_id, _ in told})}}, {"events": 1, "userId": 1}, session=session
    )
    async for row in mailed:
        for event_id in row["events"]:
            told.pop((event_id, row["userId"]), None)
    concerned: dict[Pair, list[ObjectId]] = {}
    for (event_id, user_id), ticket_id in told.items():
        concerned.setdefault((ticket_id, user_id), []).append(event_id)
    return concerned


async def _recent(pairs: Iterable[Pair], at: datetime, session: AsyncClientSession) -> dict[Pair, list[Row]]:
    """The mails of the last hour, and those to come. One that waits for longer will soon be given up: let it be."""
    tickets, users = ({pair[place] for pair in pairs} for place in (0, 1))
    found = collection_of(Delivery).find(
        {"ticketId": {"$in": list(tickets)}, "userId": {"$in": list(users)}, "scheduledAt": {"$gt": at - HOUR}},
        dict.fromkeys(("ticketId", "userId", "scheduledAt", "state", "attempts"), 1),
        session=session,
    )
    recent: dict[Pair, list[Row]] = {}
    async for row in found:
        recent.setdefault((row["ticketId"], row["userId"]), []).append(row)
    return recent


async def _schedule(pairs: Iterable[Pair], at: datetime, session: AsyncClientSession) -> _Schedule:
    users = list({user_id for _, user_id in pairs})
    newest = {"$maxN": {"input": "$scheduledAt", "n": MAX_PER_HOUR}}
    cursor = await collection_of(Delivery).aggregate(
        [
            {"$match": {"userId": {"$in": users}, "scheduledAt": {"$gt": at - HOUR}}},
            {"$group": {"_id": "$userId", "newest": newest}},
        ],
        session=session,
    )
    return _Schedule({row["_id"]: row["newest"] for row in await cursor.to_list()})


def _can_be_added_to(row: Row) -> bool:
    """Nobody has begun to send it."""
    is_waiting: bool = row["state"] == DeliveryState.PENDING and row["attempts"] == 0
    return is_waiting


def _adding(event_ids: Sequence[ObjectId]) -> list[Row]:
    every = {"$concatArrays": ["$events", list(event_ids)]}
    ends = {"$concatArrays": [{"$slice": ["$$every", end]} for end in (MAX_EVENTS // 2, -MAX_EVENTS // 2)]}
    kept = {"$cond": [{"$lte": [{"$size": "$$every"}, MAX_EVENTS]}, "$$every", ends]}
    return [{"$set": {"events": {"$let": {"vars": {"every": every}, "in": kept}}}}]
