"""Several callers create, change and read at once while things die: each sees what was promised to them, and no more.

Writes are committed together and reads are shared, so this is where one caller's could become another's.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx

from app.accounts.roles import Role
from tests.faults.load import ACCEPTABLE, BACK_OFF_S, check_whole
from tests.services import NO_TLS, PATIENCE_S, Mongod, Person, Rows, Service, person, until

CUSTOMERS, AGENTS = 3, 2
# Acknowledged writes between two kills.
PROGRESS = 60
LIST = "{ tickets(limit: 100) { id title version } }"


@dataclass
class Shared:
    """What all callers know of one another."""

    tickets: list[str] = field(default_factory=list)
    acknowledged: int = 0
    is_over: bool = False
    # Ticket, version and title, as reads had them.
    seen: set[tuple[str, int, str]] = field(default_factory=set)


class Client:
    """One caller; knows what was acknowledged to them, and holds each read against it."""

    def __init__(self, service: Service, person: Person, shared: Shared, *, is_agent: bool) -> None:
        self._service = service
        self._shared = shared
        self._is_agent = is_agent
        self.person = person
        self.sent: set[str] = set()
        """All titles that they ever sent, acknowledged or not."""
        self.versions: dict[str, int] = {}
        """The highest version of each ticket that was acknowledged to them."""
        self.titles: dict[tuple[str, int], str] = {}
        """What was acknowledged to them: the title that they sent, by ticket and the version that it made."""

    async def run(self) -> None:
        async with httpx.AsyncClient(
            base_url=self._service.url, headers=self.person.headers, timeout=PATIENCE_S, verify=NO_TLS
        ) as http:
            while not self._shared.is_over:
                kinds = [self._create, self._patch, self._get, self._list, self._list_by_graphql]
                await random.choices(kinds, [3, 3, 2, 1, 1] if self.versions else [1, 0, 0, 0, 0])[0](http)

    async def _create(self, http: httpx.AsyncClient) -> None:
        title = self._title()
        answer = await self._send(http, "POST", "/api/tickets", {"title": title, "description": "x"})
        if answer is not None and answer.status_code == 201:
            self._shared.tickets.append(answer.json()["id"])
            self._acknowledged(answer.json(), title)

    async def _patch(self, http: httpx.AsyncClient) -> None:
        # An Agent may change everybody's, so that several change the same.
        ticket_id = random.choice(self._shared.tickets[-20:] if self._is_agent else list(self.versions))
        title = self._title()
        answer = await self._send(http, "PATCH", f"/api/tickets/{ticket_id}", {"title": title})
        if answer is not None and answer.status_code == 200:
            self._acknowledged(answer.json(), title)

    async def _get(self, http: httpx.AsyncClient) -> None:
        ticket_id = random.choice(list(self.versions))
        known = self.versions[ticket_id]
        answer = await self._send(http, "GET", f"/api/tickets/{ticket_id}")
        if answer is not None and answer.status_code == 200:
            assert answer.json()["id"] == ticket_id
            assert answer.json()["version"] >= known
            self._saw([answer.json()])

    async def _list(self, http: httpx.AsyncClient) -> None:
        known = dict(self.versions)
        answer = await self._send(http, "GET", "/api/tickets?limit=100")
        if answer is not None and answer.status_code == 200:
            self._check_list(answer.json()["items"], known)

    async def _list_by_graphql(self, http: httpx.AsyncClient) -> None:
        known = dict(self.versions)
        answer = await self._send(http, "POST", "/graphql", {"query": LIST})
        if answer is not None and answer.status_code == 200 and "errors" not in answer.json():
            self._check_list(answer.json()["data"]["tickets"], known)

    def _check_list(self, tickets: Sequence[dict[str, Any]], known: dict[str, int]) -> None:
        """It has what was acknowledged before it was asked for, the newest hundred at least, in no earlier version."""
        versions = {ticket["id"]: ticket["version"] for ticket in tickets}
        for ticket_id, version in known.items():
            if ticket_id in versions:
                assert versions[ticket_id] >= version
            else:
                assert len(tickets) == 100
        self._saw(tickets)

    def _saw(self, tickets: Sequence[dict[str, Any]]) -> None:
        self._shared.seen |= {(ticket["id"], ticket["version"], ticket["title"]) for ticket in tickets}

    def _title(self) -> str:
        title = uuid4().hex
        self.sent.add(title)
        return title

    def _acknowledged(self, ticket: dict[str, Any], title: str) -> None:
        assert ticket["title"] == title
        self.titles[ticket["id"], ticket["version"]] = title
        self.versions[ticket["id"]] = max(ticket["version"], self.versions.get(ticket["id"], 0))
        self._shared.acknowledged += 1

    async def _send(
        self, http: httpx.AsyncClient, method: str, path: str, body: dict[str, str] | None = None
    ) -> httpx.Response | None:
        try:
            answer = await http.request(method, path, json=body)
        except httpx.TransportError:
            await asyncio.sleep(BACK_OFF_S)
            return None
        assert answer.status_code in ACCEPTABLE, answer.text
        if answer.status_code not in (200, 201):
            await asyncio.sleep(BACK_OFF_S)
        return answer


async def test_every_caller_gets_what_was_promised_and_nobody_else_s(
    mongod: Mongod, rows: Rows, service: Service
) -> None:
    shared = Shared()
    customers = [Client(service, person(rows, Role.CUSTOMER), shared, is_agent=False) for _ in range(CUSTOMERS)]
    agents = [Client(service, person(rows, Role.AGENT), shared, is_agent=True) for _ in range(AGENTS)]
    clients = customers + agents

    async def progress() -> None:
        goal = shared.acknowledged + PROGRESS
        await until(lambda: shared.acknowledged >= goal or any(task.done() for task in tasks))

    tasks = [asyncio.create_task(client.run()) for client in clients]
    await progress()
    service.kill()
    service.launch()
    await progress()
    await asyncio.to_thread(mongod.kill)
    await asyncio.to_thread(mongod.start)
    await progress()
    shared.is_over = True
    await asyncio.gather(*tasks)

    check_whole(rows)
    events = {(str(event["ticketId"]), event["version"]): event for event in rows.events.find()}
    titles = {change: event["ticket"]["title"] for change, event in events.items()}
    for client in clients:
        # In exactly one event each, and it says who did it.
        assert {change: titles[change] for change in client.titles} == client.titles
        mine = {change for change, title in titles.items() if title in client.sent}
        assert mine >= client.titles.keys()
        assert {events[change]["actor"]["id"] for change in mine} == {client.person.id}
    assert len(titles) == len(set(titles.values()))
    # Whatever a read showed was once so, and to Customers it was their own.
    assert {titles[ticket_id, version] == title for ticket_id, version, title in shared.seen} == {True}
    for client in customers:
        own = {str(row["_id"]) for row in rows.tickets.find({"requester": client.person.id})}
        assert client.versions.keys() <= own
