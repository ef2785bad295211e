"""Accounts on the wire."""

from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    Field,
    StrictBool,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from app.platform.wire import STORABLE, Id, Instant, JsonObject, PatchModel, Row, Secret, WireModel

from .actor import Actor, username_of
from .passwords import weakness
from .roles import Permission, Role, role_of

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
        "username": username_of(row),
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
