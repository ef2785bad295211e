"""Questions that are asked together are answered together, each its own."""

import asyncio

import pytest

from app.platform.together import Together


class Asking:
    """Answers a number with its double, when told to."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.was_asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, numbers: list[int]) -> list[int]:
        self.asked.append(numbers)
        self.was_asked.set()
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return [number * 2 for number in numbers]


async def test_what_is_asked_at_once_is_one_question_and_what_comes_meanwhile_the_next() -> None:
    asking = Asking()
    together = Together(asking)
    first = [asyncio.create_task(together(number)) for number in (1, 2, 2)]
    await asking.was_asked.wait()
    later = [asyncio.create_task(together(number)) for number in (3, 4)]
    await asyncio.sleep(0)
    asking.may_answer.set()

    assert await asyncio.gather(*first, *later) == [2, 4, 4, 6, 8]
    assert asking.asked == [[1, 2, 2], [3, 4]]
    assert await together(5) == 10


async def test_who_asked_hears_what_went_wrong_and_the_next_is_asked_anew() -> None:
    asking = Asking()
    asking.error = LookupError()
    asking.may_answer.set()
    together = Together(asking)

    outcomes = await asyncio.gather(together(1), together(2), return_exceptions=True)
    assert all(outcome is asking.error for outcome in outcomes)
    asking.error = None
    assert await together(3) == 6


async def test_one_that_is_told_to_end_holds_up_no_other() -> None:
    asking = Asking()
    together = Together(asking)
    ending, staying = (asyncio.create_task(together(number)) for number in (1, 2))
    await asking.was_asked.wait()
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    asking.may_answer.set()

    assert await staying == 4
