"""A session that ends takes its streams with it, at once, by whichever way it ends, in whichever process."""

import time
from collections.abc import Awaitable, Callable

import pytest

from app.accounts.documents import Session, User
from app.events.log import Event
from app.platform.mongo import collection_of
from tests.callers import Caller, Callers
from tests.factories.accounts import PASSWORD, add_session, tokens
from tests.factories.events import event_row
from tests.factories.tickets import open_ticket
from tests.live import Live
from tests.realtime.doors import Door, ended, events_of, listening

SESSION_OVER = (4401, "The session is over")
# The contract's figure is one second; a busy machine is given more.
WITHIN_S = 5.0

Cause = Callable[[Callers], Awaitable[None]]


async def logout(callers: Callers) -> None:
    assert (await callers.customer.post("/api/logout")).status_code == 204


async def switched_off(callers: Callers) -> None:
    answer = await callers.admin.patch(f"/api/users/{callers.customer.user_id}", json={"active": False})
    assert answer.status_code == 200


async def account_deleted(callers: Callers) -> None:
    assert (await callers.admin.delete(f"/api/users/{callers.customer.user_id}")).status_code == 204


async def refresh_token_used_twice(callers: Callers) -> None:
    actor = callers.customer.actor
    body = {"refreshToken": tokens().refresh(actor.credential_id, 0)}
    first = await callers.nobody.post("/api/token/refresh", json=body)
    assert first.status_code == 200
    again = await callers.nobody.post("/api/token/refresh", json={"refreshToken": first.json()["refreshToken"]})
    assert again.status_code == 200
    assert (await callers.nobody.post("/api/token/refresh", json=body)).status_code == 401


async def session_deleted_by_another_process(callers: Callers) -> None:
    await collection_of(Session).delete_one({"_id": callers.customer.actor.credential_id})


async def switched_off_by_another_process(callers: Callers) -> None:
    await collection_of(User).update_one({"_id": callers.customer.actor.id}, {"$set": {"active": False}})


async def account_deleted_by_another_process(callers: Callers) -> None:
    await collection_of(User).delete_one({"_id": callers.customer.actor.id})


async def password_changed_by_another_process(callers: Callers) -> None:
    await collection_of(User).update_one({"_id": callers.customer.actor.id}, {"$inc": {"passwordVersion": 1}})


CAUSES: list[Cause] = [
    logout,
    switched_off,
    account_deleted,
    refresh_token_used_twice,
    session_deleted_by_another_process,
    switched_off_by_another_process,
    account_deleted_by_another_process,
    password_changed_by_another_process,
]


@pytest.mark.parametrize("cause", CAUSES)
async def test_ends_the_stream_before_another_event_is_told(
    live: Live, callers: Callers, door: Door, cause: Cause
) -> None:
    source = await listening(door, live, callers.customer.token)
    neighbour = await listening(door, live, callers.other_customer.token)
    ticket = await open_ticket(callers.customer)
    # Told, so that what comes from here on comes after the end.
    assert [event["ticketId"] for event in events_of([await source.frame()])] == [ticket["id"]]

    await cause(callers)
    over_at = time.monotonic()
    for title in ("One", "Two", "Three"):
        await callers.agent.patch(f"/api/tickets/{ticket['id']}", json={"title": title})

    await ended(source, *SESSION_OVER)
    assert time.monotonic() - over_at < WITHIN_S
    other = await open_ticket(callers.other_customer)
    assert [event["ticketId"] for event in events_of([await neighbour.frame()])] == [other["id"]]


@pytest.mark.parametrize("what", ["session", "account"])
async def test_holds_to_the_event(live: Live, customer: Caller, door: Door, what: str) -> None:
    """The log has the two in one transaction, and so the event right behind the end."""
    source = await listening(door, live, customer.token)
    event = event_row(version=1, requester=customer.actor.id)

    async with collection_of(Event).database.client.start_session() as session, await session.start_transaction():
        if what == "session":
            await collection_of(Session).delete_one({"_id": customer.actor.credential_id}, session=session)
        else:
            change = {"$set": {"active": False}}
            await collection_of(User).update_one({"_id": customer.actor.id}, change, session=session)
        await collection_of(Event).insert_one(event, session=session)

    await ended(source, *SESSION_OVER)


async def test_other_sessions_of_the_user_go_on(live: Live, callers: Callers, door: Door) -> None:
    _, token = await add_session({"_id": callers.customer.actor.id, "username": "customer"})
    source = await listening(door, live, callers.customer.token)
    other = await listening(door, live, token)

    await logout(callers)
    await ended(source, *SESSION_OVER)

    ticket = await open_ticket(callers.agent, requester=callers.customer.user_id)
    assert [event["ticketId"] for event in events_of([await other.frame()])] == [ticket["id"]]


async def test_a_new_password_ends_all_but_the_session_that_set_it(live: Live, callers: Callers, door: Door) -> None:
    customer = callers.customer
    _, token = await add_session({"_id": customer.actor.id, "username": "customer"})
    mine = await listening(door, live, customer.token)
    others = [await listening(door, live, token) for _ in range(2)]

    body = {"currentPassword": PASSWORD, "newPassword": "a new and long passphrase"}
    assert (await customer.post("/api/me/password", json=body)).status_code == 204
    ticket = await open_ticket(customer)

    for source in others:
        await ended(source, *SESSION_OVER)
    assert [event["ticketId"] for event in events_of([await mine.frame()])] == [ticket["id"]]


async def test_changes_of_the_account_that_end_nothing_go_unnoticed(
    live: Live, customer: Caller, agent: Caller, door: Door
) -> None:
    source = await listening(door, live, customer.token)

    assert (await customer.patch("/api/me", json={"name": "Carol"})).status_code == 200
    body = {"refreshToken": tokens().refresh(customer.actor.credential_id, 0)}
    assert (await customer.post("/api/token/refresh", json=body)).status_code == 200

    ticket = await open_ticket(agent, requester=customer.user_id)
    assert [event["ticketId"] for event in events_of([await source.frame()])] == [ticket["id"]]
