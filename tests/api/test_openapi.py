"""The OpenAPI document: complete, sound, fresh, and true of what the service answers."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema_rs
import pytest
from httpx import AsyncClient
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from app.main import TAGS, app
from app.platform.errors import Code
from app.platform.openapi import _models
from tests.callers import Callers
from tests.factories.tickets import open_ticket

CHECKOUT = Path(__file__).parents[2]
DOCUMENT: dict[str, Any] = json.loads(json.dumps(app.openapi()))
JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
# What needs no token; whoever adds to these knows what they do.
PUBLIC = {"register", "login", "completeLogin", "refreshToken", "forgotPassword", "resetPassword"}
PUBLIC |= {"getHealth", "getReadiness"}
# Their callers are known by a signature.
PUBLIC |= {"unsubscribe", "recordMailEvents"}


class Operation(NamedTuple):
    method: str
    path: str
    spec: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def answers(self) -> dict[int, dict[str, Any]]:
        return {int(status): answer for status, answer in self.spec["responses"].items()}


OPERATIONS = [
    Operation(method, path, spec) for path, methods in DOCUMENT["paths"].items() for method, spec in methods.items()
]
each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=str)


def check(value: Any, schema: dict[str, Any]) -> None:
    """Validates against a schema of the document, its references included."""
    jsonschema_rs.validator_for({**schema, "components": DOCUMENT["components"]}).validate(value)


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


class TestDocument:
    def test_is_sound_openapi_3_1(self) -> None:
        assert DOCUMENT["openapi"].startswith("3.1.")
        OPENAPI_31_VALIDATOR.validate(DOCUMENT)

    def test_every_reference_leads_somewhere(self) -> None:
        known = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}

        assert set(references(DOCUMENT)) - known == set()

    def test_every_schema_is_used(self) -> None:
        used = {reference.rpartition("/")[2] for reference in references(DOCUMENT)}

        assert DOCUMENT["components"]["schemas"].keys() - used == set()

    def test_operation_ids_are_unique(self) -> None:
        ids = [operation.spec["operationId"] for operation in OPERATIONS]

        assert sorted(set(ids)) == sorted(ids)

    def test_only_what_is_public_needs_no_token(self) -> None:
        without = {operation.spec["operationId"] for operation in OPERATIONS if "security" not in operation.spec}

        assert without == PUBLIC
        assert DOCUMENT["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"

    def test_the_committed_files_fit_the_code(self) -> None:
        command = [sys.executable, "scripts/documents.py", "--check"]

        run = subprocess.run(command, cwd=CHECKOUT, check=False, capture_output=True, text=True)

        assert run.returncode == 0, run.stderr

    async def test_the_service_serves_it(self, nobody: AsyncClient) -> None:
        answer = await nobody.get("/openapi.json")

        assert answer.json() == DOCUMENT

    def test_patches_have_no_defaults(self) -> None:
        # A generated client would send them.
        patches = {name: schema for name, schema in DOCUMENT["components"]["schemas"].items() if "Patch" in name}

        assert {"TicketPatch", "ProfilePatch", "UserPatch"} <= patches.keys()
        assert [n for n, schema in patches.items() if any("default" in p for p in schema["properties"].values())] == []


class TestOperation:
    @each_operation
    def test_has_name_tag_and_words(self, operation: Operation) -> None:
        spec = operation.spec

        assert re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", spec["operationId"])
        assert len(spec["tags"]) == 1
        assert spec["tags"][0] in {tag["name"] for tag in TAGS}
        assert spec["summary"].endswith(tuple("abcdefghijklmnopqrstuvwxyz"))
        assert "route" not in spec["summary"].lower()
        assert spec["description"].endswith(".")

    @each_operation
    def test_success_has_a_valid_example(self, operation: Operation) -> None:
        successes = {status: answer for status, answer in operation.answers().items() if 200 <= status < 300}

        assert len(successes) == 1
        for status, answer in successes.items():
            assert ("content" in answer) == (status not in {202, 204})
            for media_type, content in answer.get("content", {}).items():
                assert media_type == ("text/event-stream" if operation.spec["operationId"] == "streamEvents" else JSON)
                check(content["example"], content["schema"])

    @each_operation
    def test_body_has_a_valid_example(self, operation: Operation) -> None:
        body = operation.spec.get("requestBody")
        if body is not None:
            content = body["content"][JSON]
            check(content["example"], content["schema"])
            model = next(m for m in _models if m.__name__ == content["schema"]["$ref"].rpartition("/")[2])
            model.parse(content["example"])

    @each_operation
    def test_refusals_are_problems_with_valid_examples(self, operation: Operation) -> None:
        refusals = {status: answer for status, answer in operation.answers().items() if status >= 400}

        assert {500, 503} <= refusals.keys()
        for status, answer in refusals.items():
            assert list(answer["content"]) == [PROBLEM_JSON]
            examples = answer["content"][PROBLEM_JSON]["examples"]
            assert examples
            for code, example in examples.items():
                check(example["value"], answer["content"][PROBLEM_JSON]["schema"])
                assert example["value"]["status"] == status
                assert example["value"]["code"] == code == Code(code)

    @each_operation
    def test_token_and_its_refusals_go_together(self, operation: Operation) -> None:
        codes = {
            code
            for status in (401, 403)
            for code in operation.answers().get(status, {}).get("content", {}).get(PROBLEM_JSON, {}).get("examples", {})
        }

        needs_token = operation.spec.get("security") == [{"bearer": []}]
        assert ("unauthenticated" in codes) == ("invalid_token" in codes) == needs_token

    @each_operation
    def test_refusals_tell_of_their_headers(self, operation: Operation) -> None:
        for code, status, header in (
            ("unauthenticated", 401, "WWW-Authenticate"),
            ("invalid_token", 403, "WWW-Authenticate"),
            ("write_conflict", 409, "Retry-After"),
            ("idempotency_in_progress", 409, "Retry-After"),
            ("version_conflict", 412, "ETag"),
            ("database_unavailable", 503, "Retry-After"),
        ):
            answer = operation.answers().get(status, {})
            if code in answer.get("content", {}).get(PROBLEM_JSON, {}).get("examples", {}):
                assert header in answer["headers"], code

    @each_operation
    def test_path_parameters_are_described(self, operation: Operation) -> None:
        named = set(re.findall(r"{(\w+)}", operation.path))
        described = {p["name"]: p for p in operation.spec.get("parameters", []) if p["in"] == "path"}

        assert described.keys() == named
        assert all(p["required"] and p["description"] and p["schema"]["examples"] for p in described.values())

    @each_operation
    async def test_other_methods_are_refused_with_those_there_are(
        self, operation: Operation, nobody: AsyncClient
    ) -> None:
        answer = await nobody.put(re.sub(r"{\w+}", "1", operation.path))

        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
        assert operation.method.upper() in answer.headers["Allow"].split(", ")


@pytest.mark.parametrize("name", ["createTicket", "updateTicket", "updateTickets", "deleteTicket", "restoreTicket"])
def test_changing_tickets_takes_a_key_that_is_for_it(name: str) -> None:
    (operation,) = (operation for operation in OPERATIONS if operation.spec["operationId"] == name)

    assert "insufficient_scope" in operation.answers()[403]["content"][PROBLEM_JSON]["examples"]


async def test_real_answers_are_as_documented(callers: Callers) -> None:
    admin, customer = callers.admin, callers.customer
    ticket = await open_ticket(customer, tags=["printer"])
    path = f"/api/tickets/{ticket['id']}"
    patch = {"status": "In Progress", "assignedTo": callers.agent.user_id, "waitingOn": "third_party"}
    account = {"username": "dave", "password": "a long passphrase", "role": "Agent", "email": "dave@example.com"}
    answers = [
        ("updateTicket", await callers.agent.patch(path, json=patch)),
        ("createTicket", await admin.post("/api/tickets", json={"title": "T", "description": "D"})),
        ("updateTickets", await admin.post("/api/tickets/bulk", json={"ids": [ticket["id"]], "patch": {"title": "U"}})),
        ("listTickets", await customer.get("/api/tickets?limit=1")),
        ("getTicket", await customer.get(path)),
        ("listTicketEvents", await customer.get(f"{path}/events")),
        ("deleteTicket", await admin.delete(path)),
        ("restoreTicket", await admin.post(f"{path}/restore")),
        ("createUser", await admin.post("/api/users", json=account)),
        ("listUsers", await admin.get("/api/users")),
        ("getUser", await admin.get(f"/api/users/{customer.user_id}")),
        ("updateUser", await admin.patch(f"/api/users/{customer.user_id}", json={"name": "Carol"})),
        ("getMe", await customer.get("/api/me")),
        ("updateMe", await customer.patch("/api/me", json={"email": "c@example.com"})),
        ("login", login := await callers.nobody.post("/api/login", json={k: account[k] for k in list(account)[:2]})),
        (
            "refreshToken",
            await callers.nobody.post("/api/token/refresh", json={"refreshToken": login.json()["refreshToken"]}),
        ),
        ("getHealth", await callers.nobody.get("/healthz")),
        ("getReadiness", await callers.nobody.get("/readyz")),
    ]
    specs = {operation.spec["operationId"]: operation for operation in OPERATIONS}

    for operation_id, answer in answers:
        documented = specs[operation_id].answers()[answer.status_code]
        assert answer.is_success, (operation_id, answer.text)
        assert answer.headers.keys() >= {name.lower() for name in documented.get("headers", {}) if name == "ETag"}
        if answer.status_code != 204:
            check(answer.json(), documented["content"]["application/json"]["schema"])
