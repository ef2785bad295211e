"""Registering, signing in, staying in and signing out."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.accounts.commands.people import register
from app.accounts.commands.sessions import end_session
from app.accounts.commands.signin import SignedIn, complete_sign_in, reauthenticate, refresh_session, sign_in
from app.accounts.deps import (
    ENROLLING,
    Anonymous,
    EnrollingActor,
    EnrollingPerson,
    TheIdempotency,
    TheOrigin,
    ThePasswords,
    TheTokens,
    TheVerifier,
)
from app.accounts.errors import (
    InvalidCredentials,
    InvalidMfaToken,
    InvalidOtp,
    InvalidRecoveryCode,
    InvalidRefreshToken,
    MfaRequired,
    RegistrationClosed,
    SessionRequired,
    UsernameTaken,
)
from app.accounts.schemas import (
    SIGNED_IN_EXAMPLE,
    USER_EXAMPLE,
    Credentials,
    MfaAnswer,
    Proof,
    ReauthenticatedOut,
    RefreshRequest,
    Registration,
    TokensOut,
    UserOut,
    user_out,
)
from app.platform.clock import now
from app.platform.errors import TooManyRequests
from app.platform.http import NO_STORE, json_response, no_content, read_json
from app.platform.idempotency import Answer
from app.platform.openapi import Body, Success, describe
from app.platform.wire import Row

router = APIRouter(tags=["sign-in"])


@router.post(
    "/api/register",
    dependencies=[Anonymous],
    **describe(
        "register",
        Success(201, UserOut, USER_EXAMPLE, ("Idempotency-Replayed",)),
        body=Body(Registration, {"username": "carol@example.com", "password": "a long passphrase", "name": "Carol"}),
        errors=[RegistrationClosed, UsernameTaken, TooManyRequests],
        request_headers=["Idempotency-Key"],
    ),
)
async def register_route(
    request: Request, passwords: ThePasswords, idempotency: TheIdempotency, origin: TheOrigin
) -> Response:
    """Opens an account. It is always a Customer's; roles are given by an Admin."""
    body = await read_json(request)
    is_open: bool = request.state.registration_is_open
    return await idempotency.run(
        request,
        body,
        lambda once: register(body, origin, is_open=is_open, passwords=passwords, now=now(), once=once),
        _created,
    )


@router.post(
    "/api/login",
    dependencies=[Anonymous],
    **describe(
        "login",
        Success(200, TokensOut, SIGNED_IN_EXAMPLE),
        body=Body(Credentials, {"username": "carol@example.com", "password": "a long passphrase"}),
        errors=[InvalidCredentials, MfaRequired, InvalidOtp, TooManyRequests],
    ),
)
async def login_route(request: Request, verifier: TheVerifier, tokens: TheTokens, origin: TheOrigin) -> Response:
    """Signs in. Send `token` as `Authorization: Bearer …`; keep `refreshToken` to get a new pair.

    Accounts with MFA need the one-time code as well: as `otp`, or after the 401 `mfa_required` with its `mfaToken`.
    """
    credentials = Credentials.parse(await read_json(request))
    return _signed_in(await sign_in(credentials, origin, verifier=verifier, tokens=tokens, now=now()))


@router.post(
    "/api/login/mfa",
    dependencies=[Anonymous],
    **describe(
        "completeLogin",
        Success(200, TokensOut, SIGNED_IN_EXAMPLE),
        body=Body(MfaAnswer, {"mfaToken": "eyJhbGciOiJIUzI1NiIsInR5cCI6Im1mYStqd3QifQ.…", "otp": "492039"}),
        errors=[InvalidCredentials, InvalidMfaToken, InvalidOtp, InvalidRecoveryCode, TooManyRequests],
    ),
)
async def complete_login_route(
    request: Request, verifier: TheVerifier, tokens: TheTokens, origin: TheOrigin
) -> Response:
    """Completes a sign-in with a one-time code, or with a recovery code in its place. An `mfaToken` is good for five
    minutes and one session.
    """
    answer = MfaAnswer.parse(await read_json(request))
    return _signed_in(await complete_sign_in(answer, origin, verifier=verifier, tokens=tokens, now=now()))


@router.post(
    "/api/token/refresh",
    dependencies=[Anonymous],
    **describe(
        "refreshToken",
        Success(200, TokensOut, SIGNED_IN_EXAMPLE),
        body=Body(RefreshRequest, {"refreshToken": SIGNED_IN_EXAMPLE["refreshToken"]}),
        errors=[InvalidRefreshToken],
    ),
)
async def refresh_route(request: Request, tokens: TheTokens, origin: TheOrigin) -> Response:
    """Changes a refresh token for a new pair. Each is good once: a second use ends the session, except that the
    last one may be repeated for 10 s, in case its answer got lost, and gets the same new refresh token.
    """
    body = RefreshRequest.parse(await read_json(request))
    return _signed_in(await refresh_session(body.refresh_token, origin, tokens=tokens, now=now()))


@router.post("/api/logout", **describe("logout", Success(204), errors=[*ENROLLING, SessionRequired]))
async def logout_route(actor: EnrollingActor, origin: TheOrigin) -> Response:
    """Signs out: this session's tokens stop working at once."""
    await end_session(actor, actor.credential_id, origin=origin, now=now())
    return no_content()


@router.post(
    "/api/me/reauthenticate",
    **describe(
        "reauthenticate",
        Success(200, ReauthenticatedOut, {"validUntil": "2026-11-22T09:40:00.000Z"}),
        body=Body(Proof, {"password": "a long passphrase"}),
        errors=[
            *ENROLLING,
            *(SessionRequired, InvalidCredentials, MfaRequired, InvalidOtp, InvalidRecoveryCode, TooManyRequests),
        ],
    ),
)
async def reauthenticate_route(
    request: Request, actor: EnrollingPerson, verifier: TheVerifier, origin: TheOrigin
) -> Response:
    """Proves once more who one is. For ten minutes after that, or after the sign-in, this session may change the
    password, e-mail, MFA, roles and API keys.
    """
    body = await read_json(request)
    valid_until = await reauthenticate(actor, body, origin, verifier=verifier, now=now())
    return json_response({"validUntil": valid_until})


def _signed_in(signed_in: SignedIn) -> Response:
    body = {
        "token": signed_in.token,
        "tokenType": "Bearer",
        "expiresIn": signed_in.expires_in_s,
        "refreshToken": signed_in.refresh_token,
        "user": user_out(signed_in.user),
    }
    return json_response(body, headers=NO_STORE)


def _created(row: Row) -> Answer:
    return Answer.json(user_out(row), status=201)
