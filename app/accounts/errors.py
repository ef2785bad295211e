"""Why somebody is not let in, or an account is not changed."""

from app.platform.errors import Code, Conflict, Forbidden, Unauthenticated


class InvalidToken(Forbidden):
    """A token that is wrong, expired or revoked (contract S3: 403 and this text)."""

    code = Code.INVALID_TOKEN
    detail = "Invalid or expired token"

    def __init__(self) -> None:
        challenge = 'Bearer realm="ticketing", error="invalid_token", error_description="Invalid or expired token"'
        super().__init__(headers={"WWW-Authenticate": challenge})


class InvalidCredentials(Unauthenticated):
    """Unknown name, wrong password or an account that is switched off: one answer."""

    code = Code.INVALID_CREDENTIALS
    detail = "Invalid username or password"


class MfaRequired(Unauthenticated):
    code = Code.MFA_REQUIRED
    detail = "A one-time code is required: send it as otp"


class InvalidOtp(Unauthenticated):
    code = Code.INVALID_OTP
    detail = "The one-time code is wrong or was used before"


class InvalidRefreshToken(Unauthenticated):
    code = Code.INVALID_REFRESH_TOKEN
    detail = "Invalid or expired refresh token"


class RegistrationClosed(Forbidden):
    code = Code.REGISTRATION_CLOSED
    detail = "Registration is switched off; ask an administrator for an account"


class UsernameTaken(Conflict):
    code = Code.USERNAME_TAKEN
    detail = "This username is taken"


class LastAdmin(Conflict):
    code = Code.LAST_ADMIN
    detail = "The last active Admin can't be removed, demoted or deactivated"
