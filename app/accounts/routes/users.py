"""The caller's own account, and everybody's for those who run the place."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.accounts.commands.people import change_profile, change_user, create_user, delete_user
from app.accounts.deps import (
    ENROLLING,
    SIGNED_OUT,
    STEP_UP_ERRORS,
    CurrentActor,
    EnrollingActor,
    Person,
    TheIdempotency,
    TheMail,
    TheOrigin,
    ThePasswords,
    TheVerifier,
    UserManager,
    UserReference,
    object_id,
)
from app.accounts.errors import InsufficientScope, LastAdmin, UsernameTaken
from app.accounts.queries import get_user, list_users, read_user
from app.accounts.roles import Role
from app.accounts.schemas import (
    USER_EXAMPLE,
    ProfilePatch,
    UserCreate,
    UserList,
    UserOut,
    UserPatch,
    user_out,
)
from app.platform.clock import now
from app.platform.errors import Conflict, Forbidden, NotFound, TooManyRequests
from app.platform.http import json_response, no_content, read_json
from app.platform.idempotency import Answer
from app.platform.openapi import PAGE_PARAMETERS, Body, Success, describe, query_parameter
from app.platform.paging import page_response

router = APIRouter()
USER = Success(200, UserOut, USER_EXAMPLE)
FOR_ADMINS = (*SIGNED_OUT, Forbidden, InsufficientScope)


@router.get("/api/me", tags=["me"], **describe("getMe", USER, errors=ENROLLING))
async def get_me(actor: EnrollingActor) -> Response:
    """The caller's own account."""
    return json_response(user_out(await get_user(actor.id)))


@router.patch(
    "/api/me",
    tags=["me"],
    **describe(
        "updateMe",
        USER,
        body=Body(ProfilePatch, {"name": "Carol C."}),
        errors=[*SIGNED_OUT, *STEP_UP_ERRORS, Conflict, TooManyRequests],
    ),
)
async def update_me(request: Request, actor: Person, verifier: TheVerifier, origin: TheOrigin) -> Response:
    """Changes the caller's e-mail and name (JSON merge patch). The e-mail takes a recent sign-in; whoever changes it
    more than five times waits longer each time.
    """
    body = await read_json(request)
    return json_response(user_out(await change_profile(actor, body, origin, verifier=verifier, now=now())))


@router.get(
    "/api/users",
    tags=["users"],
    **describe(
        "listUsers",
        Success(200, UserList, {"items": [USER_EXAMPLE], "nextCursor": None}, ("Link",)),
        errors=[*SIGNED_OUT, Forbidden],
        parameters=[
            query_parameter("role", "Only this role", {"type": "string", "enum": list(Role)}),
            *PAGE_PARAMETERS,
        ],
    ),
)
async def list_users_route(request: Request, actor: CurrentActor) -> Response:
    """All accounts, newest first."""
    page = await list_users(actor, request.query_params)
    return page_response(request, page, [user_out(row) for row in page.rows])


@router.post(
    "/api/users",
    tags=["users"],
    **describe(
        "createUser",
        Success(201, UserOut, USER_EXAMPLE, ("Location", "Idempotency-Replayed")),
        body=Body(UserCreate, {"username": "dave", "password": "a long passphrase", "role": "Agent"}),
        errors=[*FOR_ADMINS, *STEP_UP_ERRORS, UsernameTaken, TooManyRequests],
        request_headers=["Idempotency-Key"],
    ),
)
async def create_user_route(
    request: Request, actor: UserManager, passwords: ThePasswords, idempotency: TheIdempotency, origin: TheOrigin
) -> Response:
    """Opens an account of any role; more than a Customer's takes a recent sign-in."""
    body = await read_json(request)
    return await idempotency.run(
        request,
        body,
        lambda once: create_user(actor, body, origin, passwords=passwords, now=now(), once=once),
        lambda row: Answer.json(user_out(row), status=201, location=f"/api/users/{row['_id']}"),
    )


@router.get(
    "/api/users/{userId}", tags=["users"], **describe("getUser", USER, errors=[*SIGNED_OUT, Forbidden, NotFound])
)
async def get_user_route(user_id: UserReference, actor: CurrentActor) -> Response:
    """One account."""
    return json_response(user_out(await read_user(actor, object_id(user_id))))


@router.patch(
    "/api/users/{userId}",
    tags=["users"],
    **describe(
        "updateUser",
        USER,
        body=Body(UserPatch, {"role": "Agent"}),
        errors=[*FOR_ADMINS, *STEP_UP_ERRORS, NotFound, LastAdmin, Conflict],
    ),
)
async def update_user_route(
    user_id: UserReference, request: Request, actor: UserManager, mail: TheMail, origin: TheOrigin
) -> Response:
    """Changes role, e-mail, name or whether the account is on (JSON merge patch). The role in force changes at once;
    an account that is switched off loses its sessions. Role and e-mail take a recent sign-in.
    """
    target, body = object_id(user_id), await read_json(request)
    return json_response(user_out(await change_user(actor, target, body, origin, mail=mail, now=now())))


@router.delete(
    "/api/users/{userId}",
    tags=["users"],
    **describe("deleteUser", Success(204), errors=[*FOR_ADMINS, NotFound, LastAdmin, Conflict]),
)
async def delete_user_route(user_id: UserReference, actor: CurrentActor, origin: TheOrigin) -> Response:
    """Removes an account and its sessions. Tickets and history keep its id."""
    await delete_user(actor, object_id(user_id), origin, now=now())
    return no_content()
