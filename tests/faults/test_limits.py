"""Two processes of the service and nothing between them but MongoDB: one budget, one count of wrong passwords."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from app.accounts.commands.verification import _PASSWORD_HERE
from app.platform.ratelimit import ANONYMOUS, WINDOW_S
from app.platform.shares import URGENT_PART
from tests.factories.accounts import PASSWORD
from tests.faults.conftest import connected
from tests.services import Mongod, Person, Rows, Service, running, until

Story = Callable[[httpx.AsyncClient, httpx.AsyncClient], Awaitable[None]]

AT_A_TIME = 10
# What one process can count beyond the limit: what it need not tell yet, and what it is asked during an exchange.
UNTOLD = ANONYMOUS.limit // URGENT_PART + 5 * AT_A_TIME


@pytest.fixture
def pair(mongod: Mongod, rows: Rows, tmp_path: Path) -> Iterator[tuple[Service, Service]]:
    """Two processes on the test's own database, which hold to the limits."""
    one, other = (Service(mongod.uri(rows.name), tmp_path / name) for name in ("one.log", "other.log"))
    for service in (one, other):
        service.environment |= {"RATE_LIMITS": "on", "TRUSTED_PROXIES": "127.0.0.1"}
    with running(one, other):
        yield one, other


async def within_a_minute(pair: tuple[Service, Service], story: Story) -> None:
    """Runs a story of one address in one minute of the clock: again, with another, if a new one began in its midst."""
    for n in range(1, 4):
        minute = time.time() // WINDOW_S
        behind_proxy = {"X-Forwarded-For": f"198.51.100.{n}"}
        try:
            async with connected(pair[0], behind_proxy) as one, connected(pair[1], behind_proxy) as other:
                await story(one, other)
        except AssertionError:
            if time.time() // WINDOW_S == minute:
                raise
        else:
            if time.time() // WINDOW_S == minute:
                return
    raise AssertionError("it took more than a minute each time")


async def nonsense(client: httpx.AsyncClient) -> httpx.Response:
    """A request of nobody's that is refused before anybody asks the database."""
    return await client.post("/api/login", json={})


async def spend(client: httpx.AsyncClient, at_most: int) -> int:
    """Asks until refused, or so many times; how many requests were good."""
    good = 0
    while good < at_most:
        answers = await asyncio.gather(*(nonsense(client) for _ in range(min(AT_A_TIME, at_most - good))))
        statuses = [answer.status_code for answer in answers]
        good += statuses.count(422)
        if 429 in statuses:
            assert set(statuses) <= {422, 429}
            break
    return good


def told(rows: Rows) -> list[list[int]]:
    """What the processes have told of each number, the least first."""
    return [sorted(share["n"] for share in row["by"].values()) for row in rows.budgets.find()]


async def test_a_budget_is_one_for_all_processes(pair: tuple[Service, Service], rows: Rows) -> None:
    async def story(one: httpx.AsyncClient, other: httpx.AsyncClient) -> None:
        good = await asyncio.gather(spend(one, 2000), spend(other, 2000))
        refused = await nonsense(one)

        assert ANONYMOUS.limit <= sum(good) <= ANONYMOUS.limit + UNTOLD
        assert min(good) > 0
        assert refused.status_code == 429
        assert 0 < int(refused.headers["Retry-After"]) <= WINDOW_S

    await within_a_minute(pair, story)
    assert any(len(shares) == len(pair) for shares in told(rows))


async def test_each_goes_on_alone_while_the_database_is_away(
    pair: tuple[Service, Service], mongod: Mongod, rows: Rows
) -> None:
    async def story(one: httpx.AsyncClient, other: httpx.AsyncClient) -> None:
        assert await spend(one, 100) == 100
        mongod.kill()
        assert await spend(one, 2000) == ANONYMOUS.limit - 100
        assert await spend(other, 100) == 100

        await asyncio.to_thread(mongod.start)

        await until(lambda: [100, ANONYMOUS.limit] in told(rows), 20)
        assert await spend(other, 2000) <= UNTOLD
        assert (await nonsense(other)).status_code == 429

    await within_a_minute(pair, story)
    assert all(service.is_listening() for service in pair)


async def test_wrong_passwords_are_counted_together(pair: tuple[Service, Service], admin: Person) -> None:
    async def sign_in(client: httpx.AsyncClient, password: str) -> httpx.Response:
        return await client.post("/api/login", json={"username": admin.username, "password": password})

    async with connected(pair[0], {}) as one, connected(pair[1], {}) as other:
        for client in [one, other] * (_PASSWORD_HERE.free // 2) + [one]:
            assert (await sign_in(client, "a wrong passphrase")).status_code == 401
        refused = [await sign_in(client, PASSWORD) for client in (other, one)]

        assert [(answer.status_code, answer.headers["Retry-After"]) for answer in refused] == [(429, "1")] * 2
        loop = asyncio.get_running_loop()
        await until(lambda: asyncio.run_coroutine_threadsafe(sign_in(other, PASSWORD), loop).result().is_success)
        for client in (one, other):
            assert (await sign_in(client, "a wrong passphrase")).status_code == 401
