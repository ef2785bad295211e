"""The main job on real input: somebody signs in, opens a ticket, an agent takes it, works it and resolves it."""

import json
from pathlib import Path

import httpx

from tests.journeys.conftest import SignIn
from tests.mailbox import read_directory
from tests.services import NO_TLS, Service, wait_until

ADMIN = {"ADMIN_USERNAME": "root@example.com", "ADMIN_PASSWORD": "correct horse battery"}


def test_from_an_empty_database_to_a_closed_ticket(service: Service, sign_in: SignIn, tmp_path: Path) -> None:
    service.environment.update(ADMIN | {"MAIL_DIR": str(tmp_path / "mail")})
    service.start()
    registration = {"username": "carol@example.com", "password": "a long passphrase"}
    assert (
        httpx.post(f"{service.url}/api/register", json=registration, timeout=30, verify=NO_TLS).json()["role"]
        == "Customer"
    )
    admin = sign_in("root@example.com", "correct horse battery")
    new_agent = {"username": "agent@example.com", "password": "agents work here", "role": "Agent"}
    assert admin.post("/api/users", json=new_agent).status_code == 201
    carol = sign_in("CAROL@example.com", "a long passphrase")
    agent = sign_in("agent@example.com", "agents work here")

    ticket = carol.post("/api/tickets", json={"title": "No paper", "description": "Tray 2", "priority": "High"}).json()
    path = f"/api/tickets/{ticket['id']}"
    [queued] = agent.get("/api/tickets?status=Open&assignedTo=none").json()["items"]
    assert queued == ticket
    me = agent.get("/api/me").json()["id"]
    for body in (
        {"assignedTo": me, "status": "In Progress"},
        {"waitingOn": "third_party", "tags": ["paper"]},
        {"status": "Resolved"},
    ):
        etag = agent.get(path).headers["etag"]
        assert agent.patch(path, json=body, headers={"If-Match": etag}).status_code == 200
    assert carol.patch(path, json={"status": "Closed"}).status_code == 200

    final = carol.get(path).json()
    assert (final["status"], final["assignedTo"], final["waitingOn"], final["version"]) == ("Closed", me, None, 5)
    history = carol.get(f"{path}/events").json()["items"]
    assert [(event["type"], event["actor"]["username"]) for event in history] == [
        ("ticket.created", "carol@example.com"),
        ("ticket.status_changed", "agent@example.com"),
        ("ticket.updated", "agent@example.com"),
        ("ticket.status_changed", "agent@example.com"),
        ("ticket.status_changed", "carol@example.com"),
    ]
    assert history[-1]["ticket"] == final

    # What follows from all this by itself: a receipt, and figures. What the agent did is news for nobody but Carol.
    wait_until(lambda: bool(read_directory(tmp_path / "mail")))
    [mail] = read_directory(tmp_path / "mail")
    assert (mail["To"], mail["Subject"]) == ("carol@example.com", f"[#{final['number']}] No paper")
    wait_until(lambda: agent.get("/api/analytics/overview").json()["resolved"] == 1)
    [performance] = agent.get("/api/analytics/agent-performance").json()
    assert (performance["_id"], performance["resolvedTickets"]) == (me, 1)
    assert carol.get("/api/analytics/overview").status_code == 403
    [sent] = admin.get("/api/deliveries?state=handed_over").json()["items"]
    assert (sent["to"], sent["ticketId"], sent["attempts"]) == ("carol@example.com", ticket["id"], 1)


def test_the_originals_calls_work_as_its_document_shows_them(service: Service, sign_in: SignIn) -> None:
    """S1, S2 and S3: the requests as the original's clients send them, to the byte."""
    service.environment.update(ADMIN)
    service.start()
    url = service.url

    login = httpx.post(
        f"{url}/api/login",
        content=b'{"username":"root@example.com","password":"correct horse battery"}',
        headers={"Content-Type": "application/json"},
        timeout=30,
        verify=NO_TLS,
    )
    assert login.status_code == 200
    token = json.loads(login.content)["token"]
    assert token.count(".") == 2

    created = httpx.post(
        f"{url}/api/tickets",
        content=b'{"title":"Printer","description":"It is broken","priority":"High"}',
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
        verify=NO_TLS,
    )
    assert created.status_code == 201
    ticket = created.json()
    assert {name: ticket[name] for name in ("title", "description", "priority", "status", "tags", "assignedTo")} == {
        "title": "Printer",
        "description": "It is broken",
        "priority": "High",
        "status": "Open",
        "tags": [],
        "assignedTo": None,
    }

    nobody = httpx.post(f"{url}/api/tickets", json={"title": "a", "description": "b"}, verify=NO_TLS)
    assert (nobody.status_code, nobody.json()["error"]) == (401, "No token provided")
    assert b'"error":"No token provided"' in nobody.content
    for wrong in ("nonsense", token[:-2], token + "x"):
        answer = httpx.get(f"{url}/api/tickets", headers={"Authorization": f"Bearer {wrong}"}, verify=NO_TLS)
        assert (answer.status_code, answer.json()["error"]) == (403, "Invalid or expired token")
    httpx.post(f"{url}/api/logout", headers={"Authorization": f"Bearer {token}"}, verify=NO_TLS)
    revoked = httpx.get(f"{url}/api/tickets", headers={"Authorization": f"Bearer {token}"}, verify=NO_TLS)
    assert (revoked.status_code, revoked.json()["error"]) == (403, "Invalid or expired token")
