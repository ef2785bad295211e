"""Numbers that increase and are never given twice, whichever process asks."""

import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import cast

from beanie import Document
from pymongo import ReturnDocument, WriteConcern

from .mongo import collection_of
from .wire import Row

# A quiet service takes each number when it is wanted, and so leaves no gaps.
WINDOW_S = 0.25
MANY = 8


class Counter(Document):
    """The last number given under a name."""

    id: str  # type: ignore[assignment]  # the sequence's name
    value: int = 0

    class Settings:
        name = "counters"


@dataclass(slots=True)
class _Ahead:
    """What this process has taken of a sequence and not given yet; forgotten at `until`."""

    numbers: range = range(0)
    until: float = 0.0
    given: deque[tuple[float, int]] = field(default_factory=deque)
    """When how many were, of late."""

    def pace(self, moment: float) -> int:
        """How many to take ahead: as many as were given in the last `WINDOW_S`, where those are many."""
        while self.given and self.given[0][0] < moment - WINDOW_S:
            self.given.popleft()
        recent = sum(count for _, count in self.given)
        return recent if recent >= MANY else 0


AHEAD: defaultdict[str, _Ahead] = defaultdict(_Ahead)


async def next_numbers(name: str, count: int) -> list[int]:
    """The next so many numbers; they are lost when the caller then fails.

    When many are wanted, some are taken ahead for a moment, because the step to the counter is a fifth of a create's
    commands. Of several processes one may so give higher numbers before another gives lower ones, for `WINDOW_S`.

    Taken outside the caller's transaction, where the counter would make all creates collide (measured: 131 creates/s
    with it inside, 936 with it before). Durable with what the numbers are for, and not before: the operations log has
    the counter's step ahead of that, so no history can hold the one and lack the other. Numbers that are not
    used yet when the server dies may be given again once it is back: who uses them needs a unique index, and may find
    them taken.
    """
    ahead, moment = AHEAD[name], time.monotonic()
    there = ahead.numbers if moment < ahead.until else range(0)
    numbers, ahead.numbers = list(there[:count]), there[count:]
    if missing := count - len(numbers):
        pace = ahead.pace(moment)
        taken = await _count_on(name, missing + pace)
        numbers += taken[:missing]
        # Another caller may have taken some meanwhile; what was left of theirs is lost.
        ahead.numbers, ahead.until = taken[missing:], moment + WINDOW_S
    ahead.given.append((moment, count))
    return numbers


async def _count_on(name: str, count: int) -> range:
    counters = collection_of(Counter).with_options(write_concern=WriteConcern(w=1))
    row = await counters.find_one_and_update(
        {"_id": name}, {"$inc": {"value": count}}, upsert=True, return_document=ReturnDocument.AFTER
    )
    last = int(cast("Row", row)["value"])
    return range(last - count + 1, last + 1)


async def adopt_numbers(name: str, model: type[Document]) -> None:
    """Raises the counter over every number in use, in case its last steps, or all, were lost and the rows were kept."""
    newest = await collection_of(model).find_one({"number": {"$gt": 0}}, {"number": 1}, sort=[("number", -1)])
    if newest is not None:
        AHEAD.pop(name, None)
        await collection_of(Counter).update_one({"_id": name}, {"$max": {"value": newest["number"]}}, upsert=True)
