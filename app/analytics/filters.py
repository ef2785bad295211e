"""What reports can be asked about, from query parameters to a question on stored sums."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from functools import cache
from typing import TypeVar
from zoneinfo import ZoneInfo, available_timezones

from bson import ObjectId

from app.platform.errors import FieldError, InvalidInput
from app.platform.openapi import query_parameter
from app.platform.paging import wrong_parameters
from app.tickets.lifecycle import Priority
from app.tickets.schemas import MAX_TAG

from .documents import Dim
from .period import Interval, NotAligned, first_quarter, quarter_of

FIRST_YEAR, LAST_YEAR = 1970, 9998
DEFAULT_TZ = "UTC"
NOBODY = "none"
# Files beside the zones: this machine's own, and one that stands for none.
_NO_ZONES = {"localtime", "Factory"}
_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
# The + of an offset that was not escaped arrives as a blank.
_TIME = f"^{_DATE}(T[0-9]{{2}}:[0-9]{{2}}(:[0-9]{{2}}(\\.[0-9]{{1,6}})?)?(Z|[-+ ][0-9]{{2}}:[0-9]{{2}}))?$"
_TIME_SCHEMA = {"type": "string", "pattern": _TIME, "examples": ["2026-11-01", "2026-11-22T09:30:00Z"]}
_TIME_RULE = "a date, which is its first instant in `tz`, or an instant on a quarter of an hour"

REPORT_PARAMETERS = (
    query_parameter("from", f"From here on: {_TIME_RULE}", _TIME_SCHEMA),
    query_parameter("to", f"Up to here, which is excluded: {_TIME_RULE}", _TIME_SCHEMA),
    query_parameter(
        "tz",
        "The time zone that days are days of, by its IANA name",
        {"type": "string", "default": DEFAULT_TZ, "examples": ["Europe/Berlin"]},
    ),
    query_parameter("priority", "Only tickets of this priority", {"type": "string", "enum": list(Priority)}),
    query_parameter(
        "agent",
        f"Only tickets assigned to this user; `{NOBODY}` for those of nobody. Not together with `tag`",
        {"type": "string", "pattern": f"^([0-9a-fA-F]{{24}}|{NOBODY})$"},
    ),
    query_parameter(
        "tag",
        "Only tickets with this tag. Not together with `agent`",
        {"type": "string", "minLength": 1, "maxLength": MAX_TAG},
    ),
)
INTERVAL_PARAMETER = query_parameter(
    "interval",
    "How long the items are; weeks begin on Monday",
    {"type": "string", "enum": list(Interval), "default": Interval.DAY},
)
_KNOWN = frozenset(str(parameter["name"]) for parameter in REPORT_PARAMETERS)

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Question:
    """A checked question. The stretch is in quarters of an hour, `last` excluded; None is no bound."""

    first: int | None
    last: int | None
    tz: str
    zone: tzinfo
    priority: Priority | None
    dim: Dim
    value: ObjectId | str | None
    """The agent, None for nobody; or the tag. Without meaning where the tickets are all."""
    is_filtered: bool
    """Whether only one agent or tag is asked for, rather than each of them, or all tickets."""
    interval: Interval


class _Wrong(ValueError):
    """A value that can't be: a code, and words for the client."""

    def __init__(self, message: str, code: str = "invalid") -> None:
        super().__init__(message)
        self.code = code


def parse_question(given: Mapping[str, str], *, each: Dim = Dim.ALL, has_interval: bool = False) -> Question:
    """The question from query parameters, of a report on all tickets or on `each` agent or tag.

    Raises `InvalidInput` naming every wrong, unknown or repeated parameter.
    """
    reader = _Reader(given, wrong_parameters(given, _KNOWN | {"interval"} if has_interval else _KNOWN))
    zone = reader.read("tz", zone_of) or UTC
    first = reader.read("from", lambda text: _quarter(text, zone))
    last = reader.read("to", lambda text: _quarter(text, zone))
    priority = reader.read("priority", _priority)
    agent = reader.read("agent", _agent)
    tag = reader.read("tag", _tag)
    interval = reader.read("interval", _interval) if has_interval else None
    if first is not None and last is not None and first >= last:
        reader.errors.append(FieldError("to", "out_of_range", "must be later than from"))
    filters = {dim for dim in (Dim.AGENT, Dim.TAG) if dim in given}
    dims = filters | ({each} - {Dim.ALL})
    if len(dims) > 1:
        field = next(iter(filters - {each})) if len(filters) == 1 else Dim.TAG
        reader.errors.append(
            FieldError(field, "unsupported_combination", "no exact figures are kept by agent and tag at once")
        )
    if reader.errors:
        raise InvalidInput(*sorted(reader.errors, key=lambda error: error.field))
    return Question(
        first,
        last,
        given.get("tz", DEFAULT_TZ),
        zone,
        priority,
        dim=next(iter(dims), Dim.ALL),
        value=tag if Dim.TAG in filters else agent,
        is_filtered=bool(filters),
        interval=interval or Interval.DAY,
    )


class _Reader:
    """Reads parameters one by one and gathers what is wrong with them."""

    def __init__(self, given: Mapping[str, str], errors: list[FieldError]) -> None:
        self._given = given
        self.errors = errors

    def read(self, name: str, parse: Callable[[str], Value]) -> Value | None:
        """None for one that is absent or wrong."""
        if name not in self._given:
            return None
        try:
            return parse(self._given[name])
        except _Wrong as error:
            self.errors.append(FieldError(name, error.code, str(error)))
            return None


@cache
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones() - _NO_ZONES)


def zone_of(name: str) -> tzinfo:
    # By a list, because the library opens any file below its directories.
    if name not in _zone_names():
        raise _Wrong("must be the IANA name of a time zone, such as Europe/Berlin")
    return ZoneInfo(name)


def _quarter(text: str, zone: tzinfo) -> int:
    try:
        if re.fullmatch(_DATE, text):
            return first_quarter(_in_bounds(date.fromisoformat(text)), zone)
        if not re.fullmatch(_TIME, text):
            raise _Wrong("must be a date such as 2026-11-01 or an instant such as 2026-11-22T09:30:00Z")
        return quarter_of(_in_bounds(datetime.fromisoformat(text.replace(" ", "+")).astimezone(UTC)))
    except NotAligned:
        raise _Wrong("must be on a quarter of an hour, by which figures are kept", "not_aligned") from None
    except (ValueError, OverflowError) as error:
        raise error if isinstance(error, _Wrong) else _Wrong("must be a day that there is") from None


DateType = TypeVar("DateType", bound=date)


def _in_bounds(day: DateType) -> DateType:
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise _Wrong(f"must be in the years {FIRST_YEAR} to {LAST_YEAR}", "out_of_range")
    return day


def _priority(text: str) -> Priority:
    if text not in set(Priority):
        raise _Wrong(f"must be one of {', '.join(Priority)}")
    return Priority(text)


def _interval(text: str) -> Interval:
    if text not in set(Interval):
        raise _Wrong(f"must be one of {', '.join(Interval)}")
    return Interval(text)


def _agent(text: str) -> ObjectId | None:
    if text != NOBODY and not ObjectId.is_valid(text):
        raise _Wrong(f"must be a user's id or {NOBODY}")
    return None if text == NOBODY else ObjectId(text)


def _tag(text: str) -> str:
    tag = text.strip()
    if not 1 <= len(tag) <= MAX_TAG or "\x00" in tag:
        raise _Wrong(f"must have 1 to {MAX_TAG} characters")
    return tag
