"""How a conversation ends, or one of its subscriptions: at once, with a reason, and to nobody else's harm."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, cast

import pytest
from bson import ObjectId
from pymongo.network_layer import async_sendall

from app.accounts.documents import Session
from app.accounts.tokens import ACCESS_TTL
from app.platform.clock import now
from app.platform.mongo import collection_of
from app.platform.websocket import WebSocketConnection
from app.realtime.hub import Hub
from tests.callers import Caller, Callers
from tests.conftest import settle
from tests.factories.accounts import tokens
from tests.factories.tickets import add_tickets, open_ticket, ticket_row
from tests.graphql.asking import BODY, CREATE
from tests.graphql.conversation import Conversation, nobody_is_left
from tests.graphql.following import FOLLOW, forget, listener_of, log_event, present, told
from tests.live import Live, eventually

BIG = "x" * 1_000_000
BIG_FOLLOW = FOLLOW.replace("version", "version " + " ".join(f"a{number}: description" for number in range(12)))
OVER = (4401, "The session is over")


async def sign_out(callers: Callers) -> None:
    assert (await callers.customer.post("/api/logout")).status_code == 204


async def lose_the_session(callers: Callers) -> None:
    await collection_of(Session).delete_one({"_id": callers.customer.actor.credential_id})


async def be_switched_off(callers: Callers) -> None:
    await callers.admin.patch(f"/api/users/{callers.customer.user_id}", json={"active": False})


async def be_deleted(callers: Callers) -> None:
    await callers.admin.delete(f"/api/users/{callers.customer.user_id}")


class TestSessions:
    @pytest.mark.parametrize("end", [sign_out, lose_the_session, be_switched_off, be_deleted])
    async def test_take_their_conversations_along(
        self, live: Live, callers: Callers, hub: Hub, end: Callable[[Callers], Awaitable[None]]
    ) -> None:
        ticket = await open_ticket(callers.customer)
        conversation = await Conversation.begin(live, callers.customer)
        bystander = await Conversation.begin(live, callers.agent)
        for one in (conversation, bystander):
            await one.subscribe(FOLLOW)
            await one.silence()

        await end(callers)
        await callers.agent.patch(f"/api/tickets/{ticket['id']}", json={"title": "Too late"})

        assert await conversation.closing() == OVER
        assert told([await bystander.event()]) == [(ticket["id"], "ticket.updated", 2)]
        assert callers.customer.actor.id not in hub._listeners

    async def test_end_when_the_token_expires(self, live: Live, agent: Caller, hub: Hub) -> None:
        moment = now() - ACCESS_TTL + timedelta(seconds=1.5)
        agent.token = tokens().access(agent.actor.id, agent.actor.credential_id, moment)
        conversation = await Conversation.begin(live, agent)
        await conversation.subscribe(FOLLOW)

        code, reason = await conversation.closing()

        assert code == 4401
        assert reason.startswith("The token has expired")
        await nobody_is_left(hub)


class TestSlowReaders:
    async def test_are_cut_off_and_hold_up_nobody(
        self, live: Live, callers: Callers, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slow = await Conversation.begin(live, callers.agent)
        quick = await Conversation.begin(live, callers.admin)
        for one in (slow, quick):
            await one.subscribe(BIG_FOLLOW)
            await one.silence()
        slow.socket.connection.transport.pause_reading()
        big = ticket_row(description=BIG)
        for version in range(1, 4):
            await log_event({**big, "version": version})
        assert [version for _, _, version in told(await quick.events(3))] == [1, 2, 3]
        hub.sweep()
        assert listener_of(hub, callers.agent).ending is None

        monkeypatch.setattr("app.realtime.feed.STALL_S", 0)
        monkeypatch.setattr("app.realtime.feed.PASSED_STALL_S", 0)
        hub.sweep()

        # What was on its way when it was cut off, and then the reason.
        slow.socket.connection.transport.resume_reading()
        assert [version for _, _, version in told([await slow.event()])] == [1]
        assert await slow.closing() == (4429, "Too slow a reader; come back with since")
        await log_event({**big, "version": 4})
        assert [version for _, _, version in told([await quick.event()])] == [4]
        await eventually(lambda: callers.agent.actor.id not in hub._listeners)

    async def test_of_answers_are_waited_for(self, live: Live, agent: Caller, hub: Hub) -> None:
        await add_tickets(*(ticket_row(description=BIG) for _ in range(10)))
        conversation = await Conversation.begin(live, agent)
        conversation.socket.connection.transport.pause_reading()
        connection: WebSocketConnection = cast("Any", listener_of(hub, agent).end).__self__._connection

        await conversation.subscribe("{ tickets { description } }", "answer")
        await conversation.subscribe(CREATE, "mutation", ticketInput=BODY)
        await eventually(lambda: not connection.is_keeping_up)
        for _ in range(3):
            assert (await agent.get("/api/tickets", params={"q": BODY["title"]})).json()["items"] == []

        conversation.socket.connection.transport.resume_reading()
        assert len((await conversation.next("answer"))["data"]["tickets"]) == 10
        assert await conversation.frame() == {"id": "answer", "type": "complete"}
        assert "errors" not in await conversation.next("mutation")


class TestFaults:
    async def test_of_ours_are_masked_and_logged_once_and_leave_no_gap(
        self, live: Live, agent: Caller, caplog: pytest.LogCaptureFixture
    ) -> None:
        conversation = await Conversation.begin(live, agent)
        instants = "a: createdAt b: createdAt c: createdAt"
        await conversation.subscribe(FOLLOW.replace("version", f"version {instants}"), "broken")
        await conversation.silence()
        broken = ticket_row(createdAt="once upon a time")

        await log_event(broken)

        frame = await conversation.frame()
        assert (frame["type"], frame["id"]) == ("error", "broken")
        for error in frame["payload"]:
            assert error["message"] == "Something went wrong on our side"
            assert error["extensions"] == {
                "code": "internal_error",
                "status": 500,
                "requestId": frame["payload"][0]["extensions"]["requestId"],
            }
        assert [record.message for record in caplog.records] == ["unhandled error"]
        assert caplog.records[0].exc_info is not None
        # What can't be shown is the end of it: the cursor of another event would lead past this one.
        await conversation.subscribe(FOLLOW, "whole")
        await log_event(ticket_row())
        assert (await conversation.event("whole"))["type"] == "ticket.updated"
        await conversation.silence()


class TestCancellation:
    @pytest.mark.parametrize("given", [{}, {"ticketId": str(ObjectId())}], ids=["of something", "of nothing"])
    @pytest.mark.parametrize("leaves", [False, True])
    async def test_that_the_driver_loses(
        self,
        live: Live,
        agent: Caller,
        hub: Hub,
        monkeypatch: pytest.MonkeyPatch,
        given: dict[str, Any],
        leaves: bool,
    ) -> None:
        """In Python 3.11 `asyncio.wait_for` swallows it when what it waits for is just done."""
        start = await present(agent)
        for _ in range(3):
            await open_ticket(agent)
        await settle(hub)
        forget(hub)
        conversation = await Conversation.begin(live, agent)
        listener = listener_of(hub, agent)
        is_sent, lost = asyncio.Event(), asyncio.Event()

        async def send(connection: Any, message: bytes) -> None:
            await async_sendall(connection, message)
            if b"$changeStream" in message and not is_sent.is_set():
                is_sent.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    lost.set()

        monkeypatch.setattr("pymongo.asynchronous.pool.async_sendall", send)
        monkeypatch.setattr("app.graphql.socket.CANCEL_AGAIN_S", 0.05)

        await conversation.subscribe(FOLLOW, since=start, **given)
        await is_sent.wait()
        if leaves:
            await conversation.socket.leave()
        else:
            await conversation.complete()
            await conversation.silence()

        await lost.wait()
        await eventually(lambda: not listener.feeds and not followers())
        assert (agent.actor.id in hub._listeners) is not leaves


def followers() -> list[asyncio.Task[Any]]:
    """The tasks that follow the log for a subscription."""
    return [task for task in asyncio.all_tasks() if "_Conversation._follow" in repr(task.get_coro())]
