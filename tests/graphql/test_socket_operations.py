"""Queries and mutations over the WebSocket: what HTTP answers, and what it refuses."""

from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from app.graphql.cost import MAX_COST
from app.graphql.limits import MAX_ALIASES, MAX_MUTATIONS
from app.graphql.operations import MAX_TOKENS, MAX_VALUES
from app.platform.mongo import collection_of
from app.realtime.hub import Hub
from app.realtime.protocol import SESSION_OVER
from app.tickets.documents import Ticket
from tests.callers import Caller, Callers
from tests.factories.tickets import events_of, open_ticket
from tests.graphql.asking import BODY, CREATE, PATH, everything, post
from tests.graphql.conversation import ID, Conversation, nobody_is_left
from tests.live import Frame, Live

TITLE = """mutation ($id: ID!, $title: String!) {
  updateTicket(id: $id, patch: {title: $title}) { title version }
}"""
DELETE = "mutation ($id: ID!) { deleteTicket(id: $id) }"


def without_request_ids(errors: list[Frame]) -> list[Frame]:
    return [error | {"extensions": error["extensions"] | {"requestId": None}} for error in errors]


class TestQueries:
    @pytest.mark.parametrize(
        ("text", "variables"),
        [
            ("{ me { username role } tickets { id title } }", {}),
            ("query ($first: Int) { ticketConnection(first: $first) { edges { node { id } } } }", {"first": 1}),
            ("query ($all: Boolean!) { tickets { id title @include(if: $all) tags @skip(if: $all) } }", {"all": True}),
            ("{ __schema { queryType { name } } }", {}),
        ],
    )
    async def test_answer_as_over_http(self, live: Live, callers: Callers, text: str, variables: Any) -> None:
        for _ in range(2):
            await open_ticket(callers.customer)
        await open_ticket(callers.other_customer)
        for caller in (callers.customer, callers.agent):
            conversation = await Conversation.begin(live, caller)

            answer = await conversation.answer(text, **variables)

            assert answer == (await post(caller, text, **variables)).json()
            assert answer["extensions"]["cost"] >= 0

    async def test_an_operation_is_chosen_by_name(self, live: Live, agent: Caller) -> None:
        conversation = await Conversation.begin(live, agent)
        text = "query A { a: me { username } } query B { b: me { username } }"

        await conversation.send({"type": "subscribe", "id": ID, "payload": {"query": text, "operationName": "B"}})
        assert (await conversation.next())["data"] == {"b": {"username": "agent"}}
        assert await conversation.frame() == {"id": ID, "type": "complete"}

        await conversation.send({"type": "subscribe", "id": ID, "payload": {"query": text}})
        assert (await conversation.refusal())["code"] == "graphql_unknown_operation"

    async def test_are_answered_in_turn(self, live: Live, agent: Caller) -> None:
        conversation = await Conversation.begin(live, agent)
        names = [f"operation {number}" for number in range(20)]
        for name in names:
            await conversation.subscribe("{ me { id } }", name)

        frames = [await conversation.frame() for _ in range(2 * len(names))]
        assert [(frame["id"], frame["type"]) for frame in frames] == [
            (name, kind) for name in names for kind in ("next", "complete")
        ]


class TestMutations:
    async def test_change_as_over_http(self, live: Live, customer: Caller) -> None:
        conversation = await Conversation.begin(live, customer)

        answer = await conversation.answer(CREATE, ticketInput=BODY)

        created = answer["data"]["createTicket"]
        assert created == {"id": created["id"], "title": BODY["title"], "requester": {"username": "customer"}}
        assert [event["type"] for event in await events_of(created["id"])] == ["ticket.created"]
        assert (await customer.get(f"/api/tickets/{created['id']}")).json()["title"] == BODY["title"]

    async def test_are_carried_out_in_order(self, live: Live, agent: Caller) -> None:
        ticket = await open_ticket(agent)
        conversation = await Conversation.begin(live, agent)
        titles = [f"Title {number}" for number in range(10)]
        for title in titles:
            await conversation.subscribe(TITLE, title, id=ticket["id"], title=title)

        for version, title in enumerate(titles, 2):
            answer = await conversation.next(title)
            assert answer["data"] == {"updateTicket": {"title": title, "version": version}}
            assert await conversation.frame() == {"id": title, "type": "complete"}

    @pytest.mark.parametrize(
        ("text", "variables", "code"),
        [
            (DELETE, {"id": "{ticket}"}, "forbidden"),
            (DELETE, {"id": "{other}"}, "not_found"),
            (TITLE, {"id": "{ticket}", "title": ""}, "invalid_input"),
            (TITLE, {"id": "{other}", "title": "Mine"}, "not_found"),
            (CREATE, {"ticketInput": None}, "invalid_input"),
            (CREATE, {"ticketInput": {**BODY, "priority": "Urgent"}}, "invalid_input"),
            (CREATE, {"ticketInput": {**BODY, "assignedTo": "{ticket}"}}, "forbidden"),
        ],
    )
    async def test_are_refused_as_over_http(
        self, live: Live, callers: Callers, text: str, variables: dict[str, Any], code: str
    ) -> None:
        ids = {"{ticket}": await open_ticket(callers.customer), "{other}": await open_ticket(callers.other_customer)}
        given = {
            name: ids[value]["id"] if isinstance(value, str) and value in ids else value
            for name, value in variables.items()
        }
        conversation = await Conversation.begin(live, callers.customer)
        before = await everything()

        answer = await conversation.answer(text, **given)

        over_http = (await post(callers.customer, text, **given)).json()
        assert answer["data"] == over_http["data"]
        assert without_request_ids(answer["errors"]) == without_request_ids(over_http["errors"])
        assert [error["extensions"]["code"] for error in answer["errors"]] == [code]
        assert await everything() == before

    async def test_stop_with_the_session_however_many_are_waiting(self, live: Live, agent: Caller, hub: Hub) -> None:
        conversation = await Conversation.begin(live, agent)
        [listener] = hub._listeners[agent.actor.id]
        for number in range(20):
            await conversation.subscribe(CREATE, str(number), ticketInput=BODY)
        await conversation.next("0")

        hub.end(listener, SESSION_OVER)

        with pytest.raises(ConnectionClosed):
            await conversation.socket.frames(40)
        assert conversation.socket.connection.close_code == SESSION_OVER.code
        await nobody_is_left(hub)
        # What was on its way when it ended was done, and not what had come in by then.
        assert 1 <= await collection_of(Ticket).count_documents({}) <= 5


CIRCLE = "{ tickets { ...a } } fragment a on Ticket { ...b } fragment b on Ticket { ...a id }"
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "syntax": ("{ me { ", {}, "graphql_parse_failed"),
    "no operation": ("fragment f on User { id }", {}, "graphql_unknown_operation"),
    "unknown field": ("{ me { id nonsense } tickets { worse } }", {}, "graphql_validation_failed"),
    "circle of fragments": (CIRCLE, {}, "graphql_validation_failed"),
    "circle around itself": ("{ me { ...a } } fragment a on User { id ...a }", {}, "graphql_validation_failed"),
    "depth": ("{ me " + "{ id " * 200 + "}" * 201, {}, "graphql_too_deep"),
    "depth of braces": ("{ me " + "{ id " * 600 + "}" * 601, {}, "graphql_too_deep"),
    "aliases": ("{" + " ".join(f"a{n}: me {{ id }}" for n in range(MAX_ALIASES + 1)) + "}", {},
        "graphql_too_many_aliases"),
    "tokens": ("{ me {" + " id" * MAX_TOKENS + "} }", {}, "graphql_too_many_tokens"),
    "mutations": ("mutation {" + " ".join(f"m{n}: deleteTicket(id: 1)" for n in range(MAX_MUTATIONS + 1)) + "}", {},
        "graphql_too_many_mutations"),
    "cost": ("{ tickets(limit: 100) { history(first: 100) { edges { node { id type } } } } }", {},
        "graphql_too_costly"),
    "missing variable": (DELETE, {}, "graphql_invalid_variables"),
    "wrong variable": ("query ($n: Int) { tickets(limit: $n) { id } }", {"n": "x"}, "graphql_invalid_variables"),
    "many values": ("query ($n: Int) { tickets(limit: $n) { id } }", {"x": [0] * MAX_VALUES},
        "graphql_invalid_variables"),
}  # fmt: skip


class TestRefusals:
    @pytest.mark.parametrize("name", REFUSED)
    async def test_have_the_codes_of_http_and_end_nothing_else(self, live: Live, agent: Caller, name: str) -> None:
        text, variables, code = REFUSED[name]
        conversation = await Conversation.begin(live, agent)
        await conversation.subscribe("subscription { ticketEvents { type } }", "follower")

        await conversation.subscribe(text, **variables)

        frame = await conversation.frame()
        assert (frame["type"], frame["id"]) == ("error", ID)
        over_http = (await post(agent, text, **variables)).json()
        assert without_request_ids(frame["payload"]) == without_request_ids(over_http["errors"])
        assert {error["extensions"]["code"] for error in frame["payload"]} == {code}
        await open_ticket(agent)
        assert await conversation.event("follower") == {"type": "ticket.created"}

    async def test_of_a_subscription_that_costs_too_much(self, live: Live, agent: Caller) -> None:
        conversation = await Conversation.begin(live, agent)
        history = "history(first: 100) { edges { node { ticket { history(first: 100) { edges { node { id } } } } } } }"

        await conversation.subscribe(f"subscription {{ ticketEvents {{ ticket {{ {history} }} }} }}")

        extensions = await conversation.refusal()
        assert (extensions["code"], extensions["maxCost"]) == ("graphql_too_costly", MAX_COST)
        assert extensions["cost"] > MAX_COST

    async def test_of_http_name_the_socket(self, agent: Caller) -> None:
        answer = await agent.post(PATH, json={"query": "subscription { ticketEvents { id } }"})

        assert answer.json()["errors"][0]["extensions"]["code"] == "graphql_needs_websocket"
