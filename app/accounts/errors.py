"""Why somebody is not let in, or an account is not changed."""

from app.platform.errors import BadRequest, Code, Conflict, Forbidden, Unauthenticated


class InvalidToken(Forbidden):
    """A token that is wrong, expired or revoked (contract S3: 403 and this text)."""

    code = Code.INVALID_TOKEN
    detail = "Invalid or expired token"

    def __init__(self) -> None:
        challenge = 'Bearer realm="ticketing", error="invalid_token", error_description="Invalid or expired token"'
        super().__init__(headers={"WWW-Authenticate": challenge})


class InsufficientScope(Forbidden):
    """An API key that is for less (RFC 6750 §3.1)."""

    code = Code.INSUFFICIENT_SCOPE
    detail = "This API key's scopes do not allow this"

    def __init__(self, needed: str | None = None) -> None:
        challenge = 'Bearer realm="ticketing", error="insufficient_scope"'
        super().__init__(headers={"WWW-Authenticate": f'{challenge}, scope="{needed}"' if needed else challenge})


class SessionRequired(Forbidden):
    code = Code.SESSION_REQUIRED
    detail = "API keys can't do this; sign in"


class ReauthenticationRequired(Forbidden):
    code = Code.REAUTHENTICATION_REQUIRED
    detail = "Prove who you are again: POST /api/me/reauthenticate"


class MfaSetupRequired(Forbidden):
    code = Code.MFA_SETUP_REQUIRED
    detail = "Your role requires multi-factor authentication: POST /api/me/mfa/setup"


class InvalidCredentials(Unauthenticated):
    """Unknown name, wrong password or an account that is switched off: one answer."""

    code = Code.INVALID_CREDENTIALS
    detail = "Invalid username or password"


class MfaRequired(Unauthenticated):
    code = Code.MFA_REQUIRED
    detail = "A one-time code is required: send it as otp, or to /api/login/mfa with the mfaToken"

    def __init__(self, mfa_token: str | None = None) -> None:
        extra = {"mfaToken": mfa_token} if mfa_token else None
        super().__init__(extra=extra, headers={"Cache-Control": "no-store"})


class InvalidMfaToken(Unauthenticated):
    code = Code.INVALID_MFA_TOKEN
    detail = "This mfaToken is wrong, expired or spent; sign in again"


class InvalidOtp(Unauthenticated):
    code = Code.INVALID_OTP
    detail = "The one-time code is wrong or was used before"


class InvalidRecoveryCode(Unauthenticated):
    code = Code.INVALID_RECOVERY_CODE
    detail = "The recovery code is wrong or was used before"


class InvalidRefreshToken(Unauthenticated):
    code = Code.INVALID_REFRESH_TOKEN
    detail = "Invalid or expired refresh token"


class InvalidResetToken(BadRequest):
    code = Code.INVALID_RESET_TOKEN
    detail = "This link is wrong, expired, spent or replaced by a newer one"


class RegistrationClosed(Forbidden):
    code = Code.REGISTRATION_CLOSED
    detail = "Registration is switched off; ask an administrator for an account"


class UsernameTaken(Conflict):
    code = Code.USERNAME_TAKEN
    detail = "This username is taken"


class LastAdmin(Conflict):
    code = Code.LAST_ADMIN
    detail = "The last active Admin can't be removed, demoted or deactivated"


class MfaAlreadyOn(Conflict):
    code = Code.MFA_ALREADY_ON
    detail = "Multi-factor authentication is on already; disable it first"


class MfaNotSetUp(Conflict):
    code = Code.MFA_NOT_SET_UP
    detail = "There is no set-up to complete: POST /api/me/mfa/setup"


class MfaNotOn(Conflict):
    code = Code.MFA_NOT_ON
    detail = "Multi-factor authentication is not on"


class MfaStillRequired(Conflict):
    code = Code.MFA_STILL_REQUIRED
    detail = "Your role requires multi-factor authentication; it can't be disabled"


class TooManyApiKeys(Conflict):
    code = Code.TOO_MANY_API_KEYS
    detail = "There are as many API keys as one user may have; delete one first"
