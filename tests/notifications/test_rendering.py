"""Mails at the moment of sending: who is still to get them, and that the whole way leads into a mailbox."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from app.accounts.documents import User
from app.accounts.roles import Role
from app.events.catalog import EventType
from app.events.log import Event
from app.mail.documents import Delivery, Suppression
from app.mail.message import Message
from app.mail.outbox import new_delivery
from app.notifications.addresses import read_unsubscribe_token, reply_address
from app.notifications.consumer import notify
from app.notifications.documents import NotificationPreferences
from app.notifications.kinds import Kind
from app.notifications.rendering import render
from app.platform.clock import now
from app.platform.mongo import collection_of, transaction
from app.platform.wire import Row
from app.tickets.documents import Ticket
from tests.callers import Callers
from tests.conftest import COMMANDS, Started
from tests.factories.accounts import user_row
from tests.factories.tickets import open_ticket
from tests.mailbox import Mailbox, text_of
from tests.notifications.life import Life, person

KEY = b"k" * 32
OURS = "support@example.com"
rendered = partial(render, public_url="https://help.example.com", mail_from=OURS, key=KEY)
AGENT = person()
MOVED, ASSIGNED, CREATED = EventType.TICKET_STATUS_CHANGED, EventType.TICKET_ASSIGNED, EventType.TICKET_CREATED


def delivery(life: Life, user_id: ObjectId) -> Row:
    return new_delivery(now(), userId=user_id, ticketId=life.ticket["_id"], events=[e["_id"] for e in life.events])


class Carol:
    """A Customer with a request that was just commented, and the mail about it that waits."""

    def __init__(self) -> None:
        self.user = user_row(username="carol@example.com")
        self.id = self.user["_id"]
        self.life = Life(requester=self.id)
        self.life.commented(AGENT, "Have you tried to turn it off and on?")

    async def message(self) -> Message | None:
        """What is sent when things have come to be as they are now."""
        users, preferences = collection_of(User), collection_of(NotificationPreferences)
        await users.delete_many({})
        await users.insert_one(self.user)
        await preferences.delete_many({})
        await self.life.store()
        return await rendered(delivery(self.life, self.id))


# What has come between the comment and the mail, so that there is no mail; or there is, all the same.
NO_MAIL: dict[str, Callable[[Carol], object]] = {
    "switched off": lambda carol: carol.user.update(active=False),
    "without an address": lambda carol: carol.user.update(username="carol"),
    "with a bad address": lambda carol: carol.user.update(username="carol", email="carol@x, eve@y"),
    "ticket deleted": lambda carol: carol.life.step(EventType.TICKET_DELETED, deletedAt=now()),
    "no longer the requester": lambda carol: carol.life.step(requester=ObjectId()),
    "nobody's ticket": lambda carol: carol.life.step(requester=None),
    "comment was internal": lambda carol: carol.life.events[0].update(internal=True),
    "events gone": lambda carol: carol.life.events.clear(),
}
STILL_MAIL: dict[str, Callable[[Carol], object]] = {
    "title changed": lambda carol: carol.life.step(title="No toner"),
    "another address": lambda carol: carol.user.update(email="carol@example.org"),
    "now a watcher": lambda carol: carol.life.step(requester=ObjectId(), watchers=[carol.id]),
    "resolved": lambda carol: carol.life.step(MOVED, AGENT, status="Resolved"),
}


@pytest.mark.usefixtures("database")
class TestWhoIsStillTold:
    async def test_by_what_is_so_now(self) -> None:
        for what, happens in NO_MAIL.items():
            carol = Carol()
            happens(carol)
            assert await carol.message() is None, what
        for what, happens in STILL_MAIL.items():
            carol = Carol()
            happens(carol)
            message = await carol.message()
            assert message is not None, what
            assert message.to == (carol.user["email"] or "carol@example.com")
            assert "turn it off and on" in message.text

    async def test_nobody_when_account_or_ticket_are_gone(self) -> None:
        carol = Carol()
        assert await carol.message() is not None
        for model in (Ticket, User):
            await carol.message()
            await collection_of(model).delete_many({})
            assert await rendered(delivery(carol.life, carol.id)) is None

    async def test_what_is_switched_off_is_not_told(self) -> None:
        carol = Carol()
        carol.life.step(MOVED, AGENT, status="Resolved")
        await carol.message()
        expected = {
            ("commented",): "Your request was resolved",
            ("resolved",): "Your request has a new comment",
            ("resolved", "commented"): None,
            ("created", "statusChanged", "assigned", "sla"): "Your request was resolved",
        }

        for off, headline in expected.items():
            await collection_of(NotificationPreferences).replace_one({"_id": carol.id}, {"off": off}, upsert=True)
            message = await rendered(delivery(carol.life, carol.id))
            assert (message and message.text.splitlines()[0]) == headline
            assert message is None or ("turn it off and on" in message.text) == ("commented" not in off)

    async def test_by_the_present_role(self) -> None:
        carol = Carol()
        carol.life.step(watchers=[carol.id])
        carol.life.commented(AGENT, "She is always late", internal=True)
        message = await carol.message()
        assert message is not None
        assert "late" not in message.text + message.html

        carol.user["role"] = Role.AGENT

        message = await carol.message()
        assert message is not None
        assert "late" in message.text
        assert "ann wrote" in message.text

    async def test_an_assignment_is_told_to_who_has_it_still(self) -> None:
        bob = user_row(Role.AGENT, username="bob@example.com", name="Bob Smith")
        await collection_of(User).insert_one(bob)
        life = Life(requester=bob["_id"])
        life.step(ASSIGNED, AGENT, assignedTo=bob["_id"])
        await life.store()
        before = len(COMMANDS.names)
        message = await rendered(delivery(life, bob["_id"]))

        assert len(COMMANDS.names) - before == 4
        assert message is not None
        assert "Assigned to: nobody → Bob Smith" in message.text
        life.ticket["assignedTo"] = AGENT["id"]
        await life.store()
        assert await rendered(delivery(life, bob["_id"])) is None

    async def test_links_and_addresses_are_of_this_mail(self) -> None:
        carol = Carol()
        message = await carol.message()

        assert message is not None
        assert message.reply_to == reply_address(OURS, carol.life.ticket["_id"], KEY)
        url, _, token = (message.unsubscribe_url or "").partition("?token=")
        assert url == "https://help.example.com/unsubscribe"
        assert read_unsubscribe_token(token, KEY) == (carol.id, Kind.COMMENTED)


@pytest.mark.usefixtures("database")
async def test_a_hundred_changes_are_told_as_one() -> None:
    carol = Carol()
    carol.life.events.clear()
    carol.life.step(CREATED, person(Role.CUSTOMER) | {"id": carol.id})
    for _ in range(24):
        carol.life.step(MOVED, AGENT, status="In Progress", priority="High")
        carol.life.step(MOVED, AGENT, status="Open", priority="Low")
        carol.life.commented(AGENT, f"Comment {carol.life.ticket['version']}")
    carol.life.step(MOVED, AGENT, status="Resolved")

    message = await carol.message()

    assert message is not None
    assert "Status:      Open → Resolved\nPriority:    Medium → Low\nBy:          Our team\n" in message.text
    assert [line for line in message.text.splitlines() if line.startswith("> ")] == [
        f"> {event['comment']['body']}" for event in carol.life.events if event["comment"]
    ]


class TestTheWholeWay:
    async def test_from_request_to_mailbox(self, app: Started, callers: Callers, mail_dir: Path) -> None:
        mailbox = Mailbox(app.state["mail"], rendered, mail_dir)
        await mailbox.clear()
        people = {"customer": "carol@example.com", "agent": "ann@example.com", "admin": "ada@example.com"}
        for username, email in people.items():
            await collection_of(User).update_one({"username": username}, {"$set": {"email": email}})
        ticket = await open_ticket(callers.customer, description="Very secret")
        patch: dict[str, Any] = {"assignedTo": callers.agent.user_id, "watchers": [callers.admin.user_id]}
        await callers.admin.patch(f"/api/tickets/{ticket['id']}", json=patch)
        await hear()
        subject = f"[#{ticket['number']}] Printer down"

        assert await mailbox.told() == [("ann@example.com", subject), ("carol@example.com", subject)]
        texts = {mail["To"]: text_of(mail) for mail in await mailbox.read()}
        assert texts["carol@example.com"].splitlines()[:2] == ["We have received your request", ""]
        assert texts["ann@example.com"].splitlines()[0] == f"Ticket #{ticket['number']} was assigned to you"
        assert "Very secret" not in str(texts)

        # Within the same minute: gathered, and to be sent at its end. An address that gets no mail gets none.
        await collection_of(Suppression).insert_one({"_id": "ada@example.com", "reason": "bounce", "at": now()})
        await callers.agent.patch(f"/api/tickets/{ticket['id']}", json={"status": "In Progress"})
        await callers.agent.patch(f"/api/tickets/{ticket['id']}", json={"status": "Resolved"})
        await hear()
        await mailbox.clear()
        await collection_of(Delivery).update_many({"state": "pending"}, {"$set": {"dueAt": now()}})

        assert await mailbox.told() == [("carol@example.com", subject)]
        assert "Open → Resolved" in text_of((await mailbox.read())[0])
        skipped = await collection_of(Delivery).find_one({"to": "ada@example.com"})
        assert skipped is not None
        assert (skipped["state"], skipped["lastError"]) == ("skipped", "mail to this address came back")


async def hear() -> None:
    """What the log's consumer would do, from the beginning each time."""
    events = await collection_of(Event).find().sort("_id", 1).to_list()
    await transaction(Delivery, lambda session: notify(events, session))
