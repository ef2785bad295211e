"""A stream lasts as long as its token, or the one that renewed it in time."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from bson import ObjectId
from websockets.exceptions import ConnectionClosed

from app.accounts.actor import Actor
from app.accounts.documents import Session
from app.platform.clock import now
from app.platform.mongo import collection_of
from tests.accounts.test_tokens import HEADER, claims, sign
from tests.callers import Caller
from tests.factories.accounts import add_session, tokens
from tests.factories.tickets import open_ticket
from tests.live import Live, Socket, eventually
from tests.realtime.doors import Source, ended, events_of, introduced, ticket_of
from tests.realtime.polling import news, present

NO_TOKEN = (4401, "Invalid or expired token")
SESSION_OVER = (4401, "The session is over")
EXPIRED = (4401, "The token has expired; renew it with an auth message in time")
OTHER_USER = (4403, "A stream can't pass to another user")
NO_CHANGE = (4400, "A renewal can't change what the stream tells")


def short_token(actor: Actor) -> str:
    """A token that is good for one second more, or two."""
    issued = int(now().timestamp())
    return sign(HEADER, claims(sub=str(actor.id), sid=str(actor.credential_id), iat=issued, exp=issued + 2))


async def socket_of(live: Live, token: str, **options: str) -> Socket:
    socket = await live.connect(token, options)
    assert (await socket.frame())["type"] == "ready"
    return socket


async def renew(socket: Socket, token: str, **more: Any) -> None:
    await socket.send({"type": "auth", "token": token, **more})


class TestExpiry:
    async def test_ends_what_was_not_renewed(self, live: Live, customer: Caller, agent: Caller) -> None:
        token = short_token(customer.actor)
        bearer = {"Authorization": f"Bearer {token}"}
        sources: list[Source] = [
            await live.connect(token),
            await introduced(live, token),
            await live.connect(query={"ticket": await ticket_of(live.http, **bearer)}),
            await live.stream(token),
            await live.stream(query={"ticket": await ticket_of(live.http, **bearer)}),
        ]
        renewed, lasting = await live.connect(token), await live.connect(customer.token)
        assert {(await source.frame())["type"] for source in (*sources, renewed, lasting)} == {"ready"}
        await renew(renewed, customer.token)
        assert (await renewed.frame())["type"] == "ready"

        await asyncio.gather(*(ended(source, *EXPIRED) for source in sources))

        ticket = await open_ticket(customer)
        for socket in (renewed, lasting):
            assert [event["ticketId"] for event in events_of([await socket.frame()])] == [ticket["id"]]

    async def test_can_not_be_mended_afterwards(self, live: Live, customer: Caller) -> None:
        token = short_token(customer.actor)
        expiry = tokens().read_access(token).expires_at
        sockets = [await socket_of(live, token) for _ in range(10)]

        await eventually(lambda: now() >= expiry)
        for socket in sockets:
            with suppress(ConnectionClosed):
                await renew(socket, customer.token)

        assert {await socket.closing() for socket in sockets} <= {EXPIRED, NO_TOKEN}


class TestRenewal:
    async def test_is_answered_with_the_present_place(self, live: Live, agent: Caller) -> None:
        socket = await socket_of(live, agent.token)
        first = await open_ticket(agent)
        assert (await socket.frame())["event"]["ticketId"] == first["id"]

        await renew(socket, agent.token)

        ready = await socket.frame()
        assert ready == {"type": "ready", "cursor": ready["cursor"]}
        second = await open_ticket(agent)
        assert (await socket.frame())["event"]["ticketId"] == second["id"]
        items = (await news(agent, ready["cursor"]))["items"]
        assert [item["ticketId"] for item in items] == [second["id"]]

    async def test_by_another_session_passes_the_stream_to_it(
        self, live: Live, customer: Caller, agent: Caller
    ) -> None:
        actor, token = await add_session({"_id": customer.actor.id, "username": "customer"})
        socket = await socket_of(live, customer.token)
        await renew(socket, token)
        assert (await socket.frame())["type"] == "ready"

        await customer.post("/api/logout")
        ticket = await open_ticket(agent, requester=customer.user_id)
        assert (await socket.frame())["event"]["ticketId"] == ticket["id"]

        await collection_of(Session).delete_one({"_id": actor.credential_id})
        assert await socket.closing() == SESSION_OVER

    async def test_by_another_user_is_refused(self, live: Live, customer: Caller, admin: Caller) -> None:
        socket = await socket_of(live, customer.token)

        await renew(socket, admin.token)

        assert await socket.closing() == OTHER_USER

    async def test_with_a_token_that_is_not_good_ends_it(self, live: Live, customer: Caller) -> None:
        actor, of_over = await add_session({"_id": customer.actor.id, "username": "customer"})
        await collection_of(Session).delete_one({"_id": actor.credential_id})

        for token in ("", "x", of_over, tokens().refresh(customer.actor.credential_id, 0), await ticket_of(customer)):
            socket = await socket_of(live, customer.token)
            await renew(socket, token)
            assert await socket.closing() == NO_TOKEN

    @pytest.mark.parametrize(
        "more",
        [
            {"ticketId": str(ObjectId())},
            {"ticketId": None},
            {"types": ["ticket.created", "ticket.updated"]},
            {"types": ["ticket.created", "ticket.deleted", "ticket.updated"]},
            {"types": None},
        ],
    )
    async def test_can_not_change_what_is_told(self, live: Live, agent: Caller, more: dict[str, Any]) -> None:
        ticket = await open_ticket(agent)
        socket = await socket_of(live, agent.token, ticketId=ticket["id"], types="ticket.created,ticket.deleted")

        await renew(socket, agent.token, **more)

        assert await socket.closing() == NO_CHANGE

    async def test_may_repeat_the_first_message(self, live: Live, agent: Caller) -> None:
        start = await present(agent)
        ticket = await open_ticket(agent)
        first = {"since": start, "ticketId": ticket["id"], "types": ["ticket.created", "ticket.deleted"]}
        socket = await introduced(live, agent.token, **first)
        assert [frame["type"] for frame in await socket.frames(2)] == ["ready", "event"]

        await renew(socket, agent.token, **first)

        assert (await socket.frame())["type"] == "ready"
        await agent.patch(f"/api/tickets/{ticket['id']}", json={"title": "Another"})
        await renew(socket, agent.token)
        assert (await socket.frame())["type"] == "ready"
