"""API keys at the doors to live events: they let in, and what ends them ends the streams."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from app.accounts.documents import ApiKey
from app.platform.clock import now
from app.platform.mongo import collection_of
from app.realtime.hub import Hub
from tests.callers import Caller, Callers
from tests.factories.tickets import open_ticket
from tests.live import Live
from tests.realtime.doors import Door, ended, events_of, listening, ticket_of

SESSION_OVER = (4401, "The session is over")
MFA_REQUIRED = (4403, "Your role requires multi-factor authentication: POST /api/me/mfa/setup")


async def key_of(caller: Caller, scope: str = "read") -> tuple[str, str]:
    """A new key, and its id."""
    answer = await caller.post("/api/api-keys", json={"name": "robot", "scopes": [scope]})
    assert answer.status_code == 201, answer.text
    return answer.json()["key"], answer.json()["id"]


async def test_hears_what_its_owner_hears(live: Live, callers: Callers, door: Door) -> None:
    key, _ = await key_of(callers.customer)
    source = await listening(door, live, key)

    await open_ticket(callers.other_customer)
    mine = await open_ticket(callers.customer)

    assert [event["ticketId"] for event in events_of([await source.frame()])] == [mine["id"]]


async def deleted(callers: Callers, key_id: str) -> None:
    assert (await callers.customer.delete(f"/api/api-keys/{key_id}")).status_code == 204


async def deleted_by_another_process(_callers: Callers, _key_id: str) -> None:
    await collection_of(ApiKey).delete_many({})


async def owner_switched_off(callers: Callers, _key_id: str) -> None:
    await callers.admin.patch(f"/api/users/{callers.customer.user_id}", json={"active": False})


@pytest.mark.parametrize("end", [deleted, deleted_by_another_process, owner_switched_off])
async def test_ends_with_the_key(
    live: Live, callers: Callers, door: Door, end: Callable[[Callers, str], Awaitable[None]]
) -> None:
    key, key_id = await key_of(callers.customer)
    source = await listening(door, live, key)

    await end(callers, key_id)

    await ended(source, *SESSION_OVER)


async def test_ends_when_the_key_expires(live: Live, callers: Callers, hub: Hub, door: Door) -> None:
    key, _ = await key_of(callers.customer)
    soon = now() + timedelta(milliseconds=1500)
    await collection_of(ApiKey).update_one({}, {"$set": {"expiresAt": soon}})
    source = await listening(door, live, key)

    await ended(source, 4401, "The token has expired; renew it with an auth message in time")

    assert now() >= soon


async def test_other_streams_of_the_owner_go_on(live: Live, callers: Callers, door: Door) -> None:
    key, key_id = await key_of(callers.customer)
    source, own = await listening(door, live, key), await listening(door, live, callers.customer.token)

    await deleted(callers, key_id)
    await ended(source, *SESSION_OVER)

    mine = await open_ticket(callers.customer)
    assert [event["ticketId"] for event in events_of([await own.frame()])] == [mine["id"]]


async def test_a_ticket_of_a_key_opens_a_stream_that_ends_with_it(live: Live, callers: Callers) -> None:
    key, key_id = await key_of(callers.customer)
    ticket = await ticket_of(callers.nobody, Authorization=f"Bearer {key}")
    socket = await live.connect(query={"ticket": ticket})
    assert (await socket.frame())["type"] == "ready"

    await deleted(callers, key_id)

    assert await socket.closing() == SESSION_OVER


async def test_mfa_that_is_demanded_closes_streams_of_who_lacks_it(live: Live, callers: Callers, door: Door) -> None:
    key, _ = await key_of(callers.agent)
    sources = [await listening(door, live, token) for token in (callers.agent.token, key)]
    customer = await listening(door, live, callers.customer.token)

    answer = await callers.admin.patch("/api/security-policy", json={"mfaRequiredFor": ["Agent"]})
    assert answer.status_code == 200

    for source in sources:
        await ended(source, *MFA_REQUIRED)
    mine = await open_ticket(callers.customer)
    assert [event["ticketId"] for event in events_of([await customer.frame()])] == [mine["id"]]


async def test_who_lacks_it_is_not_let_in(live: Live, callers: Callers) -> None:
    await callers.admin.patch("/api/security-policy", json={"mfaRequiredFor": ["Agent"]})

    socket = await live.connect(callers.agent.token)

    assert await socket.closing() == MFA_REQUIRED
