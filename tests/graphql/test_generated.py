"""Generated documents that fit the schema, as each role: whatever is asked, nothing makes the service fail."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis_graphql import from_schema

from app.analytics.backfill import fill_up
from app.graphql.schema import sdl
from tests.callers import Callers
from tests.graphql.asking import post

# What a document that fits the schema may be refused for.
EXPECTED = {
    "forbidden",
    "graphql_too_costly",
    "graphql_too_deep",
    "graphql_too_many_aliases",
    "graphql_too_many_mutations",
    "invalid_cursor",
    "invalid_input",
    "not_deleted",
    "not_found",
}


@pytest.fixture
async def counted(database: None) -> None:
    """There are figures, if only zeros."""
    await fill_up()


@pytest.mark.parametrize("kind", ["customer", "agent", "admin"])
@given(text=from_schema(sdl()))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_documents_are_answered(callers: Callers, counted: None, kind: str, text: str) -> None:
    answer = await post(callers.by_kind()[kind], text)

    assert answer.status_code == 200
    assert {error["extensions"]["code"] for error in answer.json().get("errors", [])} <= EXPECTED, answer.text
