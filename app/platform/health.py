"""Whether the process lives and whether it can work: two different questions for two different watchers."""

from typing import Protocol

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from .errors import DatabaseUnavailable
from .http import json_response
from .mongo import ping
from .openapi import Success, describe
from .wire import WireModel

router = APIRouter(tags=["health"])
OK = {"status": "ok"}
# The change stream answers every second when all is well.
MAX_LAG_S = 10.0


class Health(WireModel):
    status: str


class Readiness(Health):
    event_lag_ms: int = Field(description="By how much live events trail the event log, at most")


class Follower(Protocol):
    """Whatever follows the event log."""

    @property
    def lag_s(self) -> float | None:
        """Seconds; None before its first success."""


@router.get("/healthz", **describe("getHealth", Success(200, Health, OK), is_limited=False))
async def healthz() -> Response:
    """The process answers; says nothing of the database. For restarting what hangs."""
    return json_response(OK)


@router.get("/readyz", **describe("getReadiness", Success(200, Readiness, {**OK, "eventLagMs": 412}), is_limited=False))
async def readyz(request: Request) -> Response:
    """The service can work: its database has a primary, the indexes are built, and the event log is being followed.

    For sending traffic here or not.
    """
    if not request.state.database.is_prepared or not await ping(request.state.database.handle):
        raise DatabaseUnavailable
    follower: Follower = request.state.follower
    if follower.lag_s is None or follower.lag_s > MAX_LAG_S:
        raise DatabaseUnavailable
    return json_response({**OK, "eventLagMs": round(follower.lag_s * 1000)})
