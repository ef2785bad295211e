"""Reports: each field asks what REST's operation asks, and only if it is asked for."""

from collections.abc import Callable
from typing import Annotated, Any

import strawberry
from strawberry import ID, UNSET, Parent

from app.analytics import queries, schemas
from app.analytics.filters import INTERVAL_PARAMETER, REPORT_PARAMETERS
from app.platform.clock import now
from app.platform.wire import Row, WireModel

from .context import Info
from .inputs import parameters
from .scalars import Milliseconds
from .types import UserType

_WORDS = {parameter["name"]: parameter["description"] for parameter in (*REPORT_PARAMETERS, INTERVAL_PARAMETER)}


def _argument(name: str) -> Any:
    return strawberry.argument(name=name, description=_WORDS[name])


def _as_in(model: type[WireModel]) -> Callable[[type], type]:
    """Makes an object type whose fields mean what the model's of the same names do."""

    def described(cls: type) -> type:
        for name in cls.__annotations__.keys() - vars(cls).keys():
            setattr(cls, name, strawberry.field(description=model.model_fields[name].description))
        return strawberry.type(cls, description=model.__doc__)

    return described


def agent_of(parent: Parent[Row], info: Info) -> Any:
    return None if parent["_id"] is None else info.context.loaders.user_by_id.load(parent["_id"])


@_as_in(schemas.AgentPerformance)
class AgentPerformance:
    agent: UserType | None = strawberry.field(
        resolver=agent_of, description="Null for the tickets of nobody, or when the account is gone"
    )
    resolved_tickets: int
    avg_time: float | None
    reopened: int


@_as_in(schemas.Durations)
class Durations:
    avg_time: float | None
    median_ms: Milliseconds | None
    p90_ms: Milliseconds | None
    count: int


@_as_in(schemas.ResolutionTime)
class ResolutionTime(Durations):
    resolution: str
    first: Durations
    quantile_error: float


@_as_in(schemas.FirstResponse)
class FirstResponse:
    avg_ms: Milliseconds | None
    median_ms: Milliseconds | None
    p90_ms: Milliseconds | None
    count: int


@_as_in(schemas.FirstResponseTime)
class FirstResponseTime(FirstResponse):
    quantile_error: float


@_as_in(schemas.VolumeItem)
class VolumeItem:
    start: str
    created: int
    resolved: int
    reopened: int


@_as_in(schemas.Volume)
class Volume:
    interval: str
    tz: str
    items: list[VolumeItem]


@_as_in(schemas.BacklogAge)
class BacklogAge:
    from_days: int
    to_days: int | None
    open: int


@_as_in(schemas.BacklogItem)
class BacklogItem:
    date: str
    open: int


@_as_in(schemas.Backlog)
class Backlog:
    tz: str
    open: int
    unassigned: int | None
    by_age: list[BacklogAge]
    items: list[BacklogItem]


@_as_in(schemas.Attainment)
class Attainment:
    met: int
    breached: int
    rate: float | None


@_as_in(schemas.SlaReport)
class SlaReport:
    tickets: int
    first_response: Attainment
    resolution: Attainment


@strawberry.type(description="How many gave one score")
class ScoreCount:
    score: int = strawberry.field(description="1 to 5")
    count: int = strawberry.field(description="How many gave it")


def scores_of(parent: Parent[Row]) -> Any:
    return [{"score": int(score), "count": count} for score, count in parent["scores"].items()]


@_as_in(schemas.Satisfaction)
class Satisfaction:
    count: int
    average: float | None
    scores: list[ScoreCount] = strawberry.field(resolver=scores_of, description="How many gave which score, 1 first")


@_as_in(schemas.TagItem)
class TagItem:
    tag: str
    created: int
    resolved: int
    open: int
    avg_time: float | None


@_as_in(schemas.TagReport)
class TagReport:
    items: list[TagItem]


@_as_in(schemas.Overview)
class Overview:
    created: int
    resolved: int
    reopened: int
    open: int
    avg_time: float | None
    median_ms: Milliseconds | None
    p90_ms: Milliseconds | None
    first_response: FirstResponse
    sla: SlaReport
    satisfaction: Satisfaction


async def agent_performance(parent: Parent[Row], info: Info) -> Any:
    return await queries.read_agent_performance(info.context.actor, parent)


async def resolution_time(parent: Parent[Row], info: Info) -> Any:
    return await queries.read_resolution_time(info.context.actor, parent)


async def first_response_time(parent: Parent[Row], info: Info) -> Any:
    return await queries.read_first_response_time(info.context.actor, parent)


async def volume(
    parent: Parent[Row], info: Info, interval: Annotated[str | None, _argument("interval")] = UNSET
) -> Any:
    return await queries.read_volume(info.context.actor, {**parent, **parameters(interval=interval)}, now=now())


async def backlog(parent: Parent[Row], info: Info) -> Any:
    return await queries.read_backlog(info.context.actor, parent, now=now())


async def sla(parent: Parent[Row], info: Info) -> Any:
    return await queries.read_sla(info.context.actor, parent)


async def satisfaction(parent: Parent[Row], info: Info) -> Any:
    return await queries.read_satisfaction(info.context.actor, parent)


async def tags(parent: Parent[Row], info: Info) -> Any:
    return await queries.read_tags(info.context.actor, parent)


async def overview(parent: Parent[Row], info: Info) -> Any:
    return await queries.read_overview(info.context.actor, parent)


@strawberry.type(description="Reports on the tickets that were asked about; Agents and Admins only")
class Analytics:
    agent_performance: list[AgentPerformance] | None = strawberry.field(
        resolver=agent_performance, description="What each agent resolved, whoever resolved most first; refuses `tag`"
    )
    resolution_time: ResolutionTime | None = strawberry.field(
        resolver=resolution_time, description="How long tickets took from creation to resolution"
    )
    first_response_time: FirstResponseTime | None = strawberry.field(
        resolver=first_response_time, description="How long tickets waited for an Agent's first public answer"
    )
    volume: Volume | None = strawberry.field(
        resolver=volume, description="What was created, resolved and reopened in each interval"
    )
    backlog: Backlog | None = strawberry.field(
        resolver=backlog, description="What was open at the end of each day, and how old is what is open now"
    )
    sla: SlaReport | None = strawberry.field(resolver=sla, description="Whether service levels were kept")
    satisfaction: Satisfaction | None = strawberry.field(resolver=satisfaction, description="What requesters gave")
    tags: TagReport | None = strawberry.field(
        resolver=tags, description="How tickets with the most used tags fare; refuses `agent`"
    )
    overview: Overview | None = strawberry.field(resolver=overview, description="The main figures of the others")


def analytics(
    from_: Annotated[str | None, _argument("from")] = UNSET,
    to: Annotated[str | None, _argument("to")] = UNSET,
    tz: Annotated[str | None, _argument("tz")] = UNSET,
    priority: Annotated[str | None, _argument("priority")] = UNSET,
    agent: Annotated[ID | None, _argument("agent")] = UNSET,
    tag: Annotated[str | None, _argument("tag")] = UNSET,
) -> Any:
    return parameters(**{"from": from_}, to=to, tz=tz, priority=priority, agent=agent, tag=tag)
