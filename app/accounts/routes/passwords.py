"""Changing the password, and choosing a new one when it is forgotten."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.accounts.commands.passwords import change_password, request_reset, reset_password
from app.accounts.deps import (
    SIGNED_OUT,
    STEP_UP_ERRORS,
    Anonymous,
    Person,
    TheIdempotency,
    TheMail,
    TheOrigin,
    TheVerifier,
)
from app.accounts.errors import InvalidCredentials, InvalidResetToken
from app.accounts.schemas import ForgotRequest, PasswordChange, ResetRequest
from app.platform.clock import now
from app.platform.errors import TooManyRequests
from app.platform.http import NO_STORE, read_json
from app.platform.idempotency import Answer
from app.platform.openapi import Body, Success, describe

router = APIRouter()
_DONE = Answer(204, headers=tuple(NO_STORE.items()))
_ACCEPTED = Answer(202, headers=tuple(NO_STORE.items()))


@router.post(
    "/api/me/password",
    tags=["me"],
    **describe(
        "changePassword",
        Success(204, headers=("Idempotency-Replayed",)),
        body=Body(PasswordChange, {"currentPassword": "a long passphrase", "newPassword": "an even longer one"}),
        errors=[*SIGNED_OUT, *STEP_UP_ERRORS, InvalidCredentials, TooManyRequests],
        request_headers=["Idempotency-Key"],
    ),
)
async def change_password_route(
    request: Request, actor: Person, verifier: TheVerifier, idempotency: TheIdempotency, origin: TheOrigin
) -> Response:
    """Changes the caller's password and ends all other sessions. It takes a recent sign-in."""
    body = await read_json(request)
    return await idempotency.run(
        request,
        body,
        lambda once: change_password(actor, body, origin, verifier=verifier, now=now(), once=once),
        lambda _: _DONE,
    )


@router.post(
    "/api/password/forgot",
    tags=["sign-in"],
    dependencies=[Anonymous],
    **describe(
        "forgotPassword",
        Success(202, headers=("Idempotency-Replayed",)),
        body=Body(ForgotRequest, {"username": "carol@example.com"}),
        errors=[TooManyRequests],
        request_headers=["Idempotency-Key"],
    ),
)
async def forgot_password_route(
    request: Request, mail: TheMail, idempotency: TheIdempotency, origin: TheOrigin
) -> Response:
    """Mails a link to a new password, good once and for an hour, to the account's e-mail or, without one, to a username
    that is an address. The answer is the same whether there is such an account or not. A new link voids the one before;
    an address gets three an hour at most.
    """
    body = await read_json(request)
    public_url: str = request.state.public_url
    return await idempotency.run(
        request,
        body,
        lambda once: request_reset(body, origin, public_url=public_url, mail=mail, now=now(), once=once),
        lambda _: _ACCEPTED,
    )


@router.post(
    "/api/password/reset",
    tags=["sign-in"],
    dependencies=[Anonymous],
    **describe(
        "resetPassword",
        Success(204, headers=("Idempotency-Replayed",)),
        body=Body(ResetRequest, {"token": "pr_…", "password": "a long passphrase"}),
        errors=[InvalidResetToken, TooManyRequests],
        request_headers=["Idempotency-Key"],
    ),
)
async def reset_password_route(
    request: Request, verifier: TheVerifier, idempotency: TheIdempotency, origin: TheOrigin
) -> Response:
    """Sets a new password by the token of a mailed link and ends all sessions of the account. MFA stays as it is. After
    a 422 the token is still good.
    """
    body = await read_json(request)
    return await idempotency.run(
        request,
        body,
        lambda once: reset_password(body, origin, verifier=verifier, now=now(), once=once),
        lambda _: _DONE,
    )
