"""`POST /api/realtime/ticket`, and what a ticket opens: one stream, soon, for who asked for it."""

import asyncio
from datetime import datetime, timedelta

from httpx import AsyncClient
from websockets.exceptions import ConnectionClosed

from app.accounts.tokens import AccessClaims, Tokens, derive_key
from app.platform.clock import now
from app.platform.mongo import collection_of
from app.realtime.documents import UsedTicket
from tests.accounts.test_tokens import HEADER, KEY, claims, sign
from tests.callers import Caller
from tests.conftest import SECRET
from tests.factories.accounts import tokens
from tests.factories.tickets import open_ticket
from tests.live import Live, Socket
from tests.realtime.doors import Door, events_of, ticket_of
from tests.realtime.polling import present

NO_TOKEN = (4401, "Invalid or expired token")
TICKET_KEY = derive_key(SECRET, "stream-ticket")
TICKET_HEADER = {"alg": "HS256", "typ": "st+jwt"}


def ticket_made(who: Caller, at: datetime, until: datetime | None = None) -> str:
    """A ticket that was made at that moment, with a token that expires then."""
    access = AccessClaims(who.actor.id, who.actor.credential_id, until or now() + timedelta(minutes=10))
    return tokens().stream_ticket(access, at)


async def opens(live: Live, door: Door, ticket: str, **headers: str) -> bool:
    """Whether it is let in by the door; if not, it is refused as it has to be."""
    source = await door(live, query={"ticket": ticket}, headers={n.replace("_", "-"): v for n, v in headers.items()})
    if isinstance(source, Socket):
        try:
            frame = await source.frame()
        except ConnectionClosed:
            assert await source.closing() == NO_TOKEN
            return False
        assert frame["type"] == "ready"
        return True
    assert source.response.status_code in {200, 403}
    return source.response.status_code == 200


class TestCreateStreamTicket:
    async def test_answers_a_ticket_for_half_a_minute(self, live: Live, customer: Caller) -> None:
        answer = await customer.post("/api/realtime/ticket")

        assert answer.status_code == 201
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.json() == {"ticket": answer.json()["ticket"], "expiresIn": 30}
        made = tokens().read_stream_ticket(answer.json()["ticket"])
        assert made.access == tokens().read_access(customer.token)
        assert timedelta(seconds=28) < made.expires_at - now() <= timedelta(seconds=30)
        assert await collection_of(UsedTicket).count_documents({}) == 0

    async def test_each_is_another(self, customer: Caller) -> None:
        assert len({await ticket_of(customer) for _ in range(5)}) == 5

    async def test_needs_a_token(self, nobody: AsyncClient, customer: Caller) -> None:
        without = await nobody.post("/api/realtime/ticket")
        assert (without.status_code, without.json()["code"]) == (401, "unauthenticated")

        ticket = await ticket_of(customer)
        for token in ("x", ticket, tokens().refresh(customer.actor.credential_id, 0)):
            answer = await nobody.post("/api/realtime/ticket", headers={"Authorization": f"Bearer {token}"})
            assert (answer.status_code, answer.json()["code"]) == (403, "invalid_token")
        by_ticket = await nobody.post("/api/realtime/ticket", params={"ticket": ticket})
        assert by_ticket.status_code == 401

    async def test_is_not_for_a_session_that_is_over(self, customer: Caller) -> None:
        await customer.post("/api/logout")

        assert (await customer.post("/api/realtime/ticket")).status_code == 403


class TestATicket:
    async def test_opens_one_stream(self, live: Live, customer: Caller, door: Door) -> None:
        ticket = await ticket_of(customer)

        assert await opens(live, door, ticket)
        assert not await opens(live, door, ticket)

    async def test_opens_one_of_many_at_once(self, live: Live, customer: Caller, door: Door) -> None:
        ticket = await ticket_of(customer)

        assert sum(await asyncio.gather(*(opens(live, door, ticket) for _ in range(10)))) == 1

    async def test_used_at_one_door_is_used_at_the_other(self, live: Live, customer: Caller) -> None:
        for first, second in ((Live.connect, Live.stream), (Live.stream, Live.connect)):
            ticket = await ticket_of(customer)
            assert await opens(live, first, ticket)
            assert not await opens(live, second, ticket)

    async def test_is_remembered_as_used_until_its_token_expires(
        self, live: Live, customer: Caller, door: Door
    ) -> None:
        ticket = await ticket_of(customer)
        await opens(live, door, ticket)

        made = tokens().read_stream_ticket(ticket)
        name = "websocket" if door is Live.connect else "stream"
        rows = await collection_of(UsedTicket).find().to_list()
        assert rows == [{"_id": made.id, "door": name, "expiresAt": made.access.expires_at}]

    async def test_has_to_be_used_within_30_seconds(self, live: Live, customer: Caller, door: Door) -> None:
        assert await opens(live, door, ticket_made(customer, now() - timedelta(seconds=25)))
        assert not await opens(live, door, ticket_made(customer, now() - timedelta(seconds=31)))

    async def test_is_good_no_longer_than_its_token(self, live: Live, customer: Caller, door: Door) -> None:
        assert not await opens(live, door, ticket_made(customer, now(), until=now() - timedelta(seconds=1)))

    async def test_of_a_session_that_is_over_is_refused(self, live: Live, customer: Caller, door: Door) -> None:
        ticket = await ticket_of(customer)
        await customer.post("/api/logout")

        assert not await opens(live, door, ticket)

    async def test_is_left_alone_where_a_token_is_given(self, live: Live, customer: Caller, door: Door) -> None:
        ticket = await ticket_of(customer)
        source = await door(live, customer.token, {"ticket": ticket})
        assert (await source.frame())["type"] == "ready"

        assert await opens(live, door, ticket)

    async def test_is_no_token(self, live: Live, nobody: AsyncClient, customer: Caller) -> None:
        ticket = await ticket_of(customer)

        as_token = await nobody.get("/api/me", headers={"Authorization": f"Bearer {ticket}"})
        in_query = await nobody.get("/api/me", params={"ticket": ticket})
        assert (as_token.status_code, in_query.status_code) == (403, 401)
        assert await opens(live, Live.connect, ticket)

    async def test_is_nothing_else(self, live: Live, customer: Caller, door: Door) -> None:
        mine = {"sub": str(customer.actor.id), "sid": str(customer.actor.credential_id)}
        soon, later = int(now().timestamp()) + 20, int(now().timestamp()) + 600
        good = {"iss": "ticketing", "aud": "ticketing", **mine, "exp": soon, "jti": "a", "until": later}
        ticket = await ticket_of(customer)
        forged = {
            "nothing": "",
            "a word": "x",
            "a token": customer.token,
            "a refresh token": tokens().refresh(customer.actor.credential_id, 0),
            "one of another secret": Tokens("another secret, as long as ours is").stream_ticket(
                tokens().read_access(customer.token), now()
            ),
            "cut": ticket[:-2],
            "two": f"{ticket}.{ticket}",
            "by the secret itself": sign(TICKET_HEADER, good, KEY),
            "typed as a token": sign(HEADER, good, TICKET_KEY),
            "a token by its key": sign(TICKET_HEADER, claims(**mine), TICKET_KEY),
            "no end": sign(TICKET_HEADER, {**good, "until": None}, TICKET_KEY),
            "endless": sign(TICKET_HEADER, {**good, "until": 10**15}, TICKET_KEY),
            **{
                f"no {name}": sign(TICKET_HEADER, {k: v for k, v in good.items() if k != name}, TICKET_KEY)
                for name in good
            },
        }

        for kind, text in forged.items():
            assert (kind, await opens(live, door, text)) == (kind, False)
        assert await collection_of(UsedTicket).count_documents({}) == 0
        assert await opens(live, door, sign(TICKET_HEADER, good, TICKET_KEY))


class TestReconnect:
    """An EventSource comes back by itself with the URL that it has, and the id of the last message."""

    async def seen(self, live: Live, ticket: str) -> str:
        """The id of the first message on the ticket's stream, which then breaks off."""
        stream = await live.stream(query={"ticket": ticket})
        cursor = (await stream.message()).id
        assert cursor is not None
        await stream.leave()
        return cursor

    async def test_may_use_the_ticket_again_and_again(self, live: Live, customer: Caller) -> None:
        ticket = await ticket_of(customer)
        cursor = await self.seen(live, ticket)
        missed = await open_ticket(customer)

        for _ in range(3):
            stream = await live.stream(query={"ticket": ticket}, headers={"Last-Event-ID": cursor})
            assert (await stream.frame()) == {"type": "ready", "cursor": cursor}
            message = await stream.message()
            assert events_of([message.frame])[0]["ticketId"] == missed["id"]
            await stream.leave()

    async def test_may_use_it_long_after_its_first_use(self, live: Live, customer: Caller) -> None:
        ticket = ticket_made(customer, now() - timedelta(minutes=5))
        await self.remember(ticket, "stream")

        assert await opens(live, Live.stream, ticket, Last_Event_ID=await present(customer))

    async def test_without_a_cursor_of_ours_is_refused(self, live: Live, customer: Caller) -> None:
        ticket = await ticket_of(customer)
        cursor = await self.seen(live, ticket)

        assert not await opens(live, Live.stream, ticket)
        for last in ("", "0", "garbage", cursor[:-1], cursor + "A", "A" * len(cursor)):
            assert not await opens(live, Live.stream, ticket, Last_Event_ID=last)

    async def test_is_a_matter_of_the_stream_alone(self, live: Live, customer: Caller) -> None:
        ticket = await ticket_of(customer)
        cursor = await self.seen(live, ticket)
        assert not await opens(live, Live.connect, ticket, Last_Event_ID=cursor)

        of_socket = await ticket_of(customer)
        assert await opens(live, Live.connect, of_socket)
        for door in (Live.connect, Live.stream):
            assert not await opens(live, door, of_socket, Last_Event_ID=cursor)

    async def test_with_a_ticket_that_was_never_used_is_its_first_use(self, live: Live, customer: Caller) -> None:
        cursor = await present(customer)

        late = ticket_made(customer, now() - timedelta(seconds=31))
        assert not await opens(live, Live.stream, late, Last_Event_ID=cursor)
        assert await opens(live, Live.stream, await ticket_of(customer), Last_Event_ID=cursor)
        assert await collection_of(UsedTicket).count_documents({}) == 1

    async def test_ends_with_the_session(self, live: Live, customer: Caller) -> None:
        ticket = await ticket_of(customer)
        cursor = await self.seen(live, ticket)

        await customer.post("/api/logout")

        assert not await opens(live, Live.stream, ticket, Last_Event_ID=cursor)

    async def test_ends_with_the_token(self, live: Live, customer: Caller) -> None:
        ticket = ticket_made(customer, now() - timedelta(seconds=10), until=now() - timedelta(seconds=1))
        await self.remember(ticket, "stream")

        assert not await opens(live, Live.stream, ticket, Last_Event_ID=await present(customer))

    async def remember(self, ticket: str, door: str) -> None:
        made = tokens().read_stream_ticket(ticket)
        row = {"_id": made.id, "door": door, "expiresAt": made.access.expires_at}
        await collection_of(UsedTicket).insert_one(row)
