"""Keeps the figures in step with the tickets: each event moves the sums by what it changes in its ticket's part."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter

from bson import ObjectId
from pymongo import InsertOne, ReplaceOne, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession

from app.events.log import Event
from app.platform.mongo import collection_of
from app.platform.wire import Row

from .contributions import Sums, difference
from .documents import StatsCell, StatsTicket
from .facts import FIELDS, Facts, advance, replay

CONSUMER = "analytics"
# Without the words, which are most of an event.
_NEEDED = dict.fromkeys(
    [
        *("type", "ticketId", "version", "at"),
        *(f"changes.{name}" for name in FIELDS),
        *(f"ticket.{name}" for name in FIELDS),
    ],
    1,
)
# What a ticket was counted by, and what is true of it now.
Change = tuple[Facts | None, Facts]
Write = InsertOne[Row] | ReplaceOne[Row] | UpdateOne


async def project(events: list[Row], session: AsyncClientSession) -> None:
    """Brings the figures up to date with these events, in the session's transaction; a handler for `consume`.

    An event that was counted before is passed over. One of a ticket that was never counted, or that follows on events
    which were not, has the ticket counted by all that the log tells of it.
    """
    by_ticket: dict[ObjectId, list[Row]] = defaultdict(list)
    for event in sorted(events, key=itemgetter("version")):
        by_ticket[event["ticketId"]].append(event)
    counted = await counted_facts(by_ticket, session)
    carried = {ticket_id: _carry_on(counted.get(ticket_id), news) for ticket_id, news in by_ticket.items()}
    gaps = [ticket_id for ticket_id, facts in carried.items() if facts is None]
    histories = await read_histories(gaps, session) if gaps else {}
    changes = [
        (counted.get(ticket_id), facts or replay(by_ticket[ticket_id][-1]["ticket"], histories.get(ticket_id, [])))
        for ticket_id, facts in carried.items()
    ]
    changes = [(before, after) for before, after in changes if before != after]
    rows = [ReplaceOne({"_id": after.ticket_id}, after.as_row(), upsert=True) for _, after in changes]
    await save(increments(difference(changes)), rows, session)


def _carry_on(facts: Facts | None, events: list[Row]) -> Facts | None:
    """The facts after these events, in the order of their versions; None if some before them were not counted."""
    if facts is None and events[0]["version"] == 1:
        facts = replay(events[0]["ticket"], events[:1])
    for event in events:
        if facts is None or event["version"] > facts.version + 1:
            return None
        if event["version"] > facts.version:
            facts = advance(facts, event)
    return facts


async def counted_facts(ids: Iterable[ObjectId], session: AsyncClientSession) -> dict[ObjectId, Facts]:
    """What these tickets were counted by, of those that were."""
    rows = await collection_of(StatsTicket).find({"_id": {"$in": list(ids)}}, session=session).to_list()
    return {row["_id"]: Facts.of_row(row) for row in rows}


async def read_histories(ids: Sequence[ObjectId], session: AsyncClientSession) -> dict[ObjectId, list[Row]]:
    """All events of these tickets, by version."""
    found = collection_of(Event).find({"ticketId": {"$in": list(ids)}}, _NEEDED, session=session)
    rows = await found.sort([("ticketId", 1), ("version", 1)]).to_list()
    return {ticket_id: list(events) for ticket_id, events in groupby(rows, key=itemgetter("ticketId"))}


def increments(sums: Sums) -> list[UpdateOne]:
    """The writes that add these amounts to the cells, which need not exist yet."""
    return [UpdateOne({"_id": cell._asdict()}, {"$inc": amounts}, upsert=True) for cell, amounts in sums.items()]


async def save(cells: Sequence[Write], rows: Sequence[Write], session: AsyncClientSession) -> None:
    """Moves the sums, and notes what the tickets are counted by now.

    The sums come first, those that everybody writes before the others: who does so first goes through.
    """
    for model, writes in ((StatsCell, cells), (StatsTicket, rows)):
        if writes:
            await collection_of(model).bulk_write(writes, ordered=False, session=session)
