"""Reports on the wire."""

from pydantic import Field

from app.platform.wire import Id, JsonObject, WireModel

from .period import Interval
from .reports import AGES, SCORES
from .sketch import RELATIVE_ERROR

_REOPENED = "How often tickets were reopened, by when they were"
_TZ = "The time zone that days are days of"
_EXACT = "Mean in milliseconds, not rounded; null without any"
_RESOLVED = (
    "Those that are Resolved or Closed now, by when they were; without `from` and `to` also those of the original "
    "service that have no time of it"
)
_MEDIAN = "Half took at most so long; within `quantileError` of the exact one"
_P90 = "Nine of ten took at most so long; within `quantileError` of the exact one"
_ERROR = "How far off, as a share, medians and 90th percentiles may be"


class AgentPerformance(WireModel):
    """What one agent resolved: the tickets that are assigned to them now."""

    id: Id | None = Field(alias="_id", description="The agent; null for the tickets that are assigned to nobody")
    username: str | None = Field(description="Null for nobody, or when the account is gone")
    resolved_tickets: int = Field(description=_RESOLVED)
    avg_time: float | None = Field(description=f"From creation to resolution. {_EXACT}")
    reopened: int = Field(description=_REOPENED)


class Durations(WireModel):
    """How long tickets took."""

    avg_time: float | None = Field(description=_EXACT)
    median_ms: int | None = Field(description=_MEDIAN)
    p90_ms: int | None = Field(description=_P90)
    count: int = Field(description="Of how many tickets")


class ResolutionTime(Durations):
    """From creation to resolution, of tickets that are Resolved or Closed now, by when they were."""

    resolution: str = Field(description="`last`: which resolution of a ticket that was reopened these are about")
    first: Durations = Field(description="The first resolution of each ticket, also of those that are open again")
    quantile_error: float = Field(description=_ERROR)


class FirstResponse(WireModel):
    """From creation to an Agent's first public answer, by when it was given."""

    avg_ms: int | None = Field(description="Mean; null without any")
    median_ms: int | None = Field(description=_MEDIAN)
    p90_ms: int | None = Field(description=_P90)
    count: int = Field(description="Of how many tickets")


class FirstResponseTime(FirstResponse):
    """From creation to an Agent's first public answer, by when it was given."""

    quantile_error: float = Field(description=_ERROR)


class VolumeItem(WireModel):
    """What came and went in one interval."""

    start: str = Field(
        description="The local day that the interval begins with; `from` and `to` may cut the first and the last",
        json_schema_extra={"format": "date"},
    )
    created: int = Field(description="Tickets by when they were created")
    resolved: int = Field(description="Tickets that are Resolved or Closed now, by when they were")
    reopened: int = Field(description=_REOPENED)


class Volume(WireModel):
    """How much came and went in each interval."""

    interval: Interval = Field(description="How long the items are")
    tz: str = Field(description=_TZ)
    items: list[VolumeItem] = Field(
        description="Every interval, also without figures; at most 5,000. By default from the first figure to today"
    )


class BacklogAge(WireModel):
    """What is open now and of some age."""

    from_days: int = Field(description="Opened so many local days ago or more")
    to_days: int | None = Field(description="And less than so many; null for no bound")
    open: int = Field(description="How many are open now and that old")


class BacklogItem(WireModel):
    """What was open at the end of a day."""

    date: str = Field(description="The local day", json_schema_extra={"format": "date"})
    open: int = Field(description="Open or In Progress at its end, or at `to` if that is earlier; today: now")


class Backlog(WireModel):
    """What is open, and was."""

    tz: str = Field(description=_TZ)
    open: int = Field(description="Open or In Progress now, whatever `from` and `to`")
    unassigned: int | None = Field(description="How many of these are nobody's; null beside `agent` or `tag`")
    by_age: list[BacklogAge] = Field(description="Those open now by their age in local days, whatever `from` and `to`")
    items: list[BacklogItem] = Field(
        description="Each local day up to today, at most 5,000; by default from the first figure on"
    )


class Attainment(WireModel):
    """How many promises of one kind were kept."""

    met: int = Field(description="Done in time")
    breached: int = Field(description="Not done in time, by now or ever")
    rate: float | None = Field(description="What share of both was met; null without any")


class SlaReport(WireModel):
    """Whether service levels were kept, for the tickets that were created in the stretch of time."""

    tickets: int = Field(description="Tickets with a policy, also those of which nothing is due yet")
    first_response: Attainment = Field(description="Of the first answers that were due")
    resolution: Attainment = Field(description="Of the resolutions that were due")


class Satisfaction(WireModel):
    """What requesters gave, by when they did."""

    count: int = Field(description="How many rated a ticket")
    average: float | None = Field(description="From 1 to 5; null without any")
    scores: dict[str, int] = Field(
        description="How many gave which score",
        json_schema_extra={
            "properties": {str(score): {"type": "integer"} for score in SCORES},
            "required": [str(score) for score in SCORES],
        },
    )


class TagItem(WireModel):
    """How tickets with one tag fare."""

    tag: str = Field(description="As tickets have it")
    created: int = Field(description="Tickets by when they were created")
    resolved: int = Field(description=_RESOLVED)
    open: int = Field(description="Those of the created that are Open or In Progress now")
    avg_time: float | None = Field(description=f"From creation to resolution. {_EXACT}")


class TagReport(WireModel):
    """How tickets fare by their tags."""

    items: list[TagItem] = Field(description="The 100 tags that most tickets were created with, those first")


class Overview(WireModel):
    """A bit of all the other reports."""

    created: int = Field(description="Tickets by when they were created")
    resolved: int = Field(description=_RESOLVED)
    reopened: int = Field(description=_REOPENED)
    open: int = Field(description="Those of the created that are Open or In Progress now")
    avg_time: float | None = Field(description=f"From creation to resolution. {_EXACT}")
    median_ms: int | None = Field(
        description=f"From creation to resolution. Within {RELATIVE_ERROR:.0%} of the exact one"
    )
    p90_ms: int | None = Field(description=f"The same of nine in ten, within {RELATIVE_ERROR:.0%}")
    first_response: FirstResponse = Field(description="How long tickets waited for a first answer")
    sla: SlaReport = Field(description="Whether service levels were kept")
    satisfaction: Satisfaction = Field(description="What requesters gave")


_DURATIONS: JsonObject = {"avgTime": 5_412_000.5, "medianMs": 3_600_000, "p90Ms": 14_400_000, "count": 120}
_FIRST_RESPONSE: JsonObject = {"avgMs": 1_260_000, "medianMs": 900_000, "p90Ms": 3_000_000, "count": 130}
AGENT_PERFORMANCE_EXAMPLE: JsonObject = {
    "_id": "6740a1f0c3b2a1d4e5f60722",
    "username": "agent1",
    "resolvedTickets": 120,
    "avgTime": 5_412_000.5,
    "reopened": 3,
}
RESOLUTION_TIME_EXAMPLE: JsonObject = {
    **_DURATIONS,
    "resolution": "last",
    "first": _DURATIONS,
    "quantileError": RELATIVE_ERROR,
}
FIRST_RESPONSE_TIME_EXAMPLE: JsonObject = {**_FIRST_RESPONSE, "quantileError": RELATIVE_ERROR}
VOLUME_EXAMPLE: JsonObject = {
    "interval": "day",
    "tz": "Europe/Berlin",
    "items": [{"start": "2026-11-22", "created": 14, "resolved": 12, "reopened": 1}],
}
BACKLOG_EXAMPLE: JsonObject = {
    "tz": "Europe/Berlin",
    "open": 25,
    "unassigned": 4,
    "byAge": [
        {"fromDays": start, "toDays": end, "open": number}
        for (start, end), number in zip(AGES, (9, 8, 5, 2, 1), strict=True)
    ],
    "items": [{"date": "2026-11-21", "open": 23}, {"date": "2026-11-22", "open": 25}],
}
SLA_EXAMPLE: JsonObject = {
    "tickets": 100,
    "firstResponse": {"met": 95, "breached": 5, "rate": 0.95},
    "resolution": {"met": 72, "breached": 8, "rate": 0.9},
}
SATISFACTION_EXAMPLE: JsonObject = {
    "count": 40,
    "average": 4.5,
    "scores": {"1": 0, "2": 1, "3": 3, "4": 11, "5": 25},
}
TAG_REPORT_EXAMPLE: JsonObject = {
    "items": [{"tag": "printer", "created": 60, "resolved": 52, "open": 8, "avgTime": 5_412_000.5}]
}
OVERVIEW_EXAMPLE: JsonObject = {
    "created": 145,
    "resolved": 120,
    "reopened": 3,
    "open": 25,
    **{name: _DURATIONS[name] for name in ("avgTime", "medianMs", "p90Ms")},
    "firstResponse": _FIRST_RESPONSE,
    "sla": SLA_EXAMPLE,
    "satisfaction": SATISFACTION_EXAMPLE,
}
