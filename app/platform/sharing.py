"""Reads that many ask for at once, and answers that are given again only while they are provably current.

The server says with `hello` when it last wrote anything, whoever asked for it: a process of ours, another program, a
person at a shell. An answer that was read after one such word is true as long as the next word is the same; while the
majority lacks the last write, there is no such word. One `hello` serves all who ask at the same time, so a list that
many look at costs the database next to nothing while it is quiet, and what it always cost while it is not.
"""

from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, TypeVar

from pymongo import ReadPreference
from pymongo.errors import PyMongoError

from .batching import Batcher, Flights
from .idempotency import IdempotencyRow
from .memory import Memory
from .mongo import collection_of

Answer = TypeVar("Answer")

# What was asked for once is not worth a question to the database, nor memory: it may never be asked for again.
MAX_KEYS_SEEN = 2_000
ASK_AT_ONCE = 1_000


class SharedReads(Generic[Answer]):
    """Reads through `share`: equal ones at the same time become one, and repeated ones may need none.

    Whoever is answered gets what the database had at some moment after they asked, as if they had asked it themselves.
    """

    def __init__(self, *, size_of: Callable[[Answer], int], capacity: int) -> None:
        """`capacity` bounds what is kept, as `size_of` counts it."""
        self._size_of = size_of
        self._flights = Flights()
        self._kept: Memory[Hashable, tuple[Any, Answer]] = Memory(capacity)
        self._seen: Memory[Hashable, bool] = Memory(MAX_KEYS_SEEN)
        self._last_write: Batcher[None, Any] = Batcher(self._ask, at_most=ASK_AT_ONCE)
        self._under_way = 0

    async def share(self, key: Hashable, read: Callable[[], Awaitable[Answer]]) -> Answer:
        """What `read` answers. `key` holds all that the answer depends on but the database."""
        is_alone = self._under_way == 0
        self._under_way += 1
        try:
            if is_alone or not self._seen.get(key):
                self._seen.put(key, True, 1)
                return await self._flights.share(key, read)
            return await self._proved(key, read)
        finally:
            self._under_way -= 1

    async def _proved(self, key: Hashable, read: Callable[[], Awaitable[Answer]]) -> Answer:
        last_write = await self._last_write(None)
        kept = self._kept.get(key)
        if kept is not None and last_write is not None and kept[0] == last_write:
            return kept[1]
        # Begins after the word on the last write, so it holds at least what was written by then.
        answer = await self._flights.share(key, read)
        if last_write is not None:
            self._kept.put(key, (last_write, answer), self._size_of(answer))
        return answer

    async def _ask(self, askers: list[None]) -> list[Any]:
        """When the primary last wrote; None where it does not say (a sharded cluster) or can't be asked."""
        database = collection_of(IdempotencyRow).database
        if database.read_preference != ReadPreference.PRIMARY:  # a secondary may trail behind what the primary says
            return [None] * len(askers)
        try:
            hello = await database.command("hello")
        except PyMongoError:
            return [None] * len(askers)
        # Another primary may have written something else at the same place: its term is in it. While the majority lacks
        # the last write, one with an earlier place may still be on its way; it would come without a new word.
        written = hello.get("lastWrite", {})
        last = written.get("opTime")
        return [last if last == written.get("majorityOpTime") else None] * len(askers)
