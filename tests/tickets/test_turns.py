"""A crowd at one ticket: whoever was overtaken takes turns, and nobody waits who wants another."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from app.platform.commit import StaleWrite
from app.platform.errors import Conflict
from app.tickets import commands
from app.tickets.commands import MAX_PLANS, _in_turn
from tests.callers import Caller
from tests.factories.tickets import events_of, open_ticket
from tests.live import eventually


class Crowd:
    """Tells who tried, in order; nobody gets further than the gate."""

    def __init__(self) -> None:
        self.tries: list[str] = []
        self.gate = asyncio.Event()

    def member(self, name: str, *, overtaken: int = 0) -> Callable[[], Awaitable[str]]:
        async def attempt() -> str:
            self.tries.append(name)
            if self.tries.count(name) <= overtaken:
                raise StaleWrite
            await self.gate.wait()
            return name

        return attempt

    async def has_tried(self, *names: str) -> None:
        await eventually(lambda: self.tries == [*names])


async def test_who_was_overtaken_goes_before_those_who_come_later() -> None:
    crowd = Crowd()
    tasks = [asyncio.create_task(_in_turn("t", crowd.member("a", overtaken=1)))]
    await crowd.has_tried("a", "a")
    tasks += [asyncio.create_task(_in_turn("t", crowd.member(name))) for name in "bc"]
    tasks.append(asyncio.create_task(_in_turn("another", crowd.member("d"))))
    await crowd.has_tried("a", "a", "d")

    crowd.gate.set()

    assert await asyncio.gather(*tasks) == ["a", "b", "c", "d"]
    assert crowd.tries == ["a", "a", "d", "b", "c"]
    assert not commands._turns


async def test_nobody_waits_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MAX_WAIT_S", 0.01)
    crowd = Crowd()
    first = asyncio.create_task(_in_turn("t", crowd.member("a", overtaken=1)))
    await crowd.has_tried("a", "a")

    with pytest.raises(Conflict):
        await _in_turn("t", crowd.member("b"))

    crowd.gate.set()
    assert await first == "a"


async def test_nobody_tries_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MAX_PAUSE_S", 0)
    crowd = Crowd()

    with pytest.raises(Conflict):
        await _in_turn("t", crowd.member("a", overtaken=1_000))

    assert len(crowd.tries) == MAX_PLANS + 1


async def test_sixty_at_once_all_change_it(agent: Caller) -> None:
    ticket = await open_ticket(agent)
    path = f"/api/tickets/{ticket['id']}"

    answers = await asyncio.gather(*(agent.patch(path, json={"title": f"by {n}"}) for n in range(60)))

    assert [answer.status_code for answer in answers] == [200] * 60
    assert sorted(answer.json()["version"] for answer in answers) == list(range(2, 62))
    assert [event["version"] for event in await events_of(ticket["id"])] == list(range(1, 62))
