"""The table of permissions, cell by cell, and the reading of stored roles."""

from typing import Any

import pytest
from bson import ObjectId

from app.accounts.actor import Actor
from app.accounts.roles import PERMISSIONS, Permission, Role, has_permission, role_of
from app.platform.errors import Forbidden

MAY = {
    (Role.AGENT, Permission.READ_USERS),
    (Role.AGENT, Permission.WORK_TICKETS),
    (Role.ADMIN, Permission.READ_USERS),
    (Role.ADMIN, Permission.MANAGE_USERS),
    (Role.ADMIN, Permission.WORK_TICKETS),
    (Role.ADMIN, Permission.DELETE_TICKETS),
    (Role.ADMIN, Permission.READ_AUDIT),
    (Role.ADMIN, Permission.SET_SECURITY_POLICY),
    (Role.ADMIN, Permission.MANAGE_MAIL),
}
CELLS = [(role, permission) for role in Role for permission in Permission]


class TestPermissions:
    def test_every_role_has_a_row(self) -> None:
        assert set(PERMISSIONS) == set(Role)

    @pytest.mark.parametrize(("role", "permission"), CELLS)
    def test_role_may_exactly_this(self, role: Role, permission: Permission) -> None:
        actor = Actor(ObjectId(), "somebody", role, ObjectId())

        assert has_permission(role, permission) is ((role, permission) in MAY)
        assert actor.may(permission) is ((role, permission) in MAY)

    @pytest.mark.parametrize(("role", "permission"), CELLS)
    def test_require_refuses_what_may_not_be(self, role: Role, permission: Permission) -> None:
        actor = Actor(ObjectId(), "somebody", role, ObjectId())

        if (role, permission) in MAY:
            actor.require(permission)
        else:
            with pytest.raises(Forbidden):
                actor.require(permission)


class TestRoleOf:
    @pytest.mark.parametrize(
        ("row", "role"),
        [
            ({"role": "Admin"}, Role.ADMIN),
            ({"role": "Agent"}, Role.AGENT),
            ({"role": "Customer"}, Role.CUSTOMER),
            ({}, Role.CUSTOMER),
            ({"role": None}, Role.CUSTOMER),
            ({"role": "admin"}, Role.CUSTOMER),
            ({"role": " Admin"}, Role.CUSTOMER),
            ({"role": "Owner"}, Role.CUSTOMER),
            ({"role": True}, Role.CUSTOMER),
            ({"role": 1}, Role.CUSTOMER),
            ({"role": ["Admin"]}, Role.CUSTOMER),
            ({"role": {"$ne": "Admin"}}, Role.CUSTOMER),
        ],
    )
    def test_unknown_roles_may_do_the_least(self, row: dict[str, Any], role: Role) -> None:
        assert role_of(row) == role
