"""Reading wishes about mail, and for Admins what became of it."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Mapping, Sequence

from bson import ObjectId

from app.accounts.actor import Actor
from app.accounts.roles import Permission
from app.mail.documents import Delivery, DeliveryState, Suppression
from app.platform.errors import FieldError, InvalidCursor, InvalidInput, NotFound
from app.platform.mongo import collection_of
from app.platform.paging import Order, Page, check_parameters, parse_limit, read_page
from app.platform.wire import Row

from .documents import NotificationPreferences

SHOWN_STATES = tuple(state for state in DeliveryState if state is not DeliveryState.VOID)
NEWEST_FIRST = Order("_id", is_descending=True, is_unique=True)
_BY_ADDRESS = Order("_id", is_descending=False, is_unique=True)


class AddressPage(Page):
    """A page of rows whose ids are addresses, in their order."""

    def cursor_of(self, row: Row) -> str:
        return urlsafe_b64encode(row["_id"].encode()).decode()


async def switched_off(user_id: ObjectId) -> Collection[str]:
    """The kinds of news that the user does not want by mail."""
    row = await collection_of(NotificationPreferences).find_one({"_id": user_id})
    off: list[str] = row["off"] if row else []
    return off


async def all_switched_off(user_ids: Sequence[ObjectId]) -> list[Collection[str]]:
    """The same of each of these, in one command."""
    rows = await collection_of(NotificationPreferences).find({"_id": {"$in": list(set(user_ids))}}).to_list()
    off: dict[ObjectId, list[str]] = {row["_id"]: row["off"] for row in rows}
    return [off.get(user_id, []) for user_id in user_ids]


async def list_deliveries(actor: Actor, parameters: Mapping[str, str]) -> Page:
    """Newest first. Raises `Forbidden`, `InsufficientScope`, `InvalidInput`, `InvalidCursor`."""
    actor.require(Permission.MANAGE_MAIL)
    check_parameters(parameters, "state", "ticket", "limit", "cursor")
    state, ticket = parameters.get("state"), parameters.get("ticket")
    errors = []
    if state is not None and state not in SHOWN_STATES:
        errors.append(FieldError("state", "enum", f"must be one of {', '.join(SHOWN_STATES)}"))
    if ticket is not None and not ObjectId.is_valid(ticket):
        errors.append(FieldError("ticket", "value_error", "must be an id of 24 hexadecimal digits"))
    if errors:
        raise InvalidInput(*errors)
    where: Row = {"state": state or {"$ne": DeliveryState.VOID}}
    if ticket is not None:
        where["ticketId"] = ObjectId(ticket)
    scope = f"deliveries {state} {ticket and ticket.lower()}"
    limit, cursor = parse_limit(parameters.get("limit")), parameters.get("cursor")
    return await read_page(collection_of(Delivery), where, NEWEST_FIRST, scope=scope, cursor=cursor, limit=limit)


async def get_delivery(delivery_id: ObjectId) -> Row:
    """Raises `NotFound`."""
    row = await collection_of(Delivery).find_one({"_id": delivery_id, "state": {"$ne": DeliveryState.VOID}})
    if row is None:
        raise NotFound
    return row


async def list_suppressions(actor: Actor, parameters: Mapping[str, str]) -> Page:
    """In the order of the addresses. Raises `Forbidden`, `InsufficientScope`, `InvalidInput`, `InvalidCursor`."""
    actor.require(Permission.MANAGE_MAIL)
    check_parameters(parameters, "limit", "cursor")
    limit, cursor = parse_limit(parameters.get("limit")), parameters.get("cursor")
    where: Row = {"_id": {"$gt": _address_of(cursor)}} if cursor is not None else {}
    found = collection_of(Suppression).find(where).sort("_id", 1).limit(limit + 1)
    rows = await found.to_list()
    return AddressPage(rows[:limit], len(rows) > limit, "suppressions", _BY_ADDRESS)


def _address_of(cursor: str) -> str:
    try:
        address = urlsafe_b64decode(cursor.encode("ascii")).decode()
    except ValueError:
        raise InvalidCursor from None
    if urlsafe_b64encode(address.encode()).decode() != cursor:
        raise InvalidCursor
    return address
