"""Work that is shared, and what the callers must not notice of it."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pymongo.errors import ConnectionFailure

from app.platform.batching import Batcher, Flights


class Work:
    """Takes batches, and ends each when the test says so."""

    def __init__(self, answer: Callable[[Any], Any] = lambda item: item * 10) -> None:
        self.batches: list[list[Any]] = []
        self.gate = asyncio.Semaphore(0)
        self._answer = answer

    async def __call__(self, items: list[Any]) -> list[Any]:
        self.batches.append(items)
        await self.gate.acquire()
        return [self._answer(item) for item in items]


async def turns(number: int = 5) -> None:
    """Lets everybody go as far as they can."""
    for _ in range(number):
        await asyncio.sleep(0)


class TestBatcher:
    async def test_one_alone_goes_at_once(self) -> None:
        work = Work()
        asked = asyncio.create_task(Batcher(work, at_most=10)(1))
        await turns()

        assert work.batches == [[1]]
        work.gate.release()
        assert await asked == 10

    async def test_who_comes_meanwhile_goes_together_next_each_with_their_own_answer(self) -> None:
        work = Work()
        batch = Batcher(work, at_most=10)
        first = asyncio.create_task(batch(1))
        await turns()
        others = [asyncio.create_task(batch(item)) for item in (2, 3, 4)]
        await turns()
        assert work.batches == [[1]]

        work.gate.release()
        work.gate.release()

        assert await asyncio.gather(first, *others) == [10, 20, 30, 40]
        assert work.batches == [[1], [2, 3, 4]]

    async def test_more_than_a_batch_holds_go_in_several_in_order(self) -> None:
        work = Work()
        batch = Batcher(work, at_most=2)
        work.gate = asyncio.Semaphore(100)

        assert await asyncio.gather(*(batch(item) for item in range(5))) == [0, 10, 20, 30, 40]
        assert work.batches == [[0, 1], [2, 3], [4]]

    async def test_callers_who_come_back_at_once_are_soon_two_halves(self) -> None:
        sizes: list[int] = []

        async def work(items: list[int]) -> list[int]:
            sizes.append(len(items))
            await turns()
            return items

        batch = Batcher(work, at_most=100)

        async def caller() -> None:
            for _ in range(10):
                await batch(1)

        first = [asyncio.create_task(caller()) for _ in range(2)]
        await turns(2)
        await asyncio.gather(*first, *(caller() for _ in range(30)))

        assert sizes[:2] == [2, 16]
        assert set(sizes[4:-4]) == {16}

    async def test_an_error_of_one_is_that_one_s_alone(self) -> None:
        work = Work(lambda item: ValueError("no") if item == 2 else item)
        batch = Batcher(work, at_most=10)
        work.gate.release()

        outcomes = await asyncio.gather(*(batch(item) for item in (1, 2, 3)), return_exceptions=True)

        assert outcomes[::2] == [1, 3]
        assert isinstance(outcomes[1], ValueError)

    async def test_for_a_task_its_caller_alone_waits_and_the_next_batch_goes_on(self) -> None:
        gates = {item: asyncio.Event() for item in (1, 2, 3)}

        async def take_long(item: int) -> int:
            await gates[item].wait()
            if item == 2:
                raise ValueError
            return item * 10

        async def work(items: list[int]) -> list[Any]:
            return [asyncio.create_task(take_long(item)) if item in gates else item for item in items]

        batch: Batcher[int, int] = Batcher(work, at_most=10)
        slow = [asyncio.create_task(batch(item)) for item in (1, 2, 3)]
        assert [await batch(item) for item in (4, 5)] == [4, 5]
        assert not any(task.done() for task in slow)

        slow[2].cancel()
        for gate in gates.values():
            gate.set()
        outcomes = await asyncio.gather(*slow, return_exceptions=True)
        assert outcomes[0] == 10
        assert [type(outcome) for outcome in outcomes[1:]] == [ValueError, asyncio.CancelledError]

    async def test_an_error_of_all_is_everybody_s_and_the_next_batch_goes_on(self) -> None:
        outcomes = [ConnectionError("away"), None]

        async def work(items: list[int]) -> list[int]:
            if error := outcomes.pop(0):
                raise error
            return items

        batch = Batcher(work, at_most=10)
        failed = await asyncio.gather(batch(1), batch(2), return_exceptions=True)

        assert [type(error) for error in failed] == [ConnectionError] * 2
        assert await batch(3) == 3

    @pytest.mark.parametrize("is_raised", [True, False])
    async def test_who_waits_behind_a_batch_that_finds_the_database_away_is_told_at_once(self, is_raised: bool) -> None:
        gate = asyncio.Event()
        batches: list[list[int]] = []

        async def work(items: list[int]) -> list[int | Exception]:
            batches.append(items)
            await gate.wait()
            if is_raised:
                raise ConnectionFailure
            return [ConnectionFailure() for _ in items]

        batch: Batcher[int, int] = Batcher(work, at_most=10)
        first = asyncio.create_task(batch(1))
        await turns()
        behind = [asyncio.create_task(batch(item)) for item in (2, 3)]
        await turns()
        gate.set()

        outcomes = await asyncio.gather(first, *behind, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ConnectionFailure] * 3
        assert batches == [[1]]

    async def test_who_is_cancelled_while_waiting_is_left_out(self) -> None:
        work = Work()
        batch = Batcher(work, at_most=10)
        first = asyncio.create_task(batch(1))
        await turns()
        gone, there = asyncio.create_task(batch(2)), asyncio.create_task(batch(3))
        await turns()
        gone.cancel()
        work.gate.release()
        work.gate.release()

        assert [await first, await there] == [10, 30]
        assert work.batches == [[1], [3]]
        with pytest.raises(asyncio.CancelledError):
            await gone

    async def test_who_is_cancelled_later_takes_nothing_from_the_others(self) -> None:
        work = Work()
        batch = Batcher(work, at_most=10)
        gone, there = asyncio.create_task(batch(1)), asyncio.create_task(batch(2))
        await turns()
        gone.cancel()
        await turns()
        work.gate.release()

        assert await there == 20
        assert gone.cancelled()

    async def test_is_idle_again_afterwards(self) -> None:
        work = Work()
        work.gate = asyncio.Semaphore(100)
        batch = Batcher(work, at_most=10)

        assert [await batch(1), await batch(2)] == [10, 20]
        assert work.batches == [[1], [2]]


class Readings:
    """Counts how often each was begun; each ends when the test says so."""

    def __init__(self) -> None:
        self.begun = 0
        self.gate = asyncio.Semaphore(0)

    async def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        await self.gate.acquire()
        return number


class TestFlights:
    async def test_who_comes_while_one_is_under_way_gets_the_next_that_begins_after_they_asked(self) -> None:
        flights, read = Flights(), Readings()
        first = asyncio.create_task(flights.share("list", read))
        await turns()
        later = [asyncio.create_task(flights.share("list", read)) for _ in range(3)]
        await turns()
        assert read.begun == 1

        read.gate.release()
        assert await first == 1
        await turns()
        latest = asyncio.create_task(flights.share("list", read))
        await turns()
        assert read.begun == 2

        read.gate.release()
        assert await asyncio.gather(*later) == [2, 2, 2]
        read.gate.release()
        assert await latest == 3

    async def test_other_questions_wait_for_nobody(self) -> None:
        flights, slow, quick = Flights(), Readings(), Readings()
        waiting = asyncio.create_task(flights.share("slow", slow))
        quick.gate.release()

        assert await flights.share("quick", quick) == 1
        slow.gate.release()
        assert await waiting == 1

    async def test_an_error_is_told_to_all_who_shared_it_and_to_nobody_else(self) -> None:
        flights = Flights()
        gate = asyncio.Event()

        async def fail() -> int:
            await gate.wait()
            raise ValueError

        first = asyncio.create_task(flights.share("list", fail))
        await turns()
        later = [asyncio.create_task(flights.share("list", fail)) for _ in range(2)]
        await turns()
        gate.set()

        outcomes = await asyncio.gather(first, *later, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ValueError] * 3
        read = Readings()
        read.gate.release()
        assert await flights.share("list", read) == 1

    async def test_who_gives_up_waiting_takes_nothing_from_the_others(self) -> None:
        flights, read = Flights(), Readings()
        gone = asyncio.create_task(flights.share("list", read))
        await turns()
        there = asyncio.create_task(flights.share("list", read))
        await turns()
        gone.cancel()
        read.gate.release()
        read.gate.release()

        assert await there == 2
        assert gone.cancelled()

    async def test_nothing_is_remembered(self) -> None:
        flights, read = Flights(), Readings()
        read.gate = asyncio.Semaphore(10)

        assert [await flights.share("list", read) for _ in range(3)] == [1, 2, 3]
        assert flights._flights == {}
