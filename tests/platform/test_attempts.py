"""Attempts that fail: free ones, growing delays for all processes, nothing for ever, nothing readable."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.platform.attempts import KEEP, Attempts, FailureRow, Rule
from app.platform.clock import now
from app.platform.errors import TooManyRequests
from app.platform.mongo import collection_of

ACCOUNT = Rule("account", free=3, max_delay=timedelta(seconds=10))
ADDRESS = Rule("address", free=5, max_delay=timedelta(seconds=20))
CAROL = [(ACCOUNT, "carol")]
START = now()

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
async def attempts(database: None) -> Attempts:
    return Attempts(b"a key", is_on=True)


def later(seconds: float) -> Any:
    return START + timedelta(seconds=seconds)


async def wait_for(attempts: Attempts, who: list[tuple[Rule, str]], at_s: float = 0) -> int | None:
    """Makes an attempt; the seconds to wait if it was refused."""
    try:
        await attempts.begin(who, later(at_s))
    except TooManyRequests as refusal:
        return int(refusal.headers["Retry-After"])
    return None


async def fail(attempts: Attempts, who: list[tuple[Rule, str]], times: int) -> None:
    for _ in range(times):
        await attempts.begin(who, START)


async def rows() -> list[dict[str, Any]]:
    return await collection_of(FailureRow).find({}, {"_id": 0}).sort("failures").to_list()


class TestBegin:
    async def test_delays_double_after_the_free_ones_up_to_the_longest(self, attempts: Attempts) -> None:
        await fail(attempts, CAROL, ACCOUNT.free)

        at_s, delays = 0.0, []
        for _ in range(6):
            assert await wait_for(attempts, CAROL, at_s) is None
            delay = await wait_for(attempts, CAROL, at_s)
            assert delay is not None
            delays.append(delay)
            assert await wait_for(attempts, CAROL, at_s + delay - 0.001) == 1
            at_s += delay

        assert delays == [1, 2, 4, 8, 10, 10]

    async def test_what_is_left_is_rounded_up(self, attempts: Attempts) -> None:
        await fail(attempts, CAROL, ACCOUNT.free + 1)
        await attempts.begin(CAROL, later(1))

        assert [await wait_for(attempts, CAROL, 1 + s) for s in (0, 0.001, 0.999, 1, 1.5, 1.999)] == [2, 2, 2, 1, 1, 1]

    async def test_no_attempt_while_blocked_counts_or_prolongs(self, attempts: Attempts) -> None:
        await fail(attempts, CAROL, ACCOUNT.free + 1)
        before = await rows()

        for _ in range(20):
            assert await wait_for(attempts, CAROL, 0.5) == 1

        assert await rows() == before

    async def test_one_that_is_blocked_refuses_all_and_counts_none(self, attempts: Attempts) -> None:
        await fail(attempts, CAROL, ACCOUNT.free + 1)
        here = (ADDRESS, "192.0.2.1")
        await fail(attempts, [here], 2)
        before = await rows()

        assert await wait_for(attempts, [*CAROL, here]) == 1

        without_expiry = [row | {"expiresAt": None} for row in await rows()]
        assert without_expiry == [row | {"expiresAt": None} for row in before]

    async def test_taking_back_takes_back_the_block_as_well(self, attempts: Attempts) -> None:
        await fail(attempts, CAROL, ACCOUNT.free + 1)
        here = (ADDRESS, "192.0.2.1")
        await fail(attempts, [here], ADDRESS.free)

        assert await wait_for(attempts, [*CAROL, here]) == 1

        assert await wait_for(attempts, [here]) is None

    async def test_the_longest_of_several_blocks_is_told(self, attempts: Attempts) -> None:
        other = [(ACCOUNT, "dave")]
        await fail(attempts, CAROL, ACCOUNT.free + 1)
        await attempts.begin(CAROL, later(1))
        await fail(attempts, other, ACCOUNT.free)
        await attempts.begin(other, later(1))

        assert await wait_for(attempts, [*other, *CAROL], 1) == 2

    async def test_parallel_guesses_are_counted_before_they_can_pass(self, attempts: Attempts) -> None:
        outcomes = await asyncio.gather(*(wait_for(attempts, CAROL) for _ in range(50)))

        assert outcomes.count(None) == ACCOUNT.free + 1
        assert [row["failures"] for row in await rows()] == [ACCOUNT.free + 1]

    async def test_rules_and_values_are_apart(self, attempts: Attempts) -> None:
        await fail(attempts, CAROL, ACCOUNT.free + 1)

        for who in [(ACCOUNT, "dave")], [(ADDRESS, "carol")], [(ACCOUNT, "")]:
            assert await wait_for(attempts, who) is None

    async def test_objects_share_what_they_count(self, attempts: Attempts) -> None:
        await fail(attempts, CAROL, ACCOUNT.free + 1)

        assert await wait_for(Attempts(b"a key", is_on=True), CAROL) == 1


class TestSucceeded:
    async def test_leaves_no_trace_of_a_good_attempt(self, attempts: Attempts) -> None:
        for _ in range(ACCOUNT.free * 3):
            await attempts.begin(CAROL, START)
            await attempts.succeeded(CAROL, START)

        assert [row["failures"] for row in await rows()] == [0]

    async def test_wins_nothing_for_guesses_in_between(self, attempts: Attempts) -> None:
        await fail(attempts, CAROL, ACCOUNT.free)
        await attempts.begin(CAROL, START)
        await attempts.succeeded(CAROL, START)

        assert await wait_for(attempts, CAROL) == 1
        assert await wait_for(attempts, CAROL, 1) is None
        assert await wait_for(attempts, CAROL, 1) == 1

    async def test_goes_no_lower_than_nothing(self, attempts: Attempts) -> None:
        await attempts.begin(CAROL, START)

        for _ in range(3):
            await attempts.succeeded(CAROL, START)

        assert [row["failures"] for row in await rows()] == [0]

    async def test_makes_no_rows(self, attempts: Attempts) -> None:
        await attempts.succeeded(CAROL, START)

        assert await rows() == []


class TestForget:
    async def test_starts_over_for_these_alone(self, attempts: Attempts) -> None:
        other = (ACCOUNT, "dave")
        await fail(attempts, CAROL, ACCOUNT.free + 1)
        await fail(attempts, [other], ACCOUNT.free + 1)

        await attempts.forget(CAROL)

        assert await wait_for(attempts, CAROL) is None
        assert await wait_for(attempts, [other]) == 1

    async def test_time_does_it_as_well_even_if_the_row_is_still_there(self, attempts: Attempts) -> None:
        await fail(attempts, CAROL, ACCOUNT.free + 1)
        kept_s = (ACCOUNT.max_delay + KEEP).total_seconds()
        (row,) = await rows()

        assert timedelta(hours=1) == KEEP
        assert row["expiresAt"] == later(kept_s)
        assert await wait_for(attempts, CAROL, kept_s) is None
        assert [row["failures"] for row in await rows()] == [1]

    async def test_time_does_it_not_a_moment_sooner(self, attempts: Attempts) -> None:
        await fail(attempts, CAROL, ACCOUNT.free + 1)
        kept_s = (ACCOUNT.max_delay + KEEP).total_seconds()

        assert await wait_for(attempts, CAROL, kept_s - 0.001) is None
        assert [row["failures"] for row in await rows()] == [ACCOUNT.free + 2]

    async def test_expiry_is_the_servers_business(self) -> None:
        indexes = await collection_of(FailureRow).index_information()

        assert indexes["expiry"]["key"] == [("expiresAt", 1)]
        assert indexes["expiry"]["expireAfterSeconds"] == 0


class TestSecrecy:
    async def test_nothing_readable_is_stored(self, attempts: Attempts) -> None:
        await attempts.begin([(ACCOUNT, "my password typed into the wrong field")], START)

        (row,) = await collection_of(FailureRow).find().to_list()
        assert row.keys() == {"_id", "failures", "blockedUntil", "expiresAt"}
        assert len(bytes.fromhex(row["_id"])) == 32

    async def test_the_digest_takes_the_key(self, attempts: Attempts) -> None:
        await attempts.begin(CAROL, START)
        await Attempts(b"another key", is_on=True).begin(CAROL, START)

        assert len(await rows()) == 2


class TestOff:
    async def test_does_nothing_at_all(self) -> None:
        attempts = Attempts(b"a key", is_on=False)

        await fail(attempts, CAROL, ACCOUNT.free * 10)
        await attempts.succeeded(CAROL, START)
        await attempts.forget(CAROL)

        assert await rows() == []


STEPS = st.lists(
    st.tuples(st.sampled_from(["begin", "succeed", "forget"]), st.integers(0, 4000)), min_size=1, max_size=25
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_agrees_with_a_model(attempts: Attempts, steps: list[tuple[str, int]]) -> None:
    """Any order of attempts, successes and pauses: the plain arithmetic of one process says the same."""
    await collection_of(FailureRow).delete_many({})
    failures, blocked_until, expires_at, at_s = 0, 0, 0, 0
    for step, pause_s in steps:
        at_s += pause_s
        is_over = at_s >= expires_at
        match step:
            case "begin":
                expected = blocked_until - at_s if blocked_until > at_s else None
                assert await wait_for(attempts, CAROL, at_s) == expected
                if expected is None:
                    failures = 1 if is_over else failures + 1
                    over = failures - ACCOUNT.free
                    blocked_until = at_s + min(2 ** (over - 1), 10) if over > 0 else 0
                    expires_at = at_s + 10 + 3600
            case "succeed":
                await attempts.succeeded(CAROL, later(at_s))
                failures = 0 if is_over else max(failures - 1, 0)
            case "forget":
                await attempts.forget(CAROL)
                failures, blocked_until, expires_at = 0, 0, 0
