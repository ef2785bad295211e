"""Reading tickets: always through what the caller may see."""

from collections.abc import Collection, Mapping

from bson import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession

from app.accounts.actor import Actor
from app.events.log import OLDEST_FIRST, Event, read_history
from app.platform.batching import Batcher
from app.platform.errors import NotFound
from app.platform.mongo import collection_of
from app.platform.paging import EncodedPage, Page, check_parameters, parse_limit, read_encoded_page, read_page
from app.platform.sharing import SharedReads
from app.platform.wire import Row

from .documents import Ticket
from .encoding import ticket_json
from .filters import parse_query
from .policy import may_see, visible_events_to, visible_to

MAX_NUMBER_DIGITS = 18
READ_AT_ONCE = 100
# Of answers that may be given again while nothing is written.
LIST_BYTES = 8 * 1024 * 1024


async def get_ticket(actor: Actor, reference: str) -> Row:
    """The stored ticket by its id or number. Raises `NotFound`, also for one that the actor may not know of."""
    row = await get_any_ticket(reference)
    if not may_see(actor, row):
        raise NotFound
    return row


async def get_tickets(actor: Actor, ids: list[ObjectId]) -> dict[ObjectId, Row]:
    """Those of the tickets that there are and that the actor may know of."""
    rows = await collection_of(Ticket).find({"_id": {"$in": ids}, **visible_to(actor)}).to_list()
    return {row["_id"]: row for row in rows}


async def requesters_of(ids: Collection[ObjectId]) -> dict[ObjectId, ObjectId | None]:
    """Whose these tickets are now, deleted ones too."""
    rows = await collection_of(Ticket).find({"_id": {"$in": list(ids)}}, {"requester": 1}).to_list()
    return {row["_id"]: row.get("requester") for row in rows}


async def read_all_tickets(
    after: ObjectId | None, fields: Collection[str], session: AsyncClientSession, *, limit: int
) -> list[Row]:
    """The next tickets by id, deleted ones too, for what is kept about all of them. Gives these stored fields."""
    where: Row = {} if after is None else {"_id": {"$gt": after}}
    found = collection_of(Ticket).find(where, dict.fromkeys(fields, 1), session=session)
    return await found.sort("_id", 1).limit(limit).to_list()


async def get_any_ticket(reference: str) -> Row:
    """The stored ticket, deleted or not, for whoever may restore it. Raises `NotFound`."""
    where = _by_reference(reference)
    row = await (_ticket_by_id(where["_id"]) if "_id" in where else collection_of(Ticket).find_one(where))
    if row is None:
        raise NotFound
    return row


async def get_any_tickets(ids: Collection[ObjectId]) -> dict[ObjectId, Row]:
    """Those of the tickets that there are, deleted or not, in one command."""
    rows = await collection_of(Ticket).find({"_id": {"$in": list(ids)}}, batch_size=len(ids) + 1).to_list()
    return {row["_id"]: row for row in rows}


async def _read_by_id(ids: list[ObjectId]) -> list[Row | None]:
    found = await get_any_tickets(set(ids))
    return [found.get(ticket_id) for ticket_id in ids]


# Single tickets are what is asked for most, by many at a time. Deleted ones too.
_ticket_by_id = Batcher(_read_by_id, at_most=READ_AT_ONCE)


async def list_tickets(actor: Actor, parameters: Mapping[str, str]) -> Page:
    """A page of the tickets that the actor may see. Raises `InvalidInput`, `InvalidCursor`."""
    query = parse_query(actor, parameters)
    return await read_page(
        collection_of(Ticket),
        query.where,
        query.order,
        scope=query.scope,
        cursor=query.cursor,
        limit=query.limit,
        hint=query.hint,
    )


async def list_tickets_encoded(actor: Actor, parameters: Mapping[str, str]) -> EncodedPage:
    """The same page as its answer, shared with all whose question to the database is the same.

    Raises `InvalidInput`, `InvalidCursor`.
    """
    query = parse_query(actor, parameters)
    # The filter holds what the actor may see; so whoever may see less asks another question.
    key = (query.scope, str(query.where), query.limit, query.cursor)
    return await _lists.share(key, lambda: read_encoded_page(collection_of(Ticket), query, ticket_json))


_lists: SharedReads[EncodedPage] = SharedReads(size_of=lambda page: len(page.body), capacity=LIST_BYTES)


async def ticket_history(actor: Actor, reference: str, parameters: Mapping[str, str]) -> Page:
    """A ticket's events, oldest first, as far as they are for the actor's eyes.

    Raises `NotFound`, `InvalidInput`, `InvalidCursor`.
    """
    ticket = await get_ticket(actor, reference)
    check_parameters(parameters, "limit", "cursor")
    limit = parse_limit(parameters.get("limit"))
    return await read_history(ticket["_id"], visible_events_to(actor), cursor=parameters.get("cursor"), limit=limit)


async def ticket_histories(actor: Actor, ids: Collection[ObjectId], limit: int) -> dict[ObjectId, Page]:
    """The first page of each ticket's history, in one command. The actor must be known to see these tickets."""
    history = [{"$match": visible_events_to(actor)}, {"$sort": dict(OLDEST_FIRST.keys)}, {"$limit": limit + 1}]
    joined = {"from": Event.Settings.name, "localField": "_id", "foreignField": "ticketId", "pipeline": history}
    found = await collection_of(Ticket).aggregate(
        [{"$match": {"_id": {"$in": list(ids)}}}, {"$project": {"_id": 1}}, {"$lookup": {**joined, "as": "events"}}]
    )
    events = {row["_id"]: row["events"] for row in await found.to_list()}
    return {ticket_id: _first_page_of(ticket_id, events.get(ticket_id, []), limit) for ticket_id in ids}


def _first_page_of(ticket_id: ObjectId, events: list[Row], limit: int) -> Page:
    # The scope is `read_history`'s: a cursor of either leads on in the other.
    return Page(events[:limit], len(events) > limit, f"history {ticket_id}", OLDEST_FIRST)


def _by_reference(reference: str) -> Row:
    if ObjectId.is_valid(reference):
        return {"_id": ObjectId(reference)}
    if reference.isascii() and reference.isdigit() and len(reference) <= MAX_NUMBER_DIGITS:
        return {"number": int(reference)}
    raise NotFound
