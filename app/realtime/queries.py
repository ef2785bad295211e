"""What happened since, as far as it is for the caller's ears."""

from app.accounts.actor import Actor
from app.events.replay import EventReader, Logged, PositionLost, Stretch
from app.platform.paging import parse_limit
from app.tickets.queries import requesters_of

from .audience import STAFF, group_of, may_hear
from .errors import ResyncRequired

# What one read looks through for somebody who hears little of it; the cursor then leads on from there.
MAX_SCANNED = 1_000


async def read_news(actor: Actor, reader: EventReader, *, since: str | None, limit: str | None) -> Stretch:
    """The events behind `since` that the actor may hear of, by present rights; without it none, and the present cursor.

    Raises `InvalidInput`, `ResyncRequired`.
    """
    wanted = parse_limit(limit)
    if since is None:
        return await reader.end()
    try:
        scanned = wanted if group_of(actor) == STAFF else MAX_SCANNED
        stretch = await reader.after(await reader.locate(since), at_most=scanned)
    except PositionLost:
        raise ResyncRequired((await reader.end()).next_cursor) from None
    heard = await heard_by(actor, stretch.events)
    if len(heard) <= wanted:
        return Stretch(heard, stretch.position, stretch.next_cursor)
    last = heard[wanted - 1]
    return Stretch(heard[:wanted], last.position, last.cursor)


async def heard_by(actor: Actor, events: list[Logged]) -> list[Logged]:
    """Those of the events that the actor may hear of, now that their tickets may be another's."""
    if group_of(actor) == STAFF or not events:
        return events
    requesters = await requesters_of({event.row["ticketId"] for event in events})
    return [event for event in events if may_hear(actor, event.row, requesters.get(event.row["ticketId"]))]
