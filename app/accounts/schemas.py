"""Accounts on the wire."""

from dataclasses import dataclass
from typing import Annotated, Any, Self

from bson import ObjectId
from pydantic import (
    AfterValidator,
    AwareDatetime,
    Field,
    StrictBool,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from app.platform.wire import STORABLE, Id, Instant, JsonObject, PatchModel, Row, Secret, WireModel

from .actor import Actor
from .audit import AuditType
from .passwords import weakness
from .policy import MAY_BE_REQUIRED_OF
from .roles import Permission, Role, Scope, role_of

MAX_USERNAME = 254
KNOWN_TO_ALL = frozenset({"id", "username", "role", "name"})


def _visible(text: str) -> str:
    if not text.isprintable():
        message = "must not contain control characters"
        raise ValueError(message)
    return text


Username = Annotated[str, StringConstraints(min_length=1, max_length=MAX_USERNAME), STORABLE, AfterValidator(_visible)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200), STORABLE, AfterValidator(_visible)]
# Enough to catch a slip; only a delivered mail proves an address (RFC 5321's length limit).
Email = Annotated[
    str,
    StringConstraints(max_length=254, pattern=r"^[^@\s]+@[^@\s.]+(\.[^@\s.]+)+$"),
    STORABLE,
    AfterValidator(_visible),
]
Otp = Annotated[str, StringConstraints(strip_whitespace=False, max_length=16), STORABLE]
RecoveryCode = Annotated[str, StringConstraints(min_length=1, max_length=64), STORABLE]
NewPassword = Annotated[Secret, Field(description="8 characters to 72 bytes in UTF-8; not common, not the username")]


class Registration(WireModel):
    username: Username
    password: NewPassword
    email: Email | None = None
    name: Name | None = None

    @field_validator("password")
    @classmethod
    def _refuse_weak(cls, password: str, info: ValidationInfo) -> str:
        reason = weakness(password, info.data.get("username", ""))
        if reason:
            raise PydanticCustomError("weak_password", "{reason}", {"reason": reason})
        return password


class Credentials(WireModel):
    username: Annotated[str, StringConstraints(strip_whitespace=False, max_length=1024), STORABLE]
    password: Secret
    otp: Otp | None = Field(default=None, description="The current one-time code, for accounts with MFA")


@dataclass(frozen=True, slots=True)
class SecondFactor:
    """A one-time code or a recovery code."""

    otp: str | None = None
    recovery_code: str | None = None

    @property
    def kind(self) -> str:
        return "otp" if self.recovery_code is None else "recovery_code"


class _WithCode(WireModel):
    otp: Otp | None = Field(default=None, description="The current one-time code")
    recovery_code: RecoveryCode | None = Field(default=None, description="In its place: an unused recovery code")

    @model_validator(mode="after")
    def _refuse_both(self) -> Self:
        if self.otp is not None and self.recovery_code is not None:
            message = "send otp or recoveryCode, not both"
            raise ValueError(message)
        return self

    @property
    def factor(self) -> SecondFactor | None:
        is_given = self.otp is not None or self.recovery_code is not None
        return SecondFactor(self.otp, self.recovery_code) if is_given else None


class MfaAnswer(_WithCode):
    mfa_token: Secret = Field(description="From the `mfa_required` answer of `login`")

    @model_validator(mode="after")
    def _refuse_neither(self) -> Self:
        if self.factor is None:
            message = "send otp or recoveryCode"
            raise ValueError(message)
        return self


class Proof(_WithCode):
    """Who somebody is, once more; accounts with MFA send a code as well."""

    password: Secret


class RefreshRequest(WireModel):
    refresh_token: Secret


class PasswordChange(WireModel):
    current_password: Secret
    new_password: NewPassword


class ForgotRequest(WireModel):
    username: Annotated[str, StringConstraints(strip_whitespace=False, max_length=1024), STORABLE]


class ResetRequest(WireModel):
    token: Secret = Field(description="From the link, after `#token=`")
    password: NewPassword


class ProfilePatch(PatchModel):
    email: Email | None = None
    name: Name | None = None


class UserCreate(Registration):
    role: Role = Role.CUSTOMER


class UserPatch(ProfilePatch):
    role: Role = Role.CUSTOMER
    active: StrictBool = True


class OneTimeCode(WireModel):
    otp: Otp = Field(description="The authenticator's first code")


class MfaSetupOut(WireModel):
    secret: str = Field(description="Base32, for authenticators without a camera")
    otpauth_uri: str
    qr_svg: str = Field(description="The same URI as an SVG picture")


class RecoveryCodesOut(WireModel):
    recovery_codes: list[str] | None = Field(
        description="Each is good once, in place of a one-time code. Shown this once; null in a repeated answer"
    )


class ReauthenticatedOut(WireModel):
    valid_until: Instant = Field(description="Until then this session may change what needs a recent sign-in")


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
    expires_at: AwareDatetime | None = Field(
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


class UserOut(WireModel):
    id: Id
    username: str
    role: Role
    email: str | None
    name: str | None
    active: bool
    mfa_enabled: bool
    created_at: Instant | None


class UserList(WireModel):
    items: list[UserOut]
    next_cursor: str | None


class TokensOut(WireModel):
    token: str = Field(description="The access token: send it as `Authorization: Bearer …`")
    token_type: str
    expires_in: int = Field(description="Seconds that the access token is good for")
    refresh_token: str
    user: UserOut


USER_EXAMPLE: JsonObject = {
    "id": "6740a1f0c3b2a1d4e5f60718",
    "username": "carol@example.com",
    "role": "Customer",
    "email": None,
    "name": "Carol",
    "active": True,
    "mfaEnabled": False,
    "createdAt": "2026-11-22T09:30:00.000Z",
}
SIGNED_IN_EXAMPLE: JsonObject = {
    "token": "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.…",
    "tokenType": "Bearer",
    "expiresIn": 3600,
    "refreshToken": "rt_6740a1f0c3b2a1d4e5f60719_0_…",
    "user": USER_EXAMPLE,
}


def user_out(row: JsonObject) -> Row:
    """A stored user, an original one included, as `UserOut` has it; never the hash nor the MFA secret."""
    return {
        "id": row["_id"],
        "username": row["username"],
        "role": role_of(row),
        "email": row.get("email"),
        "name": row.get("name"),
        "active": row.get("active") is not False,
        "mfaEnabled": row.get("mfaEnabled") is True,
        "createdAt": row.get("createdAt"),
    }


def user_seen_by(actor: Actor, row: JsonObject) -> Row:
    """The user as `user_out` has them, with null for what this actor may not know of somebody they met on a ticket."""
    user = user_out(row)
    if actor.may(Permission.READ_USERS) or actor.id == row["_id"]:
        return user
    return {name: value if name in KNOWN_TO_ALL else None for name, value in user.items()}


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
