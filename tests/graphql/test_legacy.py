"""What clients of the original service send and expect, word for word (contract S10)."""

from typing import Any

import pytest
from graphql import build_schema, print_type

from app.graphql.schema import sdl
from tests.callers import Caller
from tests.graphql.asking import PATH, counts, data, refusal

ORIGINAL = build_schema("""
  type Ticket { id: ID! title: String! description: String! status: String! priority: String! }
  input TicketInput { title: String! description: String! priority: String }
  type Query { tickets: [Ticket!]! }
  type Mutation { createTicket(ticketInput: TicketInput): Ticket }
""")
PRESENT = build_schema(sdl())
FIELDS = "id title description status priority"
LIST = f"query {{ tickets {{ {FIELDS} }} }}"
CREATE = f"mutation Create($input: TicketInput) {{ createTicket(ticketInput: $input) {{ {FIELDS} }} }}"


class TestSchema:
    @pytest.mark.parametrize("name", ["Ticket", "TicketInput", "Query", "Mutation"])
    def test_has_all_of_the_original(self, name: str) -> None:
        original: Any = ORIGINAL.type_map[name]
        present: Any = PRESENT.type_map[name]

        for field, definition in original.fields.items():
            assert str(present.fields[field].type) == str(definition.type), print_type(present)

    def test_arguments_and_inputs_ask_for_no_more_than_the_original(self) -> None:
        create: Any = PRESENT.mutation_type.fields["createTicket"] if PRESENT.mutation_type else None
        tickets: Any = PRESENT.query_type.fields["tickets"] if PRESENT.query_type else None
        ticket_input: Any = PRESENT.type_map["TicketInput"]

        assert {name: str(argument.type) for name, argument in create.args.items()} == {"ticketInput": "TicketInput"}
        assert not any(str(argument.type).endswith("!") for argument in tickets.args.values())
        required = {name for name, field in ticket_input.fields.items() if str(field.type).endswith("!")}
        assert required == {"title", "description"}


class TestRequests:
    async def test_list(self, customer: Caller) -> None:
        assert await data(customer, LIST) == {"tickets": []}

    async def test_create_with_an_inline_input(self, customer: Caller) -> None:
        text = f'mutation {{ createTicket(ticketInput: {{title: "T", description: "D"}}) {{ {FIELDS} }} }}'

        answer = await customer.post(PATH, json={"query": text})

        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        created = answer.json()["data"]["createTicket"]
        assert created == {
            "id": created["id"], "title": "T", "description": "D", "status": "Open", "priority": "Medium"
        }  # fmt: skip
        assert await data(customer, LIST) == {"tickets": [created]}

    async def test_create_with_variables(self, customer: Caller) -> None:
        wanted = {"title": "T", "description": "D", "priority": "High"}

        created = (await data(customer, CREATE, input=wanted))["createTicket"]

        assert {name: created[name] for name in wanted} == wanted

    @pytest.mark.parametrize(
        "text",
        [
            "mutation { createTicket { id } }",
            "mutation { createTicket(ticketInput: null) { id } }",
            "mutation ($input: TicketInput) { createTicket(ticketInput: $input) { id } }",
        ],
    )
    async def test_create_without_an_input_is_an_error_and_no_crash(self, customer: Caller, text: str) -> None:
        extensions = await refusal(customer, text)

        assert extensions["code"] == "invalid_input"
        assert extensions["errors"] == [{"field": "ticketInput", "code": "required", "message": "must be given"}]
        assert await counts() == [0, 0, 0]

    async def test_a_list_is_never_without_a_bound(self, agent: Caller) -> None:
        for limit in (0, -1, 101, 2**31 - 1):
            extensions = await refusal(agent, f"{{ tickets(limit: {limit}) {{ id }} }}")
            assert (extensions["code"], extensions["errors"][0]["field"]) == ("invalid_input", "limit")
        for legal in ("null", "1", "100"):
            assert await data(agent, f"{{ tickets(limit: {legal}) {{ id }} }}") == {"tickets": []}
