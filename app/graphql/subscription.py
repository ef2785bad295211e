"""Following the event log: the one subscription, fed like every other live stream."""

from collections.abc import AsyncGenerator
from typing import Annotated, Any

import strawberry
from strawberry import ID, UNSET
from strawberry.types import Info

from app.accounts.actor import Actor
from app.events.catalog import EventType as Type
from app.events.replay import EventReader, Logged
from app.realtime.errors import ResyncRequired
from app.realtime.feed import Resync
from app.realtime.hub import Hub, Listener
from app.realtime.protocol import Options
from app.realtime.queries import heard_by
from app.tickets.schemas import event_out

from .context import Context
from .types import EventType


class ListeningContext(Context):
    """The context of a subscription, as long as it lasts; each of its events is executed with one of its own."""

    def __init__(self, actor: Actor, request_id: str, events: EventReader, hub: Hub, listener: Listener) -> None:
        super().__init__(actor, request_id, events)
        self.hub = hub
        self.listener = listener


Since = Annotated[
    str | None,
    strawberry.argument(
        description="The cursor of the last event that was handled, or `eventCursor`; else from now on"
    ),
]
TicketId = Annotated[ID | None, strawberry.argument(description="Only events of this ticket")]
Types = Annotated[
    list[str] | None, strawberry.argument(description=f"Only events of these types, of {', '.join(Type)}")
]


async def ticket_events(
    info: Info[ListeningContext, None], since: Since = UNSET, ticket_id: TicketId = UNSET, types: Types = UNSET
) -> AsyncGenerator[Any, None]:
    """Raises `InvalidInput`, and `ResyncRequired` where completeness can't be proved."""
    hub, listener = info.context.hub, info.context.listener
    given = {"since": since, "ticketId": ticket_id, "types": types}
    options = Options.parse({name: value for name, value in given.items() if value is not UNSET})
    feed, _, lost = await hub.open_feed(listener, options)
    try:
        while lost is None:
            news = await feed.next()
            if isinstance(news, Resync):
                lost = news
            else:
                for at, item in enumerate(news):
                    # Each waits until the one before it was read, and may not be for these ears any more by then.
                    if at == 0 or await heard_by(feed.actor, [Logged(item.row, item.position, item.cursor)]):
                        yield event_out(item.row, item.cursor)
        raise ResyncRequired(lost.cursor)
    finally:
        hub.close_feed(listener, feed)


@strawberry.type
class Subscription:
    ticket_events: AsyncGenerator[EventType, None] = strawberry.subscription(
        resolver=ticket_events,
        description=(
            "What happens to the tickets that the caller may see, in the order in which it is committed. To start "
            "without a gap: ask for `eventCursor`, load the state, subscribe since that cursor; `ticket.version` drops "
            "what the state already had. An error `resync_required` says to start over from its `cursor`."
        ),
    )
