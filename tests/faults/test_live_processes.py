"""Live events through two processes: what is told makes the state that one reads, to each as is fit for them."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from bson import ObjectId
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.collection import Collection

from app.accounts.roles import Role
from app.realtime.protocol import CloseCode
from tests.factories.accounts import PASSWORD
from tests.factories.tickets import open_ticket
from tests.faults.conftest import connected
from tests.faults.live import DOORS, Audience, Event, Subscriber, close_code, present, receive, walked, websocket
from tests.faults.story import GraphQL, Rest, every_change
from tests.services import Mongod, Person, Rows, Service, person, session, until

State = dict[str, dict[str, Any]]
Clients = tuple[httpx.AsyncClient, httpx.AsyncClient]
# The contract's bound (§3).
PROMPTLY_S = 1.0


@pytest.fixture
def people(twin_rows: Rows) -> dict[str, Person]:
    roles = {"admin": Role.ADMIN, "agent": Role.AGENT, "owner": Role.CUSTOMER, "other": Role.CUSTOMER}
    return {name: person(twin_rows, role) for name, role in roles.items()}


@pytest.fixture
async def clients(twins: tuple[Service, Service], people: dict[str, Person]) -> AsyncIterator[Clients]:
    """The admin's connections to either process."""
    headers = people["admin"].headers
    async with connected(twins[0], headers) as one, connected(twins[1], headers) as other:
        yield one, other


class Screen:
    """What somebody has before them: the tickets that they loaded, and then what they were told."""

    def __init__(self, state: State, subscriber: Subscriber) -> None:
        self._state = state
        self.subscriber = subscriber
        self._applied = 0

    def state(self) -> State:
        """As the contract tells clients to make it up."""
        for event in self.subscriber.told[self._applied :]:
            self._applied += 1
            ticket = event["ticket"]
            known = self._state.get(ticket["id"])
            if event["type"] == "ticket.deleted":
                self._state.pop(ticket["id"], None)
            elif known is None or ticket["version"] > known["version"]:
                self._state[ticket["id"]] = ticket
        return self._state

    def passed_on(self, everything: State) -> State:
        """What has another requester by now: the former one is told nothing of it, that it is gone included."""
        who = self.subscriber.who
        return {
            ticket_id: ticket
            for ticket_id, ticket in self._state.items()
            if who.role is Role.CUSTOMER and everything.get(ticket_id, ticket)["requester"] != str(who.id)
        }


async def loaded(client: httpx.AsyncClient, who: Person, created_after: str) -> State:
    """The tickets that one sees, as far as they are of this test."""
    parameters = {"createdAfter": created_after, "limit": "100"}
    answer = await client.get("/api/tickets", params=parameters, headers=who.headers)
    return {ticket["id"]: ticket for ticket in answer.raise_for_status().json()["items"]}


class TestEveryChange:
    @pytest.mark.parametrize("door", [Rest, GraphQL])
    async def test_makes_of_the_state_before_the_state_after(
        self, door: type[Rest | GraphQL], twins: tuple[Service, Service], clients: Clients, people: dict[str, Person]
    ) -> None:
        began = datetime.now(UTC).isoformat()
        start = await present(clients[0])
        # Before the state is loaded, so that much of what is told is in it already.
        async for _ in every_change(door(*clients), people):
            pass
        middle = await present(clients[0])
        missed = {who.id: await walked(clients[0], start, who.headers) for who in people.values()}
        subscribers = [Subscriber(who, by, since=start) for who in people.values() for by in DOORS]
        screens = [Screen(await loaded(clients[0], one.who, began), one) for one in subscribers]
        async with Audience(subscribers, twins[1:]) as audience:
            async for change in every_change(door(*clients), people):
                everything = await loaded(clients[0], people["admin"], began)
                expected = [
                    await loaded(clients[0], one.subscriber.who, began) | one.passed_on(everything) for one in screens
                ]
                with suppress(TimeoutError):
                    await audience.until(lambda: [one.state() for one in screens] == expected)  # noqa: B023
                assert [one.state() for one in screens] == expected, change

        events = await walked(clients[0], middle, people["admin"].headers)
        for one in subscribers:
            assert one.told == missed[one.who.id] + heard_by(one.who, events), one


def heard_by(who: Person, events: Sequence[Event]) -> list[Event]:
    """What was for their ears when it happened."""
    is_staff = who.role is not Role.CUSTOMER
    return [event for event in events if is_staff or event["ticket"]["requester"] == str(who.id)]


class TestOrderOfCommits:
    """Of two transactions the one that begins later ends earlier."""

    async def test_is_that_of_every_kind_of_reader(
        self,
        mongod: Mongod,
        twins: tuple[Service, Service],
        twin_rows: Rows,
        clients: Clients,
        people: dict[str, Person],
    ) -> None:
        ticket = await open_ticket(clients[0], requester=str(people["owner"].id))
        start = await present(clients[0])
        listeners = (people["agent"], people["owner"])
        live = {service: [Subscriber(who, by) for who in listeners for by in DOORS] for service in twins}
        everybody = [one for listening in live.values() for one in listening]
        async with Audience(live[twins[0]], twins[:1]) as audience, Audience(live[twins[1]], twins[1:]):
            with (
                MongoClient[dict[str, Any]](mongod.uri(twin_rows.name)) as client,
                client.start_session() as first,
                client.start_session() as second,
            ):
                events = client[twin_rows.name].events
                first.start_transaction()
                self.insert(events, ticket["id"], 2, first)
                second.start_transaction()
                self.insert(events, ticket["id"], 3, second)
                second.commit_transaction()
                await audience.until(lambda: [versions(one.told) for one in everybody] == [[3]] * len(everybody))
                [between] = {one.cursor for one in everybody}
                first.commit_transaction()
            twin_rows.tickets.update_one({"_id": ObjectId(ticket["id"])}, {"$set": {"version": 3}})
            await audience.until(lambda: [versions(one.told) for one in everybody] == [[3, 2]] * len(everybody))

        await self.check_readers(twins, listeners, start, [3, 2])
        await self.check_readers(twins, listeners, between, [2])
        # One that has nothing in memory.
        twins[1].kill()
        twins[1].launch()
        await until(twins[1].is_ready)
        await self.check_readers(twins[1:], listeners, start, [3, 2])
        await self.check_readers(twins[1:], listeners, between, [2])

    def insert(self, events: Collection[dict[str, Any]], ticket_id: str, version: int, session: ClientSession) -> None:
        row = events.find_one({"ticketId": ObjectId(ticket_id), "version": 1})
        assert row is not None
        changed = {**row, "_id": ObjectId(), "version": version, "ticket": {**row["ticket"], "version": version}}
        events.insert_one(changed, session=session)

    async def check_readers(
        self, services: Sequence[Service], listeners: Sequence[Person], since: str | None, expected: list[int]
    ) -> None:
        assert since is not None
        for service in services:
            readers = [Subscriber(who, by, since=since) for who in listeners for by in DOORS]
            async with Audience(readers, [service]) as audience:
                await audience.until(lambda: [versions(one.told) for one in readers] == [expected] * len(readers))  # noqa: B023
            async with connected(service, {}) as client:
                polled = [await walked(client, since, who.headers) for who in listeners]
            assert list(map(versions, polled)) == [expected] * len(listeners)


def versions(events: Sequence[Event]) -> list[int]:
    return [event["ticket"]["version"] for event in events]


class TestAccounts:
    """What happens to an account through one process counts at once for its streams in the other."""

    @pytest.mark.parametrize("way", ["logout", "deactivation", "password"])
    async def test_end_of_session(
        self, way: str, twins: tuple[Service, Service], twin_rows: Rows, clients: Clients
    ) -> None:
        agent = person(twin_rows, Role.AGENT)
        headers = session(twin_rows, agent.id, ObjectId(), datetime.now(UTC))
        other = replace(agent, headers=headers)
        stream = Subscriber(agent, "stream")
        async with (
            websocket(twins[1], agent) as socket,
            websocket(twins[1], other) as other_socket,
            Audience([stream], twins[1:]) as audience,
        ):
            await receive(socket)
            await receive(other_socket)
            match way:
                case "logout":
                    answer = await clients[0].post("/api/logout", headers=agent.headers)
                case "deactivation":
                    answer = await clients[0].patch(f"/api/users/{agent.id}", json={"active": False})
                case _:
                    body = {"currentPassword": PASSWORD, "newPassword": "another horse, another staple"}
                    answer = await clients[0].post("/api/me/password", json=body, headers=headers)
            assert answer.is_success, answer.text
            answered = time.monotonic()

            assert await close_code(socket) == CloseCode.UNAUTHENTICATED
            # It comes back, and is refused.
            await audience.until(lambda: stream.ends["status 403"] > 0)
            assert time.monotonic() - answered < PROMPTLY_S
            if way == "deactivation":
                assert await close_code(other_socket) == CloseCode.UNAUTHENTICATED
            else:
                ticket = await open_ticket(clients[0])
                assert (await receive(other_socket))["event"]["ticketId"] == ticket["id"]

    async def test_change_of_role(self, twins: tuple[Service, Service], twin_rows: Rows, clients: Clients) -> None:
        who = person(twin_rows, Role.AGENT)
        subscribers = [Subscriber(who, by) for by in DOORS]
        async with Audience(subscribers, twins[1:]) as audience:
            heard = []
            for role in (Role.CUSTOMER, Role.ADMIN, Role.CUSTOMER):
                answer = await clients[0].patch(f"/api/users/{who.id}", json={"role": role})
                assert answer.status_code == 200, answer.text
                others = await open_ticket(clients[0])
                own = await open_ticket(clients[0], requester=str(who.id))
                heard += [own["id"]] if role is Role.CUSTOMER else [others["id"], own["id"]]

            await audience.until(lambda: all(len(one.told) >= len(heard) for one in subscribers))
            assert [[event["ticketId"] for event in one.told] for one in subscribers] == [heard] * len(subscribers)
            assert [one.ends.total() for one in subscribers] == [0, 0]
