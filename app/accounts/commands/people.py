"""Opening, changing and closing accounts."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from bson import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError

from app.accounts.actor import Actor, Origin
from app.accounts.audit import AuditEntry, AuditType, audit_row, record_audit
from app.accounts.documents import LOOSELY, ApiKey, PasswordReset, Session, User, username_key
from app.accounts.errors import LastAdmin, RegistrationClosed, UsernameTaken
from app.accounts.messages import email_changed
from app.accounts.passwords import PasswordPool
from app.accounts.queries import get_user
from app.accounts.roles import Permission, Role, role_of
from app.accounts.schemas import ProfilePatch, Registration, UserCreate, UserPatch
from app.mail.outbox import Outbox
from app.platform.attempts import Rule
from app.platform.commit import Insert, commit
from app.platform.idempotency import Once
from app.platform.mongo import collection_of, transaction
from app.platform.sequence import Counter
from app.platform.wire import JsonObject, Row

from .verification import Verifier, where

# Each of them sends a mail to an address that may be anybody's.
_NEW_EMAIL = Rule("e-mail: account", free=5, max_delay=timedelta(hours=1))
MaybeOnce = Once[Row] | None


async def register(
    body: JsonObject,
    origin: Origin,
    *,
    is_open: bool,
    passwords: PasswordPool,
    now: datetime,
    once: MaybeOnce = None,
) -> Row:
    """Opens a Customer account for anybody. Raises `RegistrationClosed`, `InvalidInput`, `UsernameTaken`."""
    if not is_open:
        raise RegistrationClosed
    row = await _new_account(Registration.parse(body), Role.CUSTOMER, passwords, where(origin), now)
    audit = audit_row(AuditType.ACCOUNT_REGISTERED, at=now, origin=origin, target=row)
    return await _open_account(row, audit, once)


async def create_user(
    actor: Actor,
    body: JsonObject,
    origin: Origin,
    *,
    passwords: PasswordPool,
    now: datetime,
    once: MaybeOnce = None,
) -> Row:
    """Opens an account of any role; for more than a Customer's, which gives a role, a recent sign-in is needed.

    Raises `Forbidden`, `SessionRequired`, `ReauthenticationRequired`, `InvalidInput`, `UsernameTaken`.
    """
    actor.require(Permission.MANAGE_USERS)
    if body.get("role", Role.CUSTOMER) != Role.CUSTOMER:
        actor.require_recent_sign_in(now)
    fields = UserCreate.parse(body)
    row = await _new_account(fields, fields.role, passwords, str(actor.id), now)
    audit = audit_row(AuditType.ACCOUNT_CREATED, at=now, origin=origin, actor=actor, target=row)
    return await _open_account(row, audit, once)


async def create_admin(username: str, password: str, *, passwords: PasswordPool, now: datetime) -> Row:
    """Opens an Admin account, for whoever runs the machine. Raises `InvalidInput`, `UsernameTaken`."""
    fields = Registration.parse({"username": username, "password": password})
    row = await _new_account(fields, Role.ADMIN, passwords, where(Origin()), now)
    return await _open_account(row, audit_row(AuditType.ACCOUNT_CREATED, at=now, origin=Origin(), target=row))


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


async def _new_account(fields: Registration, role: Role, passwords: PasswordPool, caller: str, now: datetime) -> Row:
    key = username_key(fields.username)
    # New accounts are unique by index; this look is for the old ones, which have no usernameKey.
    alike = collection_of(User).find({"username": fields.username}, {"username": 1}, collation=LOOSELY)
    if key in [username_key(row["username"]) async for row in alike]:
        raise UsernameTaken
    return {
        "_id": ObjectId(),
        "username": fields.username,
        "usernameKey": key,
        "password": await passwords.hash(fields.password, caller),
        "passwordVersion": 0,
        "role": role,
        "mfaEnabled": False,
        "email": fields.email,
        "name": fields.name,
        "active": True,
        "createdAt": now,
    }


async def _open_account(row: Row, audit: Row, once: MaybeOnce = None) -> Row:
    try:
        return await commit([Insert(User, row), Insert(AuditEntry, audit)], once=once, result=row)
    except DuplicateKeyError:
        raise UsernameTaken from None


async def change_profile(actor: Actor, body: JsonObject, origin: Origin, *, verifier: Verifier, now: datetime) -> Row:
    """Changes the caller's own e-mail and name; for the e-mail a recent sign-in is needed, and the old one is told.

    Raises `SessionRequired`, `ReauthenticationRequired`, `InvalidInput`, `TooManyRequests`.
    """
    actor.require_session()
    if "email" in body:
        actor.require_recent_sign_in(now)
    patch = ProfilePatch.parse(body).given()
    if "email" in patch and patch["email"] != (await get_user(actor.id)).get("email"):
        await verifier.attempts.begin([(_NEW_EMAIL, str(actor.id))], now)

    async def write(session: AsyncClientSession) -> Row:
        before = await get_user(actor.id, session)
        after = await _change(actor, before, patch, origin, now, session)
        await _tell_old_address(before, after, verifier.mail, origin, now, session)
        return after

    return await transaction(User, write)


async def change_user(
    actor: Actor, user_id: ObjectId, body: JsonObject, origin: Origin, *, mail: Outbox, now: datetime
) -> Row:
    """Changes another's role, e-mail, name or whether the account is on; switching it off ends its sessions.

    For role and e-mail a recent sign-in is needed. Raises `Forbidden`, `InsufficientScope`, `NotFound`,
    `SessionRequired`, `ReauthenticationRequired`, `InvalidInput`, `LastAdmin`.
    """
    actor.require(Permission.MANAGE_USERS)
    await get_user(user_id)
    if body.keys() & {"role", "email"}:
        actor.require_recent_sign_in(now)
    patch = UserPatch.parse(body).given()
    is_weaker = patch.get("role", Role.ADMIN) != Role.ADMIN or patch.get("active") is False

    async def write(session: AsyncClientSession) -> Row:
        # Read in here: somebody may be making an Admin of them at this moment.
        before = await get_user(user_id, session)
        if is_weaker and role_of(before) == Role.ADMIN:
            await _require_other_admin(user_id, session)
        fields = dict(patch)
        if patch.get("active") is False:
            await collection_of(Session).delete_many({"userId": user_id}, session=session)
            # A sign-in under way may leave one that this does not see; it must not count when the account comes back.
            fields["passwordVersion"] = before.get("passwordVersion", 0) + 1
        after = await _change(actor, before, fields, origin, now, session)
        await _tell_old_address(before, after, mail, origin, now, session)
        return after

    return await transaction(User, write)


async def delete_user(actor: Actor, user_id: ObjectId, origin: Origin, *, now: datetime) -> None:
    """Removes the account with what lets people in; tickets and events keep the id.

    Raises `Forbidden`, `InsufficientScope`, `NotFound`, `LastAdmin`.
    """
    actor.require(Permission.MANAGE_USERS)

    async def body(session: AsyncClientSession) -> None:
        row = await get_user(user_id, session)
        if role_of(row) == Role.ADMIN:
            await _require_other_admin(user_id, session)
        await collection_of(User).delete_one({"_id": user_id}, session=session)
        for model in (Session, ApiKey):
            await collection_of(model).delete_many({"userId": user_id}, session=session)
        await collection_of(PasswordReset).delete_one({"_id": user_id}, session=session)
        audit = audit_row(AuditType.ACCOUNT_DELETED, at=now, origin=origin, actor=actor, target=row)
        await record_audit(audit, session)

    await transaction(User, body)


async def _change(
    actor: Actor, before: Row, fields: Row, origin: Origin, now: datetime, session: AsyncClientSession
) -> Row:
    """Sets the fields, and tells the audit log of those that matter there."""
    after = before | fields
    if fields:
        await collection_of(User).update_one({"_id": before["_id"]}, {"$set": fields}, session=session)
    if before.get("email") != after.get("email"):
        # A link on its way to the old address must not open the account any more.
        await collection_of(PasswordReset).delete_one({"_id": before["_id"]}, session=session)
    for event, details in _audited(before, after):
        row = audit_row(event, at=now, origin=origin, actor=actor, target=after, details=details)
        await record_audit(row, session)
    return after


def _audited(before: Row, after: Row) -> Iterator[tuple[AuditType, Row]]:
    if role_of(before) != role_of(after):
        yield AuditType.ACCOUNT_ROLE_CHANGED, {"role": {"from": role_of(before), "to": role_of(after)}}
    was_active, is_active = (row.get("active") is not False for row in (before, after))
    if was_active != is_active:
        yield AuditType.ACCOUNT_ACTIVATED if is_active else AuditType.ACCOUNT_DEACTIVATED, {}
    if before.get("email") != after.get("email"):
        yield AuditType.ACCOUNT_EMAIL_CHANGED, {"email": {"from": before.get("email"), "to": after.get("email")}}


async def _tell_old_address(
    before: Row, after: Row, mail: Outbox, origin: Origin, now: datetime, session: AsyncClientSession
) -> None:
    if before.get("email") != after.get("email"):
        await mail.post(email_changed(before, origin, now), session)


async def _require_other_admin(user_id: ObjectId, session: AsyncClientSession) -> None:
    """Writes to one common row first, so that of two Admins who remove each other at once only one succeeds."""
    await collection_of(Counter).update_one({"_id": "admins"}, {"$inc": {"value": 1}}, upsert=True, session=session)
    other: Row = {"role": Role.ADMIN, "active": {"$ne": False}, "_id": {"$ne": user_id}}
    if await collection_of(User).find_one(other, {"_id": 1}, session=session) is None:
        raise LastAdmin
