"""What browsers on other sites may do: nothing, unless their origin is named (Fetch standard, CORS)."""

import pytest
from httpx import AsyncClient

from app.platform.http import PROBLEM_JSON
from tests.conftest import ALLOWED_ORIGIN as ORIGIN

HEADERS = "authorization,content-type,idempotency-key,if-match,if-none-match,x-request-id"


def preflight(origin: str, method: str) -> dict[str, str]:
    return {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": HEADERS}


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
async def test_a_named_origin_may_send_all_that_the_api_reads(nobody: AsyncClient, method: str) -> None:
    answer = await nobody.options("/api/tickets", headers=preflight(ORIGIN, method))

    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert answer.headers["X-Request-ID"]


async def test_a_named_origin_reads_what_clients_need_refusals_included(nobody: AsyncClient) -> None:
    answer = await nobody.get("/api/me", headers={"Origin": ORIGIN})

    exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (401, ORIGIN)
    assert {"ETag", "Link", "Location", "Retry-After", "X-Request-ID", "Idempotency-Replayed"} <= exposed
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize("origin", ["https://evil.example", "http://app.example.com", f"{ORIGIN}.evil.example", "null"])
async def test_others_get_no_leave(nobody: AsyncClient, origin: str) -> None:
    asked = await nobody.options("/api/tickets", headers=preflight(origin, "POST"))
    unasked = await nobody.get("/healthz", headers={"Origin": origin})

    assert (asked.status_code, asked.headers["Content-Type"]) == (400, PROBLEM_JSON)
    assert (asked.json()["code"], asked.json()["detail"]) == ("cors_refused", "Disallowed CORS origin")
    assert asked.json()["requestId"] == asked.headers["X-Request-ID"]
    assert int(asked.headers["Content-Length"]) == len(asked.content)
    assert all("Access-Control-Allow-Origin" not in answer.headers for answer in (asked, unasked))
