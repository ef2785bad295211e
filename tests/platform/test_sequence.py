"""Numbers that are never given twice, whoever asks and however many at a time."""

import asyncio

import pytest

from app.accounts.documents import User
from app.platform.mongo import collection_of
from app.platform.sequence import AHEAD, MANY, Counter, adopt_numbers, next_numbers
from tests.conftest import COMMANDS

pytestmark = pytest.mark.usefixtures("database")

NAME = "things"


async def taken() -> int:
    row = await collection_of(Counter).find_one({"_id": NAME})
    return row["value"] if row else 0


async def take_many() -> list[int]:
    return [number for _ in range(MANY) for number in await next_numbers(NAME, 1)]


async def test_in_quiet_times_no_more_are_taken_than_given() -> None:
    assert [await next_numbers(NAME, count) for count in (1, 2, 1)] == [[1], [2, 3], [4]]
    assert await taken() == 4


async def test_in_busy_times_some_are_taken_ahead_and_given_without_a_command() -> None:
    await take_many()
    await next_numbers(NAME, 1)
    COMMANDS.names.clear()

    assert await next_numbers(NAME, 3) == [MANY + 2, MANY + 3, MANY + 4]

    assert COMMANDS.names == []
    assert await taken() == 2 * MANY + 1


async def test_all_are_given_once_and_in_order_across_what_is_taken_ahead() -> None:
    given = [number for count in (1, 5, 3, 40, 1, 1, 7, 100, 2) for number in await next_numbers(NAME, count)]

    assert given == list(range(1, 161))


async def test_many_who_ask_at_the_same_time_never_get_the_same() -> None:
    given = await asyncio.gather(*(next_numbers(NAME, 1 + n % 3) for n in range(100)))

    numbers = [number for some in given for number in some]
    assert len(set(numbers)) == len(numbers) == 199
    assert max(numbers) <= await taken()


async def test_what_is_ahead_is_forgotten_soon_so_that_no_old_number_comes_late() -> None:
    await take_many()
    await next_numbers(NAME, 1)
    AHEAD[NAME].until = 0.0

    (number,) = await next_numbers(NAME, 1)

    assert number == 2 * MANY + 2


async def test_two_processes_never_give_the_same() -> None:
    given = await take_many() + await next_numbers(NAME, 1)
    mine = AHEAD.pop(NAME)
    given += await take_many() + await next_numbers(NAME, 1)
    AHEAD[NAME] = mine
    given += await take_many()

    assert len(set(given)) == len(given)


async def test_none_from_below_what_is_in_use() -> None:
    await take_many()
    await next_numbers(NAME, 1)
    await collection_of(User).insert_many([{"username": str(number), "number": number} for number in (7, 1_000, None)])
    await adopt_numbers(NAME, User)

    assert await next_numbers(NAME, 1) == [1_001]


async def test_nothing_in_use_raises_nothing() -> None:
    await next_numbers(NAME, 3)
    await adopt_numbers(NAME, User)

    assert await next_numbers(NAME, 1) == [4]
