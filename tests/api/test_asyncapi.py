"""The AsyncAPI document: sound, complete, and true of the frames; that it is fresh, test_openapi.py asks for all."""

from collections.abc import Iterator
from typing import Any

import pytest
from httpx import AsyncClient
from jsonschema_rs import Draft7Validator, ValidationError

from app.main import VERSION
from app.main import app as application
from app.platform.errors import InvalidInput
from app.realtime import protocol
from app.realtime.protocol import PARAMETERS, AuthFrame, CloseCode, Ending
from app.realtime.schemas import CURSOR_EXAMPLE
from app.tickets.schemas import EVENT_EXAMPLE, TICKET_EXAMPLE
from tests.frames import DOCUMENT, check_frame, message_validator

MESSAGES: dict[str, Any] = DOCUMENT["components"]["messages"]
SOCKET = DOCUMENT["channels"]["socket"]
EXAMPLES = [(name, example["payload"]) for name, message in MESSAGES.items() for example in message["examples"]]
# They belong to the WebSocket at /graphql.
GRAPHQL_ONLY = {"NO_SUBPROTOCOL", "SAME_ID"}
EVENT: dict[str, Any] = {
    "type": "event",
    "cursor": CURSOR_EXAMPLE,
    "event": {**EVENT_EXAMPLE, "cursor": CURSOR_EXAMPLE},
}


def references(node: Any) -> Iterator[str]:
    """Every `$ref` below the node; inside examples there are none."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolved(reference: str) -> Any:
    node: Any = DOCUMENT
    start, *parts = reference.split("/")
    assert start == "#"
    for part in parts:
        node = node[part]
    return resolved(node["$ref"]) if "$ref" in node else node


class TestDocument:
    def test_says_what_it_describes(self) -> None:
        assert DOCUMENT["asyncapi"] == "3.0.0"
        assert DOCUMENT["info"]["version"] == VERSION == application.version
        assert {server["protocol"] for server in DOCUMENT["servers"].values()} == {"ws", "http"}
        assert {channel["address"] for channel in DOCUMENT["channels"].values()} == {"/ws", "/api/events/stream"}

    def test_every_reference_leads_somewhere(self) -> None:
        assert set(map(str, references(DOCUMENT))) >= {"#/components/schemas/EventFrame", "#/servers/socket"}
        for reference in references(DOCUMENT):
            resolved(reference)

    def test_every_component_is_used(self) -> None:
        used = set(references(DOCUMENT))
        components = {f"#/components/{kind}/{name}" for kind, all_ in DOCUMENT["components"].items() for name in all_}

        assert components - used == set()

    def test_operations_have_messages_of_their_channel_only(self) -> None:
        for operation in DOCUMENT["operations"].values():
            for part in filter(None, [operation, operation.get("reply")]):
                own = f"{part['channel']['$ref']}/messages/"
                assert part["messages"]
                assert [m["$ref"] for m in part["messages"] if not m["$ref"].startswith(own)] == []

    def test_schemas_are_those_of_the_openapi_document(self) -> None:
        shared = application.openapi()["components"]["schemas"]

        for name in ("EventOut", "TicketOut", "EventType", "SlaOut"):
            assert str(DOCUMENT["components"]["schemas"][name]) == str(shared[name])

    def test_schemas_are_valid_themselves(self) -> None:
        for schema in (*DOCUMENT["components"]["schemas"].values(), SOCKET["bindings"]["ws"]["query"]):
            Draft7Validator({**schema, "components": DOCUMENT["components"]})

    def test_names_every_way_to_say_who_it_is_and_what_it_wants(self) -> None:
        query = SOCKET["bindings"]["ws"]["query"]["properties"]
        schemes = {
            reference["$ref"].rpartition("/")[2]: resolved(reference["$ref"])["type"]
            for reference in DOCUMENT["operations"]["sendToSocket"]["security"]
        }

        assert query.keys() == {*PARAMETERS, "ticket"}
        assert SOCKET["bindings"]["ws"]["headers"]["properties"].keys() == {"Authorization"}
        assert schemes == {"header": "http", "ticket": "httpApiKey", "message": "apiKey"}

    def test_says_of_every_close_code_why_and_what_then(self) -> None:
        codes = SOCKET["x-close-codes"]
        endings = [value for value in vars(protocol).values() if isinstance(value, Ending)]

        assert codes.keys() == {str(int(code)) for code in CloseCode if code.name not in GRAPHQL_ONLY}
        assert len(endings) >= 12
        for ending in endings:
            assert ending.reason in codes[str(int(ending.code))]["reasons"]
        assert [code for code, told in codes.items() if not told["client"].endswith(".")] == []

    async def test_the_service_serves_it_to_anybody(self, nobody: AsyncClient) -> None:
        answer = await nobody.get("/asyncapi.json")

        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
        assert answer.json() == DOCUMENT


class TestMessages:
    def test_every_frame_of_the_protocol_is_one(self) -> None:
        frames = {name for name in vars(protocol) if name.endswith("Frame")}

        assert {message["payload"]["$ref"].rpartition("/")[2] for message in MESSAGES.values()} == frames

    @pytest.mark.parametrize(("name", "example"), EXAMPLES)
    def test_examples_fit_their_own_message_and_no_other(self, name: str, example: dict[str, Any]) -> None:
        assert [other for other in MESSAGES if message_validator(other).is_valid(example)] == [name]

    def test_examples_of_what_clients_send_are_understood(self) -> None:
        sent = [example for name, example in EXAMPLES if name == "auth"]

        assert [AuthFrame.parse(example).type for example in sent] == ["auth", "auth"]
        with pytest.raises(InvalidInput):
            AuthFrame.parse({**sent[0], "sinse": ""})


class TestCheckFrame:
    def test_lets_the_services_frames_pass(self) -> None:
        for name, example in EXAMPLES:
            if name != "auth":
                check_frame(example)

    @pytest.mark.parametrize(
        "frame",
        [
            {"type": "ready"},
            {"type": "ready", "cursor": None},
            {"type": "ready", "cursor": "x", "more": 1},
            {**EVENT, "event": {**EVENT["event"], "at": "yesterday"}},
            {**EVENT, "event": {**EVENT["event"], "type": "ticket.lost"}},
            {**EVENT, "event": {**EVENT["event"], "actor": {"id": EVENT_EXAMPLE["id"]}}},
            {**EVENT, "event": {**EVENT["event"], "ticket": {**TICKET_EXAMPLE, "deletedAt": None}}},
            {**EVENT, "event": {**EVENT["event"], "ticket": {**TICKET_EXAMPLE, "version": "1"}}},
        ],
    )
    def test_refuses_others(self, frame: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            check_frame(frame)

    @pytest.mark.parametrize("kind", ["auth", "pong"])
    def test_refuses_what_the_service_never_says(self, kind: str) -> None:
        with pytest.raises(KeyError):
            check_frame({"type": kind, "token": "x"})
