"""Reading accounts: who is this, who is there."""

from collections.abc import Container, Mapping, Sequence
from datetime import datetime
from typing import Any

from bson import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession

from app.platform.errors import FieldError, InvalidInput, NotFound
from app.platform.mongo import collection_of
from app.platform.paging import Order, Page, check_parameters, parse_limit, read_page
from app.platform.wire import Row

from .actor import Actor
from .documents import Session, User, username_key
from .errors import InvalidToken
from .roles import Permission, Role, has_permission, role_of
from .tokens import AccessClaims

# What the wire may show; the hash and the MFA secret are not even read.
SHOWN = dict.fromkeys(("username", "role", "email", "name", "active", "mfaEnabled", "createdAt"), 1)
NEWEST_FIRST = Order("_id", is_descending=True, is_unique=True)


async def user_by_username(username: str) -> User | None:
    """The account to sign in to: by its exact name, or, for new accounts, without regard to case and blanks."""
    either: list[Row] = [{"username": username}, {"usernameKey": username_key(username)}]
    found = await User.find({"$or": either}).to_list()
    exact = [user for user in found if user.username == username]
    return next(iter(exact or found), None)


async def actor_of(claims: AccessClaims, now: datetime) -> Actor:
    """Who the token stands for, by the database's present word: one round trip for session and user.

    Raises `InvalidToken` when the session has ended, or the account is switched off or gone.
    """
    pipeline: list[dict[str, Any]] = [
        {"$match": {"_id": claims.session_id, "userId": claims.user_id, "expiresAt": {"$gt": now}}},
        {"$lookup": {"from": User.Settings.name, "localField": "userId", "foreignField": "_id", "as": "user"}},
        {"$unwind": "$user"},
        {
            "$project": {
                "passwordVersion": 1,
                "user": {"username": 1, "role": 1, "active": 1, "passwordVersion": 1},
            }
        },
    ]
    cursor = await collection_of(Session).aggregate(pipeline)
    rows = await cursor.to_list()
    if not rows:
        raise InvalidToken
    user = rows[0]["user"]
    if not may_go_on(user, rows[0]):
        raise InvalidToken
    return Actor(claims.user_id, user["username"], role_of(user), claims.session_id)


def may_go_on(user: Row, session: Row) -> bool:
    """Whether the session still counts: the account is on, and its password is the one that was signed in with."""
    return user.get("active") is not False and user.get("passwordVersion", 0) == session["passwordVersion"]


async def get_user(user_id: ObjectId, session: AsyncClientSession | None = None) -> Row:
    """Raises `NotFound`."""
    row = await collection_of(User).find_one({"_id": user_id}, session=session)
    if row is None:
        raise NotFound
    return row


async def users_by_id(ids: Sequence[ObjectId]) -> dict[ObjectId, Row]:
    """Those of the users that there are, in one command."""
    found = collection_of(User).find({"_id": {"$in": list(ids)}}, SHOWN, batch_size=len(ids) + 1)
    return {row["_id"]: row for row in await found.to_list()}


async def read_user(actor: Actor, user_id: ObjectId) -> Row:
    """Another's account. Raises `Forbidden`, `NotFound`."""
    actor.require(Permission.READ_USERS)
    return await get_user(user_id)


async def list_users(actor: Actor, parameters: Mapping[str, str]) -> Page:
    """Newest first. Raises `Forbidden`, `InvalidInput`, `InvalidCursor`."""
    actor.require(Permission.READ_USERS)
    check_parameters(parameters, "role", "limit", "cursor")
    role, cursor = parameters.get("role"), parameters.get("cursor")
    if role is not None and role not in set(Role):
        raise InvalidInput(FieldError("role", "enum", f"must be one of {', '.join(Role)}"))
    # Old rows may lack a role, which makes them Customers.
    where: Row = {"role": {"$in": [role, None]} if role == Role.CUSTOMER else role} if role else {}
    scope = f"users {role or ''}"
    limit = parse_limit(parameters.get("limit"))
    return await read_page(collection_of(User), where, NEWEST_FIRST, scope=scope, cursor=cursor, limit=limit)


async def require_users(named: Sequence[tuple[str, ObjectId]], *, workers: Container[str]) -> None:
    """Raises `InvalidInput` naming each field whose user is not active or, in `workers`, works no tickets."""
    if not named:
        return
    found = collection_of(User).find({"_id": {"$in": [user_id for _, user_id in named]}}, {"role": 1, "active": 1})
    active = {row["_id"]: role_of(row) async for row in found if row.get("active") is not False}
    errors: dict[str, FieldError] = {}
    for field, user_id in named:
        if user_id not in active:
            errors[field] = FieldError(field, "unknown_user", "is not an active user")
        elif field in workers and not has_permission(active[user_id], Permission.WORK_TICKETS):
            errors[field] = FieldError(field, "not_assignable", "is not an active Agent or Admin")
    if errors:
        raise InvalidInput(*errors.values())
