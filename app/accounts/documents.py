"""What is stored about users and their sessions; `users` keeps the original's field names (contract S4)."""

from datetime import datetime
from typing import Any

from beanie import Document
from pydantic import ConfigDict, Field, model_validator
from pymongo import IndexModel
from pymongo.collation import Collation, CollationStrength

from app.platform.wire import Id, stored_name

from .roles import Role, role_of

# Finds old accounts, which have no usernameKey, without regard to case.
ANY_CASE = Collation("en", strength=CollationStrength.SECONDARY)


class User(Document):
    """An account. Only what the original wrote is sure to be there."""

    model_config = ConfigDict(alias_generator=stored_name, extra="ignore")

    username: str
    username_key: str | None = None
    """The username without case and outer blanks: unique among new accounts."""
    password: str | None = None
    password_version: int = 0
    """Raised by each change of the password; sessions of an older one are over."""
    role: Role = Role.CUSTOMER
    mfa_enabled: bool = False
    mfa_secret: str | None = None
    mfa_last_step: int | None = None
    """The last TOTP step that was accepted: none is accepted twice."""
    email: str | None = None
    name: str | None = None
    active: bool = True
    created_at: datetime | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_leniently(cls, row: dict[str, Any]) -> dict[str, Any]:
        """Old rows may hold null where a default is meant; a role that we don't know may do the least."""
        kept = {name: value for name, value in row.items() if value is not None}
        return kept | {"role": role_of(row)} if "role" in kept else kept

    class Settings:
        name = "users"
        indexes = [
            IndexModel("username", name="username_1", unique=True),
            IndexModel("username", name="username_any_case", collation=ANY_CASE),
            IndexModel(
                "usernameKey", name="username_key", unique=True, partialFilterExpression={"usernameKey": {"$gt": ""}}
            ),
            IndexModel([("role", 1), ("_id", 1)], name="role"),
        ]


class Session(Document):
    """One sign-in. Deleting it ends it in every process at once, since every request looks it up."""

    model_config = ConfigDict(alias_generator=stored_name, extra="ignore")

    user_id: Id
    password_version: int
    generation: int = 0
    """How often the refresh token was rotated; the token of this generation is the one to use."""
    rotated_at: datetime
    created_at: datetime
    expires_at: datetime
    device: str | None = Field(default=None, description="The client's User-Agent")
    address: str | None = None

    class Settings:
        name = "sessions"
        indexes = [
            IndexModel("userId", name="user"),
            IndexModel("expiresAt", name="expiry", expireAfterSeconds=0),
        ]


def username_key(username: str) -> str:
    return username.strip().casefold()
