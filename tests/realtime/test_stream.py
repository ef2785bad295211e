"""`GET /api/events/stream`: what Server-Sent Events add to what both doors tell."""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from app.platform.metrics import STREAMS
from app.realtime.hub import Hub
from app.realtime.stream import HEARTBEAT_S
from tests.accounts.test_tokens import forgeries
from tests.callers import Caller, Callers
from tests.conftest import ALLOWED_ORIGIN
from tests.factories.tickets import open_ticket
from tests.live import Live, Query, eventually
from tests.realtime.doors import events_of, listening, streaming
from tests.realtime.polling import present


def streams_open() -> float:
    """As the metrics tell it."""
    return float(STREAMS.labels("stream")._value.get())


class TestTheAnswer:
    async def test_is_an_event_stream_that_nothing_on_the_way_keeps_back(self, live: Live, agent: Caller) -> None:
        stream = await live.stream(agent.token, headers={"X-Request-ID": "the-id"})

        headers = stream.response.headers
        assert stream.response.status_code == 200
        assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Accel-Buffering"] == "no"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Request-ID"] == "the-id"
        assert "Content-Length" not in headers
        assert "Content-Encoding" not in headers

    async def test_begins_with_when_to_come_back_and_where_it_stands(self, live: Live, agent: Caller) -> None:
        stream = await live.stream(agent.token)

        message = await stream.message()

        assert stream.retry_ms == 2000
        assert message.frame == {"type": "ready", "cursor": message.id}

    async def test_has_the_frames_of_the_socket_and_their_cursors_as_ids(self, live: Live, agent: Caller) -> None:
        stream, socket = await live.stream(agent.token), await live.connect(agent.token)
        await stream.message(), await socket.frame()

        for title in ("One", "Two\nlines", "\u2028 \r and é \u0085"):
            await open_ticket(agent, title=f"x{title}x", description=title + "x")

            message, frame = await stream.message(), await socket.frame()
            assert message.frame == frame
            assert message.id == frame["cursor"]
            assert frame["event"]["ticket"]["title"] == f"x{title}x"

    async def test_takes_the_options_of_the_socket(self, live: Live, agent: Caller, admin: Caller) -> None:
        one, other = await open_ticket(agent), await open_ticket(agent)
        options = {"ticketId": one["id"], "types": "ticket.deleted, ticket.updated", "since": await present(agent)}

        stream = await listening(Live.stream, live, agent.token, **options)
        for ticket in (other, one):
            await agent.patch(f"/api/tickets/{ticket['id']}", json={"title": "Another"})
            await agent.patch(f"/api/tickets/{ticket['id']}", json={"status": "Resolved"})
            await admin.delete(f"/api/tickets/{ticket['id']}")

        events = events_of(await stream.frames(2))
        assert [(event["ticketId"], event["type"]) for event in events] == [
            (one["id"], "ticket.updated"),
            (one["id"], "ticket.deleted"),
        ]

    async def test_has_a_heartbeat_that_loses_nothing(
        self, live: Live, agent: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert HEARTBEAT_S == 15
        monkeypatch.setattr("app.realtime.stream.HEARTBEAT_S", 0.002)
        stream = await live.stream(agent.token)
        await stream.message()

        tickets = [await open_ticket(agent) for _ in range(30)]

        events = events_of(await stream.frames(30))
        assert [event["ticketId"] for event in events] == [ticket["id"] for ticket in tickets]
        assert stream.comments > 0

    async def test_may_be_read_by_the_pages_that_are_allowed(self, live: Live, agent: Caller) -> None:
        allowed = await live.stream(agent.token, headers={"Origin": ALLOWED_ORIGIN})
        other = await live.stream(agent.token, headers={"Origin": "https://evil.example"})

        assert allowed.response.headers["Access-Control-Allow-Origin"] == ALLOWED_ORIGIN
        assert "Access-Control-Allow-Origin" not in other.response.headers
        for stream in (allowed, other):
            assert (await stream.frame())["type"] == "ready"


class TestLastEventId:
    async def test_counts_before_since(self, live: Live, agent: Caller) -> None:
        start = await present(agent)
        tickets = [await open_ticket(agent), await open_ticket(agent)]
        stream = await listening(Live.stream, live, agent.token, since=start)
        cursor = (await stream.frame())["cursor"]

        again = await live.stream(agent.token, {"since": start}, {"Last-Event-ID": cursor})

        assert await again.frame() == {"type": "ready", "cursor": cursor}
        assert events_of([await again.frame()])[0]["ticketId"] == tickets[1]["id"]

    async def test_that_is_empty_is_none(self, live: Live, agent: Caller) -> None:
        """A browser that has not been told of an id sends none, but others may."""
        start = await present(agent)

        stream = await live.stream(agent.token, {"since": start}, {"Last-Event-ID": ""})

        assert await stream.frame() == {"type": "ready", "cursor": start}

    @pytest.mark.parametrize("last", ["0", "garbage", "A" * 5000])
    async def test_that_is_not_ours_is_a_resync(self, live: Live, agent: Caller, last: str) -> None:
        stream = await live.stream(agent.token, {"since": await present(agent)}, {"Last-Event-ID": last})

        ready, resync = await stream.message(), await stream.message()

        assert (ready.id, ready.frame["type"]) == (None, "ready")
        assert resync.frame == {"type": "resync", "cursor": resync.id}
        ticket = await open_ticket(agent)
        assert events_of([await stream.frame()])[0]["ticketId"] == ticket["id"]


class TestRefusals:
    """Problems before the stream starts; each leaves no stream behind."""

    async def refused(self, live: Live, status: int, token: str | None, query: Query = ()) -> dict[str, Any]:
        before = streams_open()
        response = (await live.stream(token, query)).response
        assert response.status_code == status
        assert response.headers["Content-Type"] == "application/problem+json"
        problem: dict[str, Any] = orjson.loads(await response.aread())
        assert (problem["status"], problem["instance"]) == (status, "/api/events/stream")
        assert streams_open() == before
        return problem | {"headers": response.headers}

    @pytest.mark.parametrize("query", [{}, {"types": "x"}, {"since": "x"}])
    async def test_without_a_token(self, live: Live, query: Mapping[str, str]) -> None:
        problem = await self.refused(live, 401, None, query)

        assert (problem["code"], problem["error"]) == ("unauthenticated", "No token provided")
        assert problem["headers"]["WWW-Authenticate"] == 'Bearer realm="ticketing"'

    async def test_with_a_token_that_is_not_good(self, live: Live, customer: Caller) -> None:
        ascii_only = [t for t in forgeries(customer.actor.id, customer.actor.credential_id).values() if t.isascii()]
        for token in [token for token in ascii_only if len(token) < 4096]:
            problem = await self.refused(live, 403, token, {"types": "x"})

            assert (problem["code"], problem["error"]) == ("invalid_token", "Invalid or expired token")
            assert "WWW-Authenticate" in problem["headers"]

    async def test_of_a_session_that_is_over(self, live: Live, customer: Caller) -> None:
        await customer.post("/api/logout")

        assert (await self.refused(live, 403, customer.token))["code"] == "invalid_token"

    @pytest.mark.parametrize(
        ("query", "fields"),
        [
            ({"sinse": "x"}, [("sinse", "unknown_parameter")]),
            ([("since", "x"), ("since", "x")], [("since", "repeated_parameter")]),
            ([("ticket", "x"), ("ticket", "x")], [("ticket", "repeated_parameter")]),
            (
                {"ticketId": "x", "types": "x,ticket.created,"},
                [("ticketId", "value_error"), ("types.0", "enum"), ("types.2", "enum")],
            ),
        ],
    )
    async def test_of_options_that_are_wrong(
        self, live: Live, agent: Caller, query: Query, fields: list[tuple[str, str]]
    ) -> None:
        problem = await self.refused(live, 422, agent.token, query)

        assert problem["code"] == "invalid_input"
        assert [(error["field"], error["code"]) for error in problem["errors"]] == fields

    async def test_while_the_service_ends(
        self, live: Live, hub: Hub, agent: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hub, "_is_closing", True)

        problem = await self.refused(live, 503, agent.token)

        assert problem["code"] == "database_unavailable"
        assert problem["headers"]["Retry-After"] == "2"

    async def test_of_other_methods(self, live: Live, agent: Caller) -> None:
        response = (await live.stream(agent.token, method="POST")).response

        assert (response.status_code, response.headers["Allow"]) == (405, "HEAD, GET")


class TestHead:
    async def test_has_the_headers_and_no_end_to_wait_for(self, live: Live, agent: Caller) -> None:
        before = streams_open()
        get, head = await live.stream(agent.token), await live.stream(agent.token, method="HEAD")

        of_no_interest = {"date", "x-request-id", "transfer-encoding"}
        assert {name: value for name, value in head.response.headers.items() if name not in of_no_interest} == {
            name: value for name, value in get.response.headers.items() if name not in of_no_interest
        }
        assert await head.response.aread() == b""
        await eventually(lambda: streams_open() == before + 1)

    async def test_refuses_as_get_does(self, live: Live, customer: Caller) -> None:
        assert (await live.stream(method="HEAD")).response.status_code == 401
        assert (await live.stream("x", method="HEAD")).response.status_code == 403
        assert (await live.stream(customer.token, {"types": "x"}, method="HEAD")).response.status_code == 422


class TestTheEnd:
    async def test_by_the_client_leaves_nothing_behind(self, live: Live, hub: Hub, agent: Caller) -> None:
        before = streams_open()
        stream = await streaming(live, agent.token)
        assert streams_open() == before + 1

        await stream.leave()

        await eventually(lambda: streams_open() == before)
        assert agent.actor.id not in hub._listeners
        assert not any(feed.actor.id == agent.actor.id for feeds in hub._feeds.values() for feed in feeds)

    async def test_by_the_service_is_an_end_and_no_break(
        self, live: Live, hub: Hub, callers: Callers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As at a restart: clients come back by themselves."""
        monkeypatch.setattr(hub, "_is_closing", False)
        streams = [await streaming(live, who.token) for who in (callers.agent, callers.customer)]
        sockets = [await live.connect(who.token) for who in (callers.agent, callers.customer)]
        for socket in sockets:
            await socket.frame()

        hub.close()
        await open_ticket(callers.customer)

        for stream in streams:
            await stream.ending()
        for socket in sockets:
            assert await socket.closing() == (1012, "The service restarts; come back with since")
        assert await (await live.connect(callers.agent.token)).closing() == (
            1012,
            "The service restarts; come back with since",
        )
