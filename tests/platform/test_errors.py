"""The list of codes is closed: every error has one of it, every word of it is used, every one is documented."""

import importlib
import pkgutil
from http import HTTPStatus

import orjson
import pytest
from httpx import AsyncClient

import app
from app.platform.errors import (
    AppError,
    BadRequest,
    BodyTooLarge,
    Code,
    Conflict,
    FieldError,
    IdempotencyInProgress,
    InternalError,
    InvalidInput,
    MethodNotAllowed,
    TooManyRequests,
    VersionConflict,
)
from app.platform.openapi import problem_example
from app.tickets.errors import NotDeleted

# Codes that FastAPI's document does not list by operation: they come before or instead of any, or from GraphQL.
OUTSIDE_OPERATIONS = {
    Code.CORS_REFUSED,
    Code.METHOD_NOT_ALLOWED,
    Code.NOT_ACCEPTABLE,
    *(code for code in Code if code.startswith("graphql_")),
}


def all_errors() -> list[type[AppError]]:
    """Every error of the service, once all its modules are loaded."""
    for module in pkgutil.walk_packages(app.__path__, "app."):
        importlib.import_module(module.name)
    found: list[type[AppError]] = []
    waiting: list[type[AppError]] = [AppError]
    while waiting:
        error = waiting.pop()
        waiting += error.__subclasses__()
        found.append(error)
    return [error for error in found if error.__module__.startswith("app.")]


ERRORS = sorted(set(all_errors()) - {AppError, BadRequest}, key=lambda error: error.__name__)


class TestCatalogue:
    @pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
    def test_every_error_has_a_status_a_code_and_a_sentence(self, error: type[AppError]) -> None:
        assert 400 <= HTTPStatus(error.status) < 600
        assert isinstance(error.code, Code)
        assert error.detail[0].isupper()
        assert not error.detail.endswith(".")

    def test_every_code_belongs_to_one_error(self) -> None:
        by_code = {code: [error.__name__ for error in ERRORS if error.code == code] for code in Code}

        assert {code: names for code, names in by_code.items() if len(names) != 1} == {}

    def test_codes_are_snake_case_and_sorted(self) -> None:
        assert [str(code) for code in Code] == sorted(str(code) for code in Code)
        assert all(code.name == code.value.upper() and code.value.replace("_", "").isalpha() for code in Code)

    async def test_every_code_is_documented(self, nobody: AsyncClient) -> None:
        document = (await nobody.get("/openapi.json")).json()

        documented = {
            example["value"]["code"]
            for path in document["paths"].values()
            for operation in path.values()
            for response in operation["responses"].values()
            for content in response.get("content", {}).values()
            for example in content.get("examples", {}).values()
        }
        assert documented == {str(code) for code in set(Code) - OUTSIDE_OPERATIONS}

    @pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
    def test_every_error_has_an_example(self, error: type[AppError]) -> None:
        example = problem_example(error)

        assert (example["status"], example["code"]) == (error.status, error.code)
        assert example["error"] == example["detail"]


class TestAppError:
    def test_takes_a_text_of_the_moment(self) -> None:
        assert str(Conflict()) == Conflict.detail
        assert str(Conflict("Try later")) == "Try later"
        assert Conflict("Try later").detail == Conflict.detail

    def test_tells_nothing_of_a_fault_of_ours(self) -> None:
        assert InternalError().text == "Something went wrong on our side"

    @pytest.mark.parametrize(
        ("error", "headers"),
        [
            (TooManyRequests(7), {"Retry-After": "7"}),
            (IdempotencyInProgress(), {"Retry-After": "1"}),
            (Conflict(), {"Retry-After": "1"}),
            (NotDeleted(), {}),
            (VersionConflict(3), {"ETag": '"3"'}),
            (BodyTooLarge(), {"Connection": "close"}),
            (MethodNotAllowed(headers={"Allow": "GET"}), {"Allow": "GET"}),
        ],
    )
    def test_brings_its_headers(self, error: AppError, headers: dict[str, str]) -> None:
        assert error.headers == headers

    def test_names_every_wrong_field_and_sums_up_the_first(self) -> None:
        wrong = [FieldError(f"field{number}", "missing", "is missing") for number in range(8)]

        error = InvalidInput(*wrong)

        assert error.text == "; ".join(f"field{number}: is missing" for number in range(5))
        assert orjson.loads(orjson.dumps(error.extra["errors"])) == [field.as_dict() for field in wrong]
