"""The caller's own account, and everybody's for those who run the place."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from app.accounts.commands.people import change_password, change_profile, change_user, create_user, delete_user
from app.accounts.deps import SIGNED_OUT, CurrentActor, TheIdempotency, ThePasswords, object_id
from app.accounts.errors import InvalidCredentials, LastAdmin, UsernameTaken
from app.accounts.queries import get_user, list_users, read_user
from app.accounts.roles import Role
from app.accounts.schemas import (
    USER_EXAMPLE,
    PasswordChange,
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
UserReference = Annotated[str, Path(alias="userId", description="The user's id", examples=[USER_EXAMPLE["id"]])]
USER = Success(200, UserOut, USER_EXAMPLE)


@router.get("/api/me", tags=["me"], **describe("getMe", USER, errors=SIGNED_OUT))
async def get_me(actor: CurrentActor) -> Response:
    """The caller's own account."""
    return json_response(user_out(await get_user(actor.id)))


@router.patch(
    "/api/me",
    tags=["me"],
    **describe("updateMe", USER, body=Body(ProfilePatch, {"name": "Carol C."}), errors=SIGNED_OUT),
)
async def update_me(request: Request, actor: CurrentActor) -> Response:
    """Changes the caller's e-mail and name (JSON merge patch)."""
    return json_response(user_out(await change_profile(actor, await read_json(request))))


@router.post(
    "/api/me/password",
    tags=["me"],
    **describe(
        "changePassword",
        Success(204, headers=("Idempotency-Replayed",)),
        body=Body(PasswordChange, {"currentPassword": "a long passphrase", "newPassword": "an even longer one"}),
        errors=[*SIGNED_OUT, InvalidCredentials, TooManyRequests],
        request_headers=["Idempotency-Key"],
    ),
)
async def change_password_route(
    request: Request, actor: CurrentActor, passwords: ThePasswords, idempotency: TheIdempotency
) -> Response:
    """Changes the caller's password and ends all other sessions."""
    body = await read_json(request)
    return await idempotency.run(
        request,
        body,
        lambda once: change_password(actor, body, passwords=passwords, once=once),
        lambda _: Answer(204),
    )


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
        errors=[*SIGNED_OUT, Forbidden, UsernameTaken, TooManyRequests],
        request_headers=["Idempotency-Key"],
    ),
)
async def create_user_route(
    request: Request, actor: CurrentActor, passwords: ThePasswords, idempotency: TheIdempotency
) -> Response:
    """Opens an account of any role."""
    body = await read_json(request)
    return await idempotency.run(
        request,
        body,
        lambda once: create_user(actor, body, passwords=passwords, now=now(), once=once),
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
        errors=[*SIGNED_OUT, Forbidden, NotFound, LastAdmin, Conflict],
    ),
)
async def update_user_route(user_id: UserReference, request: Request, actor: CurrentActor) -> Response:
    """Changes role, e-mail, name or whether the account is on (JSON merge patch). The role in force changes at once;
    an account that is switched off loses its sessions.
    """
    target = object_id(user_id)
    return json_response(user_out(await change_user(actor, target, await read_json(request))))


@router.delete(
    "/api/users/{userId}",
    tags=["users"],
    **describe("deleteUser", Success(204), errors=[*SIGNED_OUT, Forbidden, NotFound, LastAdmin, Conflict]),
)
async def delete_user_route(user_id: UserReference, actor: CurrentActor) -> Response:
    """Removes an account and its sessions. Tickets and history keep its id."""
    await delete_user(actor, object_id(user_id))
    return no_content()
