"""Multi-factor authentication: the caller's own, and its reset by an Admin."""

from io import BytesIO

import segno
from fastapi import APIRouter, Request
from starlette.responses import Response

from app.accounts.commands.mfa import disable_mfa, enable_mfa, renew_recovery_codes, reset_mfa, set_up_mfa
from app.accounts.deps import (
    ENROLLING,
    SIGNED_OUT,
    STEP_UP_ERRORS,
    CurrentActor,
    EnrollingActor,
    EnrollingPerson,
    Person,
    TheIdempotency,
    TheOrigin,
    TheVerifier,
    UserReference,
    object_id,
)
from app.accounts.errors import (
    InsufficientScope,
    InvalidCredentials,
    InvalidOtp,
    InvalidRecoveryCode,
    MfaAlreadyOn,
    MfaNotOn,
    MfaNotSetUp,
    MfaRequired,
    MfaStillRequired,
)
from app.accounts.schemas import MfaSetupOut, OneTimeCode, Proof, RecoveryCodesOut
from app.platform.clock import now
from app.platform.errors import Forbidden, NotFound, TooManyRequests
from app.platform.http import NO_STORE, json_response, no_content, read_json
from app.platform.idempotency import Answer
from app.platform.openapi import Body, Success, describe
from app.platform.wire import to_json

router = APIRouter(tags=["mfa"])
REPLAYED = ("Idempotency-Replayed",)
SETUP_EXAMPLE = {
    "secret": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP",
    "otpauthUri": "otpauth://totp/Ticketing:carol?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=Ticketing",
    "qrSvg": "<svg …>…</svg>",
}
CODES_EXAMPLE = {"recoveryCodes": ["7K2M-04QX-9ZTB-H1CD", "…"]}


@router.post(
    "/api/me/mfa/setup",
    **describe(
        "setUpMfa", Success(200, MfaSetupOut, SETUP_EXAMPLE), errors=[*ENROLLING, *STEP_UP_ERRORS, MfaAlreadyOn]
    ),
)
async def set_up_mfa_route(actor: EnrollingActor, verifier: TheVerifier) -> Response:
    """A secret for the authenticator. MFA stays off until `enableMfa` was sent its first code."""
    setup = await set_up_mfa(actor, secrets=verifier.secrets, now=now())
    body = {"secret": setup.secret, "otpauthUri": setup.uri, "qrSvg": _qr_svg(setup.uri)}
    return json_response(body, headers=NO_STORE)


@router.post(
    "/api/me/mfa/enable",
    **describe(
        "enableMfa",
        Success(200, RecoveryCodesOut, CODES_EXAMPLE, REPLAYED),
        body=Body(OneTimeCode, {"otp": "492039"}),
        errors=[*ENROLLING, *STEP_UP_ERRORS, InvalidOtp, MfaAlreadyOn, MfaNotSetUp, TooManyRequests],
        request_headers=["Idempotency-Key"],
    ),
)
async def enable_mfa_route(
    request: Request, actor: EnrollingPerson, verifier: TheVerifier, idempotency: TheIdempotency, origin: TheOrigin
) -> Response:
    """Turns MFA on, by the first code of the authenticator that was set up. Keep the recovery codes: each is good once
    in place of a one-time code.
    """
    body = await read_json(request)
    return await idempotency.run(
        request,
        body,
        lambda once: enable_mfa(actor, body, origin, verifier=verifier, now=now(), once=once),
        _shown_once,
    )


@router.post(
    "/api/me/mfa/disable",
    **describe(
        "disableMfa",
        Success(204, headers=REPLAYED),
        body=Body(Proof, {"password": "a long passphrase", "otp": "492039"}),
        errors=[
            *SIGNED_OUT,
            *STEP_UP_ERRORS,
            *(InvalidCredentials, MfaRequired, InvalidOtp, InvalidRecoveryCode),
            *(MfaNotOn, MfaStillRequired, TooManyRequests),
        ],
        request_headers=["Idempotency-Key"],
    ),
)
async def disable_mfa_route(
    request: Request, actor: Person, verifier: TheVerifier, idempotency: TheIdempotency, origin: TheOrigin
) -> Response:
    """Turns MFA off, by password and code."""
    body = await read_json(request)
    return await idempotency.run(
        request,
        body,
        lambda once: disable_mfa(actor, body, origin, verifier=verifier, now=now(), once=once),
        lambda _: Answer(204),
    )


@router.post(
    "/api/me/mfa/recovery-codes",
    **describe(
        "renewRecoveryCodes",
        Success(200, RecoveryCodesOut, CODES_EXAMPLE, REPLAYED),
        errors=[*SIGNED_OUT, *STEP_UP_ERRORS, MfaNotOn],
        request_headers=["Idempotency-Key"],
    ),
)
async def renew_recovery_codes_route(
    request: Request, actor: Person, verifier: TheVerifier, idempotency: TheIdempotency, origin: TheOrigin
) -> Response:
    """Ten new recovery codes; the old ones are void."""
    return await idempotency.run(
        request,
        None,
        lambda once: renew_recovery_codes(actor, origin, verifier=verifier, now=now(), once=once),
        _shown_once,
    )


@router.delete(
    "/api/users/{userId}/mfa",
    **describe(
        "resetUserMfa",
        Success(204),
        errors=[*SIGNED_OUT, *STEP_UP_ERRORS, Forbidden, InsufficientScope, NotFound, MfaNotOn],
    ),
)
async def reset_mfa_route(
    user_id: UserReference, actor: CurrentActor, verifier: TheVerifier, origin: TheOrigin
) -> Response:
    """Turns a user's MFA off, for who has lost authenticator and recovery codes. The user is told by e-mail."""
    await reset_mfa(actor, object_id(user_id), origin, verifier=verifier, now=now())
    return no_content()


def _shown_once(codes: list[str]) -> Answer:
    shown = to_json({"recoveryCodes": codes})
    return Answer(200, to_json({"recoveryCodes": None}), tuple(NO_STORE.items()), shown=shown)


def _qr_svg(uri: str) -> str:
    picture = BytesIO()
    segno.make(uri, error="m").save(picture, kind="svg", scale=4, xmldecl=False)
    return picture.getvalue().decode()
