"""Roles and what each may do: the one table of permissions."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class Role(StrEnum):
    """The original's three roles, exactly as stored."""

    ADMIN = "Admin"
    AGENT = "Agent"
    CUSTOMER = "Customer"


class Permission(StrEnum):
    READ_USERS = "read_users"
    MANAGE_USERS = "manage_users"
    WORK_TICKETS = "work_tickets"
    """See every ticket and change every field of it."""
    DELETE_TICKETS = "delete_tickets"


PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.CUSTOMER: frozenset(),
    Role.AGENT: frozenset({Permission.READ_USERS, Permission.WORK_TICKETS}),
    Role.ADMIN: frozenset(Permission),
}


def has_permission(role: Role, permission: Permission) -> bool:
    return permission in PERMISSIONS[role]


def role_of(row: Mapping[str, Any]) -> Role:
    """The role in a stored user; what is missing or unknown may do the least."""
    role = row.get("role")
    return Role(role) if role in list(Role) else Role.CUSTOMER
