"""The real thing in processes of its own: a mongod and services that a test may kill, freeze and start again."""

import asyncio
import os
import random
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import httpx
from bson import ObjectId
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure, PyMongoError

from app.accounts.roles import Role
from app.accounts.tokens import Tokens
from app.platform.embedded import find_mongod
from tests.factories.accounts import PASSWORD_HASH
from tests.programs import launch

CHECKOUT = Path(__file__).parents[1]
SECRET = "a secret of the fault tests, long enough for anybody"
METRICS_TOKEN = "metrics"
# After this long the server itself drops a transaction whose client died; 60 s by default.
TRANSACTION_LIFETIME_S = 3
# Far more than anything here takes on a busy machine; only a failing test waits that long.
PATIENCE_S = 40.0
# Reading the certificates of the world takes ten times as long as a request, and none here needs them.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_POLL_S = 0.02
_LOOK_MS = 50
# Below the range from which the system takes the ports of outgoing connections, and above those that browsers refuse.
_PORTS = range(10_100, 20_000)
_NOT_YET_INITIALIZED = 94

Rows = Database[dict[str, Any]]


class Mongod:
    """A one-node replica set, always on the same port and data."""

    def __init__(self, data: Path, *options: str) -> None:
        self._data = data
        self._options = options or ("--oplogSize", "256")
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._address = f"mongodb://127.0.0.1:{self._port}/?directConnection=true"
        self.client: MongoClient[dict[str, Any]] = MongoClient(
            self._address, tz_aware=True, serverSelectionTimeoutMS=5_000
        )

    def uri(self, database: str) -> str:
        return f"mongodb://127.0.0.1:{self._port}/{database}?replicaSet=rs0"

    def launch(self) -> None:
        """Starts it without waiting; a second one does no harm."""
        if self._process is not None:
            return
        self._data.mkdir(exist_ok=True)
        # Kept beside the data, for whoever wants to know why it ended.
        with self._data.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(find_mongod()),
                    *("--dbpath", str(self._data), "--bind_ip", "127.0.0.1", "--port", str(self._port)),
                    *("--replSet", "rs0", "--wiredTigerCacheSizeGB", "0.25"),
                    *("--nounixsocket", "--quiet"),
                    *self._options,
                    *("--setParameter", "diagnosticDataCollectionEnabled=false"),
                    *("--setParameter", "enableTestCommands=1"),
                    *("--setParameter", f"transactionLifetimeLimitSeconds={TRANSACTION_LIFETIME_S}"),
                ],
                stdout=log,
            )

    def start(self) -> None:
        """Returns when it accepts writes."""
        self.launch()
        wait_until(self._is_primary)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None

    def freeze(self) -> None:
        """Lets it hang: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def step_down(self, seconds: int) -> None:
        """Leaves the set without a primary for so long."""
        self.client.admin.command({"replSetStepDown": seconds, "force": True})

    def forget_dead_clients(self) -> None:
        """Drops the transactions of clients that died, rather than waiting for the server to do it."""
        self.client.admin.command({"killAllSessions": []})

    @contextmanager
    def failing(self, commands: list[str], **how: Any) -> Iterator[None]:
        """Lets these commands of the service fail, with `errorCode=…` or `closeConnection=True`."""
        data = {"failCommands": commands, "appName": "ticketing", **how}
        self.client.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=data)
        try:
            yield
        finally:
            self.client.admin.command("configureFailPoint", "failCommand", mode="off")

    def close(self) -> None:
        self.client.close()
        self.kill()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _is_primary(self) -> bool:
        # Asked by a new client each time, since one that found nobody waits half a second before it looks again.
        with suppress(PyMongoError), MongoClient[Any](self._address, serverSelectionTimeoutMS=_LOOK_MS) as client:
            if client.admin.command("hello")["isWritablePrimary"]:
                return True
            try:
                client.admin.command("replSetGetConfig")
            except OperationFailure as error:
                if error.code == _NOT_YET_INITIALIZED:
                    members = [{"_id": 0, "host": f"127.0.0.1:{self._port}"}]
                    client.admin.command("replSetInitiate", {"_id": "rs0", "members": members})
        return False


class Service:
    """The service behind uvicorn, always on the same port and database."""

    def __init__(self, mongodb_uri: str, output: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._output = output
        self._process: BaseProcess | None = None
        self.environment = {
            **os.environ,
            "MONGODB_URI": mongodb_uri,
            "JWT_SECRET": SECRET,
            "METRICS_TOKEN": METRICS_TOKEN,
            "LOG_LEVEL": "WARNING",
        }
        # As the container image starts it.
        self.program = "uvicorn"
        self.arguments = [
            *("app.main:app", "--host", "127.0.0.1", "--port", str(self.port)),
            *("--no-access-log", "--timeout-graceful-shutdown", "25"),
        ]

    def launch(self) -> None:
        """Starts it without waiting."""
        self._process = launch(self.program, *self.arguments, environment=self.environment, output=self._output)

    def start(self) -> None:
        """Returns when it can work."""
        self.launch()
        wait_until(self.is_ready)

    def is_ready(self) -> bool:
        assert self._process is None or self._process.is_alive(), self.output()
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/readyz", timeout=PATIENCE_S, verify=NO_TLS).status_code == 200
        return False

    def requests_in_progress(self) -> int:
        """How many requests it is at, the one that asks not counted."""
        return int(self.metric("http_requests_in_progress")) - 1

    def metric(self, name: str) -> float:
        """What `/metrics` says now of this name, with labels if it has any; 0 for labels that have not occurred."""
        headers = {"Authorization": f"Bearer {METRICS_TOKEN}"}
        text = httpx.get(f"{self.url}/metrics", headers=headers, timeout=PATIENCE_S, verify=NO_TLS).text
        lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return float(lines.get(name, 0))

    @property
    def pid(self) -> int:
        assert self._process is not None
        assert self._process.pid is not None
        return self._process.pid

    def memory(self) -> int:
        """Bytes of it that are in memory now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def freeze(self) -> None:
        """Lets it hang: connections stay open and nothing is done."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def is_listening(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def ask_to_end(self) -> None:
        assert self._process is not None
        self._process.terminate()

    def wait(self) -> int:
        """The exit code, once it has ended."""
        assert self._process is not None
        self._process.join(PATIENCE_S)
        code = self._process.exitcode
        assert code is not None, "it did not end"
        self._process = None
        return code

    def end(self) -> None:
        """Lets it finish, so that no transaction of its stands in the way of who uses the database afterwards."""
        if self._process is not None:
            self.ask_to_end()
            self.wait()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._process = None

    def output(self) -> str:
        return self._output.read_text() if self._output.exists() else ""


@contextmanager
def running(*services: Service) -> Iterator[None]:
    """Started side by side and ready; killed afterwards."""
    try:
        for service in services:
            service.launch()
        for service in services:
            wait_until(service.is_ready)
        yield
    finally:
        for service in services:
            service.kill()


@dataclass(frozen=True, slots=True)
class Person:
    """A user who is signed in."""

    id: ObjectId
    username: str
    role: Role
    headers: dict[str, str]


def person(rows: Rows, role: Role) -> Person:
    """A new user whose password is the factories', and a session, without the time that hashing takes."""
    user_id, session_id = ObjectId(), ObjectId()
    username = f"{role.lower()}-{user_id}"
    moment = datetime.now(UTC)
    rows.users.insert_one({"_id": user_id, "username": username, "password": PASSWORD_HASH, "role": role})
    return Person(user_id, username, role, session(rows, user_id, session_id, moment))


def session(rows: Rows, user_id: ObjectId, session_id: ObjectId, moment: datetime) -> dict[str, str]:
    """One more session of the user; the headers that its requests carry."""
    rows.sessions.insert_one(
        {
            "_id": session_id,
            "userId": user_id,
            "passwordVersion": 0,
            "generation": 0,
            "rotatedAt": moment,
            "createdAt": moment,
            "expiresAt": moment + timedelta(days=1),
        }
    )
    return {"Authorization": f"Bearer {Tokens(SECRET).access(user_id, session_id, moment)}"}


def free_port() -> int:
    for port in random.SystemRandom().sample(_PORTS, 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise AssertionError(_PORTS)


def wait_until(is_true: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(_POLL_S)


async def until(is_true: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    """The same for a test whose own requests go on meanwhile."""
    await asyncio.to_thread(wait_until, is_true, seconds)
