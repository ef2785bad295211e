"""What an operation can cost, from the document and its variables alone: one point for each field of the answer.

A list multiplies what is asked of its items by the size that was asked for, or by a usual one where none can be.
"""

from collections.abc import Mapping
from typing import Any, cast

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLField,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SchemaMetaFieldDef,
    SelectionNode,
    SelectionSetNode,
    TypeMetaFieldDef,
    VariableNode,
    get_named_type,
    is_list_type,
)

from app.platform.paging import DEFAULT_LIMIT, MAX_LIMIT

MAX_COST = 20_000
# Fragments that double one another would make a number that no JSON parser reads.
COUNTED_UP_TO = 1_000_000_000
# Of lists that take no size: watchers, changes, the lists of the schema's description.
USUAL_SIZE = 5
_SIZE_ARGUMENTS = ("first", "limit")
_META_FIELDS: Mapping[str, GraphQLField] = {"__schema": SchemaMetaFieldDef, "__type": TypeMetaFieldDef}


class CostOf:
    """Reckons one valid operation; `variables` are its coerced values. `uses_variables` tells whether they matter."""

    def __init__(
        self, schema: GraphQLSchema, fragments: Mapping[str, FragmentDefinitionNode], variables: Mapping[str, Any]
    ) -> None:
        self._schema = schema
        self._fragments = fragments
        self._variables = variables
        self._known: dict[tuple[str, int], int] = {}
        self.uses_variables = False

    def operation(self, operation: OperationDefinitionNode) -> int:
        root = self._schema.get_root_type(operation.operation)
        return self._selections(operation.selection_set, root, USUAL_SIZE) if root is not None else 0

    def _selections(self, selection_set: SelectionSetNode, parent: GraphQLObjectType, page: int) -> int:
        """`page` is the size of the lists that lie directly in a connection."""
        total = sum(self._selection(selection, parent, page) for selection in selection_set.selections)
        return min(total, COUNTED_UP_TO)

    def _selection(self, selection: SelectionNode, parent: GraphQLObjectType, page: int) -> int:
        match selection:
            case FieldNode() as field:
                return self._field(field, parent, page)
            case InlineFragmentNode() as fragment:
                return self._selections(fragment.selection_set, parent, page)
            case FragmentSpreadNode(name=name):
                key = (name.value, page)
                if key not in self._known:
                    fragment_set = self._fragments[name.value].selection_set
                    self._known[key] = self._selections(fragment_set, parent, page)
                return self._known[key]
        return 0

    def _field(self, field: FieldNode, parent: GraphQLObjectType, page: int) -> int:
        definition = parent.fields.get(field.name.value) or _META_FIELDS.get(field.name.value)
        if definition is None or field.selection_set is None:  # `__typename`, which no type defines, or a value
            return 1
        size = self._size(field, definition)
        inner_type = cast("GraphQLObjectType", get_named_type(definition.type))
        if not is_list_type(_nullable(definition.type)):
            return 1 + self._selections(field.selection_set, inner_type, USUAL_SIZE if size is None else size)
        return 1 + (page if size is None else size) * (
            1 + self._selections(field.selection_set, inner_type, USUAL_SIZE)
        )

    def _size(self, field: FieldNode, definition: GraphQLField) -> int | None:
        """The size that was asked for, as far as one can be given; None for a field that takes none."""
        for name in _SIZE_ARGUMENTS:
            if name in definition.args:
                return max(0, min(self._argument(field, name), MAX_LIMIT))
        return None

    def _argument(self, field: FieldNode, name: str) -> int:
        value = next((argument.value for argument in field.arguments or () if argument.name.value == name), None)
        match value:
            case IntValueNode(value=digits):
                return int(digits)
            case VariableNode(name=variable):
                self.uses_variables = True
                given = self._variables.get(variable.value)
                return DEFAULT_LIMIT if given is None else int(given)
        return DEFAULT_LIMIT


def _nullable(type_: Any) -> Any:
    return type_.of_type if isinstance(type_, GraphQLNonNull) else type_
