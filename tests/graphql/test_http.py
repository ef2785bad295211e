"""GraphQL over HTTP: what is taken, what is answered, with which status and media type."""

import json
import logging
from typing import Any

import pytest
from httpx import AsyncClient, Response
from starlette.types import ASGIApp

from app.accounts.documents import User
from app.graphql.errors import MAX_ERRORS
from app.platform.middleware import MAX_BODY_BYTES
from app.platform.mongo import collection_of
from tests.callers import Caller
from tests.conftest import ALLOWED_ORIGIN, COMMANDS
from tests.factories.tickets import add_tickets, open_ticket, ticket_row
from tests.graphql.asking import BODY, CREATE, PATH, counts, post
from tests.platform.raw import send

JSON, GRAPHQL_JSON = "application/json", "application/graphql-response+json"
BOTH = pytest.mark.parametrize("media_type", [JSON, GRAPHQL_JSON])
ME = "{ me { username } }"


def extensions_of(answer: Response) -> dict[str, Any]:
    [error] = answer.json()["errors"]
    extensions: dict[str, Any] = error["extensions"]
    assert extensions["requestId"] == answer.headers["X-Request-ID"]
    assert "data" not in answer.json()
    return extensions


class TestMediaTypes:
    @pytest.mark.parametrize(
        ("accept", "expected"),
        [
            (None, JSON),
            ("*/*", JSON),
            ("application/*", JSON),
            (JSON, JSON),
            (GRAPHQL_JSON, GRAPHQL_JSON),
            (f"{GRAPHQL_JSON}; charset=utf-8, {JSON}; charset=utf-8", GRAPHQL_JSON),
            (f"{GRAPHQL_JSON}, {JSON};q=0.9", GRAPHQL_JSON),
            (f"{GRAPHQL_JSON};q=0.5, {JSON}", JSON),
            ("text/html, application/xhtml+xml", None),
            ("image/png", None),
            (f"{JSON};q=0", None),
        ],
    )
    async def test_answers_have_the_one_that_is_preferred(
        self, customer: Caller, accept: str | None, expected: str | None
    ) -> None:
        headers = {"Accept": accept} if accept else {"Accept": ""}

        answer = await post(customer, ME, headers)

        if expected is None:
            assert answer.status_code == 406
            assert extensions_of(answer)["code"] == "not_acceptable"
        assert answer.headers["Content-Type"] == f"{expected or JSON}; charset=utf-8"
        assert "Accept" in answer.headers["Vary"]

    @pytest.mark.parametrize(
        "given",
        [
            {},
            {"Content-Type": "text/plain"},
            {"Content-Type": "application/graphql"},
            {"Content-Type": "application/x-www-form-urlencoded"},
            {"Content-Type": "multipart/form-data; boundary=x"},
            {"Content-Type": "application/json; charset=utf-16"},
            {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        ],
        ids=str,
    )
    async def test_bodies_are_json(self, customer: Caller, given: dict[str, str]) -> None:
        answer = await customer.post(PATH, content=b'{"query": "{ me { id } }"}', headers=given)

        assert answer.status_code == 415
        assert extensions_of(answer)["code"] == "unsupported_media_type"

    @pytest.mark.parametrize("given", ["application/json; charset=UTF-8", 'APPLICATION/JSON;charset="utf-8"', JSON])
    async def test_json_may_say_that_it_is_utf_8(self, customer: Caller, given: str) -> None:
        answer = await customer.post(PATH, content=b'{"query": "{ me { id } }"}', headers={"Content-Type": given})

        assert answer.status_code == 200

    async def test_browsers_of_allowed_origins_may_ask(self, customer: Caller) -> None:
        answer = await post(customer, ME, {"Origin": ALLOWED_ORIGIN})

        assert answer.headers["Access-Control-Allow-Origin"] == ALLOWED_ORIGIN
        assert answer.headers["Cache-Control"] == "private, no-cache"


class TestStatus:
    @BOTH
    @pytest.mark.parametrize(
        ("content", "code"),
        [
            (b"", "malformed_json"),
            (b"{", "malformed_json"),
            (b"\xff", "malformed_json"),
            (b"null", "graphql_invalid_request"),
            (b'"{ me { id } }"', "graphql_invalid_request"),
            (b"[]", "graphql_invalid_request"),
            (b'[{"query": "{ me { id } }"}]', "graphql_invalid_request"),
            (b"{}", "graphql_invalid_request"),
            (b'{"qeury": "{ me { id } }"}', "graphql_invalid_request"),
            (b'{"query": ""}', "graphql_invalid_request"),
            (b'{"query": 1}', "graphql_invalid_request"),
            (b'{"query": "{ me { id } }", "variables": [7]}', "graphql_invalid_request"),
            (b'{"query": "{ me { id } }", "variables": "{}"}', "graphql_invalid_request"),
            (b'{"query": "{ me { id } }", "operationName": 1}', "graphql_invalid_request"),
            (b'{"query": "{ me { id } }", "extensions": []}', "graphql_invalid_request"),
        ],
    )
    async def test_of_what_is_no_request_is_400(
        self, customer: Caller, content: bytes, code: str, media_type: str
    ) -> None:
        headers = {"Content-Type": JSON, "Accept": media_type}

        answer = await customer.post(PATH, content=content, headers=headers)

        assert answer.status_code == 400
        assert extensions_of(answer)["code"] == code
        assert answer.headers["Content-Type"] == f"{media_type}; charset=utf-8"

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            ({"query": "{"}, "graphql_parse_failed"),
            ({"query": "{ x }"}, "graphql_validation_failed"),
            ({"query": "query a { me { id } } query b { me { id } }"}, "graphql_unknown_operation"),
            ({"query": ME, "operationName": "a"}, "graphql_unknown_operation"),
            ({"query": "query ($n: Int!) { tickets(limit: $n) { id } }"}, "graphql_invalid_variables"),
            (
                {"query": "{ tickets(limit: 100) { history(first: 99) { edges { node { id } } } } }"},
                "graphql_too_costly",
            ),
            ({"query": "subscription { ticketEvents { id } }"}, "graphql_needs_websocket"),
        ],
    )
    async def test_of_what_can_not_be_executed_follows_the_media_type(
        self, customer: Caller, body: dict[str, Any], code: str
    ) -> None:
        COMMANDS.names.clear()
        for media_type, status in ((JSON, 200), (GRAPHQL_JSON, 400)):
            answer = await customer.post(PATH, json=body, headers={"Accept": media_type})

            assert answer.status_code == status
            assert extensions_of(answer)["code"] == code
        assert COMMANDS.names == ["aggregate", "aggregate"]

    @BOTH
    async def test_of_what_was_executed_is_200(self, customer: Caller, media_type: str) -> None:
        for text, expected in (
            (ME, {"me": {"username": "customer"}}),
            ("{ users { pageInfo { endCursor } } me { username } }", {"users": None, "me": {"username": "customer"}}),
            ("{ tickets(limit: 0) { id } }", None),
        ):
            answer = await post(customer, text, {"Accept": media_type})
            assert (answer.status_code, answer.json()["data"]) == (200, expected)

    async def test_of_a_body_that_is_too_large_is_413(self, customer: Caller) -> None:
        announced = await customer.post(PATH, json={"query": ME + "#" * MAX_BODY_BYTES})

        async def pieces() -> Any:
            for _ in range(20):
                yield b" " * 100_000

        streamed = await customer.post(PATH, content=pieces(), headers={"Content-Type": JSON})

        assert (announced.status_code, streamed.status_code) == (413, 413)
        assert announced.json()["code"] == "payload_too_large"
        assert extensions_of(streamed)["code"] == "payload_too_large"
        assert streamed.headers["Connection"] == "close"

    async def test_members_that_nobody_knows_do_no_harm(self, customer: Caller) -> None:
        body = {"query": ME, "variables": None, "operationName": None, "extensions": {"x": 1}, "documentId": None}

        assert (await customer.post(PATH, json=body)).json()["data"] == {"me": {"username": "customer"}}

    async def test_the_operation_is_picked_by_its_name(self, customer: Caller) -> None:
        body = {"query": "query a { me { id } } query b { me { username } }", "operationName": "b"}

        assert (await customer.post(PATH, json=body)).json()["data"] == {"me": {"username": "customer"}}

    async def test_other_methods_are_refused(self, customer: Caller) -> None:
        for method in ("PUT", "PATCH", "DELETE"):
            answer = await customer.request(method, PATH)
            assert answer.status_code == 405
            assert answer.headers["Allow"] == "HEAD, GET, POST"


class TestGet:
    async def test_asks_a_query(self, customer: Caller) -> None:
        text = "query a { me { id } } query b($n: Int) { me { username } tickets(limit: $n) { id } }"
        given = {"query": text, "variables": json.dumps({"n": 1}), "operationName": "b", "extensions": "{}"}

        answer = await customer.get(PATH, params=given)

        assert answer.status_code == 200
        assert answer.json()["data"] == {"me": {"username": "customer"}, "tickets": []}

    async def test_empty_parameters_are_none(self, customer: Caller) -> None:
        given = {"query": ME, "variables": "", "operationName": "", "extensions": ""}

        assert (await customer.get(PATH, params=given)).json()["data"] == {"me": {"username": "customer"}}

    @BOTH
    async def test_changes_nothing(self, customer: Caller, media_type: str) -> None:
        given = {"query": CREATE, "variables": json.dumps({"ticketInput": BODY})}

        answer = await customer.get(PATH, params=given, headers={"Accept": media_type})

        assert answer.status_code == 405
        assert answer.headers["Allow"] == "POST"
        assert extensions_of(answer)["code"] == "method_not_allowed"
        assert await counts() == [0, 0, 0]

    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ("", "graphql_invalid_request"),
            ("query=", "graphql_invalid_request"),
            (f"query={ME}&query={ME}", "graphql_invalid_request"),
            (f"query={ME}&variables=x", "malformed_json"),
            (f"query={ME}&variables=[]", "graphql_invalid_request"),
            (f"query={ME}&variables=%ff", "malformed_json"),
            (f"query={ME}&extensions=1", "graphql_invalid_request"),
        ],
    )
    async def test_what_is_no_request_is_400(self, customer: Caller, query: str, code: str) -> None:
        answer = await customer.get(f"{PATH}?{query}")

        assert (answer.status_code, extensions_of(answer)["code"]) == (400, code)

    async def test_head_is_a_get(self, customer: Caller) -> None:
        assert (await customer.head(PATH, params={"query": ME})).status_code == 200

    async def test_shows_a_browser_the_page(self, nobody: AsyncClient) -> None:
        accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

        answer = await nobody.get(PATH, headers={"Accept": accept})

        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")


class TestErrors:
    async def test_have_place_and_path(self, agent: Caller) -> None:
        answer = await post(agent, '{ me { id } x: ticket(id: "0") { id } }')

        assert answer.json()["errors"] == [
            {
                "message": "There is nothing here",
                "locations": [{"line": 1, "column": 13}],
                "path": ["x"],
                "extensions": {"code": "not_found", "status": 404, "requestId": answer.headers["X-Request-ID"]},
            }
        ]

    async def test_of_the_document_have_its_places(self, agent: Caller) -> None:
        answer = await post(agent, "{\n  x\n  y }")

        assert [error["locations"] for error in answer.json()["errors"]] == [
            [{"line": 2, "column": 3}],
            [{"line": 3, "column": 3}],
        ]
        assert answer.json()["errors"][0]["message"].startswith("Cannot query field 'x' on type 'Query'")

    async def test_that_nobody_foresaw_are_masked_and_logged_once(
        self, agent: Caller, caplog: pytest.LogCaptureFixture
    ) -> None:
        # Rows that can't be: a fault in one field of each.
        await add_tickets(*(ticket_row(resolvedAt="no instant") for _ in range(60)))

        with caplog.at_level(logging.ERROR):
            answer = await post(agent, "{ tickets(limit: 60) { id resolvedAt } }")

        errors = answer.json()["errors"]
        assert answer.status_code == 200
        assert len(answer.json()["data"]["tickets"]) == 60
        assert len(errors) == MAX_ERRORS
        for error in errors:
            assert error["message"] == "Something went wrong on our side"
            assert error["extensions"]["code"] == "internal_error"
        assert "no instant" not in answer.text
        [record] = caplog.records
        assert (record.name, record.message) == ("app.graphql.answers", "unhandled error")
        assert record.exc_info is not None

    async def test_a_client_that_goes_away_is_none(
        self, app: ASGIApp, customer: Caller, caplog: pytest.LogCaptureFixture
    ) -> None:
        headers = [("Authorization", f"Bearer {customer.token}"), ("Content-Type", JSON)]

        answer = await send(app, "POST", PATH, headers=headers, chunks=[b'{"query":', None])

        assert answer.status == 0
        assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []

    async def test_of_the_account_that_is_gone(self, customer: Caller) -> None:
        await collection_of(User).delete_one({"_id": customer.actor.id})

        answer = await post(customer, ME)

        assert (answer.status_code, extensions_of(answer)["code"]) == (403, "invalid_token")

    async def test_carry_what_rests_problems_carry(self, agent: Caller) -> None:
        ticket = await open_ticket(agent)
        text = 'mutation ($id: ID!) { updateTicket(id: $id, version: 7, patch: {priority: "Low"}) { id } }'

        answer = await post(agent, text, id=ticket["id"])

        [error] = answer.json()["errors"]
        assert error["extensions"]["code"] == "version_conflict"
        assert error["extensions"]["status"] == 412
        assert error["extensions"]["currentVersion"] == 1
        assert "WWW-Authenticate" not in answer.headers
