"""The executor: graphql-core's, but for lists and objects whose fields are plainly read, which it makes by plans.

Its answers are graphql-core's to the letter: data, the order of keys, errors with their messages and paths. A plan is
used only where nothing is deferred, streamed or wrapped by middleware. Whatever it does not know, and whatever goes
wrong in it, graphql-core does over for that list or object: plans only read, so that nobody can tell.
"""

from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from graphql import GraphQLNonNull, GraphQLObjectType, GraphQLOutputType, GraphQLResolveInfo, GraphQLStreamDirective
from graphql.execution.collect_fields import DeferUsage, FieldDetailsList, GroupedFieldSet
from graphql.pyutils import Path
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from app.platform.wire import Row

from .plans import Plan, Selected, Shape, Unplanned, plain_fields_of, plan_of


class _Planned(NamedTuple):
    """A selection as it was collected, its plan, and the fields that the plan leaves."""

    fields: GroupedFieldSet
    plan: Plan | None
    left: GroupedFieldSet


class PlannedExecutor(StrawberryGraphQLCoreExecutionContext):
    """Executes one operation; for `execute(…, executor_class=PlannedExecutor)`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # By the identity of the collected fields, which each of them keeps alive.
        self._known: dict[int, _Planned] = {}

    def complete_iterable_value(
        self,
        item_type: GraphQLOutputType,
        field_details_list: FieldDetailsList,
        info: GraphQLResolveInfo[Any],
        path: Path,
        items: Iterable[Any],
        position_context: Any,
    ) -> Any:
        if position_context is None and isinstance(items, list):
            with suppress(Exception):
                plan = self._plan_of_items(item_type, field_details_list)
                if plan is not None and not plan.left:
                    return plan.fill(items)
        return super().complete_iterable_value(item_type, field_details_list, info, path, items, position_context)

    def execute_collected_subfields(
        self,
        parent_type: GraphQLObjectType,
        source_value: Any,
        path: Path,
        grouped_field_set: GroupedFieldSet,
        new_defer_usages: Sequence[DeferUsage],
        delivery_group_map: Any,
    ) -> Any:
        answer: Row | None = None
        left = grouped_field_set
        if delivery_group_map is None and not new_defer_usages:
            with suppress(Exception):
                planned = self._planned(parent_type, grouped_field_set)
                if planned.plan is not None:
                    [answer] = planned.plan.fill([source_value])
                    left = planned.left
        if answer is not None and not left:
            return answer
        executed = super().execute_collected_subfields(
            parent_type, source_value, path, left, new_defer_usages, delivery_group_map
        )
        if answer is None:
            return executed
        return answer | executed if isinstance(executed, dict) else _completed(answer, executed)

    def _plan_of_items(self, item_type: GraphQLOutputType, details: FieldDetailsList) -> Plan | None:
        object_type = item_type.of_type if isinstance(item_type, GraphQLNonNull) else item_type
        if not isinstance(object_type, GraphQLObjectType) or object_type.is_type_of is not None:
            return None
        return self._planned(object_type, self._subfields(object_type, details)).plan

    def _planned(self, parent: GraphQLObjectType, fields: GroupedFieldSet) -> _Planned:
        known = self._known.get(id(fields))
        if known is None:
            plan = plan_of(parent, self._shape(parent, fields)) if self.middleware_manager is None else None
            left = {} if plan is None else {key: fields[key] for key in fields if key in plan.left}
            known = self._known[id(fields)] = _Planned(fields, plan, left)
        return known

    def _shape(self, parent: GraphQLObjectType, fields: GroupedFieldSet) -> Shape:
        plain = plain_fields_of(parent)
        shape = []
        for key, details in fields.items():
            name = details[0].node.name.value
            _refuse_streamed(details)
            field, inner = plain.get(name), None
            if field and field.object_type:
                inner_shape = self._shape(field.object_type, self._subfields(field.object_type, details))
                plan = plan_of(field.object_type, inner_shape)
                inner = inner_shape if plan is not None and not plan.left else None
            shape.append(Selected(key, name, inner))
        return tuple(shape)

    def _subfields(self, parent: GraphQLObjectType, details: FieldDetailsList) -> GroupedFieldSet:
        """What is selected of the object, or of each object in the list. Raises `Unplanned`."""
        _refuse_streamed(details)
        collected = self.collect_subfields(parent, details)
        if collected.new_defer_usages:
            raise Unplanned
        return collected.grouped_field_set


async def _completed(answer: Row, executed: Awaitable[Row]) -> Row:
    return answer | await executed


def _refuse_streamed(details: FieldDetailsList) -> None:
    """Raises `Unplanned`."""
    if any(directive.name.value == GraphQLStreamDirective.name for directive in details[0].node.directives or ()):
        raise Unplanned
