"""Real mongods on their own data: starts, crashes of either side, and what is said when there is none to be had."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from app.platform.embedded import EmbeddedMongod, MongodUnavailable

CHECKOUT = Path(__file__).parents[2]
# Holds a mongod until it is killed; says first where it is.
HOLDER = """
import sys
from pathlib import Path
from app.platform.embedded import EmbeddedMongod
mongod = EmbeddedMongod(Path(sys.argv[1]))
mongod.start()
print(mongod.pid, flush=True)
sys.stdin.read()
"""


def wait_until(is_true: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    """Whether the process has ended; one that waits for its parent to notice counts as ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with suppress(FileNotFoundError, ProcessLookupError):
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    return False


def pid_of(mongod: EmbeddedMongod) -> int:
    assert mongod.pid is not None
    return mongod.pid


@contextmanager
def notes(mongod: EmbeddedMongod) -> Iterator[Any]:
    with MongoClient[dict[str, Any]](mongod.uri("test"), serverSelectionTimeoutMS=10_000) as client:
        yield client.test.notes


def write(mongod: EmbeddedMongod, text: str) -> None:
    with notes(mongod) as collection:
        collection.insert_one({"text": text})


def texts(mongod: EmbeddedMongod) -> list[str]:
    with notes(mongod) as collection:
        return [note["text"] for note in collection.find().sort("_id")]


@contextmanager
def occupied(port: int) -> Iterator[None]:
    """Let a stranger hold the port, one who hangs up on everybody."""
    with socket.create_server(("127.0.0.1", port)) as listener:

        def hang_up() -> None:
            with suppress(OSError):
                while True:
                    listener.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@contextmanager
def holder(data: Path) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Run another service on the data, and give its process and its mongod's pid."""
    command = [sys.executable, "-c", HOLDER, str(data)]
    with subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def program_that(directory: Path, *, says: str, ends_with: int) -> Path:
    program = directory / "mongod"
    program.write_text(f"#!/bin/sh\necho {shlex.quote(says)} >&2\nexit {ends_with}\n")
    program.chmod(0o755)
    return program


class TestStart:
    def test_keeps_data_and_address_and_moves_when_its_port_is_taken(self, tmp_path: Path) -> None:
        with EmbeddedMongod(tmp_path / "data") as mongod:
            write(mongod, "kept")
            first = mongod.uri("test")

        began = time.monotonic()
        with EmbeddedMongod(tmp_path / "data") as mongod:
            took = time.monotonic() - began

            assert texts(mongod) == ["kept"]
            assert mongod.uri("test") == first
            assert took < 5
        assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700

        port = int((tmp_path / "data" / "mongod.port").read_text())
        with occupied(port), EmbeddedMongod(tmp_path / "data") as mongod:
            write(mongod, "and written to")

            assert mongod.uri("test") != first
            assert texts(mongod) == ["kept", "and written to"]

    def test_heals_a_first_start_that_ended_before_the_set_was_initiated(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def die(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(EmbeddedMongod, "_configure", die)
            with pytest.raises(KeyboardInterrupt):
                EmbeddedMongod(tmp_path).start()
        assert (tmp_path / "db" / "WiredTiger").exists()

        with EmbeddedMongod(tmp_path) as mongod:
            write(mongod, "healed")

            assert texts(mongod) == ["healed"]


class TestDeath:
    def test_of_the_service_takes_mongod_along_and_the_next_start_waits_for_that(self, tmp_path: Path) -> None:
        with holder(tmp_path) as (service, pid):
            assert not is_gone(pid)
            service.send_signal(signal.SIGKILL)

        with EmbeddedMongod(tmp_path) as mongod:
            assert is_gone(pid)
            assert mongod.pid != pid

    def test_of_mongod_or_its_keeper_brings_another_on_the_same_port_with_the_same_data(self, tmp_path: Path) -> None:
        with EmbeddedMongod(tmp_path) as mongod:
            write(mongod, "before")
            first, address = pid_of(mongod), mongod.uri("test")
            os.kill(first, signal.SIGKILL)
            wait_until(lambda: pid_of(mongod) != first)
            write(mongod, "after")

            assert mongod.uri("test") == address
            assert texts(mongod) == ["before", "after"]

            second = pid_of(mongod)
            assert mongod._run is not None
            mongod._run._keeper.kill()
            wait_until(lambda: mongod.pid not in {None, second})

            # The kernel ends it with its keeper; whoever inherits it may be slow to notice.
            wait_until(lambda: is_gone(second))
            assert mongod.uri("test") == address
            assert texts(mongod) == ["before", "after"]
            last = pid_of(mongod)
        assert is_gone(last)

    def test_of_mongod_again_and_again_ends_with_one_critical_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        with EmbeddedMongod(tmp_path) as mongod:
            broken = program_that(tmp_path, says="no use", ends_with=1)
            monkeypatch.setattr(mongod, "_program", broken)
            monkeypatch.setattr("app.platform.embedded._QUICK_ENDS", 3)
            os.kill(pid_of(mongod), signal.SIGKILL)
            wait_until(lambda: any(record.levelname == "CRITICAL" for record in caplog.records))

        assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR", "CRITICAL"]
        assert "not started again" in caplog.records[-1].getMessage()


class TestRefusal:
    def test_names_the_other_service_when_the_data_is_in_use(self, tmp_path: Path) -> None:
        with (
            EmbeddedMongod(tmp_path) as mongod,
            pytest.raises(MongodUnavailable, match=f"in use by another running service .process {os.getpid()}"),
        ):
            EmbeddedMongod(tmp_path).start()
        assert mongod.pid is None

    @pytest.mark.parametrize(
        ("says", "code", "line"),
        [
            (
                "mongod: error while loading shared libraries: libcurl.so.4: cannot open shared object file",
                127,
                r"the library libcurl\.so\.4 is missing; install it \(Debian: apt-get install libcurl4\)$",
            ),
            (
                "mongod: error while loading shared libraries: libssl.so.3: cannot open shared object file",
                127,
                r"the library libssl\.so\.3 is missing; install it \(Debian: apt-get install libssl3\)$",
            ),
            ("mongod: libc.so.6: version `GLIBC_2.34' not found", 1, r"needs GLIBC_2\.34, newer than this system's"),
            ("something new", 1, r"mongod ended with exit code 1 \(no reason given\); see .*mongod\.log$"),
            ("sh: 1: mongod: Exec format error", 126, "was built for another kind of machine"),
            ("Illegal instruction", 132, "this processor lacks"),
            ("write failed: No space left on device", 100, r"the disk that holds .* is full$"),
        ],
    )
    def test_says_in_one_line_why_mongod_cannot_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, code: int, line: str
    ) -> None:
        monkeypatch.setenv("MONGOD", str(program_that(tmp_path, says=says, ends_with=code)))

        with pytest.raises(MongodUnavailable, match=line) as refusal:
            EmbeddedMongod(tmp_path / "data").start()

        assert "\n" not in str(refusal.value)

    def test_names_a_program_that_is_not_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MONGOD", "/nowhere/mongod")

        with pytest.raises(MongodUnavailable, match="MONGOD is set to /nowhere/mongod"):
            EmbeddedMongod(tmp_path).start()
