"""How routes describe themselves in the OpenAPI document, which is generated from the same models that they use.

Routes read bodies and answer rows by hand (see `http.read_json`), so FastAPI can't infer either; `describe` says both.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.responses import Response

from .errors import (
    PASSING,
    AppError,
    BodyTooLarge,
    Code,
    Conflict,
    DatabaseUnavailable,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InternalError,
    InvalidCursor,
    InvalidIdempotencyKey,
    InvalidInput,
    MalformedJson,
    TooManyRequests,
    Unauthenticated,
    UnsupportedMediaType,
    VersionConflict,
)
from .http import JSON, MAX_LEVELS, PROBLEM_JSON
from .idempotency import MAX_KEY_LENGTH
from .paging import DEFAULT_LIMIT, MAX_LIMIT
from .wire import NoFields, Problem, WireModel

_REF = "#/components/schemas/{model}"
_REQUEST_HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "If-Match": ('The version to change, as `ETag` gave it: `"3"`; 412 if the ticket has moved on', {}),
    "If-None-Match": ("The version that the client has; 304 if it is still the current one", {}),
    "Idempotency-Key": (
        "1 to 255 printable ASCII characters; the same key within 24 h gets the first answer again",
        {"minLength": 1, "maxLength": MAX_KEY_LENGTH, "pattern": "^[ -~]+$"},
    ),
}
_RESPONSE_HEADERS = {
    "ETag": "The version, quoted: for `If-Match` and `If-None-Match`",
    "Link": 'The next page, `rel="next"` (RFC 8288)',
    "Location": "Where the new object is",
    "Idempotency-Replayed": "`true` when this answer is the first request's, repeated",
}
# By what all refusals of a status have, or those of a code alone.
_ERROR_HEADERS: dict[int | Code, dict[str, str]] = {
    401: {"WWW-Authenticate": "How to authenticate (RFC 6750)"},
    Code.INVALID_TOKEN: {"WWW-Authenticate": "What is wrong with the token (RFC 6750)"},
    Code.VERSION_CONFLICT: {"ETag": "The version to work from"},
    **{code: {"Retry-After": "Seconds until the next attempt may succeed; only with what passes"} for code in PASSING},
    429: {
        "Retry-After": "Seconds until the next attempt can succeed",
        "RateLimit-Policy": 'Which budget counts, and its size per minute: `"user";q=3000;w=60`',
        "RateLimit": 'What is left of it, and in how many seconds it is full again: `"user";r=2999;t=42`',
    },
    503: {"Retry-After": "Seconds until the next attempt may succeed"},
}
# The routes read the header themselves, because the texts of the refusals are fixed (contract S3).
_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "The `token` of `POST /api/login`, or an API key",
}
_models: dict[type[WireModel], str] = {}
_success_examples: dict[tuple[str, int], Any] = {}


@dataclass(frozen=True, slots=True)
class Success:
    """An answer of the good kind: its model (none for an empty body or text), an example of it, and its headers;

    `is_list` where it is an array of the model.
    """

    status: int
    model: type[WireModel] | None = None
    example: Any = None
    headers: tuple[str, ...] = ()
    media_type: str = JSON
    is_list: bool = False


@dataclass(frozen=True, slots=True)
class Body:
    """The JSON object that an operation takes."""

    model: type[WireModel]
    example: Mapping[str, Any]
    is_required: bool = True


NO_BODY = Body(NoFields, {}, is_required=False)


def describe(
    operation_id: str,
    *successes: Success,
    body: Body | None = None,
    errors: Sequence[type[AppError]] = (),
    request_headers: Sequence[str] = (),
    parameters: Sequence[Mapping[str, Any]] = (),
    is_limited: bool = True,
) -> dict[str, Any]:
    """Keyword arguments for a route decorator. Errors that follow from the rest of the description are added;

    an operation that can refuse for want of a token is one that needs it, and all but `is_limited=False` cost a request
    of somebody's budget.
    """
    extra: dict[str, Any] = {"parameters": [*parameters, *(_header_parameter(name) for name in request_headers)]}
    if Unauthenticated in errors:
        extra["security"] = [{"bearer": []}]
    if body is not None:
        schema = _reference(body.model, "validation")
        extra["requestBody"] = {
            "description": f"At most 1 MiB, and {MAX_LEVELS} levels of arrays and objects in each other",
            "required": body.is_required,
            "content": {JSON: {"schema": schema, "example": body.example}},
        }
    _success_examples.update({(operation_id, s.status): s.example for s in successes if s.model is not None})
    everything = [*errors, *_implied_errors(body, request_headers, parameters)]
    if is_limited:
        everything.append(TooManyRequests)
    return {
        "operation_id": operation_id,
        "summary": _as_words(operation_id),
        "status_code": successes[0].status,
        "response_class": Response,
        "responses": {**{s.status: _success(s) for s in successes}, **_error_responses(everything)},
        "openapi_extra": extra,
    }


def _as_words(operation_id: str) -> str:
    """`createTicket` becomes "Create ticket"."""
    return re.sub(r"(?<!^)([A-Z])", lambda letter: f" {letter[0].lower()}", operation_id).capitalize()


def query_parameter(name: str, description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


LIMIT_PARAMETER = query_parameter(
    "limit", "Items at most", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
)
PAGE_PARAMETERS = (
    LIMIT_PARAMETER,
    query_parameter("cursor", "Where to go on: `nextCursor` of the page before", {"type": "string"}),
)


def _implied_errors(
    body: Body | None, request_headers: Sequence[str], parameters: Sequence[Mapping[str, Any]]
) -> list[type[AppError]]:
    errors: list[type[AppError]] = [DatabaseUnavailable, InternalError, BodyTooLarge]
    if body is not None:
        errors += [MalformedJson, UnsupportedMediaType, InvalidInput]
    if "If-Match" in request_headers:
        errors.append(VersionConflict)
    if "Idempotency-Key" in request_headers:
        errors += [InvalidIdempotencyKey, IdempotencyInProgress, IdempotencyKeyReused, Conflict]
    if parameters:
        errors.append(InvalidInput)
    if any(parameter["name"] == "cursor" for parameter in parameters):
        errors.append(InvalidCursor)
    return errors


def _success(success: Success) -> dict[str, Any]:
    described: dict[str, Any] = {"description": HTTPStatus(success.status).phrase}
    if success.model is not None:
        item = _reference(success.model, "serialization")
        schema = {"type": "array", "items": item} if success.is_list else item
        described["content"] = {JSON: {"schema": schema, "example": success.example}}
    elif success.media_type != JSON:
        described["content"] = {success.media_type: {"schema": {"type": "string"}, "example": success.example}}
    if success.headers:
        described["headers"] = _headers({name: _RESPONSE_HEADERS[name] for name in success.headers})
    return described


def _headers(descriptions: Mapping[str, str]) -> dict[str, Any]:
    return {name: {"description": text, "schema": {"type": "string"}} for name, text in descriptions.items()}


def _error_responses(errors: Sequence[type[AppError]]) -> dict[int | str, dict[str, Any]]:
    responses: dict[int | str, dict[str, Any]] = {}
    for error in sorted(set(errors), key=lambda e: (e.status, e.code)):
        response = responses.setdefault(
            error.status,
            {
                "description": HTTPStatus(error.status).phrase,
                "content": {PROBLEM_JSON: {"schema": _reference(Problem, "serialization"), "examples": {}}},
            },
        )
        if headers := _ERROR_HEADERS.get(error.status, {}) | _ERROR_HEADERS.get(error.code, {}):
            response.setdefault("headers", {}).update(_headers(headers))
        response["content"][PROBLEM_JSON]["examples"][str(error.code)] = {"value": problem_example(error)}
    return responses


def problem_example(error: type[AppError]) -> dict[str, Any]:
    example = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.detail,
        "instance": "/api/…",
        "code": error.code,
        "error": error.detail,
        "requestId": "5f0c3a0d2b7e4c6f9a1e8d7c6b5a4f3e",
    }
    if error.code == Code.INVALID_INPUT:
        example["errors"] = [{"field": "title", "code": "required", "message": "Field required"}]
    if error.code == Code.VERSION_CONFLICT:
        example["currentVersion"] = 4
    return example


def _header_parameter(name: str) -> dict[str, Any]:
    description, limits = _REQUEST_HEADERS[name]
    schema = {"type": "string", **limits}
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


def _reference(model: type[WireModel], mode: str) -> dict[str, str]:
    _models[model] = mode
    return {"$ref": _REF.format(model=model.__name__)}


def install_openapi(app: FastAPI) -> None:
    """Makes `app.openapi()` include the models that `describe` refers to."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _generate(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _generate(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
    )
    inputs: list[tuple[type[WireModel], Any]] = list(_models.items())
    _, definitions = models_json_schema(inputs, ref_template=_REF)
    components = document.setdefault("components", {})
    components["securitySchemes"] = {"bearer": _BEARER}
    schemas = components.setdefault("schemas", {})
    schemas.update(definitions["$defs"])
    # FastAPI's own 422, for parameters that it validates; it gets none to validate, and ours are problems.
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    for operation in _operations(document):
        if JSON in operation["responses"].get("422", {}).get("content", {}):
            del operation["responses"]["422"]
        _restore_examples(operation)
    return document


def _restore_examples(operation: Mapping[str, Any]) -> None:
    """FastAPI drops every null from its document; in an example a null is what the client will see."""
    for (operation_id, status), example in _success_examples.items():
        if operation_id == operation["operationId"]:
            operation["responses"][str(status)]["content"][JSON]["example"] = example


def _operations(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from path.values()
