"""Budgets and requests under way: counted here, shared through MongoDB, bounded in time and memory."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable

import pytest
from starlette.requests import HTTPConnection, Request

from app.platform import ratelimit
from app.platform.errors import TooManyRequests
from app.platform.mongo import collection_of
from app.platform.ratelimit import ANONYMOUS, MAX_IN_FLIGHT, USER, Budgets, Policy, caller_of
from app.platform.shares import CONFIRMED_S, Exchange, ShareRow
from tests.conftest import COMMANDS
from tests.live import DEADLINE_S, eventually

pytestmark = pytest.mark.usefixtures("database")

# The beginning of a minute of the clock, far ahead: what expires by the server's clock stays there.
MINUTE = 4_000_000_020.0
SMALL = Policy("small", 100)


class Clock:
    def __init__(self) -> None:
        self.now = MINUTE

    def __call__(self) -> float:
        return self.now


class Process:
    """What one process of the service has of this."""

    def __init__(self, clock: Clock) -> None:
        self.exchange = Exchange(clock)
        self.budgets = Budgets(self.exchange, is_on=True, clock=clock)

    def spend(self, times: int, who: str = "carol", policy: Policy = SMALL) -> int:
        """How many of so many requests were good."""
        return sum(self.budgets.spend(policy, who)[0] for _ in range(times))

    def left(self, who: str = "carol") -> int:
        """What is left after one request more."""
        return self.budgets.spend(SMALL, who)[1].remaining

    def enter(self, times: int, who: str = "carol") -> list[Callable[[], None]]:
        return [self.budgets.enter(who) for _ in range(times)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def one(clock: Clock) -> Process:
    return Process(clock)


@pytest.fixture
def other(clock: Clock) -> Process:
    return Process(clock)


@pytest.fixture
async def at_work(one: Process) -> AsyncIterator[Process]:
    """A process whose exchange goes on by itself."""
    task = asyncio.create_task(one.exchange.run())
    yield one
    task.cancel()
    await asyncio.wait({task})


def request(client: tuple[str, int] | None = ("192.0.2.1", 1)) -> Request:
    return Request({"type": "http", "headers": [], "state": {}, "client": client})


async def shares() -> list[list[int]]:
    """What processes have told, number by number."""
    rows = await collection_of(ShareRow).find().sort("_id").to_list()
    return [sorted(told["n"] for told in row["by"].values()) for row in rows]


class TestBudget:
    def test_sizes_are_those_promised(self) -> None:
        assert (USER.limit, ANONYMOUS.limit, MAX_IN_FLIGHT, ratelimit.WINDOW_S) == (3000, 600, 100, 60)

    def test_is_spent_one_by_one_and_then_refused(self, one: Process) -> None:
        assert [one.left() for _ in range(3)] == [99, 98, 97]
        assert one.spend(200) == 97
        assert one.budgets.spend(SMALL, "carol")[1].remaining == 0

    def test_is_full_again_with_the_next_minute_of_the_clock(self, one: Process, clock: Clock) -> None:
        clock.now = MINUTE + 59.999
        assert one.spend(200) == 100

        clock.now = MINUTE + 60

        assert one.spend(200) == 100

    @pytest.mark.parametrize(("after_s", "reset_s"), [(0, 60), (0.001, 60), (1, 59), (58.5, 2), (59.999, 1)])
    def test_says_when_rounded_up(self, one: Process, clock: Clock, after_s: float, reset_s: int) -> None:
        clock.now = MINUTE + after_s

        assert one.budgets.spend(SMALL, "carol")[1].reset_s == reset_s

    def test_belongs_to_one_caller_of_one_kind(self, one: Process) -> None:
        one.spend(200)

        assert one.spend(1, "dave") == 1
        assert one.spend(1, "carol", USER) == 1

    def test_a_user_is_told_and_refused(self, one: Process) -> None:
        one.spend(USER.limit - 1, "u", USER)
        last, over = request(), request()

        one.budgets.charge_user(last, "u")
        with pytest.raises(TooManyRequests) as refusal:
            one.budgets.charge_user(over, "u")

        assert refusal.value.headers == {"Retry-After": "60"}
        for asked in last, over:
            assert asked.state.standing.headers() == {
                "RateLimit-Policy": '"user";q=3000;w=60',
                "RateLimit": '"user";r=0;t=60',
            }

    @pytest.mark.parametrize(
        ("first", "second", "is_same"),
        [
            ("192.0.2.1", "192.0.2.1", True),
            ("192.0.2.1", "192.0.2.2", False),
            ("2001:db8::1", "2001:db8::2", True),
            ("2001:db8::1", "2001:DB8:0:0:ffff::1", True),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
            ("fe80::1%eth0", "fe80::2", True),
            ("::ffff:192.0.2.1", "192.0.2.1", True),
            ("testclient", "testclient", True),
            ("", "192.0.2.1", False),
        ],
    )
    def test_strangers_are_told_apart_by_address(self, first: str, second: str, *, is_same: bool) -> None:
        assert (caller_of(first) == caller_of(second)) is is_same

    def test_strangers_without_an_address_share_one(self, one: Process) -> None:
        asked = request(None)

        one.budgets.charge_address(asked)
        one.budgets.charge_address(asked)

        assert asked.state.standing.headers()["RateLimit"] == '"anonymous";r=598;t=60'

    def test_memory_is_bounded_and_keeps_who_is_busy(self, one: Process, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ratelimit, "MAX_CALLERS", 100)
        one.spend(50, "busy")

        for n in range(10_000):
            one.spend(1, f"stranger {n}")
            assert one.spend(1, "busy") == (n < 50)

        assert len(one.budgets._spent) == 100

    def test_off_means_off(self, clock: Clock) -> None:
        budgets = Budgets(Exchange(clock), is_on=False, clock=clock)
        asked = request()

        for _ in range(USER.limit + 1):
            budgets.charge_user(asked, "u")
            budgets.charge_address(asked)
            budgets.hold_place(asked, "u")

        assert asked.scope["state"] == {}


class TestInFlight:
    def test_as_many_as_allowed_and_one_more_when_one_is_over(self, one: Process) -> None:
        leave = one.enter(MAX_IN_FLIGHT)[0]
        with pytest.raises(TooManyRequests) as refusal:
            one.budgets.enter("carol")
        assert refusal.value.headers == {"Retry-After": "1"}

        one.enter(1, "dave")
        leave()
        one.enter(1)

        with pytest.raises(TooManyRequests):
            one.budgets.enter("carol")

    def test_nothing_is_kept_of_who_is_gone(self, one: Process) -> None:
        for leave in one.enter(50):
            leave()

        assert one.budgets._in_flight == {}

    async def test_is_shared(self, one: Process, other: Process) -> None:
        one.enter(60)
        other.enter(35)
        await one.exchange.exchange()
        await other.exchange.exchange()

        other.enter(5)

        with pytest.raises(TooManyRequests):
            other.budgets.enter("carol")

    async def test_few_are_nobodys_business(self, one: Process) -> None:
        one.enter(4)
        COMMANDS.names.clear()

        await one.exchange.exchange()

        assert COMMANDS.names == []

    async def test_what_is_over_is_taken_back(self, one: Process, other: Process) -> None:
        places = one.enter(60)
        await one.exchange.exchange()
        for leave in places:
            leave()
        await one.exchange.exchange()
        other.enter(50)

        await other.exchange.exchange()

        other.enter(50)
        assert await shares() == [[0, 50]]

    async def test_one_that_has_become_few_knows_nothing_of_others(self, one: Process, other: Process) -> None:
        """It does not ask again until it has more, and would for ever refuse by what was true once."""
        places = one.enter(5)
        other.enter(95)
        await other.exchange.exchange()
        await one.exchange.exchange()
        with pytest.raises(TooManyRequests):
            one.budgets.enter("carol")

        places[0]()
        await one.exchange.exchange()

        one.enter(2)

    async def test_a_dead_process_is_forgotten(self, one: Process, other: Process, clock: Clock) -> None:
        one.enter(MAX_IN_FLIGHT)
        await one.exchange.exchange()
        other.enter(5)
        await other.exchange.exchange()
        with pytest.raises(TooManyRequests):
            other.budgets.enter("carol")

        clock.now += CONFIRMED_S
        await other.exchange.exchange()

        other.enter(MAX_IN_FLIGHT - 5)

    async def test_one_that_lives_is_not_even_if_nothing_moves(
        self, one: Process, other: Process, clock: Clock
    ) -> None:
        one.enter(MAX_IN_FLIGHT)
        other.enter(5)
        for _ in range(3):
            await one.exchange.exchange()
            clock.now += CONFIRMED_S - 1
        await other.exchange.exchange()

        with pytest.raises(TooManyRequests):
            other.budgets.enter("carol")


class TestExchange:
    async def test_makes_a_budget_one_for_all(self, one: Process, other: Process) -> None:
        one.spend(60)
        await one.exchange.exchange()
        other.spend(10)
        await other.exchange.exchange()

        assert other.spend(100) == 30
        await other.exchange.exchange()
        one.spend(1)
        await one.exchange.exchange()
        assert await shares() == [[40, 61]]
        assert one.spend(100) == 0

    async def test_overshoot_is_bounded(self, clock: Clock) -> None:
        """Each exchanges as soon as it must and never else, in the worst order: one after the other, in turns."""
        processes = [Process(clock) for _ in range(4)]
        good, step = 0, SMALL.limit // 20
        for _ in range(60):
            for process in processes:
                good += process.spend(step)
            for process in processes:
                await process.exchange.exchange()

        assert SMALL.limit <= good <= SMALL.limit + (len(processes) - 1) * step

    async def test_is_one_write_and_one_read_for_all_numbers(self, one: Process) -> None:
        for n in range(200):
            one.spend(5, f"caller {n}")
        one.enter(10)
        COMMANDS.names.clear()

        await one.exchange.exchange()

        assert COMMANDS.names == ["update", "find"]
        assert len(await shares()) == 201

    async def test_goes_on_only_while_there_is_something_to_tell(self, one: Process) -> None:
        one.spend(5)
        await one.exchange.exchange()
        COMMANDS.names.clear()

        await one.exchange.exchange()
        one.spend(200, "refused")
        await one.exchange.exchange()
        assert COMMANDS.names == ["update", "find"]
        one.spend(200, "refused")
        await one.exchange.exchange()

        assert COMMANDS.names == ["update", "find"]

    async def test_says_the_same_however_often(self, one: Process, other: Process) -> None:
        """An answer that got lost is no reason to count twice."""
        one.spend(60)
        (moved,) = one.exchange._moved.values()
        for _ in range(3):
            one.exchange._moved[moved.row_id] = moved
            await one.exchange.exchange()
        other.spend(1)
        await other.exchange.exchange()

        assert other.spend(100) == 39

    async def test_rows_go_by_themselves_after_the_minute(self, one: Process) -> None:
        one.spend(5)
        await one.exchange.exchange()

        (row,) = await collection_of(ShareRow).find().to_list()
        indexes = await collection_of(ShareRow).index_information()

        assert row["expiresAt"].timestamp() == MINUTE + 60 + 60
        assert (indexes["expiry"]["key"], indexes["expiry"]["expireAfterSeconds"]) == ([("expiresAt", 1)], 0)

    async def test_happens_by_itself(self, at_work: Process) -> None:
        at_work.spend(3)
        assert await told_in_time(at_work) >= 0.4

    async def test_happens_at_once_for_a_fast_spender(self, at_work: Process) -> None:
        at_work.spend(50)

        assert await told_in_time(at_work) < 0.4

    # The driver leaves a socket that it was cancelled over to the collector.
    @pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
    async def test_ends_when_it_is_cancelled_in_the_middle(self, one: Process) -> None:
        """PyMongo may swallow a cancellation; a service that goes on for ever can't be stopped."""
        for pauses in range(30):
            one.spend(10, f"caller {pauses}")
            task = asyncio.create_task(one.exchange.run())
            for _ in range(pauses):
                await asyncio.sleep(0)

            task.cancel()

            await asyncio.wait_for(asyncio.wait({task}), DEADLINE_S)
        gc.collect()


async def told_in_time(process: Process) -> float:
    """Waits until the process has told all that it spent; for how many seconds."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await eventually(lambda: all(share.told == share.own for share in process.budgets._spent.values()), DEADLINE_S)
    return loop.time() - began


def test_a_socket_is_charged_as_a_request_is(one: Process) -> None:
    connection = HTTPConnection({"type": "websocket", "headers": [], "state": {}, "client": ("192.0.2.1", 1)})

    one.budgets.charge_user(connection, "u")

    assert one.budgets._spent[f"user:u:{int(MINUTE // 60)}"].own == 1
