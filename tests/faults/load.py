"""Writers that go on whatever happens, what they were promised, and whether the promises were kept."""

import asyncio
from collections import Counter, defaultdict
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import httpx
import orjson

from tests.services import NO_TLS, PATIENCE_S, Person, Rows, Service

WRITERS = 6
# A client's pause before it tries again; shorter than Retry-After asks, to have more tries in a test.
BACK_OFF_S = 0.05
ACCEPTABLE = {200, 201, 409, 412, 429, 503}


class Load:
    """Writers who open tickets, each again and again with one key until it is acknowledged, and patch them."""

    def __init__(self, service: Service, person: Person) -> None:
        self._service = service
        self._person = person
        self._tasks: list[asyncio.Task[None]] = []
        self._is_over = False
        self._acknowledged = asyncio.Condition()
        self.created: dict[str, str] = {}
        """The ticket's id by the key that it was opened with; the key is its description, too."""
        self.patched: dict[tuple[str, int], str] = {}
        """The new title by ticket and version."""
        self.statuses: Counter[int] = Counter()
        self.broken_connections = 0

    async def __aenter__(self) -> Self:
        client = self._connect()
        shared = await self._open(client)
        await client.aclose()
        self._tasks = [asyncio.create_task(self._write(shared)) for _ in range(WRITERS)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._is_over = True
        await asyncio.wait_for(asyncio.gather(*self._tasks), PATIENCE_S)

    async def progress(self, acknowledgements: int) -> None:
        """Returns after so many further acknowledgements."""
        goal = self._count() + acknowledgements
        async with self._acknowledged:
            await asyncio.wait_for(self._acknowledged.wait_for(lambda: self._count() >= goal), PATIENCE_S)

    def _count(self) -> int:
        return len(self.created) + len(self.patched)

    def _connect(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self._service.url, headers=self._person.headers, timeout=PATIENCE_S, verify=NO_TLS
        )

    async def _write(self, shared: str) -> None:
        async with self._connect() as client:
            while not self._is_over:
                own = await self._open(client)
                for ticket_id in (own, shared, own):
                    await self._patch(client, ticket_id)

    async def _open(self, client: httpx.AsyncClient) -> str:
        key = uuid4().hex
        body = {"title": "Opened", "description": key}
        while True:
            answer = await self._send(client, "POST", "/api/tickets", body, {"Idempotency-Key": key})
            if answer is not None and answer.status_code == 201:
                ticket_id: str = answer.json()["id"]
                self.created[key] = ticket_id
                await self._tell()
                return ticket_id
            await asyncio.sleep(BACK_OFF_S)

    async def _patch(self, client: httpx.AsyncClient, ticket_id: str) -> None:
        title = uuid4().hex
        answer = await self._send(client, "PATCH", f"/api/tickets/{ticket_id}", {"title": title}, {})
        if answer is not None and answer.status_code == 200:
            self.patched[ticket_id, answer.json()["version"]] = title
            await self._tell()

    async def _tell(self) -> None:
        async with self._acknowledged:
            self._acknowledged.notify_all()

    async def _send(
        self, client: httpx.AsyncClient, method: str, path: str, body: dict[str, str], headers: dict[str, str]
    ) -> httpx.Response | None:
        try:
            answer = await client.request(method, path, json=body, headers=headers)
        except httpx.TransportError:
            self.broken_connections += 1
            return None
        self.statuses[answer.status_code] += 1
        return answer

    def check(self, rows: Rows) -> None:
        """What was acknowledged is there, once; and nothing is there by halves."""
        check_whole(rows)
        assert set(self.statuses) <= ACCEPTABLE, self.statuses
        for key, ticket_id in self.created.items():
            assert [str(row["_id"]) for row in rows.tickets.find({"description": key})] == [ticket_id]
        titles = {
            (str(event["ticketId"]), event["version"]): event["changes"]["title"]["to"]
            for event in rows.events.find({"type": "ticket.updated"})
        }
        assert {change: titles.get(change) for change in self.patched} == self.patched
        keyed = {orjson.loads(row["body"])["id"]: row["status"] for row in rows.idempotency.find()}
        assert keyed == dict.fromkeys(self.created.values(), 201)


def check_whole(rows: Rows) -> None:
    """No ticket without its events, no event without its ticket, no version twice, no number twice."""
    versions: dict[Any, list[int]] = defaultdict(list)
    for event in rows.events.find().sort("version"):
        versions[event["ticketId"]].append(event["version"])
    tickets = list(rows.tickets.find())
    assert versions == {ticket["_id"]: list(range(1, ticket["version"] + 1)) for ticket in tickets}
    numbers = [ticket["number"] for ticket in tickets]
    assert len(set(numbers)) == len(numbers)
