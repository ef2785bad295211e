"""Coming in to `/ws`: who it is and what they want to hear, in each of the ways to say so."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from app.accounts.documents import Session, User
from app.events.catalog import EventType
from app.platform.clock import now
from app.platform.mongo import collection_of
from app.realtime.hub import Hub
from app.realtime.socket import AUTH_WITHIN_S
from tests.accounts.test_tokens import forgeries
from tests.callers import Caller, Callers
from tests.conftest import settle
from tests.factories.accounts import add_session, add_user, tokens
from tests.factories.tickets import open_ticket
from tests.live import Live
from tests.realtime.doors import WAYS, Way, events_of, introduced, ticket_of
from tests.realtime.polling import news, present, told

NO_TOKEN = (4401, "Invalid or expired token")
# Longer than a close frame can hold.
NO_TYPE = f"Input should be {', '.join(f'{name.value!r}' for name in EventType)}"


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
class TestEachWay:
    async def test_tells_what_happens_from_now_on(
        self, live: Live, hub: Hub, agent: Caller, customer: Caller, way: Way
    ) -> None:
        await open_ticket(customer)
        await settle(hub)

        socket = await way(live, agent)
        ready = await socket.frame()
        ticket = await open_ticket(customer)
        frame = await socket.frame()

        [item] = (await news(agent, ready["cursor"]))["items"]
        assert ready == {"type": "ready", "cursor": ready["cursor"]}
        assert frame == {"type": "event", "cursor": item["cursor"], "event": item}
        assert told([item]) == [(ticket["id"], "ticket.created", 1)]

    async def test_goes_on_from_a_cursor(self, live: Live, agent: Caller, way: Way) -> None:
        start = await present(agent)
        tickets = [await open_ticket(agent) for _ in range(3)]

        socket = await way(live, agent, since=start)

        assert await socket.frame() == {"type": "ready", "cursor": start}
        events = events_of(await socket.frames(3))
        assert [event["ticketId"] for event in events] == [ticket["id"] for ticket in tickets]

    async def test_tells_of_one_ticket_alone(self, live: Live, agent: Caller, way: Way) -> None:
        one, other = await open_ticket(agent), await open_ticket(agent)
        start = await present(agent)

        socket = await way(live, agent, since=start, ticketId=one["id"])
        await socket.until("ready")
        for ticket in (other, one, other, one):
            await agent.patch(f"/api/tickets/{ticket['id']}", json={"tags": [str(ticket["number"]), "a"]})
            await agent.patch(f"/api/tickets/{ticket['id']}", json={"tags": []})

        assert told(events_of(await socket.frames(4))) == [(one["id"], "ticket.updated", n) for n in (2, 3, 4, 5)]

    async def test_tells_of_some_types_alone(self, live: Live, agent: Caller, admin: Caller, way: Way) -> None:
        start = await present(agent)
        before = await open_ticket(agent)
        await admin.delete(f"/api/tickets/{before['id']}")

        socket = await way(live, agent, since=start, types="ticket.deleted,ticket.restored")
        await socket.until("ready")
        ticket = await open_ticket(agent)
        await admin.delete(f"/api/tickets/{ticket['id']}")
        await admin.post(f"/api/tickets/{ticket['id']}/restore")

        assert told(events_of(await socket.frames(3))) == [
            (before["id"], "ticket.deleted", 2),
            (ticket["id"], "ticket.deleted", 2),
            (ticket["id"], "ticket.restored", 3),
        ]


class TestOptions:
    async def test_stand_beside_the_ticket_and_the_first_message_has_the_last_word(
        self, live: Live, agent: Caller
    ) -> None:
        one, other = await open_ticket(agent), await open_ticket(agent)
        start = await present(agent)
        for ticket in (one, other):
            await agent.patch(f"/api/tickets/{ticket['id']}", json={"tags": ["a"]})

        query = {"since": start, "ticketId": one["id"], "types": " ticket.updated , ticket.created"}
        socket = await live.connect(query=query)
        await socket.send({"type": "auth", "token": agent.token, "ticketId": other["id"]})

        assert await socket.frame() == {"type": "ready", "cursor": start}
        assert told(events_of(await socket.frames(1))) == [(other["id"], "ticket.updated", 2)]

    @pytest.mark.parametrize(
        ("query", "reason"),
        [
            ({"sinse": "x"}, "sinse: is not a parameter of this list"),
            ({"token": "x"}, "token: is not a parameter of this list"),
            ({"ticketid": "6740a1f0c3b2a1d4e5f60718"}, "ticketid: is not a parameter of this list"),
            ([("since", "a"), ("since", "b")], "since: must be given only once"),
            ([("ticket", "a"), ("ticket", "b")], "ticket: must be given only once"),
            ({"ticketId": "17"}, "ticketId: must be an id of 24 hexadecimal digits"),
            ({"ticketId": ""}, "ticketId: must be an id of 24 hexadecimal digits"),
            ({"types": "ticket.exploded"}, f"types.0: {NO_TYPE}"[:123]),
            ({"types": "ticket.created,"}, f"types.1: {NO_TYPE}"[:123]),
            ({"types": ""}, f"types.0: {NO_TYPE}"[:123]),
            (
                {"types": ",".join(["ticket.created"] * 16)},
                "types: List should have at most 15 items after validation, not 16",
            ),
        ],
    )
    async def test_in_the_query_are_refused_when_wrong(
        self, live: Live, agent: Caller, query: Mapping[str, str] | Sequence[tuple[str, str]], reason: str
    ) -> None:
        socket = await live.connect(agent.token, query)

        assert await socket.closing() == (4400, reason)

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"sinse": "x"}, "sinse: Extra inputs are not permitted"),
            ({"since": 1}, "since: Input should be a valid string"),
            ({"ticketId": 17}, "ticketId: must be an id of 24 hexadecimal digits"),
            ({"ticketId": "17"}, "ticketId: must be an id of 24 hexadecimal digits"),
            ({"ticketId": {"$ne": None}}, "ticketId: must be an id of 24 hexadecimal digits"),
            ({"types": "ticket.created"}, "types: Input should be a valid list"),
            ({"types": []}, "types: List should have at least 1 item after validation, not 0"),
            ({"types": [None]}, f"types.0: {NO_TYPE}"[:123]),
            ({"type": "hello"}, "type: Input should be 'auth'"),
            ({"token": None}, "token: Input should be a valid string"),
            ({"token": "x" * 4097}, "token: String should have at most 4096 characters"),
            (
                {"type": "hello", "token": 1},
                "type: Input should be 'auth'; token: Input should be a valid string",
            ),
        ],
    )
    async def test_in_the_first_message_are_refused_when_wrong(
        self, live: Live, agent: Caller, options: dict[str, Any], reason: str
    ) -> None:
        socket = await introduced(live, **({"token": agent.token} | options))

        assert await socket.closing() == (4400, reason)


class TestCredentials:
    @pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Bearer x", "Basic YTpi", "x"])
    async def test_a_wrong_header_is_refused_whatever_else_is_there(
        self, live: Live, agent: Caller, header: str
    ) -> None:
        socket = await live.connect(query={"ticket": await ticket_of(agent)}, headers={"Authorization": header})

        assert await socket.closing() == NO_TOKEN

    async def test_forgeries_are_refused(self, live: Live, customer: Caller) -> None:
        for kind, token in forgeries(customer.actor.id, customer.actor.credential_id).items():
            socket = await introduced(live, token)

            expected = NO_TOKEN if len(token) <= 4096 else (4400, "token: String should have at most 4096 characters")
            assert (kind, await socket.closing()) == (kind, expected)

    async def test_tokens_without_a_session_are_refused(self, live: Live, callers: Callers) -> None:
        over, token_of_over = await add_session(await add_user())
        await collection_of(Session).delete_one({"_id": over.credential_id})
        _, token_of_off = await add_session(await add_user(active=False))
        gone, token_of_gone = await add_session(await add_user())
        await collection_of(User).delete_one({"_id": gone.id})
        customer, admin = callers.customer.actor, callers.admin.actor
        mixed = tokens().access(admin.id, customer.credential_id, now())

        for token in (token_of_over, token_of_off, token_of_gone, mixed):
            assert await (await live.connect(token)).closing() == NO_TOKEN
            assert await (await introduced(live, token)).closing() == NO_TOKEN

    async def test_a_refresh_token_or_a_ticket_is_no_token(self, live: Live, agent: Caller) -> None:
        for token in (tokens().refresh(agent.actor.credential_id, 0), await ticket_of(agent)):
            assert await (await live.connect(token)).closing() == NO_TOKEN
            assert await (await introduced(live, token)).closing() == NO_TOKEN

    async def test_who_says_nothing_is_not_waited_for(self, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
        assert AUTH_WITHIN_S == 10
        monkeypatch.setattr("app.realtime.socket.AUTH_WITHIN_S", 0.05)

        assert await (await live.connect()).closing() == (4408, "No auth message within 10 s")

    async def test_a_ping_or_half_a_message_buys_no_time(self, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.realtime.socket.AUTH_WITHIN_S", 0.05)

        async def halves() -> AsyncIterator[str]:
            yield '{"type": "auth", '
            await socket.connection.wait_closed()

        socket = await live.connect(ping_interval=0.01)
        with suppress(ConnectionClosed):
            await socket.connection.send(halves())
        assert await socket.closing() == (4408, "No auth message within 10 s")

    async def test_who_leaves_before_saying_anything_is_gone(self, live: Live, agent: Caller) -> None:
        await (await live.connect()).leave()
        (await live.connect()).break_off()
        (await live.connect(agent.token)).break_off()

        socket = await live.connect(agent.token)
        assert (await socket.frame())["type"] == "ready"


class TestHandshake:
    async def test_never_agrees_to_compression_or_a_subprotocol(self, live: Live, agent: Caller) -> None:
        """The client of these tests offers compression each time."""
        socket = await live.connect(agent.token, subprotocols=["graphql-transport-ws", "bearer"])

        response = socket.connection.response
        assert response is not None
        assert response.status_code == 101
        assert "Sec-WebSocket-Extensions" not in response.headers
        assert "Sec-WebSocket-Protocol" not in response.headers
        assert (await socket.frame())["type"] == "ready"

    async def test_is_completed_for_those_who_are_then_refused(self, live: Live) -> None:
        refused = [
            await live.connect("x"),
            await live.connect(query={"types": "x"}),
            await live.connect(headers={"Origin": "https://evil.example"}),
        ]

        assert [one.connection.response.status_code for one in refused if one.connection.response] == [101, 101, 101]
        assert [(await one.closing())[0] for one in refused] == [4401, 4400, 4403]

    async def test_other_methods_and_plain_requests_find_nothing(self, live: Live) -> None:
        assert [(await live.http.request(method, "/ws")).status_code for method in ("GET", "POST")] == [404, 404]
