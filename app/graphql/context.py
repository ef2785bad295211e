"""What every resolver finds as `info.context`: who asks, which request it is, and the loaders of this one execution."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from strawberry.types import Info as StrawberryInfo

from app.accounts.actor import Actor, Origin
from app.events.replay import EventReader
from app.platform.idempotency import Once

from .keyed import KeyedMutation
from .loaders import Loaders

Result = TypeVar("Result")
NOWHERE = Origin()


def _as_it_is(result: Any) -> Any:
    return result


class Context:
    """One execution's context; needs no HTTP request.

    `Context(actor, request_id, events)` is all that a query, a mutation or one event of a subscription takes, whichever
    way it came; `request_id` is what its errors tell the client and what the log is searched for. Each execution has a
    context of its own: the loaders remember what they have read, and one that outlived its answer would repeat it.
    """

    def __init__(
        self,
        actor: Actor,
        request_id: str,
        events: EventReader,
        keyed: KeyedMutation | None = None,
        *,
        origin: Origin = NOWHERE,
    ) -> None:
        self.actor = actor
        self.origin = origin
        self.request_id = request_id
        self.events = events
        self.loaders = Loaders(actor)
        self._keyed = keyed

    async def carry_out(
        self,
        command: Callable[[Once[Result] | None], Awaitable[Result]],
        as_value: Callable[[Result], Any] = _as_it_is,
    ) -> Any:
        """Runs a command, at most once for its `Idempotency-Key`. Answers what `as_value` makes of its result:

        plain values that MongoDB can store, because a repetition of the request starts from them.
        """
        if self._keyed is None:
            return as_value(await command(None))
        return await self._keyed.carry_out(command, as_value)


Info = StrawberryInfo[Context, None]
