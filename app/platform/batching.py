"""Work that arrives together is done together: one command to the database for many callers.

A command costs the driver about as much as all the rest of a request, whatever it asks for. Neither kind of sharing has
a timer: a caller who finds nothing under way is served at once, and the busier the service is, the more of them share.
Whatever is done for a caller begins after they asked, so nobody is answered from before their question.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar, cast

from pymongo.errors import ConnectionFailure

Item = TypeVar("Item")
Result = TypeVar("Result")
Outcome: TypeAlias = Result | Exception | asyncio.Task[Result]

# So few are never parted.
FEW = 8


class Batcher(Generic[Item, Result]):
    """Hands what came while its last batch was under way to `run` as the next one; one batch at a time.

    Where callers come back as soon as they are answered, it takes no more than half of them all at a time: those of the
    last batch are then heard and answered while the next one is with the database. Left to themselves they would stay
    parted as they first happened to be, two and thirty, and everybody would wait for the thirty.

    `run` answers one result per item, in their order; an `Exception` among them is raised to that caller alone, and for
    a `Task` that caller alone waits, while the next batch goes on. What `run` itself raises is raised to all callers of
    the batch. When a whole batch finds the database away, those behind
    it are told at once, too: to find it out one batch after the other would take too long. A caller who is cancelled
    before their batch begins is left out of it; one who is cancelled later loses the answer, and nobody else notices.
    """

    def __init__(self, run: Callable[[list[Item]], Awaitable[Sequence[Outcome[Result]]]], *, at_most: int) -> None:
        self._run = run
        self._at_most = at_most
        self._last = 0
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._working: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        try:
            while batch := self._next_batch():
                await self._answer(batch)
        finally:
            self._working = None
            self._last = 0

    def _next_batch(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        present = [member for member in self._waiting if not member[1].done()]
        half = math.ceil((len(present) + self._last) / 2) if self._last else len(present)
        size = min(max(half, FEW), self._at_most)
        batch, self._waiting = present[:size], present[size:]
        self._last = len(batch)
        return batch

    async def _answer(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        outcomes: Sequence[Outcome[Result]]
        try:
            outcomes = await self._run([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers are waiting for it
            outcomes = [error] * len(batch)
        except BaseException:
            for _, future in batch:
                future.cancel()
            raise
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            _tell(future, outcome)
        if all(isinstance(outcome, ConnectionFailure) for outcome in outcomes):
            behind, self._waiting = self._waiting, []
            for _, future in behind:
                _tell(future, outcomes[0])


def _tell(future: asyncio.Future[Result], outcome: Outcome[Result]) -> None:
    if isinstance(outcome, asyncio.Task):
        outcome.add_done_callback(lambda task: _pass_on(future, task))
    elif future.done():
        return
    elif isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _pass_on(future: asyncio.Future[Result], task: asyncio.Task[Result]) -> None:
    if task.cancelled():
        future.cancel()
        return
    error = task.exception()
    _tell(future, error if isinstance(error, Exception) else task.result())


class _Flight:
    """One reading, and the one after it that is already asked for."""

    __slots__ = ("following", "under_way")

    def __init__(self) -> None:
        self.under_way: asyncio.Task[Any] | None = None
        self.following: asyncio.Task[Any] | None = None


class Flights:
    """Equal questions that are asked at the same time are answered by one reading.

    Who asks while a reading of the same key is under way waits for the next one, which begins after they asked. A key
    must hold all that the answer depends on, the caller's rights included.
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight] = {}

    async def share(self, key: Hashable, read: Callable[[], Awaitable[Result]]) -> Result:
        """What `read` answers, this caller's or that of somebody who asked the same. Raises what it raises."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight()
            flight.under_way = asyncio.create_task(self._run(key, flight, read))
            shared = flight.under_way
        else:
            if flight.following is None:
                flight.following = asyncio.create_task(self._after(key, flight, read))
            shared = flight.following
        # Whoever gives up waiting takes nothing from the others.
        return cast("Result", await asyncio.shield(shared))

    async def _after(self, key: Hashable, flight: _Flight, read: Callable[[], Awaitable[Result]]) -> Result:
        if flight.under_way is not None:
            await asyncio.wait([flight.under_way])
        flight.under_way, flight.following = flight.following, None
        return await self._run(key, flight, read)

    async def _run(self, key: Hashable, flight: _Flight, read: Callable[[], Awaitable[Result]]) -> Result:
        try:
            return await read()
        finally:
            if flight.following is None:
                del self._flights[key]
