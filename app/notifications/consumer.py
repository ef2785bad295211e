"""From events to mails that wait to be sent: one for each person and ticket, however much happens in between."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from heapq import heapify, heappush, heapreplace

from bson import ObjectId
from pymongo import DESCENDING, InsertOne, UpdateOne
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
# The mails of so few are looked at one person after the other; of more, it is first found who has many.
FEW_PEOPLE = 8
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
    hours = await _schedule(concerned, at, session)
    writes: list[InsertOne[Row] | UpdateOne] = []
    for (ticket_id, user_id), event_ids in concerned.items():
        earlier = recent.get((ticket_id, user_id), [])
        waiting = next((row for row in earlier if _can_be_added_to(row)), None)
        if waiting is not None:
            writes.append(UpdateOne({"_id": waiting["_id"]}, _adding(event_ids)))
            continue
        earliest = max([at, *(row["scheduledAt"] + WINDOW for row in earlier)])
        place = hours[user_id].place(earliest) if user_id in hours else earliest
        about = {"userId": user_id, "ticketId": ticket_id, "events": _kept(event_ids)}
        writes.append(InsertOne(new_delivery(at, scheduledAt=place, **about)))
    await collection_of(Delivery).bulk_write(writes, ordered=False, session=session)


class _Hours:
    """When mails to one person are to go: no more than so many in any hour.

    `oldest` are the first of the newest `MAX_PER_HOUR` mails that went or wait, as many as there are places `wanted`:
    of the others none makes a mail wait.
    """

    def __init__(self, oldest: list[datetime], wanted: int) -> None:
        self._oldest = oldest
        self._free = wanted - len(oldest)
        heapify(oldest)

    def place(self, earliest: datetime) -> datetime:
        """Takes the next place from then on."""
        if self._free > 0:
            self._free -= 1
            heappush(self._oldest, earliest)
            return earliest
        place = max(earliest, self._oldest[0] + HOUR)
        heapreplace(self._oldest, place)
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


async def _schedule(pairs: Iterable[Pair], at: datetime, session: AsyncClientSession) -> dict[ObjectId, _Hours]:
    """The hours of those who may get so many mails that some have to wait; these are few, and often nobody."""
    wanted = Counter(user_id for _, user_id in pairs)
    likely = wanted if len(wanted) <= FEW_PEOPLE else await _with_many(wanted, at, session)
    hours: dict[ObjectId, _Hours] = {}
    for user_id in likely:
        places = min(wanted[user_id], MAX_PER_HOUR)
        found = collection_of(Delivery).find(
            {"userId": user_id, "scheduledAt": {"$gt": at - HOUR}}, {"_id": 0, "scheduledAt": 1}, session=session
        )
        ordered = found.sort("scheduledAt", DESCENDING).skip(MAX_PER_HOUR - places).limit(places)
        rows = await ordered.batch_size(places + 1).to_list()
        hours[user_id] = _Hours([row["scheduledAt"] for row in rows], places)
    return hours


async def _with_many(wanted: Counter[ObjectId], at: datetime, session: AsyncClientSession) -> list[ObjectId]:
    """Those for whom there would be more mails than an hour has places for."""
    cursor = await collection_of(Delivery).aggregate(
        [
            {"$match": {"userId": {"$in": list(wanted)}, "scheduledAt": {"$gt": at - HOUR}}},
            {"$group": {"_id": "$userId", "count": {"$sum": 1}}},
        ],
        session=session,
    )
    counts = {row["_id"]: row["count"] for row in await cursor.to_list()}
    return [user_id for user_id, more in wanted.items() if counts.get(user_id, 0) + more > MAX_PER_HOUR]


def _can_be_added_to(row: Row) -> bool:
    """Nobody has begun to send it."""
    is_waiting: bool = row["state"] == DeliveryState.PENDING and row["attempts"] == 0
    return is_waiting


def _kept(event_ids: list[ObjectId]) -> list[ObjectId]:
    if len(event_ids) <= MAX_EVENTS:
        return event_ids
    return [*event_ids[: MAX_EVENTS // 2], *event_ids[-MAX_EVENTS // 2 :]]


def _adding(event_ids: Sequence[ObjectId]) -> list[Row]:
    every = {"$concatArrays": ["$events", list(event_ids)]}
    ends = {"$concatArrays": [{"$slice": ["$$every", end]} for end in (MAX_EVENTS // 2, -MAX_EVENTS // 2)]}
    kept = {"$cond": [{"$lte": [{"$size": "$$every"}, MAX_EVENTS]}, "$$every", ends]}
    return [{"$set": {"events": {"$let": {"vars": {"every": every}, "in": kept}}}}]
