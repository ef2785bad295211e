"""What each request costs in commands to the database: a figure that is to change on purpose only."""

from typing import Any

import pytest

from tests.callers import Caller
from tests.conftest import COMMANDS
from tests.factories.accounts import PASSWORD
from tests.factories.tickets import open_ticket

AUTHENTICATION = ["aggregate"]
COMMIT = ["update", "insert", "commitTransaction"]


@pytest.fixture
def commands() -> list[str]:
    """The names of the commands sent while the test runs."""
    return COMMANDS.names


async def cost(
    commands: list[str], caller: Caller, method: str, path: str, body: Any = None, **headers: str
) -> list[str]:
    commands.clear()
    answer = await caller.request(method, path, json=body, headers=headers)
    assert answer.is_success, answer.text
    return list(commands)


async def test_reading(commands: list[str], agent: Caller) -> None:
    ticket = await open_ticket(agent)
    path = f"/api/tickets/{ticket['id']}"

    assert await cost(commands, agent, "GET", path) == [*AUTHENTICATION, "find"]
    assert await cost(commands, agent, "GET", "/api/tickets?status=Open&limit=1") == [*AUTHENTICATION, "find"]
    assert await cost(commands, agent, "GET", f"{path}/events") == [*AUTHENTICATION, "find", "find"]
    assert await cost(commands, agent, "GET", "/api/me") == [*AUTHENTICATION, "find"]


async def test_opening(commands: list[str], customer: Caller) -> None:
    body = {"title": "a", "description": "b"}
    inserts = ["insert", "insert", "commitTransaction"]

    assert await cost(commands, customer, "POST", "/api/tickets", body) == [*AUTHENTICATION, "findAndModify", *inserts]
    keyed = await cost(commands, customer, "POST", "/api/tickets", body, **{"Idempotency-Key": "k"})
    assert keyed == [*AUTHENTICATION, "find", "findAndModify", "insert", *inserts]
    replayed = await cost(commands, customer, "POST", "/api/tickets", body, **{"Idempotency-Key": "k"})
    assert replayed == [*AUTHENTICATION, "find"]


async def test_changing(commands: list[str], agent: Caller, admin: Caller) -> None:
    ticket = await open_ticket(agent)
    path = f"/api/tickets/{ticket['id']}"

    assert await cost(commands, agent, "PATCH", path, {"priority": "Low"}) == [*AUTHENTICATION, "find", *COMMIT]
    assert await cost(commands, agent, "PATCH", path, {"priority": "Low"}) == [*AUTHENTICATION, "find"]
    assigned = await cost(commands, agent, "PATCH", path, {"assignedTo": agent.user_id})
    assert assigned == [*AUTHENTICATION, "find", "find", *COMMIT]
    assert await cost(commands, admin, "DELETE", path) == [*AUTHENTICATION, "find", *COMMIT]


async def test_a_bulk_change_costs_what_one_does(commands: list[str], agent: Caller) -> None:
    ids = [(await open_ticket(agent))["id"] for _ in range(20)]
    body = {"ids": ids, "patch": {"priority": "Low"}}

    assert await cost(commands, agent, "POST", "/api/tickets/bulk", body) == [*AUTHENTICATION, "find", *COMMIT]


async def test_following(commands: list[str], agent: Caller) -> None:
    since = (await agent.get("/api/events")).json()["nextCursor"]
    await open_ticket(agent)
    spent = await cost(commands, agent, "GET", f"/api/events?since={since}")

    assert spent[:3] == [*AUTHENTICATION, "find", "aggregate"]
    assert spent[-1] == "killCursors"
    assert spent[3:-1] in (["getMore"], ["getMore", "getMore"]), "the server may answer the first part empty"


async def test_signing_in(commands: list[str], agent: Caller) -> None:
    body = {"username": "agent", "password": PASSWORD}

    assert await cost(commands, agent, "POST", "/api/login", body) == [
        *("find", "find"),  # the account, and whether it is known at this address
        *("insert", "insert", "commitTransaction"),  # the session, and what the audit log is told
        *("find", "find"),  # sessions beyond the last that one may have, and the account as it is by now
    ]
