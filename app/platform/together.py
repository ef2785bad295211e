"""Asking the database once for what several tasks want of it at the same time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Together(Generic[Asked, Answer]):
    """Has one command under way at a time, and gathers for the next one what is asked meanwhile.

    `ask` answers several at once, each in its place. What it raises, all of these are told.
    """

    def __init__(self, ask: Callable[[list[Asked]], Awaitable[Sequence[Answer]]]) -> None:
        self._ask = ask
        self._waiting: list[tuple[Asked, asyncio.Future[Answer]]] = []
        self._asking: asyncio.Task[None] | None = None

    async def __call__(self, asked: Asked) -> Answer:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, future))
        if self._asking is None:
            # It has its first turn after those who are about to ask.
            self._asking = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                try:
                    answers = await self._ask([asked for asked, _ in waiting])
                except Exception as error:  # noqa: BLE001 - whoever asked deals with it
                    _tell(waiting, error)
                else:
                    for (_, future), answer in zip(waiting, answers, strict=True):
                        if not future.done():  # or whoever asked was told to end
                            future.set_result(answer)
        finally:
            self._asking = None


def _tell(waiting: Sequence[tuple[Asked, asyncio.Future[Answer]]], error: Exception) -> None:
    for _, future in waiting:
        if not future.done():
            future.set_exception(error)
