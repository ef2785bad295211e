"""Reading accounts: who is this, who is there."""

from collections.abc import Container, Mapping, Sequence
from datetime import datetime

from bson import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession

from app.platform.batching import Batcher
from app.platform.errors import FieldError, InvalidInput, NotFound
from app.platform.mongo import collection_of
from app.platform.paging import Order, Page, check_parameters, parse_limit, read_page
from app.platform.wire import Row

from .actor import Actor, username_of
from .audit import AuditEntry
from .documents import ApiKey, SecurityPolicy, Session, User, username_key
from .errors import InvalidToken, MfaSetupRequired
from .keys import is_key, key_digest
from .policy import POLICY_ID, mfa_is_missing, required_for
from .roles import Permission, Role, has_permission, role_of, widest
from .security_schemas import AuditFilter
from .tokens import AccessClaims, Tokens

# What the wire may show; the hash and the MFA secret are not even read.
SHOWN = dict.fromkeys(("username", "role", "email", "name", "active", "mfaEnabled", "createdAt"), 1)
AUDIT_FIELDS = {"type": "type", "actor": "actor.id", "target": "target.id"}
POLICY_ONLY: list[Row] = [{"$match": {"_id": POLICY_ID}}]
NEWEST_FIRST = Order("_id", is_descending=True, is_unique=True)
LOOKED_UP_AT_ONCE = 100


async def user_by_username(username: str) -> Row | None:
    """The account to sign in to: by its exact name, or, for new accounts, without regard to case and blanks."""
    either: list[Row] = [{"username": username}, {"usernameKey": username_key(username)}]
    found = await collection_of(User).find({"$or": either}).to_list()
    exact = [user for user in found if username_of(user) == username]
    return next(iter(exact or found), None)


async def claims_of(token: str, tokens: Tokens, now: datetime) -> AccessClaims:
    """Who a bearer token says it comes from: an access token, which is read, or an API key, which is looked up.

    Raises `InvalidToken`.
    """
    if not is_key(token):
        return tokens.read_access(token)
    key = await _api_key_by_digest(key_digest(token))
    if key is None or key["expiresAt"] <= now:
        raise InvalidToken
    return AccessClaims(key["userId"], key["_id"], key["expiresAt"], is_api_key=True)


async def _read_by_digest(digests: list[bytes]) -> list[Row | None]:
    fields = dict.fromkeys(("digest", "userId", "expiresAt"), 1)
    rows = await collection_of(ApiKey).find({"digest": {"$in": list(set(digests))}}, fields).to_list()
    found = {row["digest"]: row for row in rows}
    return [found.get(digest) for digest in digests]


_api_key_by_digest = Batcher(_read_by_digest, at_most=LOOKED_UP_AT_ONCE)


async def actor_of(claims: AccessClaims, now: datetime, *, may_lack_mfa: bool = False) -> Actor:
    """Who the claims stand for, by the database's present word: one round trip for session or key, user and policy,

    shared with all who are looked up at the same time. Raises `InvalidToken` when the session or key has ended, or the
    account is switched off or gone, and, unless it `may_lack_mfa`, `MfaSetupRequired` for an account without MFA whose
    role has to have it.
    """
    credential = await (_api_key_by_id if claims.is_api_key else _session_by_id)(claims.credential_id)
    if credential is None or credential["userId"] != claims.user_id or credential["expiresAt"] <= now:
        raise InvalidToken
    user = credential["user"]
    is_good = user.get("active") is not False if claims.is_api_key else may_go_on(user, credential)
    if not is_good:
        raise InvalidToken
    role = role_of(user)
    if not may_lack_mfa and mfa_is_missing(user, next(iter(credential["policy"]), None)):
        raise MfaSetupRequired
    return Actor(
        claims.user_id,
        username_of(user),
        role,
        claims.credential_id,
        # A session of an earlier version of the service does not say.
        authenticated_at=None if claims.is_api_key else credential.get("authenticatedAt", credential["createdAt"]),
        scope=widest(credential["scopes"]) if claims.is_api_key else None,
        # A key that was never used says so; a session is in use from its start.
        last_used_at=credential.get("lastUsedAt") or (None if claims.is_api_key else credential["createdAt"]),
    )


def _credential_by_id(model: type[Session | ApiKey]) -> Batcher[ObjectId, Row | None]:
    """Looks up sessions or keys, each with its user and the policy; None where there is none, or no user."""
    pipeline: list[Row] = [
        {"$lookup": {"from": User.Settings.name, "localField": "userId", "foreignField": "_id", "as": "user"}},
        {"$unwind": "$user"},
        {"$lookup": {"from": SecurityPolicy.Settings.name, "pipeline": POLICY_ONLY, "as": "policy"}},
        {
            "$project": {
                **dict.fromkeys(("userId", "expiresAt", "passwordVersion", "createdAt", "authenticatedAt"), 1),
                **dict.fromkeys(("lastUsedAt", "scopes"), 1),
                "user": dict.fromkeys(("username", "role", "active", "passwordVersion", "mfaEnabled"), 1),
                "policy": {"mfaRequiredFor": 1},
            }
        },
    ]

    async def look_up(ids: list[ObjectId]) -> list[Row | None]:
        wanted = list(dict.fromkeys(ids))
        these: Row = {"$match": {"_id": wanted[0] if len(wanted) == 1 else {"$in": wanted}}}
        cursor = await collection_of(model).aggregate([these, *pipeline])
        found = {row["_id"]: row for row in await cursor.to_list()}
        return [found.get(credential_id) for credential_id in ids]

    return Batcher(look_up, at_most=LOOKED_UP_AT_ONCE)


_session_by_id = _credential_by_id(Session)
_api_key_by_id = _credential_by_id(ApiKey)


def may_go_on(user: Row, session: Row) -> bool:
    """Whether the session still counts: the account is on, and its password is the one that was signed in with."""
    return user.get("active") is not False and user.get("passwordVersion", 0) == session["passwordVersion"]


async def mfa_is_required(role: Role, session: AsyncClientSession | None = None) -> bool:
    """Whether the policy demands MFA of this role."""
    policy = await collection_of(SecurityPolicy).find_one({"_id": POLICY_ID}, session=session)
    return role in required_for(policy)


async def security_policy(actor: Actor) -> Row:
    """What is demanded of everybody. Raises `Forbidden`."""
    actor.require(Permission.SET_SECURITY_POLICY)
    policy = await collection_of(SecurityPolicy).find_one({"_id": POLICY_ID})
    return {"mfaRequiredFor": required_for(policy)}


async def list_sessions(actor: Actor, parameters: Mapping[str, str], now: datetime) -> Page:
    """The caller's own sessions that have not ended, newest first. Raises `SessionRequired`, `InvalidInput`."""
    actor.require_session()
    where: Row = {"userId": actor.id, "expiresAt": {"$gt": now}}
    return await _own_page(Session, actor, parameters, where)


async def list_api_keys(actor: Actor, parameters: Mapping[str, str]) -> Page:
    """The caller's own keys, expired ones included, newest first. Raises `SessionRequired`, `InvalidInput`."""
    actor.require_session()
    return await _own_page(ApiKey, actor, parameters, {"userId": actor.id})


async def _own_page(model: type[Session | ApiKey], actor: Actor, parameters: Mapping[str, str], where: Row) -> Page:
    check_parameters(parameters, "limit", "cursor")
    scope = f"{model.Settings.name} {actor.id}"
    limit = parse_limit(parameters.get("limit"))
    cursor = parameters.get("cursor")
    return await read_page(collection_of(model), where, NEWEST_FIRST, scope=scope, cursor=cursor, limit=limit)


async def list_audit(actor: Actor, parameters: Mapping[str, str]) -> Page:
    """The audit log, newest first. Raises `Forbidden`, `InsufficientScope`, `InvalidInput`, `InvalidCursor`."""
    actor.require(Permission.READ_AUDIT)
    check_parameters(parameters, "type", "actor", "target", "limit", "cursor")
    wanted = AuditFilter.parse({name: value for name, value in parameters.items() if name in AUDIT_FIELDS})
    where = {AUDIT_FIELDS[name]: value for name, value in wanted.model_dump(exclude_none=True).items()}
    scope = f"audit {sorted(where.items())}"
    limit, cursor = parse_limit(parameters.get("limit")), parameters.get("cursor")
    return await read_page(collection_of(AuditEntry), where, NEWEST_FIRST, scope=scope, cursor=cursor, limit=limit)


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
