"""Which budget each operation is paid from, as one table over the OpenAPI document, and what a refusal looks like."""

import re
import time
from typing import Any

import pytest
from bson import ObjectId
from httpx import AsyncClient, Response

from app.main import app as application
from app.platform.metrics import REQUESTS_REFUSED
from app.platform.ratelimit import ANONYMOUS, MAX_IN_FLIGHT, USER, Budgets, Policy, caller_of
from app.platform.shares import Exchange
from app.realtime.protocol import CloseCode
from tests.callers import Caller, Callers
from tests.conftest import Started
from tests.graphql.conversation import Conversation
from tests.live import Live

FREE = {"getHealth", "getReadiness"}
# They need no token, so whoever asks is nobody.
ANONYMOUS_ONLY = {
    *("register", "login", "completeLogin", "refreshToken"),
    *("forgotPassword", "resetPassword", "requestPasswordReset"),
    *("unsubscribe", "recordMailEvents"),
}
OPERATIONS = {
    spec["operationId"]: (method.upper(), path, spec)
    for path, methods in application.openapi()["paths"].items()
    for method, spec in methods.items()
}
LIMITED = sorted(OPERATIONS.keys() - FREE)
WITH_TOKEN = sorted(OPERATIONS.keys() - FREE - ANONYMOUS_ONLY)
PAGES = [
    *("/docs", "/redoc", "/openapi.json", "/asyncapi.json", "/graphql/schema.graphql"),
    *("/docs/files/start-redoc.js", "/metrics", "/healthz", "/readyz", "/nowhere"),
]
HOST = "127.0.0.1"
QUERY = {"query": "{ me { id } }"}


@pytest.fixture(autouse=True)
def budgets(app: Started, monkeypatch: pytest.MonkeyPatch) -> Budgets:
    """Fresh ones, switched on, of which no other test has spent; in one minute, however the clock goes on."""
    moment = time.time()
    fresh = Budgets(Exchange(), is_on=True, clock=lambda: moment)
    monkeypatch.setitem(app.state, "budgets", fresh)
    return fresh


async def ask(client: AsyncClient, operation: str, **headers: str) -> Response:
    method, path, _ = OPERATIONS[operation]
    if operation == "streamEvents":
        method = "HEAD"  # a stream has no end
    body: dict[str, Any] | None = {} if method in ("POST", "PATCH", "PUT") else None
    return await client.request(method, re.sub(r"\{\w+\}", str(ObjectId()), path), json=body, headers=headers)


def check_paid(answer: Response, policy: Policy, spent: int) -> None:
    assert answer.headers["RateLimit-Policy"] == f'"{policy.name}";q={policy.limit};w=60'
    left = re.fullmatch(r'"(\w+)";r=(\d+);t=([1-9]|[1-5]\d|60)', answer.headers["RateLimit"])
    assert left is not None
    assert left[1] == policy.name
    assert int(left[2]) == policy.limit - spent


def check_refused(answer: Response, policy: Policy) -> None:
    assert answer.status_code == 429
    check_paid(answer, policy, policy.limit)
    assert answer.headers["RateLimit"].endswith(f";t={answer.headers['Retry-After']}")


def exhaust(budgets: Budgets, policy: Policy, who: str) -> None:
    while budgets.spend(policy, who)[0]:
        pass


class TestEveryOperation:
    def test_is_paid_for_or_named(self) -> None:
        assert OPERATIONS.keys() >= FREE
        assert len(WITH_TOKEN) > 20

    @pytest.mark.parametrize("operation", WITH_TOKEN)
    async def test_is_paid_by_the_user(self, callers: Callers, operation: str) -> None:
        answers = [await ask(callers.admin, operation), await callers.admin.get("/api/me")]

        for spent, answer in enumerate(answers, 1):
            assert answer.status_code != 429
            if operation != "logout" or spent == 1:
                check_paid(answer, USER, spent)

    @pytest.mark.parametrize("operation", LIMITED)
    @pytest.mark.parametrize("token", [None, "bad", "tkt_bad"])
    async def test_is_paid_by_the_address_without_a_good_token(
        self, nobody: AsyncClient, operation: str, token: str | None
    ) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}

        answers = [await ask(nobody, operation, **headers) for _ in range(2)]

        for spent, answer in enumerate(answers, 1):
            assert answer.status_code in (400, 401, 403, 422)
            check_paid(answer, ANONYMOUS, spent)

    @pytest.mark.parametrize("operation", WITH_TOKEN)
    async def test_is_refused_to_a_user_who_has_none_left(
        self, callers: Callers, budgets: Budgets, operation: str
    ) -> None:
        exhaust(budgets, USER, str(callers.admin.actor.id))

        answer = await ask(callers.admin, operation)

        check_refused(answer, USER)
        if operation != "streamEvents":
            assert answer.json()["code"] == "too_many_requests"
        assert (await callers.customer.get("/api/me")).status_code == 200

    @pytest.mark.parametrize("operation", LIMITED)
    async def test_is_refused_to_strangers_who_have_none_left(
        self, callers: Callers, budgets: Budgets, operation: str
    ) -> None:
        exhaust(budgets, ANONYMOUS, HOST)

        check_refused(await ask(callers.nobody, operation), ANONYMOUS)
        assert (await callers.customer.get("/api/me")).status_code == 200

    @pytest.mark.parametrize("operation", sorted(OPERATIONS))
    def test_says_so_in_the_document(self, operation: str) -> None:
        responses: dict[str, Any] = OPERATIONS[operation][2]["responses"]

        assert ("429" in responses) is (operation not in FREE)
        if operation not in FREE:
            assert {"Retry-After", "RateLimit", "RateLimit-Policy"} == responses["429"]["headers"].keys()


class TestFree:
    @pytest.mark.parametrize("path", PAGES)
    async def test_costs_nobody_anything(self, callers: Callers, budgets: Budgets, path: str) -> None:
        exhaust(budgets, ANONYMOUS, HOST)
        exhaust(budgets, USER, str(callers.admin.actor.id))

        for client in callers.nobody, callers.admin:
            answer = await client.get(path)

            assert answer.status_code in (200, 404)
            assert not {"RateLimit", "RateLimit-Policy"} & answer.headers.keys()


class TestGraphQL:
    async def test_costs_one_request(self, callers: Callers) -> None:
        paid = [await callers.customer.post("/graphql", json=QUERY), await callers.customer.get("/graphql?query=x")]

        for spent, answer in enumerate(paid, 1):
            check_paid(answer, USER, spent)
        check_paid(await callers.nobody.post("/graphql", json=QUERY), ANONYMOUS, 1)

    async def test_is_refused_as_the_rest_is(self, callers: Callers, budgets: Budgets) -> None:
        exhaust(budgets, USER, str(callers.customer.actor.id))

        answer = await callers.customer.post("/graphql", json=QUERY)

        check_refused(answer, USER)
        assert answer.json()["errors"][0]["extensions"]["code"] == "too_many_requests"
        assert "data" not in answer.json()


class TestGraphQLSocket:
    async def test_greeting_and_each_operation_cost_one_request(self, live: Live, customer: Caller) -> None:
        conversation = await Conversation.begin(live, customer)
        for _ in range(2):
            assert "errors" not in await conversation.answer(QUERY["query"])

        check_paid(await customer.get("/api/me"), USER, 4)

    async def test_operations_are_refused_and_the_socket_stays(
        self, live: Live, customer: Caller, budgets: Budgets
    ) -> None:
        conversation = await Conversation.begin(live, customer)
        exhaust(budgets, USER, str(customer.actor.id))

        for text in QUERY["query"], "subscription { ticketEvents { cursor } }":
            await conversation.subscribe(text)
            assert (await conversation.refusal())["code"] == "too_many_requests"
        await conversation.silence()

    @pytest.mark.parametrize("kind", ["good", "bad"])
    async def test_whoever_has_none_left_is_not_let_in(
        self, live: Live, customer: Caller, budgets: Budgets, kind: str
    ) -> None:
        exhaust(budgets, USER, str(customer.actor.id))
        exhaust(budgets, ANONYMOUS, HOST)
        conversation = await Conversation.open(live)

        await conversation.greet(f"Bearer {customer.token if kind == 'good' else 'bad'}")

        assert (await conversation.closing())[0] == CloseCode.TOO_MUCH


class TestWebSocket:
    async def test_letting_in_costs_one_request(self, live: Live, customer: Caller) -> None:
        assert (await (await live.connect(customer.token)).frame())["type"] == "ready"

        check_paid(await customer.get("/api/me"), USER, 2)

    @pytest.mark.parametrize("kind", ["good", "bad"])
    async def test_whoever_has_none_left_is_not_let_in(
        self, live: Live, customer: Caller, budgets: Budgets, kind: str
    ) -> None:
        exhaust(budgets, USER, str(customer.actor.id))
        exhaust(budgets, ANONYMOUS, HOST)

        socket = await live.connect(customer.token if kind == "good" else "bad")

        assert (await socket.closing())[0] == CloseCode.TOO_MUCH


class TestInFlight:
    async def test_one_too_many_is_refused_until_another_is_over(self, customer: Caller, budgets: Budgets) -> None:
        places = [budgets.enter(str(customer.actor.id)) for _ in range(MAX_IN_FLIGHT)]

        refused = await customer.get("/api/me")
        places[0]()
        answer = await customer.get("/api/me")

        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        check_paid(refused, USER, 1)
        assert answer.status_code == 200

    @pytest.mark.parametrize("path", ["/api/me", "/api/tickets/0", "/api/users", "/api/tickets?limit=x"])
    async def test_every_end_is_an_end(self, customer: Caller, budgets: Budgets, path: str) -> None:
        await customer.get(path)

        assert budgets._in_flight == {}

    async def test_a_stream_takes_no_place(self, customer: Caller, budgets: Budgets) -> None:
        places = [budgets.enter(str(customer.actor.id)) for _ in range(MAX_IN_FLIGHT)]

        answer = await customer.head("/api/events/stream")

        assert (answer.status_code, len(places)) == (200, MAX_IN_FLIGHT)


async def test_refusals_are_counted(callers: Callers, budgets: Budgets) -> None:
    refused = REQUESTS_REFUSED.labels("anonymous")
    before = refused._value.get()
    exhaust(budgets, ANONYMOUS, caller_of(HOST))

    await callers.nobody.post("/api/login", json={})

    assert refused._value.get() == before + 1
