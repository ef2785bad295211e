"""Every way a request can be refused: the closed list of codes and the root of the error tree.

AppError
├── BadRequest 400 ─ MalformedJson, InvalidCursor, InvalidIdempotencyKey, PreflightRefused
├── Unauthenticated 401
├── Forbidden 403
├── NotFound 404
├── MethodNotAllowed 405
├── Conflict 409 ─ IdempotencyInProgress
├── VersionConflict 412
├── BodyTooLarge 413
├── UnsupportedMediaType 415
├── InvalidInput 422 ─ IdempotencyKeyReused
├── TooManyRequests 429
├── InternalError 500
└── DatabaseUnavailable 503

Errors of one trade live in its folder and derive from these.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar


class Code(StrEnum):
    """The stable words in a problem's `code`; clients branch on them, so none is ever renamed."""

    CORS_REFUSED = "cors_refused"
    DATABASE_UNAVAILABLE = "database_unavailable"
    FORBIDDEN = "forbidden"
    GRAPHQL_INVALID_REQUEST = "graphql_invalid_request"
    GRAPHQL_INVALID_VARIABLES = "graphql_invalid_variables"
    GRAPHQL_NEEDS_WEBSOCKET = "graphql_needs_websocket"
    GRAPHQL_PARSE_FAILED = "graphql_parse_failed"
    GRAPHQL_TOO_COMPLEX = "graphql_too_complex"
    GRAPHQL_TOO_COSTLY = "graphql_too_costly"
    GRAPHQL_TOO_DEEP = "graphql_too_deep"
    GRAPHQL_TOO_MANY_ALIASES = "graphql_too_many_aliases"
    GRAPHQL_TOO_MANY_MUTATIONS = "graphql_too_many_mutations"
    GRAPHQL_TOO_MANY_TOKENS = "graphql_too_many_tokens"
    GRAPHQL_UNKNOWN_OPERATION = "graphql_unknown_operation"
    GRAPHQL_VALIDATION_FAILED = "graphql_validation_failed"
    IDEMPOTENCY_IN_PROGRESS = "idempotency_in_progress"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    ILLEGAL_TRANSITION = "illegal_transition"
    INSUFFICIENT_SCOPE = "insufficient_scope"
    INTERNAL_ERROR = "internal_error"
    INVALID_CREDENTIALS = "invalid_credentials"
    INVALID_CURSOR = "invalid_cursor"
    INVALID_IDEMPOTENCY_KEY = "invalid_idempotency_key"
    INVALID_INPUT = "invalid_input"
    INVALID_MFA_TOKEN = "invalid_mfa_token"  # noqa: S105 - a code, not a secret
    INVALID_OTP = "invalid_otp"
    INVALID_RECOVERY_CODE = "invalid_recovery_code"
    INVALID_REFRESH_TOKEN = "invalid_refresh_token"  # noqa: S105 - a code, not a secret
    INVALID_RESET_TOKEN = "invalid_reset_token"  # noqa: S105 - a code, not a secret
    INVALID_SIGNATURE = "invalid_signature"
    INVALID_TOKEN = "invalid_token"  # noqa: S105 - a code, not a secret
    INVALID_UNSUBSCRIBE_TOKEN = "invalid_unsubscribe_token"  # noqa: S105 - a code, not a secret
    LAST_ADMIN = "last_admin"
    MALFORMED_JSON = "malformed_json"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    MFA_ALREADY_ON = "mfa_already_on"
    MFA_NOT_ON = "mfa_not_on"
    MFA_NOT_SET_UP = "mfa_not_set_up"
    MFA_REQUIRED = "mfa_required"
    MFA_SETUP_REQUIRED = "mfa_setup_required"
    MFA_STILL_REQUIRED = "mfa_still_required"
    NOT_ACCEPTABLE = "not_acceptable"
    NOT_DEAD = "not_dead"
    NOT_DELETED = "not_deleted"
    NOT_EDITABLE = "not_editable"
    NOT_FOUND = "not_found"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    REAUTHENTICATION_REQUIRED = "reauthentication_required"
    REGISTRATION_CLOSED = "registration_closed"
    REOPEN_WINDOW_OVER = "reopen_window_over"
    RESTORE_WINDOW_OVER = "restore_window_over"
    RESYNC_REQUIRED = "resync_required"
    SESSION_REQUIRED = "session_required"
    STATISTICS_INCOMPLETE = "statistics_incomplete"
    TOO_MANY_API_KEYS = "too_many_api_keys"
    TOO_MANY_REQUESTS = "too_many_requests"
    UNAUTHENTICATED = "unauthenticated"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    USERNAME_TAKEN = "username_taken"
    VERSION_CONFLICT = "version_conflict"
    WRITE_CONFLICT = "write_conflict"


# Conflicts that are over in a moment; the others last until somebody does something about them.
PASSING = frozenset({Code.WRITE_CONFLICT, Code.IDEMPOTENCY_IN_PROGRESS})


class AppError(Exception):
    """A refusal with an HTTP status and a code; `extra` adds members to the problem, `headers` to the answer."""

    status: ClassVar[int] = 500
    code: ClassVar[Code] = Code.INTERNAL_ERROR
    detail: ClassVar[str] = "Something went wrong on our side"

    def __init__(
        self,
        detail: str | None = None,
        *,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.text = detail or self.detail
        self.extra = extra or {}
        self.headers = headers or {}
        super().__init__(self.text)


class InternalError(AppError):
    """A fault of ours; the client learns nothing but the request id."""


class BadRequest(AppError):
    status = 400
    code = Code.MALFORMED_JSON
    detail = "The request can't be understood"


class MalformedJson(BadRequest):
    code = Code.MALFORMED_JSON
    detail = "The body is not valid JSON"


class InvalidCursor(BadRequest):
    code = Code.INVALID_CURSOR
    detail = "This cursor does not belong to this list, filter and order"


class InvalidIdempotencyKey(BadRequest):
    code = Code.INVALID_IDEMPOTENCY_KEY
    detail = "Idempotency-Key must be 1 to 255 printable ASCII characters"


class PreflightRefused(BadRequest):
    code = Code.CORS_REFUSED
    detail = "Pages of this origin may not send this request"


class Unauthenticated(AppError):
    """No token at all (contract S3: the text is fixed)."""

    status = 401
    code = Code.UNAUTHENTICATED
    detail = "No token provided"

    def __init__(
        self,
        detail: str | None = None,
        *,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        challenge = {"WWW-Authenticate": 'Bearer realm="ticketing"'}
        super().__init__(detail, extra=extra, headers={**challenge, **(headers or {})})


class Forbidden(AppError):
    status = 403
    code = Code.FORBIDDEN
    detail = "Your role may not do this"


class NotFound(AppError):
    status = 404
    code = Code.NOT_FOUND
    detail = "There is nothing here"


class MethodNotAllowed(AppError):
    status = 405
    code = Code.METHOD_NOT_ALLOWED
    detail = "This method is not available here"


class Conflict(AppError):
    status = 409
    code = Code.WRITE_CONFLICT
    detail = "Others changed this at the same time; please try again"

    def __init__(self, detail: str | None = None, *, extra: Mapping[str, Any] | None = None) -> None:
        super().__init__(detail, extra=extra, headers={"Retry-After": "1"} if self.code in PASSING else None)


class IdempotencyInProgress(Conflict):
    code = Code.IDEMPOTENCY_IN_PROGRESS
    detail = "The first request with this Idempotency-Key is still running"


class VersionConflict(AppError):
    """`If-Match` names another version; the problem carries the present one."""

    status = 412
    code = Code.VERSION_CONFLICT
    detail = "The version in If-Match is not the current one"

    def __init__(self, current_version: int) -> None:
        super().__init__(extra={"currentVersion": current_version}, headers={"ETag": f'"{current_version}"'})


class BodyTooLarge(AppError):
    status = 413
    code = Code.PAYLOAD_TOO_LARGE
    detail = "The body is larger than 1 MiB"

    def __init__(self) -> None:
        # What is left of the body is not read, so the connection can't carry another request.
        super().__init__(headers={"Connection": "close"})


class UnsupportedMediaType(AppError):
    status = 415
    code = Code.UNSUPPORTED_MEDIA_TYPE
    detail = "Send the body as application/json"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field: its dotted path in the body or its parameter name, a stable code, a sentence."""

    field: str
    code: str
    message: str

    def as_dict(self) -> dict[str, str]:
        return {"field": self.field, "code": self.code, "message": self.message}


class InvalidInput(AppError):
    """Values that can't be; all wrong fields at once."""

    status = 422
    code = Code.INVALID_INPUT
    detail = "Some values are not valid"

    def __init__(self, *errors: FieldError) -> None:
        text = "; ".join(f"{e.field}: {e.message}" if e.field else e.message for e in errors[:5])
        super().__init__(text or None, extra={"errors": [e.as_dict() for e in errors]})


class IdempotencyKeyReused(AppError):
    status = 422
    code = Code.IDEMPOTENCY_KEY_REUSED
    detail = "This Idempotency-Key was used for another body"

    def __init__(self) -> None:
        super().__init__(extra={"errors": []})


class TooManyRequests(AppError):
    status = 429
    code = Code.TOO_MANY_REQUESTS
    detail = "Too many requests; please slow down"

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(headers={"Retry-After": str(retry_after_s)})


class DatabaseUnavailable(AppError):
    status = 503
    code = Code.DATABASE_UNAVAILABLE
    detail = "The database can't be reached at the moment"

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "2"})
