"""From a document to an operation that may be executed, and its execution: HTTP and WebSocket both go this way."""

from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from inspect import isawaitable
from itertools import islice
from typing import Any

from graphql import (
    DocumentNode,
    ExecutionResult,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSyntaxError,
    OperationDefinitionNode,
    OperationType,
    create_source_event_stream,
    default_field_resolver,
    default_type_resolver,
    get_operation_ast,
    parse,
    validate,
)
from graphql.execution.collect_fields import FragmentDetails
from graphql.execution.values import VariableValues, get_variable_values
from graphql.validation.rules import overlapping_fields_can_be_merged
from pymongo.errors import PyMongoError
from strawberry.execution import optimized_is_awaitable

from app.accounts.commands.refusals import record_refusal
from app.platform.clock import now
from app.platform.errors import BadRequest, Forbidden, MethodNotAllowed
from app.platform.wire import Row

from .context import Context
from .cost import MAX_COST, CostOf
from .errors import (
    MAX_FINDINGS,
    InvalidRequest,
    InvalidVariables,
    NeedsWebSocket,
    ParseFailed,
    Refused,
    TooComplex,
    TooCostly,
    TooDeep,
    TooManyTokens,
    UnknownOperation,
    ValidationFailed,
    because,
    explained,
)
from .executor import PlannedExecutor
from .limits import check_limits, fragments_of, root_fields, root_selections
from .schema import SCHEMA

MAX_TOKENS = 2_000
# Of the steps by which validation compares fields of one name that end up in the same place, by whatever fragments.
# 50 fragments of 8 fields, all in one place, take 43,000.
overlapping_fields_can_be_merged.MAX_COMPLEXITY_BUDGET = 50_000
# Of all variables together, each list, object and value in them counted.
MAX_VALUES = 2_000
# Clients send the same few documents again and again. A large one is no such document, and would fill the memory.
MAX_REMEMBERED = 100
MAX_REMEMBERED_LENGTH = 5_000


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client sends, whatever carries it."""

    text: str
    variables: Mapping[str, Any]
    operation_name: str | None


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation that passed every check, ready to be executed with the coerced `variables`.

    `root_fields` are their names in the answer, `asks_for` their names in the schema.
    """

    asked: Asked
    document: DocumentNode
    fragments: Mapping[str, FragmentDefinitionNode]
    definition: OperationDefinitionNode
    variables: VariableValues
    cost: int
    root_fields: frozenset[str]
    asks_for: frozenset[str]

    @property
    def kind(self) -> OperationType:
        return self.definition.operation


@dataclass(frozen=True, slots=True)
class _Facts:
    """What there is to know of an operation whatever its variables are; a `cost` of None depends on them."""

    root_fields: frozenset[str]
    asks_for: frozenset[str]
    cost: int | None


@dataclass(frozen=True, slots=True)
class _Document:
    """A parsed document and what is wrong with it, the limits aside."""

    node: DocumentNode
    fragments: dict[str, FragmentDefinitionNode]
    errors: list[GraphQLError]
    # By the name of the operation; found out when it is first asked for, since a document may have hundreds.
    facts: dict[str, _Facts] = field(default_factory=dict)


def asked_of(given: Any) -> Asked:
    """What a client sends, from decoded JSON. Raises `InvalidRequest`."""
    if isinstance(given, list):
        raise InvalidRequest("Send one request at a time: a JSON object, not an array")
    if not isinstance(given, dict) or not isinstance(given.get("query"), str) or not given["query"].strip():
        raise InvalidRequest
    for name, kind, words in (
        ("variables", dict, "an object"),
        ("extensions", dict, "an object"),
        ("operationName", str, "a string"),
    ):
        if not isinstance(given.get(name), kind | None):
            raise InvalidRequest(f"{name} must be {words} or null")
    return Asked(given["query"], given.get("variables") or {}, given.get("operationName") or None)


def check_operation(asked: Asked, allowed: Collection[OperationType]) -> Operation:
    """The operation, if it may be executed: parsed, valid, within all limits. Asks the database nothing.

    `allowed` are the kinds that the carrier can carry. Raises `Refused`, `MethodNotAllowed`.
    """
    remembers = len(asked.text) <= MAX_REMEMBERED_LENGTH
    found = _remembered(asked.text) if remembers else _understood(asked.text)
    if isinstance(found, list):
        raise Refused(*found)
    definition = get_operation_ast(found.node, asked.operation_name or None)
    if definition is None:
        raise because(UnknownOperation())
    if definition.operation not in allowed:
        if definition.operation is OperationType.SUBSCRIPTION:
            raise because(NeedsWebSocket())
        raise MethodNotAllowed("Mutations must be sent by POST", headers={"Allow": "POST"})
    if found.errors:
        raise Refused(*found.errors)
    variables = _coerced(definition, asked.variables)
    cost, facts = _measured(found, definition, variables)
    if cost > MAX_COST:
        extra = {"cost": cost, "maxCost": MAX_COST}
        raise because(TooCostly(f"The answer could have {cost} fields; {MAX_COST} are allowed", extra=extra))
    return Operation(asked, found.node, found.fragments, definition, variables, cost, facts.root_fields, facts.asks_for)


def _coerced(definition: OperationDefinitionNode, given: Mapping[str, Any]) -> VariableValues:
    """Raises `Refused`."""
    if _has_too_many_values(given):
        raise because(InvalidVariables(f"The variables may hold {MAX_VALUES} values at most"))
    if not definition.variable_definitions:
        return VariableValues({}, {})
    values = get_variable_values(SCHEMA, definition.variable_definitions, dict(given), MAX_FINDINGS)
    if isinstance(values, list):
        raise Refused(*explained(values, InvalidVariables))
    return values


def _measured(
    document: _Document, definition: OperationDefinitionNode, variables: VariableValues
) -> tuple[int, _Facts]:
    """What the operation can cost, and what else there is to know of it."""
    name = definition.name.value if definition.name else ""
    facts = document.facts.get(name)
    if facts is not None and facts.cost is not None:
        return facts.cost, facts
    reckoning = CostOf(SCHEMA, document.fragments, variables.coerced)
    cost = reckoning.operation(definition)
    if facts is None:
        roots = frozenset(root_fields(definition, document.fragments))
        asks_for = frozenset(field.name.value for field in root_selections(definition, document.fragments))
        facts = document.facts[name] = _Facts(roots, asks_for, None if reckoning.uses_variables else cost)
    return cost, facts


async def execute_operation(operation: Operation, context: Context, event: Row | None = None) -> ExecutionResult:
    """Runs a query or a mutation, or one event of a subscription. Its errors are in the result."""
    # The schema has no directive that would make an answer come in parts.
    result: Any = _executor(operation, context, event).execute_operation()
    answer: ExecutionResult = await result if isawaitable(result) else result
    await _tell_refusals(answer, context)
    return answer


def _executor(operation: Operation, context: Context, event: Row | None) -> PlannedExecutor:
    """What graphql-core would build, but that it would coerce the variables and sort the definitions again."""
    return PlannedExecutor(
        SCHEMA,
        operation.fragments,
        {name: FragmentDetails(definition) for name, definition in operation.fragments.items()},
        event,
        context,
        operation.definition,
        operation.variables,
        default_field_resolver,
        default_type_resolver,
        default_field_resolver,
        is_awaitable=optimized_is_awaitable,
    )


async def _tell_refusals(result: ExecutionResult, context: Context) -> None:
    """The audit log hears of what the caller may not do, as it does from REST."""
    for error in result.errors or ():
        if isinstance(error.original_error, Forbidden):
            field = str(error.path[0]) if error.path else ""
            with suppress(PyMongoError):  # what was refused stays refused
                await record_refusal(context.actor, f"GraphQL {field}", error.original_error, context.origin, now())


async def source_of(operation: Operation, context: Context) -> AsyncGenerator[Row, None]:
    """The events of a subscription, each to be executed. Raises `Refused`."""
    source: Any = create_source_event_stream(_executor(operation, context, None))
    source = await source if isawaitable(source) else source
    if isinstance(source, ExecutionResult):
        raise Refused(*source.errors or ())
    events: AsyncGenerator[Row, None] = source
    return events


def _understood(text: str) -> _Document | list[GraphQLError]:
    """What there is to know of a document by itself; only errors where it can't be parsed or is over a limit."""
    try:
        node = parse(text, max_tokens=MAX_TOKENS)
        check_limits(node)
        errors = _findings(node)
    except GraphQLSyntaxError as error:
        return explained([error], _syntax_kind(error))
    except BadRequest as error:
        return [GraphQLError(error.text, original_error=error)]
    return _Document(node, fragments_of(node), errors)


_remembered = lru_cache(MAX_REMEMBERED)(_understood)


def _findings(node: DocumentNode) -> list[GraphQLError]:
    """What is wrong with the document by the schema. Raises `TooComplex`."""
    errors = validate(SCHEMA, node, max_errors=MAX_FINDINGS)
    # It says only by these words that it gave up before it knew.
    if any(error.message == "Validation aborted." for error in errors):
        raise TooComplex
    return explained(errors, ValidationFailed)


def _has_too_many_values(variables: Mapping[str, Any]) -> bool:
    count = 0
    waiting: list[Any] = [variables]
    while waiting and count <= MAX_VALUES:
        value = waiting.pop()
        inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
        count += len(inner)
        waiting += islice(inner, MAX_VALUES)
    return count > MAX_VALUES


def _syntax_kind(error: GraphQLSyntaxError) -> type[BadRequest]:
    """The parser says only by its words that it gave up before it understood."""
    if "nested too deeply" in error.message:
        return TooDeep
    return TooManyTokens if f"more than {MAX_TOKENS} tokens" in error.message else ParseFailed
