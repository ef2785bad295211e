"""API keys: given out, and taken back."""

from datetime import datetime, timedelta

from bson import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession

from app.accounts.actor import Actor, Origin
from app.accounts.audit import AuditType, audit_row, record_audit
from app.accounts.documents import ApiKey, User
from app.accounts.errors import TooManyApiKeys
from app.accounts.keys import HINT_DIGITS, key_digest
from app.accounts.messages import api_key_created
from app.accounts.queries import get_user
from app.accounts.roles import Role, Scope
from app.accounts.security_schemas import ApiKeyCreate
from app.mail.outbox import Outbox
from app.platform.clock import to_ms
from app.platform.errors import FieldError, Forbidden, InvalidInput, NotFound
from app.platform.idempotency import Once
from app.platform.mongo import collection_of, transaction
from app.platform.wire import JsonObject, Row

DEFAULT_TTL, MAX_TTL = timedelta(days=90), timedelta(days=366)
MAX_KEYS = 50


async def create_api_key(
    actor: Actor, body: JsonObject, key: str, origin: Origin, *, mail: Outbox, now: datetime, once: Once[Row] | None
) -> Row:
    """Stores a new key of the actor's, of which the row knows a digest alone.

    Raises `SessionRequired`, `ReauthenticationRequired`, `InvalidInput`, `Forbidden` for a scope above the actor's
    role, `TooManyApiKeys`.
    """
    actor.require_recent_sign_in(now)
    fields = ApiKeyCreate.parse(body)
    if Scope.ADMIN in fields.scopes and actor.role is not Role.ADMIN:
        raise Forbidden("Your role may not give the scope admin")
    expires_at = to_ms(fields.expires_at or now + DEFAULT_TTL)
    if not now < expires_at <= now + MAX_TTL:
        raise InvalidInput(FieldError("expiresAt", "out_of_range", f"must be within {MAX_TTL.days} days from now"))
    row: Row = {
        "_id": ObjectId(),
        "userId": actor.id,
        "name": fields.name,
        "digest": key_digest(key),
        "hint": key[-HINT_DIGITS:],
        "scopes": [scope for scope in Scope if scope in fields.scopes],
        "createdAt": now,
        "expiresAt": expires_at,
        "lastUsedAt": None,
    }
    user = await get_user(actor.id)
    audit = audit_row(
        AuditType.API_KEY_CREATED, at=now, origin=origin, actor=actor, target=user, details=_described(row)
    )

    async def write(session: AsyncClientSession) -> Row:
        if once is not None:
            await once.remember(row, session)
        # Writes to one row of the user's first, so that of two keys made at once the second counts the first.
        await collection_of(User).update_one({"_id": actor.id}, {"$inc": {"apiKeysMade": 1}}, session=session)
        if await collection_of(ApiKey).count_documents({"userId": actor.id}, session=session) >= MAX_KEYS:
            raise TooManyApiKeys
        await collection_of(ApiKey).insert_one(row, session=session)
        await record_audit(audit, session)
        await mail.post(api_key_created(user, row["name"], origin, now), session)
        return row

    return await transaction(ApiKey, write)


async def delete_api_key(actor: Actor, key_id: ObjectId, origin: Origin, *, now: datetime) -> None:
    """Takes one of the actor's own keys back; it stops working at once, everywhere.

    Raises `SessionRequired`, `NotFound`, `ReauthenticationRequired`.
    """
    actor.require_session()

    async def body(session: AsyncClientSession) -> None:
        key = await collection_of(ApiKey).find_one_and_delete({"_id": key_id, "userId": actor.id}, session=session)
        if key is None:
            raise NotFound
        actor.require_recent_sign_in(now)
        target = await get_user(actor.id, session)
        row = audit_row(
            AuditType.API_KEY_DELETED, at=now, origin=origin, actor=actor, target=target, details=_described(key)
        )
        await record_audit(row, session)

    await transaction(ApiKey, body)


def _described(key: Row) -> Row:
    return {"key": key["_id"], "name": key["name"], "scopes": key["scopes"], "hint": key["hint"]}
