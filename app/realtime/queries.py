"""What happened since, as far as it is for the caller's ears."""

from app.accounts.actor import Actor
from app.events.replay import EventReader, Logged, PositionLost, Stretch
from app.platform.paging import parse_limit
from app.tickets.queries import requesters_of

from .audience import hears_all, may_hear
from .errors import ResyncRequired

# What one read looks through for somebody who hears little of it; the cursor then leads on from there.
MAX_SCANNED = 1_000


async def read_news(actor: Actor, reader: EventReader, *, since: str | None, limit: str | None) -> Stretch:
    """The events behind `since` that the actor may hear of, by present rights; without it none, and the present cursor.

    Raises `InvalidInput`, `ResyncRequired`.
    """
    wanted = parse_limit(limit)
    if since is None:
        return Stretch([], await reader.end())
    try:
        stretch = await reader.after(since, at_most=wanted if hears_all(actor) else MAX_SCANNED)
    except PositionLost:
        raise ResyncRequired(await reader.end()) from None
    heard = await _heard_by(actor, stretch.events)
    if len(heard) <= wanted:
        return Stretch(heard, stretch.next_cursor)
    return Stretch(heard[:wanted], heard[wanted - 1].cursor)


async def _heard_by(actor: Actor, events: list[Logged]) -> list[Logged]:
    if hears_all(actor):
        return events
    requesters = await requesters_of({event.row["ticketId"] for event in events})
    return [event for event in events if may_hear(actor, event.row, requesters.get(event.row["ticketId"]))]
