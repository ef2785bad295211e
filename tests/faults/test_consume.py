"""Processes that follow and consume the event log die or stand still, or the database does: all is handled, once."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from bson import ObjectId, Timestamp
from pymongo.errors import DuplicateKeyError, PyMongoError

from app.events.cursor import LogPosition
from tests.factories.events import event_row
from tests.faults.reader import NAME
from tests.programs import launch
from tests.services import TRANSACTION_LIFETIME_S, Mongod, Rows, wait_until

LEASE_S = 1
# What a process may need on a busy machine to find out and to act.
SLACK_S = 4.0
PAUSE_S = 0.002


class Reader:
    """A process that follows and consumes the event log."""

    def __init__(self, uri: str, output: Path) -> None:
        self._output = output
        self._process = launch("tests.faults.reader", uri, str(LEASE_S), environment=os.environ, output=output)
        assert self._process.pid is not None
        self.pid = self._process.pid

    def told(self) -> list[list[str]]:
        """What its follower has told."""
        lines = self._output.read_bytes().splitlines(keepends=True) if self._output.exists() else []
        return [orjson.loads(line) for line in lines if line.startswith(b"[") and line.endswith(b"\n")]

    def events(self) -> list[str]:
        return [words[1] for words in self.told() if words[0] == "event"]

    def restarts(self) -> int:
        return self.told().count(["restarted"])

    def said(self) -> str:
        """All of it, its log included."""
        return self._output.read_text()

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


class Readers:
    """Starts readers of one database, and knows what they should do."""

    def __init__(self, mongod: Mongod, rows: Rows, directory: Path) -> None:
        self._uri = mongod.uri(rows.name)
        self._rows = rows
        self._directory = directory
        self._started: list[Reader] = []

    def start(self, number: int) -> list[Reader]:
        """Returns when all follow, and one consumes."""
        readers = [Reader(self._uri, self._directory / f"{len(self._started)}-{n}") for n in range(number)]
        self._started += readers
        wait_until(lambda: all(reader.restarts() for reader in readers) and self._is_at_the_log())
        return readers

    def _is_at_the_log(self) -> bool:
        """And no longer at what was there before, so that nothing comes both ways."""
        return self._rows.consumers.find_one({"token": {"$type": "binData"}, "rereading": None}) is not None

    def holder(self) -> Reader:
        """The one that handled the newest event."""
        row = self._rows[NAME].find_one(sort=[("_id", -1)])
        assert row is not None
        return next(reader for reader in self._started if reader.pid == row["by"][-1])

    def handled(self) -> int:
        return self._rows[NAME].count_documents({})

    def times(self) -> dict[str, int]:
        """How often each event was handled; oldest first."""
        return {str(row["_id"]): row["times"] for row in self._rows[NAME].find().sort("_id")}

    def close(self) -> None:
        for reader in self._started:
            reader.kill()


class Writer:
    """Adds events one after the other, each until it is acknowledged."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.events: list[str] = []
        """In the order of their commits."""
        self._over = threading.Event()

    def add(self, number: int = 1) -> None:
        for _ in range(number):
            row = event_row(version=1)
            while not self._is_added(row):
                pass
            self.events.append(str(row["_id"]))

    def _is_added(self, row: dict[str, Any]) -> bool:
        try:
            self._rows.events.insert_one(row)
        except PyMongoError as error:
            return isinstance(error, DuplicateKeyError)  # it is there, and the answer got lost
        return True

    @contextmanager
    def at_work(self) -> Iterator[None]:
        thread = threading.Thread(target=self._work)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _work(self) -> None:
        while not self._over.wait(PAUSE_S):
            self.add()

    def progress(self, events: int) -> None:
        """Returns after so many more."""
        goal = len(self.events) + events
        wait_until(lambda: len(self.events) >= goal)


@pytest.fixture
def readers(mongod: Mongod, rows: Rows, tmp_path: Path) -> Iterator[Readers]:
    with closing(Readers(mongod, rows, tmp_path)) as readers:
        yield readers


def test_a_process_that_dies_is_replaced_within_the_lease(readers: Readers, rows: Rows) -> None:
    writer = Writer(rows)
    writer.add(5)
    readers.start(3)
    with writer.at_work():
        wait_until(lambda: readers.handled() >= 50)
        dead = readers.holder()
        dead.kill()
        died_at = time.monotonic()
        wait_until(lambda: readers.holder() is not dead)
        # A dead process' transaction is the database's to drop.
        assert time.monotonic() - died_at < max(LEASE_S, TRANSACTION_LIFETIME_S) + SLACK_S
        writer.progress(50)
    wait_until(lambda: readers.handled() >= len(writer.events))

    assert readers.times() == dict.fromkeys(writer.events, 1)


def test_the_death_of_the_database_loses_and_repeats_nothing(mongod: Mongod, readers: Readers, rows: Rows) -> None:
    user = ObjectId()
    rows.users.insert_one({"_id": user, "username": "somebody"})
    one, other = readers.start(2)
    writer = Writer(rows)
    with writer.at_work():
        writer.progress(50)
        mongod.kill()
        mongod.start()
        writer.progress(50)
    rows.users.update_one({"_id": user}, {"$set": {"role": "Agent"}})
    writer.add()
    wait_until(lambda: readers.handled() >= len(writer.events))

    assert readers.times() == dict.fromkeys(writer.events, 1)
    for reader in (one, other):
        wait_until(lambda it=reader: it.events()[-1:] == writer.events[-1:])  # type: ignore[misc]
        touched = ["touched", "users", str(user)]
        assert reader.told() == [
            ["restarted"],
            *(["event", event] for event in writer.events[:-1]),
            touched,
            ["event", writer.events[-1]],
        ]


def test_another_database_is_read_from_its_beginning(mongod: Mongod, readers: Readers, rows: Rows) -> None:
    [reader] = readers.start(1)
    Writer(rows).add(10)
    wait_until(lambda: readers.handled() >= 10)
    rows.client.drop_database(rows.name)
    writer = Writer(rows)
    writer.add(10)
    wait_until(lambda: reader.restarts() >= 2)
    told_before = len(reader.events())
    writer.add(10)
    wait_until(lambda: readers.handled() >= 20)
    wait_until(lambda: len(reader.events()) >= told_before + 10)

    assert list(readers.times()) == writer.events
    assert reader.events()[told_before:] == writer.events[10:]


def test_what_the_operations_log_has_forgotten_is_read_from_the_events(forgetful: Mongod, tmp_path: Path) -> None:
    rows = forgetful.client["unread"]
    writer = Writer(rows)
    with closing(Readers(forgetful, rows, tmp_path)) as readers:
        [reader] = readers.start(1)
        writer.add(10)
        wait_until(lambda: readers.handled() == 10 and len(reader.events()) == 10)
        reader.stop()
        writer.add(250)
        row = rows.consumers.find_one()
        assert row is not None
        at = LogPosition(row["token"], None).at

        def is_forgotten() -> bool:
            rows.ballast.insert_one({"weight": "x" * 4_000_000})
            oldest = rows.client.local["oplog.rs"].find_one(sort=[("$natural", 1)])
            assert oldest is not None
            first: Timestamp = oldest["ts"]
            return first > at

        wait_until(is_forgotten)
        assert readers.handled() == 10
        reader.go_on()
        wait_until(lambda: reader.restarts() == 2)
        wait_until(lambda: readers.handled() == 260)
        writer.add(10)
        wait_until(lambda: readers.handled() == 270 and len(reader.events()) >= 20)

    times = readers.times()
    assert list(times) == writer.events
    # Of what was told while it stood still, it may have had the beginning in its ears.
    told = reader.told()
    again = told.index(["restarted"], 1)
    # What had been handled came again, as it may, and of what it had in its ears no more than that; all else only once.
    repeated = list(times.values()).count(2)
    assert 10 <= repeated <= again - 1
    assert list(times.values()) == [2] * repeated + [1] * (270 - repeated)
    assert [event for _, event in told[1:again]] == writer.events[: again - 1]
    assert [event for _, event in told[again + 1 :]] == writer.events[260:]
    assert reader.said().count("the place in the event log is lost; reading the events") == 1
