"""What is demanded of everybody's accounts."""

from datetime import datetime

from pymongo.asynchronous.client_session import AsyncClientSession

from app.accounts.actor import Actor, Origin
from app.accounts.audit import AuditType, audit_row, record_audit
from app.accounts.documents import SecurityPolicy
from app.accounts.policy import POLICY_ID, required_for
from app.accounts.roles import Permission
from app.accounts.security_schemas import SecurityPolicyPatch
from app.platform.mongo import collection_of, transaction
from app.platform.wire import JsonObject, Row


async def change_security_policy(actor: Actor, body: JsonObject, origin: Origin, *, now: datetime) -> Row:
    """Says which roles must have MFA; whoever lacks it then can do nothing but set it up, at once and everywhere.

    Raises `Forbidden`, `SessionRequired`, `ReauthenticationRequired`, `InvalidInput`.
    """
    actor.require(Permission.SET_SECURITY_POLICY)
    actor.require_recent_sign_in(now)
    patch = SecurityPolicyPatch.parse(body).given()

    async def write(session: AsyncClientSession) -> Row:
        policies = collection_of(SecurityPolicy)
        before = required_for(await policies.find_one({"_id": POLICY_ID}, session=session))
        after = patch.get("mfaRequiredFor", before)
        if after != before:
            change: Row = {"$set": {"mfaRequiredFor": after}}
            await policies.update_one({"_id": POLICY_ID}, change, upsert=True, session=session)
            details = {"mfaRequiredFor": {"from": before, "to": after}}
            row = audit_row(AuditType.SECURITY_POLICY_CHANGED, at=now, origin=origin, actor=actor, details=details)
            await record_audit(row, session)
        return {"mfaRequiredFor": after}

    return await transaction(SecurityPolicy, write)
