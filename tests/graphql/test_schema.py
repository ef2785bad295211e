"""The schema as clients get it: served to everybody, described, remembered."""

from typing import Any

import pytest
from graphql import GraphQLInputObjectType, GraphQLObjectType, build_schema, is_specified_scalar_type
from httpx import AsyncClient

from app.graphql import operations
from app.graphql.cost import CostOf
from app.graphql.operations import MAX_REMEMBERED, MAX_REMEMBERED_LENGTH, Asked, _remembered, check_operation
from app.graphql.routes import BY_POST
from app.graphql.schema import SCHEMA, sdl
from app.tickets.schemas import SlaOut, TicketOut, TicketPatch
from tests.callers import Caller
from tests.graphql.asking import post

# Names that say all there is to say; whoever adds to these has looked.
PLAIN = set(
    """id username role name email title description tags createdAt updatedAt resolvedAt closedAt at ticketId actor
    policy firstResponseDueAt resolutionDueAt firstResponseBreached resolutionBreached pausedMs commentCount
    attachmentCount edges node pageInfo hasNextPage hasPreviousPage field code message detail sla filter patch
    ticketInput""".split()
)
TYPES: dict[str, Any] = {
    name: kind
    for name, kind in SCHEMA.type_map.items()
    if not name.startswith("__") and not is_specified_scalar_type(kind)
}


class TestText:
    async def test_is_served_without_a_token(self, nobody: AsyncClient) -> None:
        answer = await nobody.get("/graphql/schema.graphql")

        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert answer.text == sdl()
        assert build_schema(answer.text).type_map.keys() >= TYPES.keys()


class TestDescriptions:
    @pytest.mark.parametrize("name", sorted(set(TYPES) - {"Query", "Mutation", "Subscription"}))
    def test_of_types(self, name: str) -> None:
        assert TYPES[name].description

    @pytest.mark.parametrize(
        "kind",
        [kind for kind in TYPES.values() if isinstance(kind, GraphQLObjectType | GraphQLInputObjectType)],
        ids=str,
    )
    def test_of_fields_and_arguments(self, kind: Any) -> None:
        fields = {name: field for name, field in kind.fields.items() if not field.description}
        arguments = {
            name
            for field in kind.fields.values()
            for name, argument in getattr(field, "args", {}).items()
            if not argument.description
        }

        assert (set(fields) | arguments) - PLAIN == set()


class TestTypes:
    """Types and inputs follow REST's models: a field that comes there must come here."""

    def test_ticket_has_the_fields_of_rest(self) -> None:
        names = {field.alias for field in TicketOut.model_fields.values()}

        assert TYPES["Ticket"].fields.keys() == names | {"history"}
        assert TYPES["Sla"].fields.keys() == {field.alias for field in SlaOut.model_fields.values()}

    def test_patch_has_the_fields_of_rest(self) -> None:
        assert TYPES["TicketPatch"].fields.keys() == {field.alias for field in TicketPatch.model_fields.values()}


IN_A_FRAGMENT = """query ($n: Int) { tickets(limit: 3) { ...f } }
  fragment f on Ticket { history(first: $n) { ...g } } fragment g on EventConnection { edges { cursor } }"""


class TestMemory:
    """Documents are understood once; a bounded number of them is remembered."""

    def test_a_document_is_understood_once(self) -> None:
        _remembered.cache_clear()
        asked = Asked("query ($n: Int) { tickets(limit: $n) { id } }", {"n": 1}, None)

        first = check_operation(asked, BY_POST)
        again = check_operation(Asked(asked.text, {"n": 2}, None), BY_POST)

        assert again.document is first.document
        assert (first.cost, again.cost) == (3, 5)
        assert (_remembered.cache_info().hits, _remembered.cache_info().misses) == (1, 1)

    @pytest.mark.parametrize(
        ("text", "variables", "reckoned"),
        [
            ("{ tickets(limit: 7) { id } }", [{}, {}, {"x": 1}], 1),
            ("query ($s: String) { users(first: 7, role: $s) { edges { cursor } } }", [{"s": "Agent"}, {}], 1),
            ("query ($n: Int) { tickets(limit: $n) { id } }", [{"n": 7}, {"n": 8}, {"n": 7}, {}], 4),
            (IN_A_FRAGMENT, [{"n": 2}, {"n": 3}], 2),
        ],
    )
    def test_a_cost_is_reckoned_again_only_where_variables_matter(
        self, monkeypatch: pytest.MonkeyPatch, text: str, variables: list[dict[str, Any]], reckoned: int
    ) -> None:
        _remembered.cache_clear()
        made: list[object] = []

        class Reckoning(CostOf):
            def __init__(self, *given: Any) -> None:
                made.append(self)
                super().__init__(*given)

        monkeypatch.setattr(operations, "CostOf", Reckoning)
        for given in variables:
            known = check_operation(Asked(text, given, None), BY_POST)
            anew = check_operation(Asked(text + " " * MAX_REMEMBERED_LENGTH, given, None), BY_POST)
            assert (known.cost, known.root_fields) == (anew.cost, anew.root_fields)

        assert len(made) - len(variables) == reckoned

    def test_operations_of_one_document_are_told_apart(self) -> None:
        text = "query a { me { id } } query b { x: me { id name } y: me { id } }"

        found = [check_operation(Asked(text, {}, name), BY_POST) for name in ("a", "b", "a", "b")]

        assert [(operation.cost, {*operation.root_fields}) for operation in found] == [(2, {"me"}), (5, {"x", "y"})] * 2

    async def test_errors_are_remembered_too_and_told_anew(self, agent: Caller) -> None:
        _remembered.cache_clear()

        answers = [await post(agent, "{ x }", {"X-Request-ID": f"r{n}"}) for n in range(3)]

        assert [a.json()["errors"][0]["extensions"]["requestId"] for a in answers] == ["r0", "r1", "r2"]
        assert _remembered.cache_info().misses == 1

    def test_is_bounded(self) -> None:
        _remembered.cache_clear()
        for number in range(MAX_REMEMBERED + 20):
            check_operation(Asked(f"{{ me {{ a{number}: id }} }}", {}, None), BY_POST)
        full = _remembered.cache_info()

        check_operation(Asked("{ me { id } }" + " " * 10_000, {}, None), BY_POST)

        assert full.currsize == MAX_REMEMBERED
        assert _remembered.cache_info() == full, "a large document is not remembered"
