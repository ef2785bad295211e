"""Without a database: an honest refusal in GraphQL's form; with one that fails in mid-answer, errors at that place."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.accounts.roles import Role
from tests.graphql.asking import BODY, CREATE, PATH
from tests.services import NO_TLS, PATIENCE_S, Mongod, Rows, Service, person, running, until

# HostUnreachable: an answer of the server that says "not now".
UNREACHABLE = 6
KEY = {"Idempotency-Key": "k"}


@pytest.fixture(scope="module")
def mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    with closing(Mongod(tmp_path_factory.mktemp("mongod"))) as mongod:
        mongod.start()
        yield mongod


@pytest.fixture(scope="module")
def service(mongod: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(mongod.uri("outage"), Path(tmp_path_factory.mktemp("service")) / "service.log")
    with running(service):
        yield service


@pytest.fixture
def rows(mongod: Mongod) -> Rows:
    rows: Rows = mongod.client["outage"]
    for name in ("tickets", "events", "idempotency"):
        rows[name].delete_many({})
    return rows


@pytest.fixture
def headers(rows: Rows) -> dict[str, str]:
    return person(rows, Role.AGENT).headers


async def ask(service: Service, text: str, headers: dict[str, str], **variables: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=service.url, timeout=PATIENCE_S, verify=NO_TLS) as client:
        return await client.post(PATH, json={"query": text, "variables": variables}, headers=headers)


async def test_a_read_that_fails_is_an_error_where_it_failed(
    mongod: Mongod, service: Service, headers: dict[str, str]
) -> None:
    with mongod.failing(["find"], errorCode=UNREACHABLE):
        answer = await ask(service, "{ __typename x: ticketConnection { edges { cursor } } }", headers)

    assert answer.status_code == 200
    assert answer.json()["data"] == {"__typename": "Query", "x": None}
    [error] = answer.json()["errors"]
    assert error["path"] == ["x"]
    assert error["message"] == "The database can't be reached at the moment"
    assert error["extensions"]["code"] == "database_unavailable"


async def test_an_answer_that_failed_after_the_commit_is_made_anew(
    mongod: Mongod, service: Service, rows: Rows, headers: dict[str, str]
) -> None:
    with mongod.failing(["find"], errorCode=UNREACHABLE, namespace=f"{rows.name}.users"):
        first = await ask(service, CREATE, headers | KEY, ticketInput=BODY)
    second = await ask(service, CREATE, headers | KEY, ticketInput=BODY)
    third = await ask(service, CREATE, headers | KEY, ticketInput=BODY)

    opened = first.json()["data"]["createTicket"]
    assert opened["requester"] is None
    [error] = first.json()["errors"]
    assert (error["path"], error["extensions"]["code"]) == (["createTicket", "requester"], "database_unavailable")
    assert "errors" not in second.json()
    assert second.json()["data"]["createTicket"]["id"] == opened["id"]
    assert second.json()["data"]["createTicket"]["requester"] is not None
    assert third.content == second.content
    assert second.headers["Idempotency-Replayed"] == third.headers["Idempotency-Replayed"] == "true"
    assert rows["tickets"].count_documents({}) == rows["events"].count_documents({}) == 1


async def test_a_body_that_can_not_be_stored_is_answered_all_the_same(
    mongod: Mongod, service: Service, rows: Rows, headers: dict[str, str]
) -> None:
    with mongod.failing(["update"], errorCode=UNREACHABLE):
        first = await ask(service, CREATE, headers | KEY, ticketInput=BODY)
    again = await ask(service, CREATE, headers | KEY, ticketInput=BODY)

    assert first.status_code == 200
    assert "errors" not in first.json()
    assert again.content == first.content
    assert rows["tickets"].count_documents({}) == 1


async def test_a_key_that_can_not_be_looked_up_refuses_the_request(
    mongod: Mongod, service: Service, rows: Rows, headers: dict[str, str]
) -> None:
    with mongod.failing(["find"], errorCode=UNREACHABLE):
        answer = await ask(service, CREATE, headers | KEY, ticketInput=BODY)

    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert rows["tickets"].count_documents({}) == 0


async def test_without_a_database_nothing_is_executed(
    mongod: Mongod, service: Service, headers: dict[str, str]
) -> None:
    await asyncio.to_thread(mongod.kill)
    try:
        answers = [
            await ask(service, text, headers | {"Accept": "application/graphql-response+json"}, ticketInput=BODY)
            for text in ("{ me { id } }", CREATE)
        ]
        nobody = await ask(service, "{ me { id } }", {})
    finally:
        await asyncio.to_thread(mongod.start)
        await until(service.is_ready)

    for answer in answers:
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.headers["Content-Type"] == "application/graphql-response+json; charset=utf-8"
        [error] = answer.json()["errors"]
        assert error["extensions"]["code"] == "database_unavailable"
        assert "data" not in answer.json()
    assert nobody.status_code == 401
    assert "Traceback" not in service.output()


async def test_before_the_database_is_there(tmp_path: Path) -> None:
    service = Service("mongodb://127.0.0.1:1/nowhere?replicaSet=rs0", tmp_path / "service.log")
    try:
        await asyncio.to_thread(service.launch)
        await until(service.is_listening)
        answer = await ask(service, "{ me { id } }", {"Authorization": "Bearer x"})
        async with httpx.AsyncClient(base_url=service.url, verify=NO_TLS) as client:
            schema = await client.get("/graphql/schema.graphql")
    finally:
        service.kill()

    assert (answer.status_code, schema.status_code) == (503, 200)
    assert answer.json()["errors"][0]["extensions"]["code"] == "database_unavailable"
