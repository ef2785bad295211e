"""The schema's own scalars, and how plain stored values become GraphQL's."""

from collections.abc import Mapping
from functools import cache
from typing import Any, NewType

import strawberry
from pydantic.alias_generators import to_camel
from strawberry.types.scalar import ScalarDefinition

from app.platform.wire import instant

DateTime = NewType("DateTime", str)
Milliseconds = NewType("Milliseconds", int)
JSONValue = NewType("JSONValue", object)

SCALARS: dict[object, ScalarDefinition] = {
    DateTime: strawberry.scalar(
        name="DateTime", description="An instant in UTC with milliseconds: 2026-11-22T09:30:00.000Z", serialize=instant
    ),
    Milliseconds: strawberry.scalar(
        name="Milliseconds", description="A duration in whole milliseconds; may exceed 32 bits", serialize=int
    ),
    JSONValue: strawberry.scalar(name="JSON", description="Any JSON value; ids and instants in it are strings"),
}

member_of = cache(to_camel)


def read_member(source: Mapping[str, Any], name: str) -> Any:
    """The default resolver: types are declared over the very objects that REST sends."""
    return source[member_of(name)]
