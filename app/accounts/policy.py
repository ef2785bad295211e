"""What Admins may demand of accounts: MFA, by role."""

from collections.abc import Mapping
from typing import Any

from .roles import Role, role_of

POLICY_ID = "security"
# Customers are many and come by themselves; demanding it of them is the business of another kind of product.
MAY_BE_REQUIRED_OF = (Role.AGENT, Role.ADMIN)


def required_for(policy: Mapping[str, Any] | None) -> list[Role]:
    """The roles that must have MFA, by the stored policy; none before there is one."""
    stored = policy["mfaRequiredFor"] if policy else []
    return [role for role in MAY_BE_REQUIRED_OF if role in stored]


def mfa_is_missing(user: Mapping[str, Any], policy: Mapping[str, Any] | None) -> bool:
    return user.get("mfaEnabled") is not True and role_of(user) in required_for(policy)
