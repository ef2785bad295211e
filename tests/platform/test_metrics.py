"""Figures for whoever holds the token, and for nobody else."""

import re

import pytest
from httpx import AsyncClient
from starlette.types import ASGIApp

from tests.callers import Caller
from tests.factories.tickets import open_ticket
from tests.platform import raw

TOKEN = {"Authorization": "Bearer metrics"}


async def figures(client: AsyncClient) -> str:
    answer = await client.get("/metrics", headers=TOKEN)
    assert answer.status_code == 200
    return answer.text


class TestMetrics:
    @pytest.mark.parametrize(
        "header", [None, "", "Bearer", "Bearer ", "Bearer metric", "Bearer metricsx", "bearer metrics", "metrics", "ä"]
    )
    async def test_are_not_there_without_the_token(self, app: ASGIApp, header: str | None) -> None:
        headers = [] if header is None else [("authorization", header)]

        answer = await raw.send(app, "GET", "/metrics", headers=headers)

        assert (answer.status, answer.json()["code"]) == (404, "not_found")

    async def test_are_not_for_users_either(self, admin: Caller) -> None:
        assert (await admin.get("/metrics")).status_code == 404

    async def test_are_in_the_usual_format(self, nobody: AsyncClient) -> None:
        answer = await nobody.get("/metrics", headers=TOKEN)

        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        for name in ("http_requests_in_progress", "password_checks_waiting", "database_up"):
            assert re.search(rf"^{name} [0-9.]+$", answer.text, re.MULTILINE)

    async def test_count_by_route_and_never_by_id(self, customer: Caller, nobody: AsyncClient) -> None:
        ticket = await open_ticket(customer)
        await customer.get(f"/api/tickets/{ticket['id']}")
        await customer.get(f"/api/tickets/{ticket['number']}")
        await nobody.get("/wp-admin/setup.php?token=hunter2")

        text = await figures(nobody)

        assert 'method="GET",route="/api/tickets/{ticketId}",status="200"' in text
        assert 'method="POST",route="/api/tickets",status="201"' in text
        assert 'method="GET",route="unmatched",status="404"' in text
        for word in (ticket["id"], customer.user_id, customer.token, "wp-admin", "hunter2"):
            assert word not in text

    async def test_words_in_a_methods_place_make_no_series(self, app: ASGIApp, nobody: AsyncClient) -> None:
        for number in range(3):
            await raw.send(app, f"INVENTED{number}", "/api/me")

        text = await figures(nobody)

        assert "INVENTED" not in text
        assert 'method="other",route="/api/me",status="405"' in text


class TestHealth:
    async def test_the_process_lives(self, nobody: AsyncClient) -> None:
        answer = await nobody.get("/healthz")

        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})

    async def test_the_service_can_work(self, nobody: AsyncClient) -> None:
        answer = await nobody.get("/readyz")

        lag_ms = answer.json()["eventLagMs"]
        assert (answer.status_code, answer.json()) == (200, {"status": "ok", "eventLagMs": lag_ms})
        assert 0 <= lag_ms < 10_000
        assert "database_up 1.0" in await figures(nobody)
