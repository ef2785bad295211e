"""The service in a process of its own, as users run it, on the tests' database.

Waiting for it is a thread's business: an event loop that stands still loses its own database connections.
"""

import asyncio
import os
import queue
import subprocess
import sys
import threading
from types import TracebackType
from typing import Any, Self

import orjson

TIMEOUT_S = 30


class ServerProcess:
    """`async with ServerProcess(uri, secret) as server:` is ready to answer at `server.url`."""

    def __init__(self, mongodb_uri: str, secret: str, **environment: str) -> None:
        self._environment = os.environ | {"MONGODB_URI": mongodb_uri, "JWT_SECRET": secret} | environment
        self._incoming: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._text: list[str] = []
        self.url = ""

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._stop)

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "app.main:app", "--port", "0"],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        address = self.wait_for(lambda line: "running on http" in str(line.get("message")))["message"]
        self.url = str(address).split()[3]

    def _stop(self) -> None:
        self._process.terminate()
        self._process.wait(TIMEOUT_S)
        self._reader.join()
        if self._process.stdout:
            self._process.stdout.close()

    def wait_for(self, is_it: Any) -> dict[str, Any]:
        """The next log line that is meant."""
        while True:
            line = self._incoming.get(timeout=TIMEOUT_S)
            assert line is not None, "the server ended:\n" + "".join(self._text)
            self._text.append(line)
            decoded = orjson.loads(line) if line.startswith("{") else {}
            if is_it(decoded):
                return dict(decoded)

    def rest(self) -> str:
        """All that it has ever said; only after its end."""
        while (line := self._incoming.get(timeout=TIMEOUT_S)) is not None:
            self._text.append(line)
        return "".join(self._text)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._incoming.put(line)
        self._incoming.put(None)
