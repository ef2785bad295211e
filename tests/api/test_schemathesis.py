"""Generated requests as each role: the answers are what the OpenAPI document says, and nothing makes the service fail.

`scripts/fuzz` does the work, and goes on for as long as one likes.
"""

import asyncio
import json
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from typing import Any

import pytest
from httpx import AsyncClient

from app.platform.http import MAX_LEVELS
from tests.callers import Caller, Callers
from tests.factories.tickets import open_ticket

FUZZ = Path(__file__).parents[2] / "scripts" / "fuzz"
# Each phase is gone through by some role, and every role goes through some; the seeds are new in every run.
EFFORT = {
    "nobody": ["--examples", "2", "--phases", "examples,coverage"],
    "customer": ["--examples", "2", "--phases", "examples,fuzzing"],
    "agent": ["--examples", "2", "--phases", "examples,fuzzing"],
    "admin": ["--examples", "2", "--phases", "coverage"],
}
ODD_REFERENCES = [
    "%00",
    "6740a1f0c3b2a1d4e5f607%00%00",
    "6740a1f0c3b2a1d4e5f607%20%20",
    "9" * 30,
    "0",
    "-1",
    "%D9%A1",  # a digit to Unicode, not to us
    "%ff",
]
ODD_TAGS = ['W/"1"', '"1', "1", '""', "*, *", "," * 500, '"' * 501]


@pytest.mark.parametrize("role", EFFORT)
async def test_generated_requests_find_nothing(mongodb_uri: str, role: str) -> None:
    # Not by a call that blocks: the application of the other tests would lose its database for want of heartbeats.
    run = await asyncio.create_subprocess_exec(FUZZ, "--role", role, *EFFORT[role], stdout=PIPE, stderr=STDOUT)
    output, _ = await run.communicate()

    assert run.returncode == 0, output.decode()


class TestOddRequests:
    """What a generator seldom hits upon."""

    @pytest.mark.parametrize("reference", ODD_REFERENCES)
    @pytest.mark.parametrize("place", ["tickets", "users"])
    async def test_reference_that_names_nothing(self, admin: Caller, place: str, reference: str) -> None:
        answer = await admin.get(f"/api/{place}/{reference}")

        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")

    @pytest.mark.parametrize("tag", ODD_TAGS)
    async def test_precondition_that_is_no_list_of_tags(self, agent: Caller, tag: str) -> None:
        ticket = await open_ticket(agent)

        read = await agent.get(f"/api/tickets/{ticket['id']}", headers={"If-None-Match": tag})
        written = await agent.patch(
            f"/api/tickets/{ticket['id']}", json={"title": "Changed"}, headers={"If-Match": tag}
        )

        assert read.status_code == (304 if tag == 'W/"1"' else 200)
        assert written.status_code == 412

    @pytest.mark.parametrize(
        "query",
        [f"{name}={value}" for name in ("q", "tag", "status", "cursor", "createdAfter") for value in ("%00", "%ff")]
        + ["limit=1e9", "limit=٣", "limit=" + "9" * 5000, "createdAfter=0001-01-01T00:00:00%2B14:00", "sort=%24where"]
        + ["q=" + "%22" * 200, "assignedTo[$ne]=x", "status=Open&status=Closed&limit=0"],
    )
    async def test_query_that_cannot_be(self, customer: Caller, query: str) -> None:
        answer = await customer.get(f"/api/tickets?{query}")

        assert answer.status_code in (200, 400, 422), answer.text

    @pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "deep"}])
    @pytest.mark.parametrize("depth", [30, 250, 300, 990, 100_000])
    async def test_deeply_nested_body(self, callers: Callers, depth: int, headers: dict[str, str]) -> None:
        ticket = await open_ticket(callers.customer)
        deep = "[" * depth + "]" * depth
        requests = [
            *(("POST", "/api/tickets", f'{{"{name}": {deep}}}') for name in ("title", "priority", "requester", "tags")),
            *(("PATCH", f"/api/tickets/{ticket['id']}", f'{{"{name}": {deep}}}') for name in ("status", "waitingOn")),
            ("POST", "/api/tickets/bulk", f'{{"ids": ["{ticket["id"]}"], "patch": {{"priority": {deep}}}}}'),
        ]

        for method, path, body in requests:
            for caller in (callers.customer, callers.agent):
                answer = await caller.request(method, path, content=body, headers=headers)

                assert answer.status_code in ((403, 422) if depth <= MAX_LEVELS else (400, 403)), (path, body[:40])

    @pytest.mark.parametrize(
        "value", [10**400, -(10**30), 1e300, "\x00", "\ud800", "a\u202eb", [], {}, [None], True], ids=repr
    )
    @pytest.mark.parametrize("field", ["title", "priority", "requester", "tags"])
    async def test_value_of_another_kind(self, agent: Caller, field: str, value: Any) -> None:
        body = json.dumps({"title": "Printer down", "description": "It stopped", field: value})

        answer = await agent.post("/api/tickets", content=body)

        may_be = (field == "title" and value == "a\u202eb") or (field == "tags" and value == [])
        assert (answer.status_code == 201) == may_be
        assert answer.status_code in (201, 400, 422), answer.text

    @pytest.mark.parametrize("key", ["", '""', " ", "x" * 256, "\x7f", "clé"])
    async def test_idempotency_key_that_is_none(self, customer: Caller, key: str) -> None:
        answer = await customer.post(
            "/api/tickets", json={"title": "T", "description": "D"}, headers={b"Idempotency-Key": key.encode()}
        )

        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_idempotency_key")

    @pytest.mark.parametrize("token", ["", "x", "x" * 8000, "a.b.c", "é", "a b", "ey." * 2000])
    async def test_token_that_is_none(self, nobody: AsyncClient, token: str) -> None:
        answer = await nobody.get("/api/me", headers={b"Authorization": f"Bearer {token}".encode()})

        assert answer.status_code == (403 if token else 401)

    async def test_body_with_a_wrong_type_or_length(self, customer: Caller) -> None:
        for headers in ({"Content-Type": "text/plain"}, {"Content-Type": "application/json;;=,"}, {"Content-Type": ""}):
            answer = await customer.post("/api/tickets", content=b"{}", headers=headers)
            assert answer.status_code in (415, 422)
        for content in (b"", b"\xff", b"\x00", b"null", b'"x"', b"[]", b"{", b"NaN"):
            answer = await customer.post("/api/tickets", content=content)
            assert answer.status_code in (400, 422)
