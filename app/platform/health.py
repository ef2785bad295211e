"""Whether the process lives and whether it can work: two different questions for two different watchers."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from .errors import DatabaseUnavailable
from .http import json_response
from .mongo import ping
from .openapi import Success, describe
from .wire import WireModel

router = APIRouter(tags=["health"])
OK = {"status": "ok"}


class Health(WireModel):
    status: str


@router.get("/healthz", **describe("getHealth", Success(200, Health, OK)))
async def healthz() -> Response:
    """The process answers; says nothing of the database. For restarting what hangs."""
    return json_response(OK)


@router.get("/readyz", **describe("getReadiness", Success(200, Health, OK)))
async def readyz(request: Request) -> Response:
    """The service can work: its database has a primary, and the indexes are built. For sending traffic here or not."""
    if not request.state.database.is_prepared or not await ping(request.state.database.handle):
        raise DatabaseUnavailable
    return json_response(OK)
