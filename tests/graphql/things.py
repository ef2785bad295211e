"""A schema with all that an executor meets, over plain objects, and how one of its documents is executed on them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from inspect import isawaitable
from typing import Any, NewType

import strawberry
from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    GraphQLSchema,
    Undefined,
    execute,
    experimental_execute_incrementally,
    parse,
    validate,
)
from strawberry import ID, Info, Parent
from strawberry.dataloader import DataLoader
from strawberry.execution import optimized_is_awaitable
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from app.graphql.executor import PlannedExecutor
from app.graphql.scalars import SCALARS, DateTime, JSONValue, Milliseconds, read_member
from app.platform.wire import Row, to_json

# A scalar that has no answer for some values.
Whim = NewType("Whim", str)


def _whim(value: Any) -> Any:
    return {"null": None, "undefined": Undefined}.get(value, value)


async def _places(names: list[str]) -> list[Row | None]:
    return [{"name": name, "floorNumber": len(name)} if name else None for name in names]


@dataclass
class Sources:
    """What the root fields give; each execution has loaders of its own."""

    things: Any = ()
    thing: Any = None
    pages: Any = None
    places: DataLoader[str, Row | None] = field(default_factory=lambda: DataLoader(_places))


@strawberry.interface
class Named:
    name: str


@strawberry.type
class Shop(Named):
    street: str | None


@strawberry.type
class Place:
    name: str
    floor_number: int | None


def loud_title_of(parent: Parent[Row]) -> Any:
    return parent["title"].upper() + "!"


def title_in_of(parent: Parent[Row], language: str = "en") -> Any:
    return f"{language}: {parent['title']}"


async def slow_title_of(parent: Parent[Row]) -> Any:
    return parent["title"]


def keeper_of(parent: Parent[Row], info: Info[Sources, None]) -> Any:
    return info.context.places.load(parent["keeper"])


@strawberry.type
class Thing:
    id: ID
    title: str
    size: int
    weight: float | None
    done: bool | None
    made_at: DateTime | None
    took: Milliseconds | None
    anything: JSONValue | None
    tags: list[str]
    grid: list[list[int | None]] | None
    place: Place
    spare: Place | None
    places: list[Place | None] | None
    shop: Named | None
    own_shop: Shop | None
    shops: list[Shop] | None
    whim: Whim | None
    loud_title: str = strawberry.field(resolver=loud_title_of)
    title_in: str | None = strawberry.field(resolver=title_in_of)
    slow_title: str | None = strawberry.field(resolver=slow_title_of)
    keeper: Place | None = strawberry.field(resolver=keeper_of)


@strawberry.type
class Edge:
    cursor: str
    node: Thing


@strawberry.type
class Pages:
    edges: list[Edge]
    count: int


@strawberry.type
class Query:
    @strawberry.field
    def things(self, info: Info[Sources, None]) -> list[Thing] | None:
        things: list[Thing] = info.context.things
        return things

    @strawberry.field
    async def thing(self, info: Info[Sources, None]) -> Thing | None:
        thing: Thing = info.context.thing
        return thing

    @strawberry.field
    async def pages(self, info: Info[Sources, None]) -> Pages | None:
        pages: Pages = info.context.pages
        return pages


def _schema(*, is_incremental: bool) -> GraphQLSchema:
    config = StrawberryConfig(
        default_resolver=read_member,
        scalar_map={**SCALARS, Whim: strawberry.scalar(name="Whim", serialize=_whim)},
        enable_experimental_incremental_execution=is_incremental,
    )
    return strawberry.Schema(query=Query, types=[Shop], config=config)._schema


SCHEMA = _schema(is_incremental=False)
INCREMENTAL = _schema(is_incremental=True)


@lru_cache(100)
def _understood(schema: GraphQLSchema, text: str) -> DocumentNode:
    document = parse(text)
    assert validate(schema, document) == []
    return document


async def executed(
    text: str, sources: Sources, executor: type[StrawberryGraphQLCoreExecutionContext], **variables: Any
) -> ExecutionResult:
    result = execute(
        SCHEMA,
        _understood(SCHEMA, text),
        context_value=sources,
        variable_values=variables,
        executor_class=executor,
        is_awaitable=optimized_is_awaitable,  # type: ignore[arg-type]  # a guard that is not declared as one
    )
    return await result if isawaitable(result) else result


async def incrementally(
    text: str, sources: Sources, executor: type[StrawberryGraphQLCoreExecutionContext]
) -> list[dict[str, Any]]:
    """All parts of an answer that comes in parts."""
    document = _understood(INCREMENTAL, text)
    result: Any = experimental_execute_incrementally(
        INCREMENTAL, document, context_value=sources, executor_class=executor
    )
    result = await result if isawaitable(result) else result
    if isinstance(result, ExecutionResult):
        return [dict(result.formatted)]
    rest = [part.formatted async for part in result.subsequent_results]
    return [result.initial_result.formatted, *rest]


async def assert_same(text: str, sources: Callable[[], Sources], **variables: Any) -> ExecutionResult:
    """The result of the document, which must be what graphql-core's own executor makes of it."""
    ordinary = await executed(text, sources(), StrawberryGraphQLCoreExecutionContext, **variables)
    planned = await executed(text, sources(), PlannedExecutor, **variables)
    # As text, since dicts in another order are equal.
    assert repr(planned.data) == repr(ordinary.data)
    assert to_json(planned.data) == to_json(ordinary.data)
    assert [_told(error) for error in planned.errors or ()] == [_told(error) for error in ordinary.errors or ()]
    return planned


def _told(error: GraphQLError) -> tuple[Any, ...]:
    cause = error.original_error
    return error.message, error.path, error.locations, type(cause), str(cause)
