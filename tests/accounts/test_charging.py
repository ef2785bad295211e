"""Whose budget a request is taken from: the user's whose token is good, the address's for any other."""

from collections.abc import Callable
from typing import Any

import pytest
from httpx import AsyncClient, Response

from app.accounts.documents import SecurityPolicy, Session
from app.accounts.policy import POLICY_ID
from app.platform.mongo import collection_of
from app.platform.ratelimit import ANONYMOUS, USER, Budgets
from app.platform.shares import Exchange
from tests.accounts.mfa import stored
from tests.callers import Caller
from tests.conftest import COMMANDS, Started
from tests.factories.accounts import add_session
from tests.graphql.conversation import Conversation
from tests.live import Live

ADDRESS = "127.0.0.1"
# The beginning of a minute of the clock, which stands still.
MINUTE = 4_000_000_020.0


@pytest.fixture
def budgets(app: Started, monkeypatch: pytest.MonkeyPatch) -> Budgets:
    def clock() -> float:
        return MINUTE

    budgets = Budgets(Exchange(clock), is_on=True, clock=clock)
    monkeypatch.setitem(app.state, "budgets", budgets)
    return budgets


@pytest.fixture
def spent(budgets: Budgets) -> Callable[[Caller], tuple[int, int]]:
    """How many requests the caller has spent, and how many their address."""

    def spent(caller: Caller) -> tuple[int, int]:
        shares = {key.rsplit(":", 1)[0]: share.own for key, share in budgets._spent.items()}
        return shares.get(f"user:{caller.user_id}", 0), shares.get(f"anonymous:{ADDRESS}", 0)

    return spent


def use_up_address(budgets: Budgets) -> None:
    for _ in range(ANONYMOUS.limit):
        budgets.spend(ANONYMOUS, ADDRESS)


async def end_session(caller: Caller) -> None:
    await collection_of(Session).delete_one({"_id": caller.actor.credential_id})


async def me(caller: AsyncClient) -> Response:
    return await caller.get("/api/me")


class TestRequests:
    async def test_of_a_good_token_are_the_users(self, customer: Caller, spent: Any) -> None:
        answers = [await me(customer) for _ in range(3)]

        assert [answer.headers["RateLimit"] for answer in answers] == [f'"user";r={2999 - n};t=60' for n in range(3)]
        assert spent(customer) == (3, 0)

    async def test_of_a_token_that_has_ended_are_the_addresss(self, customer: Caller, spent: Any) -> None:
        await end_session(customer)

        answers = [await me(customer) for _ in range(3)]

        assert [answer.status_code for answer in answers] == [403] * 3
        assert answers[-1].headers["RateLimit"] == '"anonymous";r=597;t=60'
        assert spent(customer) == (0, 3)

    async def test_a_token_that_was_good_before_costs_the_user_one_at_most(self, customer: Caller, spent: Any) -> None:
        await me(customer)
        await end_session(customer)

        for _ in range(5):
            assert (await me(customer)).status_code == 403

        assert spent(customer) == (2, 5)

    async def test_the_owner_is_not_kept_out_by_an_ended_token(
        self, customer: Caller, nobody: AsyncClient, spent: Any
    ) -> None:
        _, token = await add_session(await stored(customer.actor.id))
        nobody.headers["Authorization"] = f"Bearer {token}"
        await me(nobody)
        await end_session(customer)

        answers = [await me(customer) for _ in range(ANONYMOUS.limit + 1)]

        assert [answer.status_code for answer in answers] == [403] * ANONYMOUS.limit + [429]
        assert (await me(nobody)).headers["RateLimit"] == '"user";r=2998;t=60'
        assert spent(customer) == (2, ANONYMOUS.limit)

    async def test_a_flood_of_bad_tokens_ends_before_the_look_up(
        self, customer: Caller, other_customer: Caller, budgets: Budgets
    ) -> None:
        await end_session(customer)
        assert (await me(customer)).status_code == 403
        use_up_address(budgets)
        COMMANDS.names.clear()

        refused = await me(customer)

        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "60")
        assert COMMANDS.names == []
        # Whoever else is there has done nothing wrong, and is let in also for the first time.
        assert (await me(other_customer)).status_code == 200

    async def test_whose_budget_is_used_up_is_refused_before_the_look_up(
        self, customer: Caller, budgets: Budgets
    ) -> None:
        await me(customer)
        for _ in range(USER.limit):
            budgets.spend(USER, customer.user_id)
        COMMANDS.names.clear()

        assert (await me(customer)).status_code == 429
        assert COMMANDS.names == []

    async def test_a_new_token_wins_a_user_no_more_requests(self, customer: Caller, budgets: Budgets) -> None:
        for _ in range(USER.limit):
            budgets.spend(USER, customer.user_id)

        assert (await me(customer)).status_code == 429

    async def test_a_good_token_takes_one_round_trip(self, customer: Caller, budgets: Budgets) -> None:
        costs = []
        for _ in range(2):
            COMMANDS.names.clear()
            await customer.post("/api/realtime/ticket")
            costs.append(list(COMMANDS.names))

        assert costs == [["aggregate"]] * 2

    async def test_who_has_to_set_up_mfa_first_pays_for_themselves(self, agent: Caller, spent: Any) -> None:
        await collection_of(SecurityPolicy).insert_one({"_id": POLICY_ID, "mfaRequiredFor": ["Agent"]})

        for _ in range(2):
            assert (await agent.get("/api/tickets")).json()["code"] == "mfa_setup_required"

        assert spent(agent) == (2, 0)


class TestStreams:
    @pytest.fixture(params=["websocket", "websocket, by a message", "stream", "graphql"])
    def knock(self, live: Live, request: pytest.FixtureRequest) -> Any:
        """Opens a door and leaves again; answers whether it was let in."""

        async def knock(token: str) -> bool:
            match request.param:
                case "stream":
                    stream = await live.stream(token)
                    await stream.leave()
                    return stream.response.status_code == 200
                case "graphql":
                    conversation = await Conversation.open(live, token)
                    await conversation.send({"type": "connection_init"})
                    return await is_welcome(conversation.socket)
                case "websocket":
                    return await is_welcome(await live.connect(token))
                case _:
                    socket = await live.connect()
                    await socket.send({"type": "auth", "token": token})
                    return await is_welcome(socket)

        return knock

    async def test_of_a_token_that_has_ended_are_the_addresss(self, knock: Any, customer: Caller, spent: Any) -> None:
        assert await knock(customer.token)
        assert await knock(customer.token)
        assert spent(customer) == (2, 0)
        await end_session(customer)

        for _ in range(3):
            assert not await knock(customer.token)

        assert spent(customer) == (3, 3)

    async def test_are_opened_for_good_tokens_when_the_address_has_nothing_left(
        self, knock: Any, customer: Caller, other_customer: Caller, budgets: Budgets
    ) -> None:
        await end_session(customer)
        assert not await knock(customer.token)
        use_up_address(budgets)
        COMMANDS.names.clear()

        assert not await knock(customer.token)
        assert COMMANDS.names == []
        assert await knock(other_customer.token)


async def is_welcome(socket: Any) -> bool:
    try:
        await socket.frame()
    except Exception:  # noqa: BLE001 - it is closed, in whatever way
        return False
    await socket.leave()
    return True
