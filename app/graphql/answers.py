"""What clients are answered: data, cost, and errors of every kind in one form."""

import logging
from collections.abc import Sequence
from typing import Any

from graphql import ExecutionResult, GraphQLError

from app.platform.errors import AppError, InternalError
from app.platform.http import to_app_error
from app.platform.wire import Row

from .errors import MAX_ERRORS, InvalidVariables

logger = logging.getLogger(__name__)


def result_out(result: ExecutionResult, cost: int, request_id: str) -> Row:
    """The answer to an operation that was executed, for `to_json`."""
    shown: Row = {"data": result.data}
    if result.errors:
        shown["errors"] = errors_out(result.errors, request_id)
    return {**shown, "extensions": {"cost": cost}}


def errors_out(errors: Sequence[GraphQLError], request_id: str) -> list[dict[str, Any]]:
    """The errors as answers have them. What nobody foresaw is masked, and the first of it logged with its traceback."""
    shown = [(error, _meaning_of(error)) for error in errors]
    unforeseen = [error for error, meaning in shown if isinstance(meaning, InternalError)]
    if unforeseen:
        cause = unforeseen[0].original_error or unforeseen[0]
        logger.error("unhandled error", exc_info=cause, extra={"count": len(unforeseen)})
    return [_error_out(error, meaning, request_id) for error, meaning in shown[:MAX_ERRORS]]


def error_out(error: AppError, request_id: str) -> dict[str, Any]:
    """A refusal that concerns no place in a document."""
    return _error_out(GraphQLError(error.text), error, request_id)


def _meaning_of(error: GraphQLError) -> AppError:
    cause = error.original_error
    while isinstance(cause, GraphQLError) and cause.original_error is not None:
        cause = cause.original_error
    # What the library itself finds while it executes is about values that were sent.
    return InvalidVariables(error.message) if cause is None or isinstance(cause, GraphQLError) else to_app_error(cause)


def _error_out(error: GraphQLError, meaning: AppError, request_id: str) -> dict[str, Any]:
    formatted: dict[str, Any] = dict(error.formatted)
    formatted.pop("extensions", None)
    extensions = {"code": meaning.code, "status": meaning.status, **meaning.extra, "requestId": request_id}
    return {**formatted, "message": meaning.text, "extensions": extensions}
