"""Mails about tickets at the moment of sending: to whoever is still concerned, by what they may know and want now."""

from bson import ObjectId

from app.accounts.messages import address_of
from app.accounts.queries import users_by_id
from app.accounts.roles import Permission, has_permission, role_of
from app.events.log import Event
from app.mail.message import Message
from app.platform.errors import NotFound
from app.platform.mongo import collection_of
from app.platform.wire import Row
from app.tickets.changes import complete
from app.tickets.queries import get_any_ticket

from .addresses import reply_address, unsubscribe_url
from .messages import Return, most_telling, ticket_message
from .queries import switched_off
from .recipients import people_of
from .story import Reader, story_of


async def render(delivery: Row, *, public_url: str, mail_from: str, key: bytes) -> Message | None:
    """The mail of a delivery that `notify` queued; None when its recipient is not to get it any more.

    `key` signs the addresses and links in it.
    """
    user_id = delivery["userId"]
    ticket = await _ticket(delivery["ticketId"])
    if ticket is None or user_id not in people_of(ticket):
        return None
    # Without the descriptions: they may be long, and are told to nobody.
    found = collection_of(Event).find({"_id": {"$in": delivery["events"]}}, {"ticket.description": 0})
    events = await found.to_list()
    users = await users_by_id([user_id, *_assignees(ticket, events)])
    reader = _reader(users.get(user_id))
    if reader is None:
        return None
    story = story_of(events, ticket, reader, off=await switched_off(user_id))
    if not story.kinds:
        return None
    back = Return(
        reply_address(mail_from, ticket["_id"], key),
        unsubscribe_url(public_url, user_id, most_telling(story.kinds), key),
    )
    names = {found_id: user.get("name") or user["username"] for found_id, user in users.items()}
    return ticket_message(story, ticket, reader, names, back)


async def _ticket(ticket_id: ObjectId) -> Row | None:
    try:
        ticket = complete(await get_any_ticket(str(ticket_id)))
    except NotFound:
        return None
    return ticket if ticket["deletedAt"] is None else None


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
