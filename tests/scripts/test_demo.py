"""The demo: as much as promised, all at once, and not to be told from what the service itself would have stored."""

import asyncio
import importlib
import os
import sys
from asyncio.subprocess import PIPE
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo import MongoClient
from pymongo.database import Database

from app.accounts.documents import User
from app.accounts.passwords import weakness
from app.accounts.roles import Role
from app.events.catalog import EventRow
from app.tickets.changes import DEFAULTS
from app.tickets.documents import Ticket
from app.tickets.lifecycle import LEGAL_MOVES, Status
from app.tickets.schemas import EventOut, TicketOut, event_out, ticket_out
from tests.services import NO_TLS, Service, running

CHECKOUT = Path(__file__).parents[2]
Rows = Database[dict[str, Any]]
LEFT_BEHIND = 1
demo: Any = importlib.import_module("demo")


async def load(*uris: str) -> list[str]:
    # In a process of its own, because it binds the document models to its database; and not by a call that blocks,
    # because the application of the other tests would lose its database for want of heartbeats.
    program = "import sys, demo; print(*map(demo.load_demo_once, sys.argv[1:]))"
    environment = os.environ | {"PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'scripts'}"}
    run = await asyncio.create_subprocess_exec(sys.executable, "-c", program, *uris, stdout=PIPE, env=environment)
    output, _ = await run.communicate()
    assert run.returncode == 0
    return output.decode().split()


@pytest.fixture(scope="module")
async def uri(mongodb_uri: str) -> str:
    """A database that the demo was loaded into, after an attempt that was interrupted between events and tickets."""
    address = mongodb_uri.replace("/test_", "/demo_")
    with MongoClient[dict[str, Any]](address) as client:
        database = client.get_default_database()
        client.drop_database(database.name)
        database.events.insert_one({"ticketId": LEFT_BEHIND, "version": 1})
    assert await load(address) == ["True"]
    return address


@pytest.fixture(scope="module")
def rows(uri: str) -> Iterator[Rows]:
    with MongoClient[dict[str, Any]](uri, tz_aware=True) as client:
        yield client.get_default_database()


@pytest.fixture(scope="module")
def tickets(rows: Rows) -> list[dict[str, Any]]:
    return rows.tickets.find().sort("number", 1).to_list()


@pytest.fixture(scope="module")
def histories(rows: Rows) -> dict[Any, list[dict[str, Any]]]:
    histories = defaultdict(list)
    for event in rows.events.find().sort("version", 1):
        histories[event["ticketId"]].append(event)
    return histories


class TestPeople:
    @pytest.mark.usefixtures("app")
    def test_are_a_dozen_of_each_role(self, rows: Rows) -> None:
        users = [User.model_validate(row) for row in rows.users.find()]

        assert Counter(user.role for user in users) == dict.fromkeys(Role, 12)
        assert {user.username for user in users} == {f"{r.lower()}{n}" for r in Role for n in range(1, 13)}
        assert len({user.name for user in users}) == len({user.email for user in users}) == 36

    def test_can_sign_in_as_printed(self, uri: str, tmp_path: Path) -> None:
        service = Service(uri, tmp_path / "output")
        with running(service):
            for role, username, password in demo.DEMO_SIGN_INS:
                credentials = {"username": username, "password": password}
                answer = httpx.post(f"{service.url}/api/login", json=credentials, verify=NO_TLS)
                assert (answer.status_code, answer.json()["user"]["role"]) == (200, role)
            # And what is opened next goes on where the demo ends.
            headers = {"Authorization": f"Bearer {answer.json()['token']}"}
            opened = httpx.post(
                f"{service.url}/api/tickets",
                json={"title": "Mine", "description": "New"},
                headers=headers,
                verify=NO_TLS,
            ).json()
            assert opened["number"] == demo.TICKETS + 1
        with MongoClient[dict[str, Any]](uri) as client:
            database = client.get_default_database()
            database.tickets.delete_one({"number": opened["number"]})
            database.events.delete_one({"ticket.number": opened["number"]})

    def test_have_a_password_that_a_new_account_may_have(self) -> None:
        assert {role for role, _, _ in demo.DEMO_SIGN_INS} == set(Role)
        assert [weakness(password, username) for _, username, password in demo.DEMO_SIGN_INS] == [None] * 4


class TestTickets:
    def test_are_numbered_in_the_order_of_their_opening(self, tickets: list[dict[str, Any]]) -> None:
        times = [ticket["createdAt"] for ticket in tickets]

        assert [ticket["number"] for ticket in tickets] == list(range(1, demo.TICKETS + 1))
        assert times == sorted(set(times))
        assert timedelta(days=88) < datetime.now(UTC) - times[0] < timedelta(days=91)
        assert datetime.now(UTC) - times[-1] < timedelta(days=4)

    def test_are_spread_as_in_life(self, tickets: list[dict[str, Any]]) -> None:
        shown = [ticket for ticket in tickets if ticket["deletedAt"] is None]
        by_status = Counter(ticket["status"] for ticket in shown)
        old = [t["status"] for t in shown if datetime.now(UTC) - t["createdAt"] > timedelta(days=45)]
        at_weekends = sum(ticket["createdAt"].weekday() >= 5 for ticket in tickets)

        assert min(by_status[status] for status in Status) > 5
        assert old.count("Closed") / len(old) > 0.9
        assert 5 <= len(tickets) - len(shown) <= 60
        assert sum(ticket["reopenCount"] > 0 for ticket in shown) > 50
        assert sum(ticket["waitingOn"] is not None for ticket in shown) > 3
        assert 0 < at_weekends / len(tickets) < 0.15
        assert len({ticket["title"] for ticket in tickets}) > 300
        assert len({ticket["description"] for ticket in tickets}) > 500

    @pytest.mark.usefixtures("app")
    def test_are_whole(self, tickets: list[dict[str, Any]]) -> None:
        for row in tickets:
            assert row.keys() == DEFAULTS.keys()
            Ticket.model_validate(row)
            TicketOut.model_validate(ticket_out(row))
            assert "{" not in row["title"] + row["description"]
            assert (row["resolvedAt"] is not None) == (row["status"] in ("Resolved", "Closed"))
            assert (row["closedAt"] is not None) == (row["status"] == "Closed")


class TestHistories:
    def test_lead_to_the_tickets(
        self, tickets: list[dict[str, Any]], histories: dict[Any, list[dict[str, Any]]]
    ) -> None:
        assert histories.keys() == {ticket["_id"] for ticket in tickets}
        for ticket in tickets:
            history = histories[ticket["_id"]]
            assert [event["version"] for event in history] == list(range(1, ticket["version"] + 1))
            assert [event["type"] for event in history].count("ticket.created") == 1
            assert history[0]["type"] == "ticket.created"
            assert history[-1]["ticket"] == ticket
            times = [event["at"] for event in history]
            assert times == sorted(times)
            assert (times[0], times[-1]) == (ticket["createdAt"], ticket["updatedAt"])
            assert times[-1] < datetime.now(UTC)

    def test_are_made_of_legal_moves_that_say_what_they_changed(
        self, histories: dict[Any, list[dict[str, Any]]]
    ) -> None:
        for history in histories.values():
            for before, event in pairwise(history):
                changed = {n: v for n, v in event["ticket"].items() if v != before["ticket"][n]}
                told = {name: change["to"] for name, change in event["changes"].items()}
                silent = {"version", "updatedAt", "deletedAt"}
                assert {n: v for n, v in changed.items() if n not in silent} == told
                if "status" in told:
                    assert told["status"] in LEGAL_MOVES[Status(before["ticket"]["status"])]

    def test_could_be_the_service_s_own(self, histories: dict[Any, list[dict[str, Any]]]) -> None:
        for history in histories.values():
            for event in history:
                EventRow.model_validate(event)
                EventOut.model_validate(event_out(event))

    def test_follow_each_other_in_the_log(self, rows: Rows) -> None:
        times = [event["at"] for event in rows.events.find({}, {"at": 1}).sort("_id", 1)]

        assert times == sorted(times)


class TestLoading:
    def test_starts_anew_after_an_interrupted_attempt(self, rows: Rows) -> None:
        assert rows.events.count_documents({"ticketId": LEFT_BEHIND}) == 0
        assert rows.tickets.count_documents({}) == demo.TICKETS

    async def test_leaves_a_database_alone_that_is_in_use(self, uri: str, rows: Rows) -> None:
        with MongoClient[dict[str, Any]](uri) as client:
            used = [client[f"{rows.name}_{name}"] for name in ("users", "tickets")]
            used[0].users.insert_one({"username": "old"})
            used[1].tickets.insert_one({"title": "Old", "description": "Old"})
            for database in used:
                database.events.insert_one({"note": "kept"})
            before = [contents(database) for database in (rows, *used)]

            answers = await load(uri, *(uri.replace(f"/{rows.name}", f"/{database.name}") for database in used))

            assert answers == ["False"] * 3
            assert [contents(database) for database in (rows, *used)] == before
            for database in used:
                client.drop_database(database.name)


def contents(database: Rows) -> list[Any]:
    names = ("users", "tickets", "events")
    return [database[name].count_documents({}) for name in names] + [database.users.find_one(sort=[("_id", 1)])]
