"""What is stored about users and what lets them in; `users` keeps the original's field names (contract S4)."""

import unicodedata
from datetime import datetime
from typing import Any

from beanie import Document
from pydantic import ConfigDict, Field, model_validator
from pymongo import IndexModel
from pymongo.collation import Collation, CollationAlternate, CollationMaxVariable, CollationStrength

from app.platform.wire import Id, stored_name

from .roles import Role, role_of

# Finds old accounts, which have no usernameKey, without regard to case, blanks and the way that letters are composed.
LOOSELY = Collation(
    "en",
    strength=CollationStrength.SECONDARY,
    alternate=CollationAlternate.SHIFTED,
    maxVariable=CollationMaxVariable.SPACE,
    normalization=True,
)


class User(Document):
    """An account. Only what the original wrote is sure to be there."""

    model_config = ConfigDict(alias_generator=stored_name, extra="ignore")

    username: str
    username_key: str | None = None
    """The username without case, outer blanks and ways to compose letters: unique among new accounts."""
    password: str | None = None
    password_version: int = 0
    """Raised by each change of the password, and by switching the account off; sessions of an older one are over."""
    role: Role = Role.CUSTOMER
    mfa_enabled: bool = False
    mfa_secret: str | None = None
    mfa_last_step: int | None = None
    """The last TOTP step that was accepted: none is accepted twice."""
    mfa_pending_secret: str | None = None
    """A set-up that waits for its first right code; encrypted."""
    recovery_codes: list[str] = []
    """Digests of those that were not used yet."""
    email: str | None = None
    proven_address: str | None = None
    """Where the mail with a link went that was used last: who has the account reads mail there."""
    name: str | None = None
    active: bool = True
    created_at: datetime | None = None
    api_keys_made: int = 0
    """Raised by each new key, so that no two are made at once."""

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
            IndexModel("username", name="username_loosely", collation=LOOSELY),
            IndexModel(
                "usernameKey", name="username_key", unique=True, partialFilterExpression={"usernameKey": {"$gt": ""}}
            ),
            IndexModel([("role", 1), ("_id", 1)], name="role"),
        ]


class Session(Document):
    """One sign-in. Deleting it ends it in every process at once, since every request looks it up.

    `expires_at` is the nearer of two ends: so long after the sign-in, and so long after its last use.
    """

    model_config = ConfigDict(alias_generator=stored_name, extra="ignore")

    user_id: Id
    password_version: int
    generation: int = 0
    """How often the refresh token was rotated; the token of this generation is the one to use."""
    rotated_at: datetime
    created_at: datetime
    authenticated_at: datetime
    """When the person last proved who they are."""
    last_used_at: datetime
    """To within some minutes: not every request writes."""
    expires_at: datetime
    device: str | None = Field(default=None, description="The client's User-Agent")
    address: str | None = None

    class Settings:
        name = "sessions"
        indexes = [
            IndexModel("userId", name="user"),
            IndexModel("expiresAt", name="expiry", expireAfterSeconds=0),
        ]


class ApiKey(Document):
    """A key for a machine. Of the key itself only a digest is kept; with 160 random bits it needs no slow hash."""

    model_config = ConfigDict(alias_generator=stored_name, extra="ignore")

    user_id: Id
    name: str
    digest: bytes
    hint: str = Field(description="The key's last characters, to know it again by")
    scopes: list[str]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = None

    class Settings:
        name = "api_keys"
        indexes = [
            IndexModel("digest", name="digest", unique=True),
            IndexModel([("userId", 1), ("_id", 1)], name="user"),
        ]


class PasswordReset(Document):
    """The newest link of an account to a new password: a digest of it, by the user's id.

    Somebody unknown has one as well, under an id of nobody, so that asking costs the same.
    """

    model_config = ConfigDict(alias_generator=stored_name)

    digest: bytes
    expires_at: datetime

    class Settings:
        name = "password_resets"
        indexes = [
            IndexModel("digest", name="digest", unique=True),
            IndexModel("expiresAt", name="expiry", expireAfterSeconds=0),
        ]


class SpentToken(Document):
    """A token that is good once and was used, by its own id."""

    model_config = ConfigDict(alias_generator=stored_name)

    id: str  # type: ignore[assignment]
    expires_at: datetime

    class Settings:
        name = "spent_tokens"
        indexes = [IndexModel("expiresAt", name="expiry", expireAfterSeconds=0)]


class SecurityPolicy(Document):
    """What an Admin demands of everybody; one row."""

    model_config = ConfigDict(alias_generator=stored_name)

    id: str  # type: ignore[assignment]
    mfa_required_for: list[str]

    class Settings:
        name = "security_policy"


def username_key(username: str) -> str:
    """What names that look alike have in common (Unicode's NFKC, without case and outer blanks)."""
    caseless = unicodedata.normalize("NFKC", username).casefold()
    return unicodedata.normalize("NFKC", caseless).strip()
