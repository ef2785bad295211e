"""Readers of the event log when the database is hurt: nothing is left out without being said."""

from pathlib import Path

import httpx

from app.accounts.roles import Role
from tests.services import NO_TLS, Mongod, Person, Rows, Service, person, running, wait_until

TICKET = {"title": "No paper", "description": "Tray 2"}


def follow(service: Service, who: Person, since: str | None = None) -> httpx.Response:
    parameters = {"since": since} if since else {}
    return httpx.get(f"{service.url}/api/events", params=parameters, headers=who.headers, timeout=30, verify=NO_TLS)


def opened(service: Service, who: Person) -> str:
    answer = httpx.post(f"{service.url}/api/tickets", json=TICKET, headers=who.headers, timeout=30, verify=NO_TLS)
    assert answer.status_code == 201, answer.text
    ticket_id: str = answer.json()["id"]
    return ticket_id


def test_a_cursor_survives_the_death_of_database_and_service(
    mongod: Mongod, service: Service, rows: Rows, admin: Person
) -> None:
    start = follow(service, admin).json()["nextCursor"]
    first = opened(service, admin)
    mongod.kill()
    mongod.start()
    wait_until(service.is_ready)
    second = opened(service, admin)
    service.kill()
    service.start()
    third = opened(service, admin)

    items = follow(service, admin, start).json()["items"]
    assert [item["ticketId"] for item in items] == [first, second, third]
    assert [item["ticketId"] for item in follow(service, admin, items[0]["cursor"]).json()["items"]] == [second, third]


def test_a_position_that_the_server_has_forgotten_is_a_resync(forgetful: Mongod, tmp_path: Path) -> None:
    database = forgetful.client["resync"]
    service = Service(forgetful.uri(database.name), tmp_path / "service.log")
    with running(service):
        who = person(database, Role.ADMIN)
        start = follow(service, who).json()["nextCursor"]
        opened(service, who)

        def is_forgotten() -> bool:
            database.ballast.insert_one({"weight": "x" * 4_000_000})
            return follow(service, who, start).status_code == 410

        wait_until(is_forgotten)
        refusal = follow(service, who, start).json()
        later = opened(service, who)
        items = follow(service, who, refusal["cursor"]).json()["items"]

    assert refusal["code"] == "resync_required"
    assert [item["ticketId"] for item in items] == [later]
