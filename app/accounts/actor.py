"""Who is acting: the signed-in user as rules and commands see them."""

from dataclasses import dataclass

from bson import ObjectId

from app.platform.errors import Forbidden

from .roles import Permission, Role, has_permission


@dataclass(frozen=True, slots=True)
class Actor:
    """A user with the role that is in force now, and the session that brought them here."""

    id: ObjectId
    username: str
    role: Role
    session_id: ObjectId

    def may(self, permission: Permission) -> bool:
        return has_permission(self.role, permission)

    def require(self, permission: Permission) -> None:
        """Raises `Forbidden` unless the role has the permission."""
        if not self.may(permission):
            raise Forbidden
