"""Answers requests in processes that kill themselves at a chosen database command.

A program: reads one `Job` a line from its input, forks a process for it, and writes what became of it: "killed", or the
status that it answered. It has everything imported and nothing started, so that a fork costs milliseconds.
"""

import asyncio
import os
import signal
import sys
import traceback
from contextvars import ContextVar
from typing import Any, TypedDict

import httpx
import orjson
from pymongo import monitoring
from starlette.types import Receive, Scope, Send

from app.main import create_app
from app.settings import load_settings

# Set around the request alone: what the service does to the database beside it is not counted.
_is_counted: ContextVar[bool] = ContextVar("_is_counted", default=False)


class Job(TypedDict):
    """A request, and the database command of it (from 1) before or after which the process dies."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any] | None
    command: int
    after: bool


class Death(monitoring.CommandListener):
    """Kills this very process: just before the command is sent, or just after its reply has come."""

    def __init__(self, command: int, *, after: bool) -> None:
        self._left = command
        self._after = after

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if _is_counted.get():
            self._left -= 1
            self._die_if(not self._after)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        self._die_if(self._after)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        self._die_if(self._after)

    def _die_if(self, is_moment: bool) -> None:
        if self._left == 0 and is_moment and _is_counted.get():
            os.kill(os.getpid(), signal.SIGKILL)


async def answer(job: Job) -> int:
    monitoring.register(Death(job["command"], after=job["after"]))
    app = create_app(load_settings())
    async with app.router.lifespan_context(app) as state:

        async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": dict(state or {})}, receive, send)

        async with httpx.AsyncClient(transport=httpx.ASGITransport(with_state), base_url="http://service") as client:
            _is_counted.set(True)
            response = await client.request(job["method"], job["path"], headers=job["headers"], json=job["body"])
            _is_counted.set(False)
        return response.status_code


def run(job: Job) -> str:
    """Forks, and waits for the end."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, str(asyncio.run(answer(job))).encode())
        except BaseException:  # noqa: BLE001 - nothing of this process may reach the parent's code
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    return "killed" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL else told


def main() -> None:
    # The log goes to standard output, too, and would be taken for an end.
    ends = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        ends.write(run(orjson.loads(line)) + "\n")


if __name__ == "__main__":
    main()
