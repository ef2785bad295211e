"""The WebSocket at /graphql: the handshake, who it is, what may be said, and how much of it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import orjson
import pytest
from bson import ObjectId

from app.accounts.documents import Session, User
from app.accounts.tokens import ACCESS_TTL
from app.events.cursor import LogPosition
from app.events.replay import Logged
from app.graphql.socket import MESSAGES_PER_MINUTE
from app.platform.clock import now
from app.platform.mongo import collection_of
from app.platform.websocket import MAX_MESSAGE_BYTES
from app.realtime.hub import MAX_STREAMS_PER_USER, Hub
from app.realtime.protocol import SESSION_OVER
from tests.callers import Caller, Callers
from tests.conftest import ALLOWED_ORIGIN
from tests.factories.accounts import tokens
from tests.factories.events import event_row
from tests.graphql.conversation import ID, PATH, PROTOCOL, Conversation, nobody_is_left
from tests.graphql.following import listener_of
from tests.live import Live, Socket, eventually

INIT = {"type": "connection_init"}
ACK = {"type": "connection_ack"}
PING = {"type": "ping"}
PONG = {"type": "pong"}
ME = "{ me { username } }"
FOLLOW = "subscription { ticketEvents { id } }"
UNAUTHORIZED = (4401, "Unauthorized")
FORBIDDEN = (4403, "Forbidden")
NO_MESSAGE = (4400, f"This is no message of {PROTOCOL}, as text")


class TestHandshake:
    async def test_the_protocol_is_chosen_among_others(self, live: Live) -> None:
        conversation = await Conversation.open(live, subprotocols=["graphql-ws", PROTOCOL])

        assert conversation.socket.connection.subprotocol == PROTOCOL

    @pytest.mark.parametrize("offered", [None, ["graphql-ws"], ["other", "graphql-ws"], [PROTOCOL.upper()]])
    async def test_without_it_the_socket_is_opened_and_closed(self, live: Live, offered: Any) -> None:
        conversation = await Conversation.open(live, subprotocols=offered)

        assert await conversation.closing() == (4406, "Subprotocol not acceptable")
        # Browsers open a socket, and so see its close code, only with one of the protocols that they offered.
        assert conversation.socket.connection.subprotocol == (offered[0] if offered else None)

    @pytest.mark.parametrize("origin", ["https://evil.example.com", "null", f"{ALLOWED_ORIGIN}.evil.example.com"])
    async def test_pages_from_elsewhere_are_refused(self, live: Live, agent: Caller, origin: str) -> None:
        conversation = await Conversation.open(live, agent.token, headers={"Origin": origin})

        assert await conversation.closing() == (4403, "This origin is not allowed")

    async def test_pages_of_ours_are_welcome(self, live: Live, agent: Caller) -> None:
        for origin in (ALLOWED_ORIGIN, f"http://{live.address}"):
            await Conversation.begin(live, agent, headers={"Origin": origin})


WRONG_PAYLOADS: dict[str, Callable[[str], Any]] = {
    "null": lambda _: None,
    "empty": lambda _: {},
    "another name": lambda token: {"token": f"Bearer {token}"},
    "nothing": lambda _: {"Authorization": None},
    "the token alone": lambda token: {"Authorization": token},
    "another scheme": lambda token: {"Authorization": f"Basic {token}"},
    "the scheme alone": lambda _: {"Authorization": "Bearer"},
    "forged": lambda token: {"Authorization": f"Bearer {token[:-4]}AAAA"},
    "a list": lambda token: {"Authorization": [f"Bearer {token}"]},
    "an object": lambda token: {"Authorization": {"Bearer": token}},
}


class TestGreeting:
    @pytest.mark.parametrize("name", ["Authorization", "authorization", "AUTHORIZATION", "aUTHORIZATION"])
    async def test_by_the_payload(self, live: Live, agent: Caller, name: str) -> None:
        conversation = await Conversation.open(live)
        payload = {"other": 1, name: f" bEARER  {agent.token} "}

        await conversation.send({**INIT, "payload": payload})

        assert await conversation.frame() == ACK
        assert (await conversation.answer(ME))["data"] == {"me": {"username": "agent"}}

    @pytest.mark.parametrize("more", [{}, {"payload": None}, {"payload": {}}, {"payload": {"headers": {}}}, {"id": 1}])
    async def test_by_the_header(self, live: Live, agent: Caller, more: dict[str, Any]) -> None:
        conversation = await Conversation.open(live, agent.token)

        await conversation.send({**INIT, **more})

        assert await conversation.frame() == ACK
        assert (await conversation.answer(ME))["data"] == {"me": {"username": "agent"}}

    async def test_of_both_the_payload_counts(self, live: Live, agent: Caller, customer: Caller) -> None:
        for token in (customer.token, "forged"):
            conversation = await Conversation.begin(live, agent, token=token)
            assert (await conversation.answer(ME))["data"] == {"me": {"username": "agent"}}

        for authorization in ("Bearer forged", ""):
            conversation = await Conversation.open(live, agent.token)
            await conversation.greet(authorization)
            assert await conversation.closing() == FORBIDDEN

    @pytest.mark.parametrize("name", WRONG_PAYLOADS)
    async def test_without_a_good_token(self, live: Live, agent: Caller, hub: Hub, name: str) -> None:
        conversation = await Conversation.open(live)

        await conversation.send({**INIT, "payload": WRONG_PAYLOADS[name](agent.token)})

        assert await conversation.closing() == FORBIDDEN
        assert not hub._listeners

    async def test_with_a_token_of_the_past(self, live: Live, agent: Caller) -> None:
        expired = tokens().access(agent.actor.id, agent.actor.credential_id, now() - ACCESS_TTL - timedelta(seconds=1))
        of_no_session = tokens().access(agent.actor.id, ObjectId(), now())
        for token in (expired, of_no_session):
            conversation = await Conversation.open(live)
            await conversation.greet(f"Bearer {token}")
            assert await conversation.closing() == FORBIDDEN

    async def test_after_the_session_or_the_account_has_ended(self, live: Live, callers: Callers, hub: Hub) -> None:
        await collection_of(Session).delete_one({"_id": callers.agent.actor.credential_id})
        await collection_of(User).update_one({"_id": callers.customer.actor.id}, {"$set": {"active": False}})

        for caller in (callers.agent, callers.customer):
            conversation = await Conversation.open(live)
            await conversation.greet(f"Bearer {caller.token}")
            assert await conversation.closing() == FORBIDDEN
        assert not hub._listeners

    async def test_has_to_come_in_time_whatever_else_is_said(
        self, live: Live, agent: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.graphql.socket.INIT_WITHIN_S", 0.1)
        silent = await Conversation.open(live, agent.token)
        busy = await Conversation.open(live, agent.token)
        await busy.silence()

        assert await silent.closing() == (4408, "Connection initialisation timeout")
        assert await busy.closing() == (4408, "Connection initialisation timeout")

    async def test_that_was_acknowledged_has_no_time_limit(
        self, live: Live, agent: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.graphql.socket.INIT_WITHIN_S", 0.1)
        greeted = await Conversation.begin(live, agent)
        silent = await Conversation.open(live)

        assert await silent.closing() == (4408, "Connection initialisation timeout")
        await greeted.silence()

    async def test_comes_before_everything_else(self, live: Live, agent: Caller) -> None:
        conversation = await Conversation.open(live, agent.token)
        await conversation.subscribe(ME)

        assert await conversation.closing() == UNAUTHORIZED

    async def test_comes_once(self, live: Live, agent: Caller, hub: Hub) -> None:
        conversation = await Conversation.begin(live, agent)
        await conversation.subscribe(FOLLOW)
        await conversation.greet(f"Bearer {agent.token}")

        assert await conversation.closing() == (4429, "Too many initialisation requests")
        await nobody_is_left(hub)


REQUEST = {"query": ME}
NO_JSON = [
    *("", " ", "ping", "{", "[" * 5_000, f'{{"type": "ping", "payload": {{"list": {"[" * 500}{"]" * 500}}}}}'),
    '{"type": "ping", "payload": {"number": NaN}}',
    '{"type": "ping", "payload": {"text": "\\ud800"}}',
]
NO_MESSAGES: list[Any] = [
    *(None, 1, "ping", [], [PING], {}, {"payload": {}}),
    *({"type": kind} for kind in (None, ["ping"], "Ping", "connection_ack", "connection_terminate")),
    *({"type": kind, "id": ID, "payload": REQUEST} for kind in ("start", "next")),
    *({"type": kind, "payload": "x"} for kind in ("connection_init", "ping", "pong")),
    *({"type": kind, "payload": []} for kind in ("connection_init", "ping", "pong")),
    *({"type": "complete", "id": operation} for operation in ("", 1, None)),
    *({"type": "subscribe", "id": operation, "payload": REQUEST} for operation in ("", 1, None, [ID])),
    *({"type": "subscribe", "id": ID, "payload": payload} for payload in (None, ME, [REQUEST])),
    *({"type": "complete"}, {"type": "subscribe", "id": ID}, {"type": "subscribe", "payload": REQUEST}),
]
ILL_FORMED: list[str | bytes] = [
    *NO_JSON,
    *(orjson.dumps(message).decode() for message in NO_MESSAGES),
    b'{"type": "ping"}',
    b"\xff",
]


class TestMessages:
    async def test_that_are_none_end_it(self, live: Live, agent: Caller, hub: Hub) -> None:
        for message in ILL_FORMED:
            early = await Conversation.open(live, agent.token)
            greeted = await Conversation.begin(live, agent)
            await greeted.subscribe(FOLLOW)
            for conversation in (early, greeted):
                await conversation.socket.connection.send(message)

                assert await conversation.closing() == NO_MESSAGE, message
            await nobody_is_left(hub)

    @pytest.mark.parametrize(
        ("payload", "reason"),
        [
            *(
                (payload, "Send a JSON object with the text of a GraphQL document as query")
                for payload in ({}, {"query": None}, {"query": ["{ me { id } }"]}, {"query": " "})
            ),
            ({"query": ME, "variables": []}, "variables must be an object or null"),
            ({"query": ME, "operationName": 1}, "operationName must be a string or null"),
            ({"query": ME, "extensions": "x"}, "extensions must be an object or null"),
        ],
        ids=str,
    )
    async def test_a_payload_that_is_no_request_ends_it(
        self, live: Live, agent: Caller, payload: dict[str, Any], reason: str
    ) -> None:
        conversation = await Conversation.begin(live, agent)
        await conversation.send({"type": "subscribe", "id": ID, "payload": payload})

        assert await conversation.closing() == (4400, reason)

    async def test_a_ping_is_answered_at_any_time(self, live: Live, agent: Caller) -> None:
        conversation = await Conversation.open(live, agent.token)
        for ping in (PING, {**PING, "payload": None}, {**PING, "payload": {"sentAt": 1}}):
            await conversation.send(ping)
            assert await conversation.frame() == PONG

        await conversation.send(INIT)
        assert await conversation.frame() == ACK
        await conversation.send(PING)
        assert await conversation.frame() == PONG

    async def test_what_needs_no_answer_gets_none(self, live: Live, agent: Caller) -> None:
        conversation = await Conversation.open(live, agent.token)
        for greeting, answer in ((INIT, ACK), (PING, PONG)):
            await conversation.send(PONG)
            await conversation.send({**PONG, "payload": {"sentAt": 1}})
            await conversation.complete("unknown")
            await conversation.send(greeting)
            assert await conversation.frame() == answer

    async def test_an_id_is_for_one_at_a_time(self, live: Live, agent: Caller, hub: Hub) -> None:
        conversation = await Conversation.begin(live, agent)
        await conversation.subscribe(FOLLOW, "the-one")
        await conversation.subscribe(FOLLOW, "another")
        await conversation.subscribe(ME, "the-one")

        assert await conversation.closing() == (4409, "Subscriber for the-one already exists")
        await nobody_is_left(hub)

    async def test_an_id_may_be_used_again(self, live: Live, agent: Caller, hub: Hub) -> None:
        conversation = await Conversation.begin(live, agent)
        for _ in range(3):
            await conversation.subscribe(FOLLOW)
            await conversation.complete()
            assert (await conversation.answer(ME))["data"] == {"me": {"username": "agent"}}
            await conversation.subscribe("subscription { ticketEvents(types: []) { id } }")
            assert (await conversation.refusal())["code"] == "invalid_input"

        await conversation.subscribe(FOLLOW)
        await conversation.silence()
        [listener] = hub._listeners[agent.actor.id]
        assert len(listener.feeds) == 1

    async def test_may_have_64_kib(self, live: Live, agent: Caller) -> None:
        conversation = await Conversation.begin(live, agent)
        empty = '{"type": "ping", "payload": {"padding": ""}}'
        largest = empty.replace('""', '"' + "x" * (MAX_MESSAGE_BYTES - len(empty)) + '"')

        await conversation.socket.connection.send(largest)
        assert await conversation.frame() == PONG

        await conversation.socket.connection.send(largest + " ")
        code, _ = await conversation.closing()
        assert code == 1009

    async def test_may_be_600_a_minute(self, live: Live, agent: Caller, hub: Hub) -> None:
        conversation = await Conversation.begin(live, agent)
        for _ in range(MESSAGES_PER_MINUTE - 1):
            await conversation.send(PING)
        for _ in range(MESSAGES_PER_MINUTE - 1):
            assert await conversation.frame() == PONG

        await conversation.send(PING)
        assert await conversation.closing() == (4429, "Too many messages")
        await nobody_is_left(hub)


class TestStreams:
    async def test_of_one_user_are_counted_whatever_their_door(self, live: Live, callers: Callers, hub: Hub) -> None:
        agent = callers.agent
        sockets: list[Socket] = []
        for number in range(MAX_STREAMS_PER_USER):
            match number % 3:
                case 0:
                    sockets.append(await live.connect(agent.token))
                    await sockets[-1].until("ready")
                case 1:
                    stream = await live.stream(agent.token)
                    assert stream.response.status_code == 200
                case _:
                    await Conversation.begin(live, agent)
        one_more = await Conversation.open(live, agent.token)
        await one_more.send(INIT)
        assert await one_more.closing() == (4429, "Too many streams of one user")

        await Conversation.begin(live, callers.admin)
        await sockets[0].leave()
        await eventually(lambda: len(hub._listeners[agent.actor.id]) < MAX_STREAMS_PER_USER)
        await Conversation.begin(live, agent)

    async def test_that_are_not_greeted_count_for_nobody(self, live: Live, agent: Caller, hub: Hub) -> None:
        for _ in range(MAX_STREAMS_PER_USER):
            await Conversation.open(live, agent.token)

        await Conversation.begin(live, agent)
        assert len(hub._listeners[agent.actor.id]) == 1


class TestHub:
    """What the hub says of all streams, by one that is not the application's."""

    @pytest.fixture
    def other_hub(self, app: Any, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
        other = Hub(app.state["events"])
        monkeypatch.setitem(app.state, "hub", other)
        return other

    @pytest.fixture
    def restart(self, hub: Hub, other_hub: Hub) -> Callable[[], None]:
        assert hub._past is not None
        ring = hub._past.ring
        return lambda: other_hub.restart(ring.end, ring.end_cursor)

    async def test_that_follows_nothing_yet(
        self, live: Live, agent: Caller, other_hub: Hub, restart: Callable[[], None]
    ) -> None:
        early = await Conversation.open(live, agent.token)
        assert await early.closing() == (1013, "The database can't be reached at the moment")

        restart()
        await Conversation.begin(live, agent)

    async def test_that_closes(self, live: Live, agent: Caller, other_hub: Hub, restart: Callable[[], None]) -> None:
        restart()
        waiting = await Conversation.open(live, agent.token)
        greeted = await Conversation.begin(live, agent)
        await greeted.subscribe(FOLLOW)
        await greeted.silence()
        await waiting.silence()

        other_hub.close()

        gone = (1012, "The service restarts; come back with since")
        assert await greeted.closing() == gone
        late = await Conversation.open(live, agent.token)
        assert await late.closing() == gone
        await waiting.send(INIT)
        assert await waiting.closing() == gone
        assert not other_hub._listeners

    async def test_that_has_ended_a_stream_tells_it_nothing_more(
        self, live: Live, agent: Caller, other_hub: Hub, restart: Callable[[], None]
    ) -> None:
        restart()
        conversation = await Conversation.begin(live, agent)
        await conversation.subscribe(FOLLOW)
        await conversation.silence()
        assert other_hub._past is not None
        end = other_hub._past.ring.end
        row = event_row()

        # The second is on its way when the stream ends.
        for number in (1, 2):
            other_hub.publish(Logged(row, LogPosition(end.token + bytes([number]), row["_id"]), "cursor"))
            if number == 1:
                assert await conversation.event() == {"id": str(row["_id"])}
        other_hub.end(listener_of(other_hub, agent), SESSION_OVER)

        assert await conversation.closing() == (4401, "The session is over")


async def test_requests_over_http_live_at_the_same_address(agent: Caller) -> None:
    answer = await agent.get(PATH, params={"query": ME})

    assert answer.json()["data"] == {"me": {"username": "agent"}}
