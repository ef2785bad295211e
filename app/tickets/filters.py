"""What a list of tickets can be filtered and sorted by, from query parameters to a MongoDB filter."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from bson import ObjectId

from app.accounts.actor import Actor
from app.platform.errors import FieldError, InvalidInput
from app.platform.openapi import PAGE_PARAMETERS, query_parameter
from app.platform.paging import Order, PageQuery, parse_limit, wrong_parameters
from app.platform.wire import Row

from .documents import FEW_VALUES, FILTERS, SORTS
from .lifecycle import Priority, Status, WaitingOn
from .policy import visible_to
from .schemas import MAX_TAG

MAX_QUERY = 200
DEFAULT_SORT = "-createdAt"
SORT_VALUES = [prefix + name for name in SORTS for prefix in ("", "-")]
_ID_SCHEMA = {"type": "string", "pattern": "^([0-9a-fA-F]{24}|me|none)$"}
_TIME_SCHEMA = {"type": "string", "format": "date-time"}
# From a letter or digit to the last one before a blank or a quote, so that user-42 is one word.
_WORD = re.compile(r'\w(?:[^\s"\\]*\w)?')

# Their `updatedAt` is shown as `createdAt` and stored nowhere, so no index has it: to look for them would be a scan.
_UNTOUCHED = "were created by the original service and not changed since"
SORT_DESCRIPTION = f"`-` for descending; by `updatedAt`, those that {_UNTOUCHED} count as the oldest"

FILTER_PARAMETERS = (
    query_parameter("status", "Only this status", {"type": "string", "enum": list(Status)}),
    query_parameter("priority", "Only this priority", {"type": "string", "enum": list(Priority)}),
    query_parameter("assignedTo", "A user's id, `me`, or `none`", _ID_SCHEMA),
    query_parameter("requester", "A user's id, `me`, or `none`", _ID_SCHEMA),
    query_parameter("tag", "Only with this tag", {"type": "string", "minLength": 1, "maxLength": MAX_TAG}),
    query_parameter(
        "q",
        "Words that title, description and tags together contain, in any case: at least one as a whole word, "
        "further ones also within a longer word",
        {"type": "string", "maxLength": MAX_QUERY},
    ),
    query_parameter("waitingOn", "Whose turn it is, or `none`", {"type": "string", "enum": [*WaitingOn, "none"]}),
    query_parameter("breached", "Whether a time of its SLA was missed", {"type": "boolean"}),
    query_parameter("createdAfter", "Created after this instant", _TIME_SCHEMA),
    query_parameter("createdBefore", "Created before this instant", _TIME_SCHEMA),
    query_parameter(
        "updatedAfter",
        f"Changed after this instant; never those that {_UNTOUCHED}",
        _TIME_SCHEMA,
    ),
    query_parameter(
        "sort",
        SORT_DESCRIPTION,
        {"type": "string", "enum": SORT_VALUES, "default": DEFAULT_SORT},
    ),
)
LIST_PARAMETERS = (*FILTER_PARAMETERS, *PAGE_PARAMETERS)
_KNOWN = frozenset(str(parameter["name"]) for parameter in LIST_PARAMETERS)


class _Wrong(ValueError):
    """A value that can't be; its text is for the client."""


def parse_query(actor: Actor, given: Mapping[str, str]) -> PageQuery:
    """The question from query parameters, within what the actor may see.

    Raises `InvalidInput` naming every wrong, unknown or repeated one.
    """
    errors = wrong_parameters(given, _KNOWN)
    conditions: list[Row] = [visible_to(actor)]
    filters = sorted((name, text) for name, text in given.items() if name in _PARSERS)
    for name, text in filters:
        try:
            conditions.append(_PARSERS[name](text, actor))
        except _Wrong as error:
            errors.append(FieldError(name, "invalid", str(error)))
    sort = given.get("sort", DEFAULT_SORT)
    if sort not in SORT_VALUES:
        errors.append(FieldError("sort", "enum", f"must be one of {', '.join(SORT_VALUES)}"))
    limit = 0
    try:
        limit = parse_limit(given.get("limit"))
    except InvalidInput as error:
        errors += [FieldError(**fields) for fields in error.extra["errors"]]
    if errors:
        raise InvalidInput(*sorted(errors, key=lambda error: error.field))
    field = sort.removeprefix("-")
    has_range = any(isinstance(condition.get(field), dict) for condition in conditions)
    order = Order(field, sort.startswith("-"), may_be_null=not has_range)
    scope = f"tickets {sort} {filters}"
    prefix = _index_prefix(conditions)
    hint = None if prefix is None else [*((name, 1) for name in prefix), (order.field, 1), ("_id", 1)]
    return PageQuery({"$and": conditions}, order, hint, limit, given.get("cursor"), scope)


def _index_prefix(conditions: list[Row]) -> tuple[str, ...] | None:
    """The fields before the order in the index to read, which gives the order too; None: only the planner can say.

    Adds the conditions that make the index give it. Left to itself the planner would, for a range of one time and the
    order of another, gather and sort in memory.
    """
    if any("$text" in condition or "$or" in condition for condition in conditions):
        return None
    equal = {name for condition in conditions for name, value in condition.items() if not isinstance(value, dict)}
    if {"waitingOn": None} in conditions:
        equal.remove("waitingOn")
    for names in FILTERS:
        missing = [name for name in names if name not in equal]
        if len(missing) < len(names) and FEW_VALUES.keys() >= set(missing):
            conditions += [{name: {"$in": FEW_VALUES[name]}} for name in missing]
            return names
    return ()


def _one_of(field: str, values: type[Status | Priority]) -> Callable[[str, Actor], Row]:
    known = frozenset(str(value) for value in values)

    def parse(text: str, _actor: Actor) -> Row:
        if text not in known:
            message = f"must be one of {', '.join(values)}"
            raise _Wrong(message)
        return {field: text}

    return parse


def _person(field: str) -> Callable[[str, Actor], Row]:
    def parse(text: str, actor: Actor) -> Row:
        if text == "me":
            return {field: actor.id}
        if text == "none":
            return {field: None}
        if not ObjectId.is_valid(text):
            message = "must be a user's id, me or none"
            raise _Wrong(message)
        return {field: ObjectId(text)}

    return parse


def _tag(text: str, _actor: Actor) -> Row:
    if not 1 <= len(text) <= MAX_TAG or "\x00" in text:
        message = f"must have 1 to {MAX_TAG} characters"
        raise _Wrong(message)
    return {"tags": text.strip()}


def _words(text: str, _actor: Actor) -> Row:
    if len(text) > MAX_QUERY or "\x00" in text:
        message = f"must have at most {MAX_QUERY} characters"
        raise _Wrong(message)
    # Quoted, so that all words must be there and a leading minus excludes nothing. The index has whole words, and finds
    # those with any of these; that all are there is looked up in the text, where MongoDB takes parts of words, too.
    words = _WORD.findall(text)
    if not words:
        return {"_id": {"$in": []}} if text.strip() else {}
    return {"$text": {"$search": " ".join(f'"{word}"' for word in words)}}


def _waiting_on(text: str, _actor: Actor) -> Row:
    if text == "none":
        return {"waitingOn": None}
    if text not in set(WaitingOn):
        message = f"must be one of {', '.join(WaitingOn)}, none"
        raise _Wrong(message)
    return {"waitingOn": text}


def _breached(text: str, _actor: Actor) -> Row:
    either: list[Row] = [{"sla.firstResponseBreached": True}, {"sla.resolutionBreached": True}]
    match text:
        case "true":
            return {"$or": either}
        case "false":
            return {"$nor": either}
        case _:
            message = "must be true or false"
            raise _Wrong(message)


def _time(field: str, comparison: str) -> Callable[[str, Actor], Row]:
    def parse(text: str, _actor: Actor) -> Row:
        return {field: {comparison: _instant(text)}}

    return parse


def _instant(text: str) -> datetime:
    """An RFC 3339 instant; without an offset it is UTC. An unescaped + arrives as a blank."""
    try:
        moment = datetime.fromisoformat(text.strip().replace(" ", "+"))
        return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).astimezone(UTC)
    except (ValueError, OverflowError):
        message = "must be an instant such as 2026-11-22T09:30:00Z"
        raise _Wrong(message) from None


_PARSERS: dict[str, Callable[[str, Actor], dict[str, Any]]] = {
    "status": _one_of("status", Status),
    "priority": _one_of("priority", Priority),
    "assignedTo": _person("assignedTo"),
    "requester": _person("requester"),
    "tag": _tag,
    "q": _words,
    "waitingOn": _waiting_on,
    "breached": _breached,
    "createdAfter": _time("createdAt", "$gt"),
    "createdBefore": _time("createdAt", "$lt"),
    "updatedAfter": _time("updatedAt", "$gt"),
}
