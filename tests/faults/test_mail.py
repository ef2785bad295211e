"""Mail when the provider hangs and the service is killed: requests go on, and every mail goes out."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from bson import ObjectId

from app.accounts.roles import Role
from tests.faults.conftest import connected
from tests.mail.provider import HANG, Answer, Provider
from tests.services import Mongod, Person, Rows, Service, person, until

# 1,000 were tried, too.
MAILS = 150
CLIENTS = 8
SIDE_BY_SIDE = 8


@pytest.fixture
def agent(rows: Rows) -> Person:
    return person(rows, Role.AGENT)


@pytest.fixture
def unstarted(mongod: Mongod, rows: Rows, tmp_path: Path) -> Iterator[Service]:
    service = Service(mongod.uri(rows.name), tmp_path / "service.log")
    service.environment["SENDGRID_API_KEY"] = "SG.key"
    try:
        yield service
    finally:
        service.kill()


def add_customers(rows: Rows) -> list[dict[str, Any]]:
    customers = [
        {"_id": ObjectId(), "username": f"customer{n}@example.com", "password": "", "role": "Customer"}
        for n in range(MAILS)
    ]
    rows.users.insert_many(customers)
    return customers


async def open_ticket_for(client: httpx.AsyncClient, customer: dict[str, Any]) -> None:
    body = {"title": "No paper", "description": "Tray 2", "requester": str(customer["_id"])}
    answer = await client.post("/api/tickets", json=body)
    assert answer.status_code == 201, answer.text


def let_a_minute_pass(rows: Rows) -> None:
    """Claims of whoever died are over, and so are pauses."""
    open_states = {"$in": ["pending", "failed"]}
    rows.deliveries.update_many({"state": open_states}, {"$set": {"dueAt": datetime.now(UTC)}})


async def test_all_mail_goes_out_though_the_provider_hangs_and_the_service_is_killed(
    unstarted: Service, agent: Person, rows: Rows
) -> None:
    customers = add_customers(rows)
    async with Provider(lambda _call, _before: Answer(HANG)) as provider:
        unstarted.environment["SENDGRID_API_URL"] = provider.url
        await asyncio.to_thread(unstarted.start)
        async with connected(unstarted, agent.headers) as client:
            waiting = iter(customers)

            async def work() -> None:
                for customer in waiting:
                    await open_ticket_for(client, customer)

            # Each of these is answered, though the provider has answered nothing yet.
            await asyncio.gather(*(work() for _ in range(CLIENTS)))
        await until(lambda: rows.deliveries.count_documents({"state": "pending"}) == MAILS)
        await provider.until(lambda p: len(p.calls) >= SIDE_BY_SIDE)
        assert provider.accepted == []
        unstarted.kill()
        let_a_minute_pass(rows)

        provider.act = lambda _call, _before: Answer()
        await asyncio.to_thread(unstarted.start)
        await provider.until(lambda p: len(p.accepted) >= MAILS // 3)
        unstarted.kill()
        let_a_minute_pass(rows)
        await asyncio.to_thread(unstarted.start)
        await provider.until(lambda p: len({call.to for call in p.accepted}) == MAILS)
        await until(lambda: rows.deliveries.count_documents({"state": "handed_over"}) == MAILS)

    # Those whose acknowledgement was cut off by the kill were sent again, as the same mail.
    counts = Counter(call.to for call in provider.accepted)
    assert set(counts) == {customer["username"] for customer in customers}
    assert sum(counts.values()) - MAILS <= SIDE_BY_SIDE
    assert len({(call.to, call.message_id) for call in provider.calls}) == MAILS
