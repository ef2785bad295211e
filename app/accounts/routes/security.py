"""What Admins demand and what they look back on: the security policy and the audit log."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.accounts.audit import AuditType
from app.accounts.commands.policy import change_security_policy
from app.accounts.deps import SIGNED_OUT, STEP_UP_ERRORS, CurrentActor, PolicyMaker, TheOrigin
from app.accounts.errors import InsufficientScope
from app.accounts.queries import list_audit, security_policy
from app.accounts.security_schemas import AuditList, SecurityPolicyOut, SecurityPolicyPatch, audit_out
from app.platform.clock import now
from app.platform.errors import Forbidden
from app.platform.http import json_response, read_json
from app.platform.openapi import PAGE_PARAMETERS, Body, Success, describe, query_parameter
from app.platform.paging import page_response

router = APIRouter(tags=["security"])
POLICY_EXAMPLE = {"mfaRequiredFor": ["Agent", "Admin"]}
AUDIT_EXAMPLE = {
    "id": "6740a1f0c3b2a1d4e5f6071b",
    "type": "account.role_changed",
    "at": "2026-11-22T09:30:00.000Z",
    "actor": {"id": "6740a1f0c3b2a1d4e5f60710", "username": "ada", "role": "Admin"},
    "target": {"id": "6740a1f0c3b2a1d4e5f60718", "username": "carol@example.com", "role": "Agent"},
    "address": "203.0.113.7",
    "device": "curl/8.11.0",
    "details": {"role": {"from": "Customer", "to": "Agent"}},
}
FOR_ADMINS = (*SIGNED_OUT, Forbidden, InsufficientScope)
POLICY = Success(200, SecurityPolicyOut, POLICY_EXAMPLE)


@router.get("/api/security-policy", **describe("getSecurityPolicy", POLICY, errors=FOR_ADMINS))
async def get_policy_route(actor: CurrentActor) -> Response:
    """Which roles must have MFA."""
    return json_response(await security_policy(actor))


@router.patch(
    "/api/security-policy",
    **describe(
        "updateSecurityPolicy",
        POLICY,
        body=Body(SecurityPolicyPatch, POLICY_EXAMPLE),
        errors=[*FOR_ADMINS, *STEP_UP_ERRORS],
    ),
)
async def change_policy_route(request: Request, actor: PolicyMaker, origin: TheOrigin) -> Response:
    """Says which roles must have MFA. Whoever lacks it then can set it up and nothing else, at once and everywhere."""
    return json_response(await change_security_policy(actor, await read_json(request), origin, now=now()))


@router.get(
    "/api/audit",
    **describe(
        "listAuditEntries",
        Success(200, AuditList, {"items": [AUDIT_EXAMPLE], "nextCursor": None}, ("Link",)),
        errors=FOR_ADMINS,
        parameters=[
            query_parameter("type", "Only this type", {"type": "string", "enum": list(AuditType)}),
            query_parameter("actor", "Only what this user did, by id", {"type": "string"}),
            query_parameter("target", "Only what this user's account is about, by id", {"type": "string"}),
            *PAGE_PARAMETERS,
        ],
    ),
)
async def list_audit_route(request: Request, actor: CurrentActor) -> Response:
    """The audit log, newest first: sign-ins and refusals, and changes of roles, passwords, MFA, keys and policy."""
    page = await list_audit(actor, request.query_params)
    return page_response(request, page, [audit_out(row) for row in page.rows])
