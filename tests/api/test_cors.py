"""What browsers on other sites may do: nothing, unless their origin is named (Fetch standard, CORS)."""

from collections.abc import AsyncIterator

import pytest
from httpx import ASGITransport, AsyncClient

from app.main import create_app
from app.settings import Settings
from tests.callers import BASE_URL
from tests.conftest import running

ORIGIN = "https://app.example.com"
HEADERS = "authorization,content-type,idempotency-key,if-match,if-none-match,x-request-id"


@pytest.fixture
async def browser(settings: Settings) -> AsyncIterator[AsyncClient]:
    """A client of an application that knows one origin."""
    named = settings.model_copy(update={"allowed_origins": (ORIGIN,)})
    async with (
        running(create_app(named)) as app,
        AsyncClient(transport=ASGITransport(app), base_url=BASE_URL) as client,
    ):
        yield client


def preflight(origin: str, method: str) -> dict[str, str]:
    return {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": HEADERS}


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
async def test_a_named_origin_may_send_all_that_the_api_reads(browser: AsyncClient, method: str) -> None:
    answer = await browser.options("/api/tickets", headers=preflight(ORIGIN, method))

    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


async def test_a_named_origin_reads_what_clients_need_refusals_included(browser: AsyncClient) -> None:
    answer = await browser.get("/api/me", headers={"Origin": ORIGIN})

    exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (401, ORIGIN)
    assert {"ETag", "Link", "Location", "Retry-After", "X-Request-ID", "Idempotency-Replayed"} <= exposed
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize("origin", ["https://evil.example", "http://app.example.com", f"{ORIGIN}.evil.example", "null"])
async def test_others_get_no_leave(browser: AsyncClient, origin: str) -> None:
    asked = await browser.options("/api/tickets", headers=preflight(origin, "POST"))
    unasked = await browser.get("/healthz", headers={"Origin": origin})

    assert asked.status_code == 400
    assert all("Access-Control-Allow-Origin" not in answer.headers for answer in (asked, unasked))
