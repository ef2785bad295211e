"""One change of every kind, by everybody who may make it, over REST or over GraphQL."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol
from uuid import uuid4

import httpx

from tests.services import Person

Body = dict[str, Any]


class Door(Protocol):
    """A way to make changes. Each answers what became of it: the ticket's id, or the statuses of a bulk change."""

    async def create(self, who: Person, body: Body, key: str | None = None) -> str: ...
    async def change(self, who: Person, ticket_id: str, patch: Body) -> bool: ...
    async def change_all(self, who: Person, ids: list[str], patch: Body) -> list[int]: ...
    async def delete(self, who: Person, ticket_id: str) -> bool: ...
    async def restore(self, who: Person, ticket_id: str) -> bool: ...


class Rest:
    """REST, one process after the other."""

    def __init__(self, *clients: httpx.AsyncClient) -> None:
        self._clients = clients
        self._turn = 0

    async def create(self, who: Person, body: Body, key: str | None = None) -> str:
        answer = await self._send(who, "POST", "/api/tickets", body, key)
        assert answer.status_code == 201, answer.text
        ticket_id: str = answer.json()["id"]
        return ticket_id

    async def change(self, who: Person, ticket_id: str, patch: Body) -> bool:
        return (await self._send(who, "PATCH", f"/api/tickets/{ticket_id}", patch)).is_success

    async def change_all(self, who: Person, ids: list[str], patch: Body) -> list[int]:
        answer = await self._send(who, "POST", "/api/tickets/bulk", {"ids": ids, "patch": patch})
        return [result["status"] for result in answer.json()["results"]]

    async def delete(self, who: Person, ticket_id: str) -> bool:
        return (await self._send(who, "DELETE", f"/api/tickets/{ticket_id}")).is_success

    async def restore(self, who: Person, ticket_id: str) -> bool:
        return (await self._send(who, "POST", f"/api/tickets/{ticket_id}/restore")).is_success

    async def _send(
        self, who: Person, method: str, path: str, body: Body | None = None, key: str | None = None
    ) -> httpx.Response:
        self._turn += 1
        headers = who.headers | ({"Idempotency-Key": key} if key else {})
        return await self._clients[self._turn % len(self._clients)].request(method, path, json=body, headers=headers)


class GraphQL:
    """GraphQL, one process after the other."""

    def __init__(self, *clients: httpx.AsyncClient) -> None:
        self._clients = clients
        self._turn = 0

    async def create(self, who: Person, body: Body, key: str | None = None) -> str:
        document = "mutation ($body: TicketInput!) { done: createTicket(ticketInput: $body) { id } }"
        ticket_id: str = (await self._carry_out(who, document, {"body": body}, key))["id"]
        return ticket_id

    async def change(self, who: Person, ticket_id: str, patch: Body) -> bool:
        document = "mutation ($id: ID!, $patch: TicketPatch!) { done: updateTicket(id: $id, patch: $patch) { id } }"
        return await self._carry_out(who, document, {"id": ticket_id, "patch": patch}) is not None

    async def change_all(self, who: Person, ids: list[str], patch: Body) -> list[int]:
        document = """mutation ($ids: [ID!]!, $patch: TicketPatch!) {
            done: bulkUpdateTickets(ids: $ids, patch: $patch) { status }
        }"""
        return [result["status"] for result in await self._carry_out(who, document, {"ids": ids, "patch": patch})]

    async def delete(self, who: Person, ticket_id: str) -> bool:
        document = "mutation ($id: ID!) { done: deleteTicket(id: $id) }"
        return await self._carry_out(who, document, {"id": ticket_id}) is not None

    async def restore(self, who: Person, ticket_id: str) -> bool:
        document = "mutation ($id: ID!) { done: restoreTicket(id: $id) { id } }"
        return await self._carry_out(who, document, {"id": ticket_id}) is not None

    async def _carry_out(self, who: Person, document: str, variables: Body, key: str | None = None) -> Any:
        self._turn += 1
        headers = who.headers | ({"Idempotency-Key": key} if key else {})
        body = {"query": document, "variables": variables}
        client = self._clients[self._turn % len(self._clients)]
        answer = await client.post("/graphql", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]["done"]


async def every_change(door: Door, people: Mapping[str, Person]) -> AsyncIterator[str]:
    """Makes them; says what it has just done. Afterwards each ticket is whose it was first."""
    agent, owner, other = (people[name] for name in ("agent", "owner", "other"))
    mine = await door.create(owner, {"title": "No paper", "description": "Tray 2", "priority": "High", "tags": ["a"]})
    yield "a customer opens a ticket"
    key = uuid4().hex
    body = {"title": "No toner", "description": "Black", "requester": str(other.id), "assignedTo": str(agent.id)}
    theirs = await door.create(agent, body, key)
    assert await door.create(agent, body, key) == theirs
    yield "an agent opens one for another customer, twice with one key"
    async for change in _edits(door, people, mine):
        yield change
    async for change in _moves(door, people, mine, theirs):
        yield change
    async for change in _disappearances(door, people, mine, theirs):
        yield change


async def _edits(door: Door, people: Mapping[str, Person], mine: str) -> AsyncIterator[str]:
    admin, agent, owner, other = (people[name] for name in ("admin", "agent", "owner", "other"))
    assert await door.change(owner, mine, {"title": "No paper at all", "description": "Tray 2 and 3"})
    yield "the requester edits"
    assert await door.change(owner, mine, {"title": "No paper at all"})
    assert not await door.change(owner, mine, {"priority": "Low"})
    assert not await door.change(other, mine, {"title": "Not mine"})
    assert not await door.delete(agent, mine)
    yield "a change that changes nothing, and refused ones"
    fields = {"priority": "Low", "tags": ["b", "c"], "watchers": [str(admin.id)], "waitingOn": "customer"}
    assert await door.change(agent, mine, fields)
    yield "an agent edits"


async def _moves(door: Door, people: Mapping[str, Person], mine: str, theirs: str) -> AsyncIterator[str]:
    admin, agent, owner = (people[name] for name in ("admin", "agent", "owner"))
    assert await door.change(agent, mine, {"assignedTo": str(agent.id)})
    yield "an agent takes it"
    assert await door.change(agent, mine, {"status": "In Progress", "waitingOn": None, "assignedTo": None})
    yield "an agent begins"
    assert await door.change(agent, mine, {"status": "Resolved"})
    yield "an agent resolves it"
    assert await door.change(owner, mine, {"status": "Closed"})
    yield "the requester closes it"
    assert await door.change(owner, mine, {"status": "Open"})
    yield "the requester reopens it"
    ours = await door.create(admin, {"title": "Move", "description": "To floor 3", "watchers": [str(agent.id)]})
    yield "an admin opens one"
    statuses = await door.change_all(agent, [mine, theirs, "0" * 24, ours], {"status": "Resolved", "tags": []})
    assert statuses == [200, 200, 404, 200]
    yield "a bulk change, partly in vain"
    assert await door.change_all(agent, [mine, theirs], {"status": "Resolved"}) == [200, 200]
    yield "a bulk change that changes nothing"


async def _disappearances(door: Door, people: Mapping[str, Person], mine: str, theirs: str) -> AsyncIterator[str]:
    admin, agent, owner, other = (people[name] for name in ("admin", "agent", "owner", "other"))
    assert await door.delete(admin, mine)
    yield "an admin deletes it"
    assert not await door.change(agent, mine, {"title": "Gone"})
    assert not await door.restore(agent, mine)
    yield "changes of what is gone"
    assert await door.restore(admin, mine)
    yield "an admin restores it"
    assert await door.change(agent, mine, {"requester": str(other.id)})
    yield "it passes to another"
    assert await door.change(agent, mine, {"title": "Another's paper"})
    yield "it is changed there"
    assert await door.change(agent, mine, {"requester": str(owner.id), "status": "Open"})
    yield "it comes back"
    assert await door.delete(admin, theirs)
    yield "another is deleted"
