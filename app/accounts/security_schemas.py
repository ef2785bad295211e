"""What lets people in, what is demanded of them and what was seen of it, on the wire."""

import re
from typing import Annotated, Any

from bson import ObjectId
from pydantic import AwareDatetime, BeforeValidator, Field, field_validator

from app.platform.wire import Id, Instant, JsonObject, PatchModel, Row, WireModel

from .audit import AuditType
from .policy import MAY_BE_REQUIRED_OF
from .roles import Role, Scope
from .schemas import Name

_RFC_3339 = re.compile(r"\s*\d{4}-\d\d-\d\d[Tt ]", re.ASCII)


def _refuse_other_forms(value: object) -> object:
    """Pydantic takes seconds since 1970 as well, also as text."""
    if not isinstance(value, str) or not _RFC_3339.match(value):
        message = "must be an instant such as 2027-01-31T00:00:00Z"
        raise ValueError(message)
    return value


class SessionOut(WireModel):
    id: Id
    device: str | None = Field(description="The client's User-Agent at the sign-in")
    address: str | None = Field(description="Where the sign-in came from")
    created_at: Instant
    last_used_at: Instant = Field(description="To within five minutes")
    expires_at: Instant = Field(description="Later with each use, to 30 days after the start at most")
    current: bool = Field(description="The session that asks")


class SessionList(WireModel):
    items: list[SessionOut]
    next_cursor: str | None


class ApiKeyCreate(WireModel):
    name: Name
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(Scope))] = Field(
        description="`read`: see what you see; `tickets`: and change tickets; `admin`: and all else that your role may"
    )
    expires_at: Annotated[AwareDatetime, BeforeValidator(_refuse_other_forms)] | None = Field(
        default=None, description="At most 366 days ahead; 90 days when absent", examples=["2027-01-31T00:00:00Z"]
    )


class ApiKeyOut(WireModel):
    id: Id
    name: str
    scopes: list[Scope]
    hint: str = Field(description="The key's last characters")
    created_at: Instant
    expires_at: Instant
    last_used_at: Instant | None = Field(description="To within five minutes")


class ApiKeyCreated(ApiKeyOut):
    key: str | None = Field(description="Shown this once; null when the answer is repeated for its Idempotency-Key")


class ApiKeyList(WireModel):
    items: list[ApiKeyOut]
    next_cursor: str | None


class SecurityPolicyPatch(PatchModel):
    mfa_required_for: Annotated[list[Role], Field(max_length=len(MAY_BE_REQUIRED_OF))] = Field(
        default=[], description="Roles whose accounts must have MFA: any of Agent and Admin"
    )

    @field_validator("mfa_required_for")
    @classmethod
    def _refuse_others(cls, roles: list[Role]) -> list[Role]:
        if not set(roles) <= set(MAY_BE_REQUIRED_OF):
            message = f"may hold {' and '.join(MAY_BE_REQUIRED_OF)}"
            raise ValueError(message)
        return [role for role in MAY_BE_REQUIRED_OF if role in roles]


class SecurityPolicyOut(WireModel):
    mfa_required_for: list[Role]


class AuditFilter(WireModel):
    type: AuditType | None = None
    actor: Id | None = None
    target: Id | None = None


class AuditPerson(WireModel):
    id: Id
    username: str
    role: Role = Field(description="As it was then")


class AuditEntryOut(WireModel):
    id: Id
    type: AuditType
    at: Instant
    actor: AuditPerson | None = Field(description="Who did it, signed in; null for a stranger or the machine itself")
    target: AuditPerson | None = Field(description="Whose account it is about")
    address: str | None
    device: str | None
    details: dict[str, Any]


class AuditList(WireModel):
    items: list[AuditEntryOut]
    next_cursor: str | None


def session_out(row: JsonObject, current: ObjectId) -> Row:
    return {
        "id": row["_id"],
        "device": row.get("device"),
        "address": row.get("address"),
        "createdAt": row["createdAt"],
        "lastUsedAt": row.get("lastUsedAt") or row["createdAt"],
        "expiresAt": row["expiresAt"],
        "current": row["_id"] == current,
    }


def api_key_out(row: JsonObject) -> Row:
    """A stored key as `ApiKeyOut` has it; never the digest."""
    shown = ("name", "scopes", "hint", "createdAt", "expiresAt", "lastUsedAt")
    return {"id": row["_id"], **{name: row[name] for name in shown}}


def audit_out(row: JsonObject) -> Row:
    shown = ("type", "at", "actor", "target", "address", "device", "details")
    return {"id": row["_id"], **{name: row[name] for name in shown}}
