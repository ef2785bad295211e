"""The audit log: what happened to accounts and to what lets people in. Append-only: nothing here changes a row."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from beanie import Document
from bson import ObjectId
from pydantic import ConfigDict
from pymongo import IndexModel
from pymongo.asynchronous.client_session import AsyncClientSession

from app.platform.mongo import collection_of
from app.platform.wire import Row, stored_name

from .actor import Actor, Origin, username_of
from .roles import role_of


class AuditType(StrEnum):
    """Whoever watches the log branches on these words, so none is ever renamed."""

    ACCESS_DENIED = "access.denied"
    ACCOUNT_REGISTERED = "account.registered"
    ACCOUNT_CREATED = "account.created"
    ACCOUNT_ACTIVATED = "account.activated"
    ACCOUNT_DEACTIVATED = "account.deactivated"
    ACCOUNT_DELETED = "account.deleted"
    ACCOUNT_EMAIL_CHANGED = "account.email_changed"
    ACCOUNT_ROLE_CHANGED = "account.role_changed"
    API_KEY_CREATED = "api_key.created"
    API_KEY_DELETED = "api_key.deleted"
    MFA_ENABLED = "mfa.enabled"
    MFA_DISABLED = "mfa.disabled"
    MFA_RESET = "mfa.reset"
    MFA_RECOVERY_CODES_RENEWED = "mfa.recovery_codes_renewed"
    MFA_RECOVERY_CODE_USED = "mfa.recovery_code_used"
    PASSWORD_CHANGED = "password.changed"  # noqa: S105 - a word for what happened
    PASSWORD_RESET_REQUESTED = "password.reset_requested"  # noqa: S105 - a word for what happened
    PASSWORD_RESET = "password.reset"  # noqa: S105 - a word for what happened
    REAUTHENTICATION_SUCCEEDED = "reauthentication.succeeded"
    REAUTHENTICATION_FAILED = "reauthentication.failed"
    SECURITY_POLICY_CHANGED = "security_policy.changed"
    SESSION_ENDED = "session.ended"
    SESSION_REFRESH_REUSED = "session.refresh_reused"
    SIGN_IN_SUCCEEDED = "sign_in.succeeded"
    SIGN_IN_FAILED = "sign_in.failed"
    SIGN_OUT = "sign_out"


class AuditEntry(Document):
    """One security event: who did what to whom, from where. Never holds a password, code, token or key."""

    model_config = ConfigDict(alias_generator=stored_name)

    type: AuditType
    at: datetime

    class Settings:
        name = "audit"
        # Each filter with the order of the list behind it.
        indexes = [
            IndexModel([("type", 1), ("_id", 1)], name="type"),
            IndexModel([("actor.id", 1), ("_id", 1)], name="actor"),
            IndexModel([("target.id", 1), ("_id", 1)], name="target"),
        ]


def audit_row(
    event: AuditType,
    *,
    at: datetime,
    origin: Origin,
    actor: Actor | None = None,
    target: Mapping[str, Any] | None = None,
    details: Mapping[str, Any] | None = None,
) -> Row:
    """A row of the log. `target` is a stored user: whose account it is about, if there is one."""
    return {
        "_id": ObjectId(),
        "type": event,
        "at": at,
        "actor": actor and {"id": actor.id, "username": actor.username, "role": actor.role},
        "target": target and {"id": target["_id"], "username": username_of(target), "role": role_of(target)},
        "address": origin.address,
        "device": origin.device,
        "details": dict(details or {}),
    }


async def record_audit(row: Row, session: AsyncClientSession | None = None) -> None:
    """Writes a row, in the transaction of the change that it tells of, if there is one."""
    await collection_of(AuditEntry).insert_one(row, session=session)
