"""SIGTERM with live streams open: all are told to go elsewhere, where they go on without a gap."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.factories.tickets import open_ticket
from tests.faults.conftest import connected
from tests.faults.history import History
from tests.faults.live import DOORS, Audience, Subscriber, present, walked
from tests.faults.slow import SlowRequest
from tests.services import Person, Rows, Service, until

READERS = 4
TICKETS = 1_000
ROUNDS = 3
# The container is given much more; a client that reads does not hold it up.
PROMPTLY_S = 5.0
BODY = {"title": "In time", "description": "Sent in two halves"}


@pytest.fixture
async def other_client(other: Service, admin: Person) -> AsyncIterator[httpx.AsyncClient]:
    async with connected(other, admin.headers) as connections:
        yield connections


class TestShutdown:
    async def test_streams_go_on_elsewhere(
        self, service: Service, other: Service, other_client: httpx.AsyncClient, rows: Rows, admin: Person
    ) -> None:
        start = await present(other_client)
        history = History(rows, admin, tickets=TICKETS)
        await asyncio.to_thread(history.write, ROUNDS)
        middle = await present(other_client)
        live = [Subscriber(admin, by, since=middle) for by in DOORS]
        replaying = [Subscriber(admin, by, since=start) for by in DOORS for _ in range(READERS // 2)]
        services = [service]
        async with Audience(live, services) as audience, Audience(replaying, services):
            tickets = [(await open_ticket(other_client))["id"]]
            await audience.until(lambda: all(one.told for one in live))
            slow = await SlowRequest.begin(service, "POST", "/api/tickets", admin.headers, BODY)
            # It and the event streams.
            await until(lambda: service.requests_in_progress() == 1 + 1 + READERS // 2)
            assert [len(one.told) < len(history.told) for one in replaying] == [True] * READERS

            asked = time.monotonic()
            service.ask_to_end()
            services[:] = [other]
            tickets.append((await open_ticket(other_client))["id"])
            await audience.until(lambda: all(one.visits == 2 for one in [*live, *replaying]))
            status, late = await slow.finish()
            code = await asyncio.to_thread(service.wait)
            took = time.monotonic() - asked
            tickets.append((await open_ticket(other_client))["id"])
            events = await walked(other_client, start, admin.headers)
            await audience.until(lambda: all(len(one.told) >= len(events) for one in replaying))
            since = await walked(other_client, middle, admin.headers)
            await audience.until(lambda: all(len(one.told) >= len(since) for one in live))

        # uvicorn obeys, then lets the signal have its usual effect.
        assert (status, code) == (201, -signal.SIGTERM)
        assert took < PROMPTLY_S
        assert {*tickets, late["id"]} <= {event["ticketId"] for event in since}
        for one in replaying:
            assert one.told == events, one
        for one in live:
            assert one.told == since, one
        assert {one.door: dict(one.ends) for one in [*live, *replaying]} == {
            "websocket": {"close 1012": 1},
            "stream": {"ended": 1},
        }
        assert [one.resyncs for one in [*live, *replaying]] == [0] * (2 + READERS)
        assert "Traceback" not in service.output()
