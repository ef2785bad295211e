"""Who is acting: the signed-in user, or an API key of theirs, as rules and commands see them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

from app.platform.errors import Forbidden

from .errors import InsufficientScope, ReauthenticationRequired, SessionRequired
from .roles import SCOPES, Permission, Role, Scope, has_permission, includes

# How recent a proof of identity must be for what could lock the owner out or let others in.
STEP_UP = timedelta(minutes=10)


def username_of(user: Mapping[str, Any]) -> str:
    """The name in a stored user; empty for a row of an old database that has none."""
    name = user.get("username")
    return name if isinstance(name, str) else ""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request comes from, as far as that can be known."""

    device: str | None = None
    """The client's `User-Agent`."""
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Actor:
    """A user with the role that is in force now, and the session or API key that speaks for them."""

    id: ObjectId
    username: str
    role: Role
    credential_id: ObjectId
    """The session's id, or the key's."""
    authenticated_at: datetime | None = None
    """When the person of this session last proved who they are; None with a key."""
    scope: Scope | None = None
    """What the key is for; None with a session, which may do all that the role may."""
    last_used_at: datetime | None = None
    """When session or key were last used, as stored: to within some minutes."""

    def may(self, permission: Permission) -> bool:
        is_in_scope = self.scope is None or includes(self.scope, SCOPES.get(permission, Scope.READ))
        return is_in_scope and has_permission(self.role, permission)

    def require(self, permission: Permission) -> None:
        """Raises `Forbidden` unless the role has the permission, `InsufficientScope` unless the key may use it."""
        if not has_permission(self.role, permission):
            raise Forbidden
        self.require_scope(SCOPES.get(permission, Scope.READ))

    def require_scope(self, scope: Scope) -> None:
        """Raises `InsufficientScope` for an API key that is for less."""
        if self.scope is not None and not includes(self.scope, scope):
            raise InsufficientScope(scope)

    def require_session(self) -> None:
        """Raises `SessionRequired` for API keys: some things are for people alone."""
        if self.authenticated_at is None:
            raise SessionRequired

    def require_recent_sign_in(self, now: datetime) -> None:
        """Raises `SessionRequired`, or `ReauthenticationRequired` when the last proof of identity is too old."""
        self.require_session()
        if self.authenticated_at is None or self.authenticated_at <= now - STEP_UP:
            raise ReauthenticationRequired
