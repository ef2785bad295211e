"""Answers to requests that are forbidden to who makes them; the audit log is told."""

import logging

from fastapi import FastAPI, Request
from pymongo.errors import PyMongoError
from starlette.responses import Response

from app.accounts.commands.refusals import record_refusal
from app.accounts.deps import origin_of
from app.platform.clock import now
from app.platform.errors import Forbidden
from app.platform.http import problem_response

logger = logging.getLogger(__name__)


def install_refusal_log(app: FastAPI) -> None:
    app.add_exception_handler(Forbidden, _refused)


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, Forbidden):
        raise error
    actor = getattr(request.state, "actor", None)
    if actor is not None:
        operation = f"{request.method} {request.scope['route'].path}"
        try:
            await record_refusal(actor, operation, error, origin_of(request), now())
        except PyMongoError as fault:  # what was refused stays refused
            logger.warning("a refusal is missing in the audit log", extra={"reason": type(fault).__name__})
    return problem_response(request, error)
