"""Roles, what each may do, and how much of it an API key may: the tables of permissions."""

from collections.abc import Iterable, Mapping
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
    READ_AUDIT = "read_audit"
    SET_SECURITY_POLICY = "set_security_policy"
    MANAGE_MAIL = "manage_mail"
    """See what became of all mail, and have it tried again."""


class Scope(StrEnum):
    """What an API key is for; each includes those before it."""

    READ = "read"
    """See what its owner sees."""
    TICKETS = "tickets"
    """Change tickets as its owner may."""
    ADMIN = "admin"
    """Use the other permissions of its owner's role."""


PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.CUSTOMER: frozenset(),
    Role.AGENT: frozenset({Permission.READ_USERS, Permission.WORK_TICKETS}),
    Role.ADMIN: frozenset(Permission),
}


# What a key needs beside its owner's role; for the rest, being a key of somebody who may is enough.
SCOPES: dict[Permission, Scope] = {
    Permission.DELETE_TICKETS: Scope.TICKETS,
    Permission.MANAGE_MAIL: Scope.ADMIN,
    Permission.MANAGE_USERS: Scope.ADMIN,
    Permission.READ_AUDIT: Scope.ADMIN,
    Permission.SET_SECURITY_POLICY: Scope.ADMIN,
}


def widest(scopes: Iterable[str]) -> Scope:
    """The scope that includes the others; what we don't know adds nothing."""
    given = set(scopes)
    return next((scope for scope in reversed(Scope) if scope in given), Scope.READ)


def includes(scope: Scope, other: Scope) -> bool:
    order = list(Scope)
    return order.index(scope) >= order.index(other)


def has_permission(role: Role, permission: Permission) -> bool:
    return permission in PERMISSIONS[role]


def role_of(row: Mapping[str, Any]) -> Role:
    """The role in a stored user; what is missing or unknown may do the least."""
    role = row.get("role")
    return Role(role) if role in list(Role) else Role.CUSTOMER
