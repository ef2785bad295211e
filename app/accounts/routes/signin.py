"""Registering, signing in, staying in and signing out."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.accounts.commands.people import register
from app.accounts.commands.signin import Origin, SignedIn, refresh_session, sign_in, sign_out
from app.accounts.deps import SIGNED_OUT, CurrentActor, TheIdempotency, ThePasswords, TheTokens
from app.accounts.errors import (
    InvalidCredentials,
    InvalidOtp,
    InvalidRefreshToken,
    MfaRequired,
    RegistrationClosed,
    UsernameTaken,
)
from app.accounts.schemas import (
    SIGNED_IN_EXAMPLE,
    USER_EXAMPLE,
    Credentials,
    RefreshRequest,
    Registration,
    TokensOut,
    UserOut,
    user_out,
)
from app.platform.clock import now
from app.platform.errors import TooManyRequests
from app.platform.http import json_response, no_content, read_json
from app.platform.idempotency import Answer
from app.platform.openapi import Body, Success, describe
from app.platform.wire import Row

router = APIRouter(tags=["sign-in"])


@router.post(
    "/api/register",
    **describe(
        "register",
        Success(201, UserOut, USER_EXAMPLE, ("Idempotency-Replayed",)),
        body=Body(Registration, {"username": "carol@example.com", "password": "a long passphrase", "name": "Carol"}),
        errors=[RegistrationClosed, UsernameTaken, TooManyRequests],
        request_headers=["Idempotency-Key"],
    ),
)
async def register_route(request: Request, passwords: ThePasswords, idempotency: TheIdempotency) -> Response:
    """Opens an account. It is always a Customer's; roles are given by an Admin."""
    body = await read_json(request)
    is_open: bool = request.state.registration_is_open
    return await idempotency.run(
        request,
        body,
        lambda once: register(body, is_open=is_open, passwords=passwords, now=now(), once=once),
        _created,
    )


@router.post(
    "/api/login",
    **describe(
        "login",
        Success(200, TokensOut, SIGNED_IN_EXAMPLE),
        body=Body(Credentials, {"username": "carol@example.com", "password": "a long passphrase"}),
        errors=[InvalidCredentials, MfaRequired, InvalidOtp, TooManyRequests],
    ),
)
async def login_route(request: Request, passwords: ThePasswords, tokens: TheTokens) -> Response:
    """Signs in. Send `token` as `Authorization: Bearer …`; keep `refreshToken` to get a new pair."""
    credentials = Credentials.parse(await read_json(request))
    origin = Origin(request.headers.get("user-agent"), request.client.host if request.client else None)
    return _signed_in(await sign_in(credentials, origin, passwords=passwords, tokens=tokens, now=now()))


@router.post(
    "/api/token/refresh",
    **describe(
        "refreshToken",
        Success(200, TokensOut, SIGNED_IN_EXAMPLE),
        body=Body(RefreshRequest, {"refreshToken": SIGNED_IN_EXAMPLE["refreshToken"]}),
        errors=[InvalidRefreshToken],
    ),
)
async def refresh_route(request: Request, tokens: TheTokens) -> Response:
    """Changes a refresh token for a new pair. Each is good once: a second use ends the session, except that the
    last one may be repeated for 10 s, in case its answer got lost, and gets the same new refresh token.
    """
    body = RefreshRequest.parse(await read_json(request))
    return _signed_in(await refresh_session(body.refresh_token, tokens=tokens, now=now()))


@router.post("/api/logout", **describe("logout", Success(204), errors=SIGNED_OUT))
async def logout_route(actor: CurrentActor) -> Response:
    """Signs out: this session's tokens stop working at once."""
    await sign_out(actor)
    return no_content()


def _signed_in(signed_in: SignedIn) -> Response:
    body = {
        "token": signed_in.token,
        "tokenType": "Bearer",
        "expiresIn": signed_in.expires_in_s,
        "refreshToken": signed_in.refresh_token,
        "user": user_out(signed_in.user),
    }
    return json_response(body, headers={"Cache-Control": "no-store"})


def _created(row: Row) -> Answer:
    return Answer.json(user_out(row), status=201)
