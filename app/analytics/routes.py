"""REST operations on reports, which are for Agents and Admins."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.accounts.deps import SIGNED_OUT, CurrentActor
from app.platform.clock import now
from app.platform.errors import AppError, Forbidden
from app.platform.http import json_response
from app.platform.openapi import Success, describe

from .errors import StatisticsIncomplete
from .filters import INTERVAL_PARAMETER, REPORT_PARAMETERS
from .queries import (
    read_agent_performance,
    read_backlog,
    read_first_response_time,
    read_overview,
    read_resolution_time,
    read_satisfaction,
    read_sla,
    read_tags,
    read_volume,
)
from .schemas import (
    AGENT_PERFORMANCE_EXAMPLE,
    BACKLOG_EXAMPLE,
    FIRST_RESPONSE_TIME_EXAMPLE,
    OVERVIEW_EXAMPLE,
    RESOLUTION_TIME_EXAMPLE,
    SATISFACTION_EXAMPLE,
    SLA_EXAMPLE,
    TAG_REPORT_EXAMPLE,
    VOLUME_EXAMPLE,
    AgentPerformance,
    Backlog,
    FirstResponseTime,
    Overview,
    ResolutionTime,
    Satisfaction,
    SlaReport,
    TagReport,
    Volume,
)

router = APIRouter(prefix="/api/analytics", tags=["analytics"])
_ERRORS: list[type[AppError]] = [*SIGNED_OUT, Forbidden, StatisticsIncomplete]


@router.get(
    "/agent-performance",
    **describe(
        "getAgentPerformance",
        Success(200, AgentPerformance, [AGENT_PERFORMANCE_EXAMPLE], is_list=True),
        errors=_ERRORS,
        parameters=REPORT_PARAMETERS,
    ),
)
async def agent_performance_route(request: Request, actor: CurrentActor) -> Response:
    """What each agent resolved, whoever resolved most first; those without any figures are left out. `tag` is
    refused: no exact figures are kept by agent and tag at once.
    """
    return json_response(await read_agent_performance(actor, request.query_params))


@router.get(
    "/resolution-time",
    **describe(
        "getResolutionTime",
        Success(200, ResolutionTime, RESOLUTION_TIME_EXAMPLE),
        errors=_ERRORS,
        parameters=REPORT_PARAMETERS,
    ),
)
async def resolution_time_route(request: Request, actor: CurrentActor) -> Response:
    """How long tickets took from creation to resolution, by when they were resolved. Tickets of the original service
    that are resolved at no known time do not count.
    """
    return json_response(await read_resolution_time(actor, request.query_params))


@router.get(
    "/first-response-time",
    **describe(
        "getFirstResponseTime",
        Success(200, FirstResponseTime, FIRST_RESPONSE_TIME_EXAMPLE),
        errors=_ERRORS,
        parameters=REPORT_PARAMETERS,
    ),
)
async def first_response_time_route(request: Request, actor: CurrentActor) -> Response:
    """How long tickets waited for an Agent's first public answer, by when it was given."""
    return json_response(await read_first_response_time(actor, request.query_params))


@router.get(
    "/volume",
    **describe(
        "getVolume",
        Success(200, Volume, VOLUME_EXAMPLE),
        errors=_ERRORS,
        parameters=(*REPORT_PARAMETERS, INTERVAL_PARAMETER),
    ),
)
async def volume_route(request: Request, actor: CurrentActor) -> Response:
    """How many tickets were created, resolved and reopened in each day, week or month of the time zone."""
    return json_response(await read_volume(actor, request.query_params, now=now()))


@router.get(
    "/backlog",
    **describe("getBacklog", Success(200, Backlog, BACKLOG_EXAMPLE), errors=_ERRORS, parameters=REPORT_PARAMETERS),
)
async def backlog_route(request: Request, actor: CurrentActor) -> Response:
    """How many tickets were open at the end of each day of the time zone, and how old those are that are open now."""
    return json_response(await read_backlog(actor, request.query_params, now=now()))


@router.get(
    "/sla",
    **describe("getSlaReport", Success(200, SlaReport, SLA_EXAMPLE), errors=_ERRORS, parameters=REPORT_PARAMETERS),
)
async def sla_route(request: Request, actor: CurrentActor) -> Response:
    """How many of the tickets that were created in the stretch of time were answered and resolved when due."""
    return json_response(await read_sla(actor, request.query_params))


@router.get(
    "/satisfaction",
    **describe(
        "getSatisfaction",
        Success(200, Satisfaction, SATISFACTION_EXAMPLE),
        errors=_ERRORS,
        parameters=REPORT_PARAMETERS,
    ),
)
async def satisfaction_route(request: Request, actor: CurrentActor) -> Response:
    """How requesters rated what was done for them, by when they did."""
    return json_response(await read_satisfaction(actor, request.query_params))


@router.get(
    "/tags",
    **describe(
        "getTagReport", Success(200, TagReport, TAG_REPORT_EXAMPLE), errors=_ERRORS, parameters=REPORT_PARAMETERS
    ),
)
async def tags_route(request: Request, actor: CurrentActor) -> Response:
    """How tickets with each of the most used tags fare. `agent` is refused: no exact figures are kept by agent and tag
    at once.
    """
    return json_response(await read_tags(actor, request.query_params))


@router.get(
    "/overview",
    **describe("getOverview", Success(200, Overview, OVERVIEW_EXAMPLE), errors=_ERRORS, parameters=REPORT_PARAMETERS),
)
async def overview_route(request: Request, actor: CurrentActor) -> Response:
    """The main figures of the other reports at a glance."""
    return json_response(await read_overview(actor, request.query_params))
