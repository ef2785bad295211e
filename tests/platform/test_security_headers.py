"""What every answer tells browsers to beware of, whichever way it came about."""

from collections.abc import Callable

import pytest
from httpx import ASGITransport, AsyncClient, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.platform.middleware import MAX_BODY_BYTES, RequestScope
from tests.callers import BASE_URL, Callers
from tests.live import Live
from tests.platform import raw

NOTHING_ALLOWED = "default-src 'none'; frame-ancestors 'none'"
YEAR = "max-age=31536000; includeSubDomains"
# Method, path, status: from routes, from every middleware, from the router, from the error handlers.
ANSWERS = [
    ("GET", "/healthz", 200),
    ("HEAD", "/healthz", 200),
    ("GET", "/openapi.json", 200),
    ("GET", "/asyncapi.json", 200),
    ("GET", "/graphql/schema.graphql", 200),
    ("GET", "/api/me", 401),
    ("POST", "/graphql", 401),
    ("GET", "/nowhere", 404),
    ("GET", "/metrics", 404),
    ("GET", "/docs/files/none.js", 404),
    ("PUT", "/api/me", 405),
    ("POST", "/api/login", 413),
]
PAGES = [("/docs", "text/html"), ("/redoc", "text/html"), ("/graphql", "text/html,*/*;q=0.1")]


def over(scheme: str, app: ASGIApp) -> ASGIApp:
    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "scheme": scheme}, receive, send)

    return wrapped


async def get(app: ASGIApp, path: str, accept: str) -> Response:
    async with AsyncClient(transport=ASGITransport(app), base_url=BASE_URL) as client:
        return await client.get(path, headers={"Accept": accept})


async def fail(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise RuntimeError


def check(header: Callable[[str], str | None], policy: str | None = NOTHING_ALLOWED) -> None:
    assert header("x-content-type-options") == "nosniff"
    assert header("x-frame-options") == "DENY"
    assert header("referrer-policy") == "no-referrer"
    assert header("cache-control") in ("private, no-cache", "no-store")
    if policy is not None:
        assert header("content-security-policy") == policy


@pytest.mark.usefixtures("database")
class TestEveryAnswer:
    @pytest.mark.parametrize(("scheme", "strict"), [("http", None), ("https", YEAR)])
    @pytest.mark.parametrize(("method", "path", "status"), ANSWERS)
    async def test_bears_them(
        self, app: ASGIApp, method: str, path: str, status: int, scheme: str, strict: str | None
    ) -> None:
        headers = [("content-length", str(MAX_BODY_BYTES + 1))] if status == 413 else []

        answer = await raw.send(over(scheme, app), method, path, headers=headers)

        assert answer.status == status
        check(answer.header)
        assert answer.header("strict-transport-security") == strict

    @pytest.mark.parametrize(("scheme", "strict"), [("http", None), ("https", YEAR)])
    @pytest.mark.parametrize(("path", "accept"), PAGES)
    async def test_pages_have_a_policy_of_their_own(
        self, app: ASGIApp, path: str, accept: str, scheme: str, strict: str | None
    ) -> None:
        answer = await get(over(scheme, app), path, accept)

        assert answer.headers["content-type"].startswith("text/html")
        check(answer.headers.get, None)
        (policy,) = answer.headers.get_list("content-security-policy")
        assert "script-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers.get("strict-transport-security") == strict

    async def test_a_fault_of_ours_does_as_well(self) -> None:
        answer = await raw.send(RequestScope(over("https", fail)), "GET", "/")

        assert answer.status == 500
        check(answer.header)

    async def test_a_live_stream_does_as_well(self, live: Live, callers: Callers) -> None:
        stream = await live.stream(callers.customer.token)

        assert stream.response.headers["content-type"].startswith("text/event-stream")
        check(stream.response.headers.get)
        assert "strict-transport-security" not in stream.response.headers
