"""Writers who make changes of every kind through several processes, whatever happens to these."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import httpx

from tests.services import NO_TLS, PATIENCE_S, Person, Service

STATUSES = ["Open", "In Progress", "Resolved", "Closed"]
PRIORITIES = ["Low", "Medium", "High"]
BULK = 5
BACK_OFF_S = 0.05


class Writer:
    """Opens tickets for others, and changes, deletes and restores those of all writers; one process after the other.

    What it is refused, or does not hear the answer to, it leaves; the event log is the truth of what happened.
    """

    def __init__(self, services: Sequence[Service], admin: Person, requesters: Sequence[Person]) -> None:
        self._services = list(services)
        self._headers = admin.headers
        self._admin = admin
        self._requesters = requesters
        self._deleted: list[str] = []
        self.answers: Counter[int | str] = Counter()

    async def write(self, tickets: list[str], acknowledged: Counter[str], goal: int) -> None:
        """Until so many changes are acknowledged to all writers together; `tickets` is theirs together, too."""
        async with httpx.AsyncClient(headers=self._headers, timeout=PATIENCE_S, verify=NO_TLS) as client:
            turn = 0
            while acknowledged.total() < goal:
                kind = random.choices(
                    ["create", "patch", "bulk", "delete", "restore"],
                    [30, 45, 5, 10, 10] if tickets else [1, 0, 0, 0, 0],
                )[0]
                service = self._services[turn % len(self._services)]
                turn += 1
                done = await getattr(self, f"_{kind}")(client, service.url, tickets)
                acknowledged[kind] += done

    async def _create(self, client: httpx.AsyncClient, url: str, tickets: list[str]) -> int:
        requester = random.choice(self._requesters)
        body = {"title": uuid4().hex, "description": "Opened by a writer", "requester": str(requester.id)}
        answer = await self._send(client, "POST", f"{url}/api/tickets", body)
        if answer is not None:
            tickets.append(answer.json()["id"])
        return int(answer is not None)

    async def _patch(self, client: httpx.AsyncClient, url: str, tickets: list[str]) -> int:
        more: dict[str, Any] = random.choice(
            [
                {},
                {"status": random.choice(STATUSES)},
                {"assignedTo": random.choice([None, str(self._admin.id)]), "priority": random.choice(PRIORITIES)},
            ]
        )
        patch = {"title": uuid4().hex, **more}
        answer = await self._send(client, "PATCH", f"{url}/api/tickets/{random.choice(tickets)}", patch)
        return int(answer is not None)

    async def _bulk(self, client: httpx.AsyncClient, url: str, tickets: list[str]) -> int:
        ids = random.sample(tickets, min(BULK, len(tickets)))
        answer = await self._send(
            client, "POST", f"{url}/api/tickets/bulk", {"ids": ids, "patch": {"tags": [uuid4().hex]}}
        )
        return 0 if answer is None else sum(result["status"] == 200 for result in answer.json()["results"])

    async def _delete(self, client: httpx.AsyncClient, url: str, tickets: list[str]) -> int:
        ticket_id = random.choice(tickets)
        answer = await self._send(client, "DELETE", f"{url}/api/tickets/{ticket_id}")
        if answer is not None:
            self._deleted.append(ticket_id)
        return int(answer is not None)

    async def _restore(self, client: httpx.AsyncClient, url: str, tickets: list[str]) -> int:
        if not self._deleted:
            return 0
        answer = await self._send(client, "POST", f"{url}/api/tickets/{self._deleted.pop()}/restore")
        return int(answer is not None)

    async def _send(
        self, client: httpx.AsyncClient, method: str, url: str, body: dict[str, Any] | None = None
    ) -> httpx.Response | None:
        """The answer, if it was done."""
        try:
            answer = await client.request(method, url, json=body)
        except httpx.TransportError as error:
            self.answers[type(error).__name__] += 1
            await asyncio.sleep(BACK_OFF_S)
            return None
        self.answers[answer.status_code] += 1
        assert answer.status_code in {200, 201, 204, 404, 409, 503}, answer.text
        if answer.status_code == 503:
            await asyncio.sleep(BACK_OFF_S)
        return answer if answer.is_success else None
