"""Plans: how the answers to one selection are made of plain sources, a column of values at a time.

A plan gives what the executor would give, or it raises: it knows nothing of errors, of what is awaited, of null where
none may be, or of any value that it has not seen to be harmless. Whoever runs one lets the executor do it over then.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache, lru_cache
from itertools import repeat
from operator import itemgetter
from typing import Any, NamedTuple

from bson import ObjectId
from graphql import (
    GRAPHQL_MAX_INT,
    GRAPHQL_MIN_INT,
    GraphQLBoolean,
    GraphQLField,
    GraphQLID,
    GraphQLInt,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLScalarType,
    GraphQLString,
    Undefined,
    get_named_type,
)
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.field import StrawberryField

from app.platform.wire import Row, instant, instants

from .scalars import member_of, read_member

# The documents that are remembered have a few each.
MAX_PLANS = 500
# Nothing else is sure not to be awaited, raised or left out; what is derived from these is as harmless.
_PLAIN = (str, int, float, ObjectId, datetime, dict, list)
_TYPENAME = "__typename"

Column = list[Any]
Completion = Callable[[Column], Column]


class Unplanned(Exception):
    """Here is something that only the executor can deal with."""


class Selected(NamedTuple):
    """One field of a selection; `inner` is what is selected of it, or None where the plan is to leave that alone."""

    response_key: str
    field_name: str
    inner: "Shape | None"


Shape = tuple[Selected, ...]


class PlainField(NamedTuple):
    """A field whose value is a member of its source, whoever asks."""

    member: str
    type: GraphQLOutputType
    object_type: GraphQLObjectType | None


class Plan:
    """How a selection of one type is answered. `left` are the keys whose values the executor has to put in."""

    def __init__(self, columns: Mapping[str, Completion], left: frozenset[str]) -> None:
        self._keys = tuple(columns)
        self._columns = tuple(columns.values())
        self.left = left

    def fill(self, sources: Column) -> list[Row]:
        """An answer for each of the sources, its keys in order, null at those that are left. Raises anything."""
        if not set(map(type, sources)) <= {dict}:
            raise Unplanned
        columns = [column(sources) for column in self._columns]
        return [dict(zip(self._keys, values, strict=True)) for values in zip(*columns, strict=True)]


@lru_cache(MAX_PLANS)
def plan_of(parent: GraphQLObjectType, shape: Shape) -> Plan | None:
    """The plan of a selection; None where it would do nothing. Documents that ask for the same share it."""
    plain = plain_fields_of(parent)
    columns: dict[str, Completion] = {}
    left: set[str] = set()
    for selected in shape:
        field = plain.get(selected.field_name)
        if selected.field_name == _TYPENAME:
            columns[selected.response_key] = _constant(parent.name)
        elif field is None or (field.object_type is not None and selected.inner is None):
            columns[selected.response_key] = _constant(None)
            left.add(selected.response_key)
        else:
            columns[selected.response_key] = _column(field, selected.inner)
    return Plan(columns, frozenset(left)) if len(left) < len(columns) else None


@cache
def plain_fields_of(parent: GraphQLObjectType) -> Mapping[str, PlainField]:
    """The fields of a type that plans may fill, by their names."""
    found = {name: _plain_field(field) for name, field in parent.fields.items()}
    return {name: field for name, field in found.items() if field is not None}


def _plain_field(field: GraphQLField) -> PlainField | None:
    definition = field.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
    if not isinstance(definition, StrawberryField) or not definition.is_basic_field or field.args:
        return None
    if definition.default_resolver is not read_member:
        return None
    member = member_of(definition.python_name)
    match get_named_type(field.type):
        case GraphQLScalarType():
            return PlainField(member, field.type, None)
        case GraphQLObjectType(is_type_of=None) as object_type:
            return PlainField(member, field.type, object_type)
    return None


def _constant(value: str | None) -> Completion:
    return lambda sources: [*repeat(value, len(sources))]


def _column(field: PlainField, inner: Shape | None) -> Completion:
    read = itemgetter(field.member)
    complete = _completion(field.type, inner)
    return lambda sources: complete([*map(read, sources)])


def _completion(type_: GraphQLOutputType, inner: Shape | None) -> Completion:
    """What makes answers of a column of values. All raise `Unplanned`, or what a scalar raises."""
    if isinstance(type_, GraphQLNonNull):
        return _present(type_.of_type, inner)
    complete = _present(type_, inner)

    def complete_nullable(column: Column) -> Column:
        present = [value for value in column if value is not None]
        if len(present) == len(column):
            return complete(column)
        completed = iter(complete(present))
        return [None if value is None else next(completed) for value in column]

    return complete_nullable


def _present(type_: GraphQLOutputType, inner: Shape | None) -> Completion:
    """The completion of values none of which may be null."""
    match type_:
        case GraphQLScalarType():
            return _scalars(type_)
        case GraphQLList():
            return _lists(_completion(type_.of_type, inner))
        case GraphQLObjectType() if inner is not None and (plan := plan_of(type_, inner)):
            return plan.fill
    raise Unplanned


def _lists(complete_items: Completion) -> Completion:
    def complete(column: Column) -> Column:
        if not set(map(type, column)) <= {list}:
            raise Unplanned
        return [complete_items(items.copy()) for items in column]

    return complete


def _scalars(scalar: GraphQLScalarType) -> Completion:
    coerce = scalar.coerce_output_value
    quick = _QUICK.get(coerce, {})

    def complete(column: Column) -> Column:
        kinds = set(map(type, column))
        if len(kinds) == 1 and (complete_kind := quick.get(*kinds)):
            return complete_kind(column)
        if not all(issubclass(kind, _PLAIN) for kind in kinds):
            raise Unplanned
        completed = [coerce(value) for value in column]
        if any(value is None or value is Undefined for value in completed):
            raise Unplanned
        return completed

    return complete


def _as_they_are(column: Column) -> Column:
    return column


def _as_texts(column: Column) -> Column:
    return [*map(str, column)]


def _in_range(column: Column) -> Column:
    if min(column) < GRAPHQL_MIN_INT or max(column) > GRAPHQL_MAX_INT:
        raise Unplanned
    return column


# What the scalars' own functions do with values of exactly these types, without calling them for each.
_QUICK: Mapping[Callable[[Any], Any], Mapping[type, Completion]] = {
    GraphQLString.coerce_output_value: {str: _as_they_are},
    GraphQLID.coerce_output_value: {str: _as_they_are, ObjectId: _as_texts},
    GraphQLBoolean.coerce_output_value: {bool: _as_they_are},
    GraphQLInt.coerce_output_value: {int: _in_range},
    instant: {datetime: instants},
}
