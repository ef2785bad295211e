"""Opening, changing and closing accounts."""

from datetime import datetime
from typing import Any

from bson import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError

from app.accounts.actor import Actor
from app.accounts.documents import ANY_CASE, Session, User, username_key
from app.accounts.errors import InvalidCredentials, LastAdmin, RegistrationClosed, UsernameTaken
from app.accounts.passwords import PasswordPool, weakness
from app.accounts.queries import get_user
from app.accounts.roles import Permission, Role, role_of
from app.accounts.schemas import PasswordChange, ProfilePatch, Registration, UserCreate, UserPatch
from app.platform.commit import Insert, commit
from app.platform.errors import FieldError, InvalidInput, NotFound
from app.platform.idempotency import Once
from app.platform.mongo import collection_of, transaction
from app.platform.sequence import Counter
from app.platform.wire import JsonObject, Row

MaybeOnce = Once[Row] | None


async def register(
    body: JsonObject, *, is_open: bool, passwords: PasswordPool, now: datetime, once: MaybeOnce = None
) -> Row:
    """Opens a Customer account for anybody. Raises `RegistrationClosed`, `InvalidInput`, `UsernameTaken`."""
    if not is_open:
        raise RegistrationClosed
    return await _open_account(Registration.parse(body), Role.CUSTOMER, passwords=passwords, now=now, once=once)


async def create_user(
    actor: Actor, body: JsonObject, *, passwords: PasswordPool, now: datetime, once: MaybeOnce = None
) -> Row:
    """Opens an account of any role. Raises `Forbidden`, `InvalidInput`, `UsernameTaken`."""
    actor.require(Permission.MANAGE_USERS)
    fields = UserCreate.parse(body)
    return await _open_account(fields, fields.role, passwords=passwords, now=now, once=once)


async def create_admin(username: str, password: str, *, passwords: PasswordPool, now: datetime) -> Row:
    """Opens an Admin account, for whoever runs the machine. Raises `InvalidInput`, `UsernameTaken`."""
    fields = Registration.parse({"username": username, "password": password})
    return await _open_account(fields, Role.ADMIN, passwords=passwords, now=now, once=None)


async def create_first_admin(username: str, password: str, *, passwords: PasswordPool, now: datetime) -> bool:
    """Opens the first Admin account; does nothing, and answers False, once there is an Admin or the name is taken.

    Raises `InvalidInput` for a name or password that no new account may have.
    """
    Registration.parse({"username": username, "password": password})
    if await collection_of(User).find_one({"role": Role.ADMIN}):
        return False
    try:
        await create_admin(username, password, passwords=passwords, now=now)
    except UsernameTaken:
        return False
    return True


async def _open_account(
    fields: Registration, role: Role, *, passwords: PasswordPool, now: datetime, once: MaybeOnce
) -> Row:
    users = collection_of(User)
    # New accounts are unique by index; this look is for the old ones, which have no usernameKey.
    if await users.find_one({"username": fields.username}, {"_id": 1}, collation=ANY_CASE):
        raise UsernameTaken
    row: Row = {
        "_id": ObjectId(),
        "username": fields.username,
        "usernameKey": username_key(fields.username),
        "password": await passwords.hash(fields.password),
        "passwordVersion": 0,
        "role": role,
        "mfaEnabled": False,
        "email": fields.email,
        "name": fields.name,
        "active": True,
        "createdAt": now,
    }
    try:
        return await commit([Insert(User, row)], once=once, result=row)
    except DuplicateKeyError:
        raise UsernameTaken from None


async def change_profile(actor: Actor, body: JsonObject) -> Row:
    """Changes the caller's own e-mail and name. Raises `InvalidInput`."""
    return await _set_fields(actor.id, ProfilePatch.parse(body).given())


async def change_user(actor: Actor, user_id: ObjectId, body: JsonObject) -> Row:
    """Changes another's role, e-mail, name or whether the account is on; switching it off ends its sessions.

    Raises `Forbidden`, `NotFound`, `InvalidInput`, `LastAdmin`.
    """
    actor.require(Permission.MANAGE_USERS)
    await get_user(user_id)
    patch = UserPatch.parse(body).given()
    if patch.get("role", Role.ADMIN) == Role.ADMIN and patch.get("active", True):
        return await _set_fields(user_id, patch)

    async def body_of(session: AsyncClientSession) -> Row:
        # Read in here: somebody may be making an Admin of them at this moment.
        if role_of(await get_user(user_id, session)) == Role.ADMIN:
            await _require_other_admin(user_id, session)
        if patch.get("active") is False:
            await collection_of(Session).delete_many({"userId": user_id}, session=session)
        return await _set_fields(user_id, patch, session)

    return await transaction(User, body_of)


async def delete_user(actor: Actor, user_id: ObjectId) -> None:
    """Removes the account and its sessions; tickets and events keep the id.

    Raises `Forbidden`, `NotFound`, `LastAdmin`.
    """
    actor.require(Permission.MANAGE_USERS)

    async def body(session: AsyncClientSession) -> None:
        row = await collection_of(User).find_one({"_id": user_id}, session=session)
        if row is None:
            raise NotFound
        if role_of(row) == Role.ADMIN:
            await _require_other_admin(user_id, session)
        await collection_of(User).delete_one({"_id": user_id}, session=session)
        await collection_of(Session).delete_many({"userId": user_id}, session=session)

    await transaction(User, body)


async def change_password(
    actor: Actor, body: JsonObject, *, passwords: PasswordPool, once: Once[None] | None = None
) -> None:
    """Sets a new password and ends the caller's other sessions. Raises `InvalidInput`, `InvalidCredentials`."""
    change = PasswordChange.parse(body)
    user = await get_user(actor.id)
    if not await passwords.check(change.current_password, user["password"]):
        raise InvalidCredentials
    if reason := weakness(change.new_password, actor.username):
        raise InvalidInput(FieldError("newPassword", "weak_password", reason))
    version = user.get("passwordVersion", 0)
    hashed = await passwords.hash(change.new_password)

    async def body_of(session: AsyncClientSession) -> None:
        if once is not None:
            await once.remember(None, session)
        unchanged: Row = {"_id": actor.id, "password": user["password"]}
        update: Row = {"$set": {"password": hashed, "passwordVersion": version + 1}}
        outcome = await collection_of(User).update_one(unchanged, update, session=session)
        if outcome.matched_count == 0:  # changed elsewhere meanwhile: what was given is no longer the password
            raise InvalidCredentials
        sessions = collection_of(Session)
        await sessions.delete_many({"userId": actor.id, "_id": {"$ne": actor.session_id}}, session=session)
        own: Row = {"$set": {"passwordVersion": version + 1}}
        await sessions.update_one({"_id": actor.session_id}, own, session=session)

    await transaction(User, body_of)


async def _set_fields(user_id: ObjectId, fields: dict[str, Any], session: AsyncClientSession | None = None) -> Row:
    users = collection_of(User)
    if fields:
        await users.update_one({"_id": user_id}, {"$set": fields}, session=session)
    row = await users.find_one({"_id": user_id}, session=session)
    if row is None:
        raise NotFound
    return row


async def _require_other_admin(user_id: ObjectId, session: AsyncClientSession) -> None:
    """Writes to one common row first, so that of two Admins who remove each other at once only one succeeds."""
    await collection_of(Counter).update_one({"_id": "admins"}, {"$inc": {"value": 1}}, upsert=True, session=session)
    other: Row = {"role": Role.ADMIN, "active": {"$ne": False}, "_id": {"$ne": user_id}}
    if await collection_of(User).find_one(other, {"_id": 1}, session=session) is None:
        raise LastAdmin
