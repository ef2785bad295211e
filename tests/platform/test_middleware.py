"""What happens to every request: id, body limit, headers, and the last safety net."""

import logging
import re
from collections.abc import Sequence

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from app.platform.http import PROBLEM_JSON
from app.platform.middleware import MAX_BODY_BYTES, BodyLimit, RequestScope
from tests.callers import Caller
from tests.factories.tickets import open_ticket
from tests.platform import raw

SECRET_TEXT = "mongodb://root:hunter2@db"


async def echo_length(_scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body whole and answers how long it was."""
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(length).encode()})


async def fail(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise RuntimeError(SECRET_TEXT)


async def fail_halfway(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise RuntimeError(SECRET_TEXT)


def limited(inner: ASGIApp, max_bytes: int = 100) -> ASGIApp:
    return RequestScope(BodyLimit(inner, max_bytes))


class TestRequestId:
    @pytest.mark.parametrize("given", ["a", "A-1_b.c:d", "x" * 128, "00-4bf92f3577b34da6a3ce929d0e0e4736-01"])
    async def test_keeps_a_sane_one(self, given: str) -> None:
        answer = await raw.send(RequestScope(echo_length), "GET", "/", headers=[("x-request-id", given)])

        assert answer.header("x-request-id") == given

    @pytest.mark.parametrize("given", [None, "", " ", "x" * 129, "a b", "a\nb", "ä", '"a"', "a;b", "<a>", "a\x00"])
    async def test_makes_one_otherwise(self, given: str | None) -> None:
        headers = [] if given is None else [("x-request-id", given)]

        answer = await raw.send(RequestScope(echo_length), "GET", "/", headers=headers)

        assert re.fullmatch("[0-9a-f]{32}", answer.header("x-request-id") or "")


class TestBodyLimit:
    @pytest.mark.parametrize("length", ["101", "0101", "9" * 5000, "1" + "0" * 19])
    async def test_refuses_what_announces_too_much_unread(self, length: str) -> None:
        answer = await raw.send(limited(fail), "POST", "/", headers=[("content-length", length)])

        assert answer.status == 413
        assert answer.json()["code"] == "payload_too_large"
        assert answer.header("connection") == "close"
        assert answer.header("content-type") == PROBLEM_JSON
        assert answer.header("content-length") == str(len(answer.body))

    @pytest.mark.parametrize("length", ["100", "0", "", "0" * 5000, "-1", "+5", "\xb2", "1e3", "abc"])
    async def test_lets_pass_what_does_not(self, length: str) -> None:
        answer = await raw.send(limited(echo_length), "POST", "/", headers=[("content-length", length)])

        assert (answer.status, answer.body) == (200, b"0")

    @pytest.mark.parametrize("chunks", [[b"x" * 100], [b"x"] * 100, [b"x" * 60, b"", b"x" * 40]])
    async def test_takes_chunks_up_to_the_limit(self, chunks: Sequence[bytes]) -> None:
        answer = await raw.send(limited(echo_length), "POST", "/", chunks=chunks)

        assert (answer.status, answer.body) == (200, b"100")

    @pytest.mark.parametrize(
        ("size", "status", "code"),
        [(MAX_BODY_BYTES, 400, "malformed_json"), (MAX_BODY_BYTES + 1, 413, "payload_too_large")],
    )
    @pytest.mark.parametrize("announced", [True, False])
    async def test_is_one_mebibyte_for_the_service(
        self, app: ASGIApp, size: int, status: int, code: str, *, announced: bool
    ) -> None:
        headers = [("content-type", "application/json"), *([("content-length", str(size))] if announced else [])]
        body = b'{"title": "' + b"x" * (size - 11)
        chunks = [body[at : at + 65_536] for at in range(0, size, 65_536)]

        answer = await raw.send(app, "POST", "/api/login", headers=headers, chunks=chunks)

        assert MAX_BODY_BYTES == 1024 * 1024
        assert (answer.status, answer.json()["code"]) == (status, code)
        assert answer.header("connection") == ("close" if status == 413 else None)

    async def test_a_lie_about_the_length_helps_nobody(self, app: ASGIApp) -> None:
        headers = [("content-type", "application/json"), ("content-length", "2")]

        answer = await raw.send(app, "POST", "/api/login", headers=headers, chunks=[b"x" * 700_000, b"x" * 700_000])

        assert (answer.status, answer.json()["code"]) == (413, "payload_too_large")


class TestSafetyNet:
    async def test_an_unforeseen_error_is_a_problem_without_a_word_of_it(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        answer = await raw.send(RequestScope(fail), "GET", "/x", headers=[("x-request-id", "the-id")])

        assert answer.status == 500
        assert answer.json() == {
            "type": "about:blank",
            "title": "Internal Server Error",
            "status": 500,
            "detail": "Something went wrong on our side",
            "code": "internal_error",
            "error": "Something went wrong on our side",
            "instance": "/x",
            "requestId": "the-id",
        }
        assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == ["unhandled error"]
        assert SECRET_TEXT in caplog.text

    async def test_an_answer_that_has_begun_is_broken_off(self) -> None:
        answer = await raw.send(RequestScope(fail_halfway), "GET", "/")

        assert (answer.status, answer.body) == (200, b"half")

    async def test_a_client_that_goes_away_is_no_error_of_ours(
        self, app: ASGIApp, caplog: pytest.LogCaptureFixture
    ) -> None:
        headers = [("content-type", "application/json"), ("content-length", "50")]

        answer = await raw.send(app, "POST", "/api/login", headers=headers, chunks=[b'{"user', None])

        assert answer.status == 0
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []

    async def test_what_is_no_http_passes_untouched(self) -> None:
        seen: list[Scope] = []

        async def inner(scope: Scope, _receive: Receive, _send: Send) -> None:
            seen.append(scope)

        async def nothing() -> dict[str, str]:
            return {}

        async def nowhere(_message: object) -> None:
            return

        await limited(inner)({"type": "lifespan"}, nothing, nowhere)

        assert seen == [{"type": "lifespan"}]


class TestHeaders:
    @pytest.mark.parametrize(
        ("method", "path"), [("GET", "/healthz"), ("GET", "/nowhere"), ("GET", "/api/me"), ("POST", "/api/login")]
    )
    async def test_are_on_every_answer(self, app: ASGIApp, method: str, path: str) -> None:
        answer = await raw.send(app, method, path)

        assert answer.header("x-content-type-options") == "nosniff"
        assert answer.header("x-frame-options") == "DENY"
        assert answer.header("referrer-policy") == "no-referrer"
        assert answer.header("cache-control") == "private, no-cache"
        assert answer.header("server") is None

    async def test_the_routes_own_word_on_caching_counts(self) -> None:
        async def secretive(_scope: Scope, _receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 204, "headers": [(b"cache-control", b"no-store")]})
            await send({"type": "http.response.body"})

        answer = await raw.send(RequestScope(secretive), "GET", "/")

        assert answer.header("cache-control") == "no-store"


class TestHeadAsGet:
    async def test_answers_as_get_does_without_a_body(self, agent: Caller) -> None:
        ticket = await open_ticket(agent)
        get = await agent.get(f"/api/tickets/{ticket['id']}")
        head = await agent.head(f"/api/tickets/{ticket['id']}")

        assert (head.status_code, head.headers["etag"]) == (200, '"1"')
        assert head.headers["content-length"] == get.headers["content-length"]
