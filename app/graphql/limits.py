"""How large a document may be, whatever it means: checked before it is validated, so that this is cheap, too.

Fragments are measured once and counted wherever they are spread, those in a circle as if the circle were cut.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionNode,
    SelectionSetNode,
)

from .errors import TooDeep, TooManyAliases, TooManyMutations

MAX_DEPTH = 10
MAX_ALIASES = 30
MAX_MUTATIONS = 4
# Tools nest their look at the schema far deeper; a rule of the validation's own limits it.
INTROSPECTION = frozenset({"__schema", "__type"})


@dataclass(frozen=True, slots=True)
class Size:
    """Of a selection: how many fields lie inside one another, and how many are renamed or asked for again.

    What is repeated in one place is counted here, to be refused by name; what fragments bring together only validation
    can tell, and has a limit there.
    """

    depth: int = 0
    aliases: int = 0

    def beside(self, other: "Size") -> "Size":
        return Size(max(self.depth, other.depth), self.aliases + other.aliases)


def check_limits(document: DocumentNode) -> None:
    """Raises `TooDeep`, `TooManyAliases`, `TooManyMutations`."""
    fragments = fragments_of(document)
    measure = _Measure(fragments)
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            _check(definition, measure.size_of(definition.selection_set), fragments)


def fragments_of(document: DocumentNode) -> dict[str, FragmentDefinitionNode]:
    return {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}


def root_fields(operation: OperationDefinitionNode, fragments: dict[str, FragmentDefinitionNode]) -> set[str]:
    """The names in the answer of the fields that the operation asks of its root, `__typename` and the like aside."""
    return {(field.alias or field.name).value for field in root_selections(operation, fragments)}


def root_selections(
    operation: OperationDefinitionNode, fragments: dict[str, FragmentDefinitionNode]
) -> Iterator[FieldNode]:
    """What the operation asks of its root, `__typename` and the like aside."""
    waiting: list[SelectionNode] = list(operation.selection_set.selections)
    seen: set[str] = set()
    while waiting:
        match waiting.pop():
            case FieldNode() as field if not field.name.value.startswith("__"):
                yield field
            case InlineFragmentNode() as fragment:
                waiting += fragment.selection_set.selections
            case FragmentSpreadNode(name=name) if name.value in fragments and name.value not in seen:
                seen.add(name.value)
                waiting += fragments[name.value].selection_set.selections


def _check(operation: OperationDefinitionNode, size: Size, fragments: dict[str, FragmentDefinitionNode]) -> None:
    if size.depth > MAX_DEPTH:
        raise TooDeep(f"Fields may lie {MAX_DEPTH} deep inside one another, not {size.depth}")
    if size.aliases > MAX_ALIASES:
        raise TooManyAliases(
            f"{MAX_ALIASES} aliases and repeated fields are allowed at most, those in fragments counted at each use"
        )
    if operation.operation is OperationType.MUTATION and len(root_fields(operation, fragments)) > MAX_MUTATIONS:
        raise TooManyMutations(f"{MAX_MUTATIONS} mutations are allowed at most in one request")


class _Measure:
    def __init__(self, fragments: dict[str, FragmentDefinitionNode]) -> None:
        self._fragments = fragments
        self._known: dict[str, Size] = {}

    def size_of(self, selection_set: SelectionSetNode | None) -> Size:
        size = Size()
        names: set[str] = set()
        waiting = list(selection_set.selections) if selection_set else []
        while waiting:
            match waiting.pop():
                case FieldNode() as field:
                    name = (field.alias or field.name).value
                    size = size.beside(self._size_of_field(field, is_extra=field.alias is not None or name in names))
                    names.add(name)
                case InlineFragmentNode() as fragment:
                    waiting += fragment.selection_set.selections
                case FragmentSpreadNode(name=spread):
                    size = size.beside(self._size_of_fragment(spread.value))
        return size

    def _size_of_field(self, field: FieldNode, *, is_extra: bool) -> Size:
        inner = self.size_of(field.selection_set)
        depth = 0 if field.name.value in INTROSPECTION else inner.depth
        return Size(1 + depth, inner.aliases + is_extra)

    def _size_of_fragment(self, name: str) -> Size:
        if name not in self._known and name in self._fragments:
            self._known[name] = Size()  # for a circle that leads back here
            self._known[name] = self.size_of(self._fragments[name].selection_set)
        return self._known.get(name, Size())
