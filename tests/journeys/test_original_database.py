"""A database of the original service works in place (contract S12).

`original_database.json` holds documents and indexes as Mongoose 9 wrote them with the original's two schemas.
"""

from base64 import b32decode
from collections import Counter
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from bson import json_util

from app.accounts.totp import STEP_S, code_at
from app.platform.clock import now
from app.tickets.schemas import TicketOut
from tests.journeys.conftest import SignIn
from tests.services import NO_TLS, Rows, Service

ORIGINAL = json_util.loads(
    (Path(__file__).parent / "original_database.json").read_text(), json_options=json_util.JSONOptions(tz_aware=True)
)
# Over bcrypt's 72 bytes; the original's library cut it without a word.
LONG_PASSWORD = "The quick brown fox jumps over the lazy dog, and then it jumps over it again and again."


@pytest.fixture
def original(rows: Rows, service: Service) -> Service:
    for name, content in ORIGINAL.items():
        rows[name].insert_many(content["documents"])
        for index in content["indexes"]:
            rows[name].create_index(
                list(index["key"].items()), **{k: index[k] for k in ("name", "unique") if k in index}
            )
    service.start()
    return service


def test_everybody_signs_in_with_the_password_they_had(original: Service, sign_in: SignIn) -> None:
    for username, password, role in [
        ("boss", "original admin", "Admin"),
        ("agent@example.com", "original agent", "Agent"),
        ("carol@example.com", LONG_PASSWORD, "Customer"),
        ("Ada", "the first ada", "Customer"),
        ("ada", "the second ada", "Customer"),
    ]:
        me = sign_in(username, password).get("/api/me").json()
        assert (me["username"], me["role"], me["active"]) == (username, role, True)


def test_two_who_differ_in_case_are_two(original: Service, sign_in: SignIn) -> None:
    for username, password in [("Ada", "the second ada"), ("ADA", "the first ada")]:
        answer = httpx.post(
            f"{original.url}/api/login", json={"username": username, "password": password}, timeout=30, verify=NO_TLS
        )
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")

    body = {"username": "ADA", "password": "a third one, please"}
    answer = httpx.post(f"{original.url}/api/register", json=body, timeout=30, verify=NO_TLS)
    assert (answer.status_code, answer.json()["code"]) == (409, "username_taken")


def test_mfa_is_still_asked_for(original: Service, sign_in: SignIn) -> None:
    body = {"username": "careful", "password": "original careful"}
    answer = httpx.post(f"{original.url}/api/login", json=body, timeout=30, verify=NO_TLS)
    assert (answer.status_code, answer.json()["code"]) == (401, "mfa_required")

    code = code_at(b32decode("JBSWY3DPEHPK3PXP"), int(now().timestamp()) // STEP_S)
    sign_in("careful", "original careful", otp=code)


def test_the_two_figures_are_those_of_the_original(original: Service, sign_in: SignIn) -> None:
    """S7, counted as the original's two aggregations did, but only what is resolved; from the first request on."""
    agent = sign_in("agent@example.com", "original agent")
    documents = ORIGINAL["tickets"]["documents"]
    resolved = [row for row in documents if row.get("resolvedAt") and row["status"] in {"Resolved", "Closed"}]
    undated = [row for row in documents if not row.get("resolvedAt") and row["status"] == "Resolved"]
    took = [(row["resolvedAt"] - row["createdAt"]) // timedelta(milliseconds=1) for row in resolved]
    assert took

    performance = agent.get("/api/analytics/agent-performance").json()
    times = agent.get("/api/analytics/resolution-time").json()

    assert {row["_id"]: row["resolvedTickets"] for row in performance} == Counter(
        row.get("assignedTo") and str(row["assignedTo"]) for row in resolved + undated
    )
    assert times["avgTime"] == sum(took) / len(took)


def test_tickets_are_read_as_the_original_meant_them(original: Service, rows: Rows, sign_in: SignIn) -> None:
    agent = sign_in("agent@example.com", "original agent")
    items = agent.get("/api/tickets", params={"sort": "createdAt"}).json()["items"]

    for item in items:
        TicketOut.model_validate(item)
    assert [(item["title"], item["status"], item["priority"]) for item in items] == [
        ("Printer down", "Open", "Medium"),
        ("Screen flickers", "In Progress", "High"),
        ("Invoice twice", "Resolved", "Low"),
        ("Old and closed", "Closed", "Medium"),
        ("Resolved without a time", "Resolved", "Medium"),
    ]
    first = items[0]
    assert (first["version"], first["number"], first["requester"], first["assignedTo"]) == (1, None, None, None)
    assert (first["tags"], first["updatedAt"], first["resolvedAt"]) == ([], first["createdAt"], None)
    assert agent.get("/api/tickets?q=flickers").json()["items"] == [items[1]]
    assert agent.get("/api/tickets?assignedTo=me&status=Resolved").json()["items"] == [items[4], items[2]]
    assert agent.get(f"/api/tickets/{first['id']}/events").json()["items"] == []
    assert list(rows.tickets.find()) == ORIGINAL["tickets"]["documents"], "reading changes nothing"


def test_tickets_are_changed_in_place(original: Service, rows: Rows, sign_in: SignIn) -> None:
    agent = sign_in("agent@example.com", "original agent")
    before = ORIGINAL["tickets"]["documents"][0]
    path = f"/api/tickets/{before['_id']}"
    assert agent.get(path).headers["etag"] == '"1"'
    assert agent.patch(path, json={"priority": "Low"}, headers={"If-Match": '"2"'}).status_code == 412

    answer = agent.patch(path, json={"status": "Resolved"}, headers={"If-Match": '"1"'})

    assert (answer.status_code, answer.json()["version"]) == (200, 2)
    after = rows.tickets.find_one({"_id": before["_id"]})
    assert after is not None
    assert {name: after[name] for name in before} == {**before, "status": "Resolved"}
    assert after["resolvedAt"] == after["updatedAt"]
    [event] = agent.get(f"{path}/events").json()["items"]
    assert (event["type"], event["ticket"]["version"]) == ("ticket.status_changed", 2)


def test_new_tickets_stand_beside_old_ones(original: Service, sign_in: SignIn) -> None:
    carol = sign_in("carol@example.com", LONG_PASSWORD)
    assert carol.get("/api/tickets").json()["items"] == []
    created = carol.post("/api/tickets", json={"title": "a", "description": "b", "priority": "High"}).json()
    assert created["number"] == 1

    admin = sign_in("boss", "original admin")
    numbers = [item["number"] for item in admin.get("/api/tickets?sort=-number").json()["items"]]
    assert numbers == [1, None, None, None, None, None]
    seen, path = [], "/api/tickets?sort=number&limit=2"
    while path:
        answer = admin.get(path)
        seen += [item["number"] for item in answer.json()["items"]]
        path = answer.links.get("next", {}).get("url", "")
    assert seen == [None, None, None, None, None, 1]
