"""Mails about tickets at the moment of sending: to whoever is still concerned, by what they may know and want now."""

from bson import ObjectId

from app.accounts.actor import username_of
from app.accounts.messages import address_of
from app.accounts.queries import users_by_id
from app.accounts.roles import Permission, has_permission, role_of
from app.events.log import Event
from app.mail.message import Message
from app.platform.batching import Batcher
from app.platform.mongo import collection_of
from app.platform.wire import Row
from app.tickets.changes import complete
from app.tickets.queries import get_any_tickets

from .addresses import reply_address, unsubscribe_url
from .messages import Return, most_telling, ticket_message
from .queries import all_switched_off
from .recipients import people_of
from .story import Reader, story_of

# Many more than are made side by side.
AT_ONCE = 100


async def render(delivery: Row, *, public_url: str, mail_from: str, key: bytes) -> Message | None:
    """The mail of a delivery that `notify` queued; None when its recipient is not to get it any more.

    `key` signs the addresses and links in it.
    """
    user_id = delivery["userId"]
    ticket = await _read_ticket(delivery["ticketId"])
    if ticket is None or user_id not in people_of(ticket):
        return None
    events = await _read_events(delivery["events"])
    users = await _read_users({user_id, *_assignees(ticket, events)})
    reader = _reader(users.get(user_id))
    if reader is None:
        return None
    story = story_of(events, ticket, reader, off=await _read_switched_off(user_id))
    if not story.kinds:
        return None
    back = Return(
        reply_address(mail_from, ticket["_id"], key),
        unsubscribe_url(public_url, user_id, most_telling(story.kinds), key),
    )
    names = {found_id: user.get("name") or username_of(user) for found_id, user in users.items()}
    return ticket_message(story, ticket, reader, names, back)


async def _tickets(ids: list[ObjectId]) -> list[Row | None]:
    rows = await get_any_tickets(set(ids))
    tickets = {ticket_id: complete(row) for ticket_id, row in rows.items()}
    return [ticket if ticket is not None and ticket["deletedAt"] is None else None for ticket in map(tickets.get, ids)]


async def _events(wanted: list[list[ObjectId]]) -> list[list[Row]]:
    ids = list({event_id for event_ids in wanted for event_id in event_ids})
    # Without the descriptions: they may be long, and are told to nobody.
    rows = await collection_of(Event).find({"_id": {"$in": ids}}, {"ticket.description": 0}).to_list()
    events = {row["_id"]: row for row in rows}
    return [[events[event_id] for event_id in event_ids if event_id in events] for event_ids in wanted]


async def _users(wanted: list[set[ObjectId]]) -> list[dict[ObjectId, Row]]:
    users = await users_by_id(list(set().union(*wanted)))
    return [{user_id: users[user_id] for user_id in user_ids if user_id in users} for user_ids in wanted]


# Mails that are made at the same time are often about the same people, and always by the same few commands.
_read_ticket = Batcher(_tickets, at_most=AT_ONCE)
_read_events = Batcher(_events, at_most=AT_ONCE)
_read_users = Batcher(_users, at_most=AT_ONCE)
_read_switched_off = Batcher(all_switched_off, at_most=AT_ONCE)


def _assignees(ticket: Row, events: list[Row]) -> set[ObjectId]:
    """Everybody whom a mail may have to name."""
    changes = [event["changes"].get("assignedTo", {}) for event in events]
    return {ticket["assignedTo"], *(user_id for change in changes for user_id in change.values())} - {None}


def _reader(user: Row | None) -> Reader | None:
    """None for somebody who gets no mail: the account is gone, switched off or without an address."""
    if user is None or user.get("active") is False:
        return None
    address = address_of(user)
    is_staff = has_permission(role_of(user), Permission.WORK_TICKETS)
    return None if address is None else Reader(user["_id"], address, is_staff)
