"""The service dies, at any moment: a change is there with all that belongs to it, or there is nothing of it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest
from bson import ObjectId
from pymongo import MongoClient

from app.accounts.roles import Role
from tests.faults.load import Load, check_whole
from tests.faults.victim import Job
from tests.services import CHECKOUT, NO_TLS, PATIENCE_S, SECRET, Mongod, Person, Rows, Service, person, running, until

# A request that needs more commands than this has gone astray.
MAX_COMMANDS = 30


class Victims:
    """Processes that answer one request each, and die in between when told to."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def run(self, job: Job) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(orjson.dumps(job) + b"\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().decode().strip()


class Desk:
    """Makes the tickets that victims work on, through a service that lives; looks at them behind its back."""

    def __init__(self, http: httpx.Client, rows: Rows) -> None:
        self.http = http
        self.rows = rows

    def opened(self) -> str:
        answer = self.http.post("/api/tickets", json={"title": "Opened", "description": "For a victim"})
        ticket_id: str = answer.raise_for_status().json()["id"]
        return ticket_id

    def deleted(self) -> str:
        ticket_id = self.opened()
        self.http.delete(f"/api/tickets/{ticket_id}").raise_for_status()
        return ticket_id

    def events(self) -> int:
        return self.rows.events.count_documents({})

    def answers(self) -> int:
        return self.rows.idempotency.count_documents({})


@pytest.fixture(scope="module")
def desk(patient: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    rows = patient.client["victims"]
    service = Service(patient.uri(rows.name), tmp_path_factory.mktemp("desk") / "service.log")
    headers = person(rows, Role.ADMIN).headers
    with (
        running(service),
        httpx.Client(base_url=service.url, headers=headers, timeout=PATIENCE_S, verify=NO_TLS) as http,
    ):
        yield Desk(http, rows)


@pytest.fixture(scope="module")
def victims(patient: Mongod, desk: Desk) -> Iterator[Victims]:
    environment = {
        **os.environ,
        "MONGODB_URI": patient.uri(desk.rows.name),
        "JWT_SECRET": SECRET,
        "LOG_LEVEL": "WARNING",
    }
    command = [sys.executable, "-m", "tests.faults.victim"]
    with subprocess.Popen(
        command, cwd=CHECKOUT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        yield Victims(process)
        assert process.stdin is not None
        process.stdin.close()


Request = tuple[str, str, dict[str, Any] | None]


def create(_desk: Desk) -> Request:
    return "POST", "/api/tickets", {"title": "By a victim", "description": "It never heard the answer"}


def patch(desk: Desk) -> Request:
    return "PATCH", f"/api/tickets/{desk.opened()}", {"status": "Resolved", "priority": "High"}


def bulk(desk: Desk) -> Request:
    return "POST", "/api/tickets/bulk", {"ids": [desk.opened() for _ in range(3)], "patch": {"status": "Closed"}}


def delete(desk: Desk) -> Request:
    return "DELETE", f"/api/tickets/{desk.opened()}", None


def restore(desk: Desk) -> Request:
    return "POST", f"/api/tickets/{desk.deleted()}/restore", None


@dataclass(frozen=True)
class Change:
    """A request, how many events it makes, and whether it may be repeated."""

    make: Callable[[Desk], Request]
    events: int
    is_keyed: bool


class TestKilledAtEachCommand:
    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(Change(create, 1, is_keyed=False), id="create"),
            pytest.param(Change(create, 1, is_keyed=True), id="keyed-create"),
            pytest.param(Change(patch, 1, is_keyed=False), id="patch"),
            pytest.param(Change(bulk, 3, is_keyed=False), id="bulk"),
            pytest.param(Change(bulk, 3, is_keyed=True), id="keyed-bulk"),
            pytest.param(Change(delete, 1, is_keyed=False), id="delete"),
            pytest.param(Change(restore, 1, is_keyed=True), id="keyed-restore"),
        ],
    )
    def test_leaves_all_or_nothing(self, change: Change, mongod: Mongod, desk: Desk, victims: Victims) -> None:
        """To die after the reply to a command is to die before the next; so only the last is left: the commit."""
        commands = 0
        while (before := self.attempt(change, mongod, desk, victims, commands + 1)) == ("killed", False):
            commands += 1
        assert before == ({create: "201", delete: "204"}.get(change.make, "200"), True)
        # Who is asking, the ticket or its number, the rows and the commit at least.
        assert 4 <= commands < MAX_COMMANDS
        assert self.attempt(change, mongod, desk, victims, commands, after=True) == ("killed", True)

    def attempt(
        self, change: Change, mongod: Mongod, desk: Desk, victims: Victims, command: int, *, after: bool = False
    ) -> tuple[str, bool]:
        """What became of the victim, and whether it did what it was asked; it did all of it or nothing."""
        method, path, body = change.make(desk)
        headers = {"Authorization": desk.http.headers["Authorization"]}
        key = {"Idempotency-Key": uuid4().hex} if change.is_keyed else {}
        events_before, answers_before = desk.events(), desk.answers()

        end = victims.run(Job(method=method, path=path, headers=headers | key, body=body, command=command, after=after))

        is_done = desk.events() > events_before
        assert desk.events() - events_before == (change.events if is_done else 0)
        assert desk.answers() - answers_before == (is_done and change.is_keyed)
        check_whole(desk.rows)
        if end == "killed" and change.is_keyed:
            again = desk.http.request(method, path, json=body, headers=key)
            if again.status_code == 409:
                assert again.json()["code"] == "idempotency_in_progress"
                assert int(again.headers["Retry-After"]) > 0
                mongod.forget_dead_clients()
                again = desk.http.request(method, path, json=body, headers=key)
            assert again.is_success
            assert ("Idempotency-Replayed" in again.headers) == is_done
            assert desk.events() - events_before == change.events
            assert desk.answers() - answers_before == 1
        return end, is_done


class TestRowsOfTheDead:
    def test_are_a_conflict_and_no_outage(self, mongod: Mongod, desk: Desk) -> None:
        ticket_id = desk.opened()
        with (
            MongoClient[dict[str, Any]](mongod.uri(desk.rows.name)) as client,
            client.start_session() as dead,
        ):
            dead.start_transaction()
            tickets = client[desk.rows.name].tickets
            tickets.update_one({"_id": ObjectId(ticket_id)}, {"$set": {"title": "Held"}}, session=dead)

            answer = desk.http.patch(f"/api/tickets/{ticket_id}", json={"title": "Wanted"})

        # 200 if the server drops the other transaction while the service still tries.
        assert (answer.status_code, answer.json().get("code")) in {(409, "write_conflict"), (200, None)}
        check_whole(desk.rows)


class TestKilledUnderLoad:
    async def test_nothing_acknowledged_is_lost_or_done_twice(
        self, rows: Rows, service: Service, admin: Person
    ) -> None:
        async with Load(service, admin) as load:
            for _ in range(2):
                await load.progress(30)
                service.kill()
                service.launch()
                await until(service.is_ready)
            await load.progress(30)

        load.check(rows)
        assert load.broken_connections > 0
        assert "Traceback" not in service.output()
