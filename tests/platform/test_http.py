"""Bodies in, JSON and problems out: whatever is sent, the answer is one of ours."""

import asyncio
from typing import Any

import orjson
import pymongo.errors
import pytest
from beanie.exceptions import CollectionWasNotInitialized
from fastapi.exceptions import RequestValidationError
from httpx import AsyncClient
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from app.accounts.documents import User
from app.platform.errors import AppError, NotFound
from app.platform.http import MAX_LEVELS, PROBLEM_JSON, to_app_error
from app.platform.mongo import collection_of
from tests.callers import Caller
from tests.platform import raw

MEMBERS = {"type", "title", "status", "detail", "instance", "code", "error", "requestId"}


async def post(app: ASGIApp, body: bytes, *headers: raw.Header) -> raw.Answer:
    given = headers or (("content-type", "application/json"),)
    return await raw.send(app, "POST", "/api/register", headers=given, chunks=[body])


def assert_problem(answer: raw.Answer, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    assert (answer.status, body["status"], body["code"]) == (status, status, code)
    assert answer.header("content-type") == PROBLEM_JSON
    assert body["error"] == body["detail"]
    assert body["requestId"] == answer.header("x-request-id")
    assert body.keys() >= MEMBERS
    return body


@pytest.mark.usefixtures("database")
class TestReadJson:
    @pytest.mark.parametrize(
        "body",
        [
            *[b"", b" ", b"{", b"{}}", b"{'a': 1}", b'{"a": 1,}', b"{a: 1}", b'{"a": undefined}', b"username=a"],
            *[b'{"username": NaN}', b'{"username": Infinity}', b'{"username": -Infinity}', b'{"a": 01}', b'{"a": 0x1}'],
            *[b'{"username": "\\ud800"}', b'{"username": "\\udc00\\ud800"}', b'{"\\ud800": 1}', b'{"a": "\\x"}'],
            *[b'{"username": "\xff"}', b'{"username": "\xc0\xaf"}', b'{"username": "\xed\xa0\x80"}', b'{"a": "\x00"}'],
            *[b'\xef\xbb\xbf{"a": 1}', '{"a": 1}'.encode("utf-16"), b'{"a": "\n"}', b'{"a": 1} {"b": 2}'],
            *[b"[" * 100_000, b'{"a":' * 100_000, b"[" * 5000 + b"]" * 5000],
        ],
    )
    async def test_refuses_what_is_no_json(self, app: ASGIApp, body: bytes) -> None:
        answer = await post(app, body)

        assert_problem(answer, 400, "malformed_json")
        assert await collection_of(User).count_documents({}) == 0

    @pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"text"', b"true", b"[{}]"])
    async def test_refuses_what_is_no_object(self, app: ASGIApp, body: bytes) -> None:
        problem = assert_problem(await post(app, body), 400, "malformed_json")

        assert problem["detail"] == "The body must be a JSON object"

    @pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")])
    async def test_refuses_more_levels_than_anybody_needs(self, app: ASGIApp, opening: bytes, closing: bytes) -> None:
        inner = (MAX_LEVELS - 1) // (opening.count(b"[") + opening.count(b"{"))

        for count, status, code in (
            (inner, 422, "invalid_input"),
            (inner + 1, 400, "malformed_json"),
            (400, 400, "malformed_json"),
        ):
            body = b'{"username":%b1%b}' % (opening * count, closing * count)
            assert_problem(await post(app, body), status, code)

    async def test_takes_any_number_of_brackets_in_a_text(self, app: ASGIApp) -> None:
        body = b'{"username": "ann", "password": "%b", "name": []}' % (b"[{" * 20)

        problem = assert_problem(await post(app, body), 422, "invalid_input")

        assert {error["field"] for error in problem["errors"]} == {"name"}

    async def test_lists_no_megabyte_of_wrong_fields(self, app: ASGIApp) -> None:
        body = orjson.dumps({f"field{number}": 1 for number in range(50_000)})

        answer = await post(app, body)

        assert_problem(answer, 422, "invalid_input")
        assert len(answer.body) < 1000

    @pytest.mark.parametrize(
        "body",
        [
            b'{"username": 1e999}',
            b'{"username": 123456789012345678901234567890}',
            b'{"username": -0.0, "password": 1E400}',
            b'{"username": "a", "username": 1}',
            b'{"__proto__": {}, "constructor": 1}',
        ],
    )
    async def test_odd_values_are_wrong_values(self, app: ASGIApp, body: bytes) -> None:
        answer = await post(app, body)

        assert answer.status in (400, 422)
        assert_problem(answer, answer.status, answer.json()["code"])

    @pytest.mark.parametrize(
        "content_type",
        [
            *["application/json", "Application/JSON", "application/json; charset=utf-8", "application/json ;x=y"],
            *["application/merge-patch+json", 'application/json;x=y; Charset="UTF-8"', "application/json;mycharset=x"],
        ],
    )
    async def test_takes_json_by_its_names(self, app: ASGIApp, content_type: str) -> None:
        assert_problem(await post(app, b"{}", ("content-type", content_type)), 422, "invalid_input")

    async def test_takes_a_body_of_no_type_as_json(self, app: ASGIApp) -> None:
        answer = await raw.send(app, "POST", "/api/register", chunks=[b"{}"])

        assert_problem(answer, 422, "invalid_input")

    @pytest.mark.parametrize(
        "content_type",
        [
            *["text/plain", "text/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"],
            *["application/xml", "application/jsonp", "application/json, text/plain", "", ";", "json", "*/*"],
            *["application/json-patch+json", "application/json; charset=utf-16", "application/json;charset=iso-8859-1"],
            *['application/json; x=y; CHARSET="latin1"', "application/json; charset="],
        ],
    )
    async def test_refuses_other_types(self, app: ASGIApp, content_type: str) -> None:
        assert_problem(await post(app, b"{}", ("content-type", content_type)), 415, "unsupported_media_type")

    @pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "GZIP"])
    async def test_refuses_coded_bodies(self, app: ASGIApp, coding: str) -> None:
        headers = (("content-type", "application/json"), ("content-encoding", coding))

        answer = await post(app, b"{}", *headers)

        assert_problem(answer, 415, "unsupported_media_type")
        assert answer.header("accept-encoding") == "identity"

    @pytest.mark.parametrize("coding", ["Identity", ""])
    async def test_takes_a_body_that_is_said_to_be_as_it_is(self, app: ASGIApp, coding: str) -> None:
        headers = (("content-type", "application/json"), ("content-encoding", coding))

        assert_problem(await post(app, b"{}", *headers), 422, "invalid_input")

    async def test_refuses_a_body_of_two_types(self, app: ASGIApp) -> None:
        both = (("content-type", "application/json"), ("content-type", "text/plain"))

        assert_problem(await post(app, b"{}", *both), 415, "unsupported_media_type")
        assert_problem(await post(app, b"{}", *both[::-1]), 415, "unsupported_media_type")

    async def test_asks_who_is_there_before_it_reads(self, nobody: AsyncClient) -> None:
        for method, path in (("POST", "/api/tickets"), ("POST", "/api/users"), ("PATCH", "/api/me")):
            answer = await nobody.request(method, path, content=b"{", headers={"Content-Type": "text/plain"})

            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


class TestProblem:
    async def test_has_all_its_members(self, app: ASGIApp) -> None:
        answer = await raw.send(app, "GET", "/nowhere")

        assert_problem(answer, 404, "not_found")
        assert answer.json() == {
            "type": "about:blank",
            "title": "Not Found",
            "status": 404,
            "detail": "There is nothing here",
            "code": "not_found",
            "error": "There is nothing here",
            "instance": "/nowhere",
            "requestId": answer.header("x-request-id"),
        }
        assert answer.header("content-language") == "en"

    @pytest.mark.parametrize(
        ("path", "instance"),
        [
            ("/a b", "/a%20b"),
            ("/ä", "/%C3%A4"),
            ("/a?b#c", "/a%3Fb%23c"),
            ("//evil.example/x", "//evil.example/x"),
            ("/\x00\r\n", "/%00%0D%0A"),
            ("/\ud800", "/%3F"),
            ("/api/tickets/../../x", "/api/tickets/../../x"),
            ("/<script>", "/%3Cscript%3E"),
        ],
    )
    async def test_instance_is_a_uri_whatever_the_path(self, app: ASGIApp, path: str, instance: str) -> None:
        answer = await raw.send(app, "GET", path)

        assert assert_problem(answer, 404, "not_found")["instance"] == instance

    @pytest.mark.parametrize("query", [b"\xff", b"%ff%fe", b"a=%00", b"&&==", b"cursor=" + b"x" * 10_000])
    async def test_an_odd_query_harms_nobody(self, app: ASGIApp, query: bytes) -> None:
        assert_problem(await raw.send(app, "GET", "/nowhere", query=query), 404, "not_found")

    @pytest.mark.parametrize("host", ["[", "a b", "evil.example", "", "x:99999", "ä"])
    async def test_an_odd_host_harms_nobody(self, app: ASGIApp, host: str) -> None:
        assert_problem(await raw.send(app, "GET", "/nowhere", headers=[("host", host)]), 404, "not_found")

    @pytest.mark.parametrize("path", ["/api/tickets/", "/API/tickets", "/api", "/api//tickets", "/api/register/"])
    async def test_only_exact_paths_are_known(self, app: ASGIApp, path: str) -> None:
        assert_problem(await raw.send(app, "GET", path), 404, "not_found")

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("PUT", "/api/tickets", {"GET", "HEAD", "POST"}),
            ("PATCH", "/api/login", {"POST"}),
            ("PUT", "/api/users/6740a1f0c3b2a1d4e5f60718", {"GET", "HEAD", "PATCH", "DELETE"}),
            ("TRACE", "/api/me", {"GET", "HEAD", "PATCH"}),
            ("NONSENSE", "/healthz", {"GET", "HEAD"}),
            *((method, "/api/tickets/bulk", {"POST"}) for method in ("GET", "PATCH", "DELETE", "PUT", "OPTIONS")),
        ],
    )
    async def test_a_wrong_method_hears_of_the_right_ones(
        self, app: ASGIApp, method: str, path: str, allowed: set[str]
    ) -> None:
        answer = await raw.send(app, method, path)

        assert_problem(answer, 405, "method_not_allowed")
        assert set((answer.header("allow") or "").split(", ")) == allowed


class TestToAppError:
    @pytest.mark.parametrize(
        ("error", "status", "code"),
        [
            (NotFound(), 404, "not_found"),
            (HTTPException(404), 404, "not_found"),
            (HTTPException(405), 405, "method_not_allowed"),
            (HTTPException(418), 500, "internal_error"),
            (RequestValidationError([{"loc": ("query", "a"), "type": "missing", "msg": "m"}]), 422, "invalid_input"),
            (pymongo.errors.ServerSelectionTimeoutError("db:27017"), 503, "database_unavailable"),
            (pymongo.errors.AutoReconnect("db:27017"), 503, "database_unavailable"),
            (pymongo.errors.NetworkTimeout("db:27017"), 503, "database_unavailable"),
            (pymongo.errors.NotPrimaryError("x"), 503, "database_unavailable"),
            (pymongo.errors.ExecutionTimeout("x", 50), 503, "database_unavailable"),
            (pymongo.errors.WaitQueueTimeoutError("x"), 503, "database_unavailable"),
            (CollectionWasNotInitialized("x"), 503, "database_unavailable"),
            (pymongo.errors.OperationFailure("secret text", 2), 500, "internal_error"),
            (pymongo.errors.DuplicateKeyError("secret text", 11000), 500, "internal_error"),
            (ValueError("secret text"), 500, "internal_error"),
        ],
    )
    def test_tells_every_failure_in_our_words(self, error: Exception, status: int, code: str) -> None:
        told = to_app_error(error)

        assert isinstance(told, AppError)
        assert (told.status, told.code) == (status, code)
        assert "secret" not in told.text
        assert "27017" not in told.text

    @pytest.mark.parametrize("code", [6, 7, 24, 43, 89, 134, 237, 262, 9001, 11601])
    def test_what_a_server_says_while_it_changes_is_an_outage(self, code: int) -> None:
        assert to_app_error(pymongo.errors.OperationFailure("x", code)).status == 503


class TestConcurrency:
    async def test_answers_keep_their_requests_ids(self, customer: Caller) -> None:
        ids = [f"request-{number}" for number in range(30)]

        answers = await asyncio.gather(*(customer.get("/nowhere", headers={"X-Request-ID": i}) for i in ids))

        assert [answer.json()["requestId"] for answer in answers] == ids
