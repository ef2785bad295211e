"""Documents that ask for too much, or are made to hurt: each refused by name, at once, the database not asked."""

import time
from itertools import cycle, islice
from typing import Any

import pytest
from graphql import get_introspection_query, parse

from app.graphql.cost import MAX_COST, USUAL_SIZE
from app.graphql.errors import MAX_FINDINGS, MAX_MESSAGE, Refused
from app.graphql.limits import MAX_ALIASES, MAX_DEPTH, MAX_MUTATIONS, fragments_of, root_fields
from app.graphql.operations import MAX_TOKENS, MAX_VALUES, Asked, check_operation
from app.graphql.routes import BY_POST
from tests.callers import Caller
from tests.conftest import COMMANDS
from tests.graphql.asking import counts, data, post

# Of the processor's time, since what else a busy machine does is no fault of ours.
PATIENCE_S = 2.0
LEAF = "fragment leaf on Ticket { id }"
FIELDS = "id title status priority createdAt updatedAt version tags"


def chain(length: int) -> str:
    """Fragments, each spread in the one before."""
    links = [f"fragment f{n} on Ticket {{ ...f{n + 1} }}" for n in range(length)]
    return " ".join(["{ tickets { ...f0 } }", *links, f"fragment f{length} on Ticket {{ id }}"])


def deep(levels: int) -> str:
    """A valid, cheap query of so many levels."""
    names = ["tickets(limit: 1)", *islice(cycle(("history(first: 1)", "edges", "node", "ticket")), levels - 2)]
    return "{" + " {".join([*names, "__typename"]) + "}" * levels


def doubled(body: str) -> str:
    """Fragments, each spread twice in the one before: what the first holds of the last doubles with each."""
    links = [f"fragment f{n} on Ticket {{ {body} ...f{n + 1} ...f{n + 1} }}" for n in range(100)]
    return " ".join(["{ tickets { ...f0 } }", *links, "fragment f100 on Ticket { id }"])


def in_one_place(number: int, body: str) -> str:
    """So many fragments, all spread beside one another."""
    spreads = " ".join(f"...f{n}" for n in range(number))
    fragments = " ".join(f"fragment f{n} on Ticket {{ {body} }}" for n in range(number))
    return f"{{ tickets(limit: 1) {{ {spreads} }} }} {fragments}"


def nested(depth: int, name: str = "a") -> str:
    return f"{{ {name} " * depth + "}" * depth


SPREAD_MUTATIONS = """mutation { ...a ...b m: deleteTicket(id: 1) }
  fragment a on Mutation { a: deleteTicket(id: 1) x: __typename }
  fragment b on Mutation { ...a c: deleteTicket(id: 1) ... { d: deleteTicket(id: 1) e: deleteTicket(id: 1) } }"""
ABUSE: dict[str, tuple[str, str]] = {
    "depth": (deep(MAX_DEPTH + 1), "graphql_too_deep"),
    "depth in a fragment": (
        "{ tickets(limit: 1) { ...f } } fragment f on Ticket" + deep(MAX_DEPTH + 1).partition(")")[2][:-1],
        "graphql_too_deep",
    ),
    "braces without end": ("{ tickets " + nested(600) + "}", "graphql_too_deep"),
    "a list of lists of lists": ("{ tickets(limit: " + "[" * 900 + "]" * 900 + ") { id } }", "graphql_too_deep"),
    "inline fragments without end": ("{ tickets " + "{ ... " * 400 + "{ id }" + "}" * 401, "graphql_too_deep"),
    "types of types": ("{ __schema { types " + "{ ofType " * 300 + "{ name }" + "}" * 302, "graphql_too_deep"),
    "aliases": (
        "{" + " ".join(f"a{n}: me {{ id }}" for n in range(MAX_ALIASES + 1)) + "}",
        "graphql_too_many_aliases",
    ),
    "aliases in fragments": (
        "{ a: me { ...f } b: me { ...f } c: me { ...f } } fragment f on User {"
        + " ".join(f"a{n}: id" for n in range(10)) + "}",
        "graphql_too_many_aliases",
    ),
    "aliases doubled by fragments": (doubled("a: id"), "graphql_too_many_aliases"),
    "one field again and again": ("{ tickets {" + "sla { policy } " * 300 + "} }", "graphql_too_many_aliases"),
    "one field in many inline fragments": ("{ tickets {" + "... { id } " * 300 + "} }", "graphql_too_many_aliases"),
    "fragments of one object": (in_one_place(162, "requester { id }"), "graphql_too_complex"),
    "fragments of one field": (in_one_place(200, "id"), "graphql_too_complex"),
    "fragments of the same fields": (in_one_place(121, FIELDS), "graphql_too_complex"),
    "tokens": ("{ tickets {" + "id " * MAX_TOKENS + "} }", "graphql_too_many_tokens"),
    "comments": ("{ tickets { id } }" + "#\n" * MAX_TOKENS, "graphql_too_many_tokens"),
    "directives": ("{ tickets { id " + "@skip(if: false) " * 400 + "} }", "graphql_too_many_tokens"),
    "arguments": ("{ tickets(" + "limit: 1 " * 700 + ") { id } }", "graphql_too_many_tokens"),
    "mutations": (
        "mutation {" + " ".join(f"m{n}: deleteTicket(id: 1)" for n in range(MAX_MUTATIONS + 1)) + "}",
        "graphql_too_many_mutations",
    ),
    "mutations in fragments": (SPREAD_MUTATIONS, "graphql_too_many_mutations"),
    "cost": (
        "{ tickets(limit: 100) { history(first: 100) { edges { node { id } } } } }",
        "graphql_too_costly",
    ),
    "cost doubled by fragments": (doubled("title"), "graphql_too_costly"),
    "fragments in a circle": (
        "{ tickets { ...a } } fragment a on Ticket { id ...b } fragment b on Ticket { id ...a }",
        "graphql_validation_failed",
    ),
    "a fragment in itself": ("{ tickets { ...a } } fragment a on Ticket { id ...a }", "graphql_validation_failed"),
    "a circle through a field": (
        "{ tickets { ...a } } fragment a on Ticket { history { edges { node { ticket { ...a } } } } }",
        "graphql_validation_failed",
    ),
    "unknown fragment": ("{ tickets { ...a } }", "graphql_validation_failed"),
    "types of fields of types": (
        "{ __schema { types { fields { type { fields { type { fields { name } } } } } } } }",
        "graphql_validation_failed",
    ),
    "variables that are not used": (
        "query (" + " ".join(f"$v{n}: Int" for n in range(450)) + ") { tickets { id } }",
        "graphql_validation_failed",
    ),
    "members that are not known": (
        "{ ticketConnection(filter: {" + " ".join(f"k{n}: 1" for n in range(620)) + "}) { edges { cursor } } }",
        "graphql_validation_failed",
    ),
    "members that are not known beside a long list": (
        "{ ticketConnection(filter: {" + " ".join(f"k{n}: 1" for n in range(50))
        + " k: [" + "1 " * 1_700 + "]}) { edges { cursor } } }",
        "graphql_validation_failed",
    ),
    "operations": (
        " ".join(f"query q{n} {{ tickets {{ id }} }}" for n in range(200)),
        "graphql_unknown_operation",
    ),
    "a name without end": ("{ " + "x" * 900_000 + " }", "graphql_validation_failed"),
    "nothing but fragments": (LEAF, "graphql_unknown_operation"),
    "no GraphQL": ("{ tickets", "graphql_parse_failed"),
    "not even words": ("\x00\ufffe", "graphql_parse_failed"),
}  # fmt: skip


@pytest.mark.parametrize("name", ABUSE)
async def test_abuse_is_refused_by_name_at_once_and_unexecuted(agent: Caller, name: str) -> None:
    text, code = ABUSE[name]
    COMMANDS.names.clear()
    started = time.process_time()

    answer = await post(agent, text)

    assert time.process_time() - started < PATIENCE_S
    assert {error["extensions"]["code"] for error in answer.json()["errors"]} == {code}
    assert "data" not in answer.json()
    assert COMMANDS.names == ["aggregate"], "nothing but the caller was looked up"
    assert len(answer.json()["errors"]) <= MAX_FINDINGS + 1, "and that there are more"
    assert all(len(error["message"]) <= MAX_MESSAGE for error in answer.json()["errors"])
    assert await counts() == [0, 0, 0]


class TestWithinTheLimits:
    async def test_depth(self, agent: Caller) -> None:
        assert deep(MAX_DEPTH).count("{") == MAX_DEPTH
        assert await data(agent, deep(MAX_DEPTH)) == {"tickets": []}

    async def test_aliases(self, agent: Caller) -> None:
        answer = await data(agent, "{" + " ".join(f"a{n}: me {{ id }}" for n in range(MAX_ALIASES)) + "}")

        assert len(answer) == MAX_ALIASES

    async def test_mutations(self, agent: Caller) -> None:
        fields = (f'm{n}: createTicket(ticketInput: {{title: "T", description: "D"}}) {{ id }}' for n in range(4))

        assert len(await data(agent, "mutation { __typename " + " ".join(fields) + "}")) == MAX_MUTATIONS + 1
        assert (await counts())[0] == MAX_MUTATIONS

    async def test_tokens(self, agent: Caller) -> None:
        rest = "{ me { id } }"
        text = rest + "#\n" * (MAX_TOKENS - 6)

        assert "me" in await data(agent, text)
        assert (await post(agent, text + "#\n")).json()["errors"][0]["extensions"]["code"] == "graphql_too_many_tokens"

    async def test_a_field_in_many_fragments_is_one_field(self, agent: Caller) -> None:
        fragments = " ".join(f"fragment f{n} on User {{ id username }}" for n in range(100))

        answer = await data(agent, "{ me {" + " ".join(f"...f{n}" for n in range(100)) + "} }" + fragments)

        assert answer["me"].keys() == {"id", "username"}

    @pytest.mark.parametrize("body", [FIELDS, "id title status priority createdAt requester { id username }"])
    async def test_fifty_fragments_in_one_place(self, agent: Caller, body: str) -> None:
        assert await data(agent, in_one_place(50, body)) == {"tickets": []}

    async def test_a_tree_of_forty_fragments(self, agent: Caller) -> None:
        """As clients make them that give each component of a page its own."""
        children = [" ".join(f"...f{child}" for child in range(3 * n + 1, 3 * n + 4) if child < 40) for n in range(40)]
        fragments = [f"fragment f{n} on Ticket {{ __typename {FIELDS} {children[n]} }}" for n in range(40)]

        assert await data(agent, "{ tickets { ...f0 } } " + " ".join(fragments)) == {"tickets": []}

    async def test_a_long_chain_of_fragments(self, agent: Caller) -> None:
        assert await data(agent, chain(40)) == {"tickets": []}
        answer = await post(agent, chain(235))
        assert answer.status_code == 200
        assert answer.json().get("data") == {"tickets": []} or "errors" in answer.json()

    @pytest.mark.parametrize("options", [{}, {"schema_description": True, "specified_by_url": True}])
    async def test_the_whole_schema(self, customer: Caller, options: dict[str, bool]) -> None:
        text = get_introspection_query(directive_is_repeatable=True, input_value_deprecation=True, **options)

        answer = await data(customer, text)

        assert {"Ticket", "User", "Event"} <= {kind["name"] for kind in answer["__schema"]["types"]}

    def test_root_fields_are_counted_by_their_name_in_the_answer(self) -> None:
        document = parse("mutation { a: x ...f __typename ... { x } x } fragment f on Mutation { a: x b: x ...f ...g }")
        definition: Any = document.definitions[0]

        assert root_fields(definition, fragments_of(document)) == {"a", "b", "x"}


def cost(text: str, **variables: Any) -> int:
    return check_operation(Asked(text, variables, None), BY_POST).cost


class TestCost:
    """One point for each field of the answer, and one for each item of a list."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("{ me { id } }", 2),
            ("{ __typename }", 1),
            ("{ tickets { id } }", 1 + 50 * 2),
            ("{ tickets(limit: null) { id } }", 1 + 50 * 2),
            ("{ tickets(limit: 3) { id requester { name } } }", 1 + 3 * (1 + 1 + 2)),
            ("{ tickets(limit: 3) { ...f } } fragment f on Ticket { ... { id } title }", 1 + 3 * 3),
            ("{ tickets(limit: 3) { tags watchers { id } } }", 1 + 3 * (1 + 1 + 1 + USUAL_SIZE * 2)),
            ("{ ticketConnection(first: 7) { pageInfo { endCursor } edges { cursor node { id } } } }",
             1 + 2 + 1 + 7 * (1 + 1 + 2)),
            ("{ ticketConnection(first: 7) { ...e } } fragment e on TicketConnection { edges { cursor } }",
             1 + 1 + 7 * 2),
            ("{ tickets(limit: 2) { history(first: 3) { edges { node { id } } } } }",
             1 + 2 * (1 + 1 + 1 + 3 * (1 + 2))),
            ("{ a: tickets(limit: 2) { id } b: tickets(limit: 3) { id } }", 1 + 2 * 2 + 1 + 3 * 2),
            ("{ tickets(limit: 9999) { id } }", 1 + 100 * 2),
            ("{ tickets(limit: -5) { id } }", 1),
        ],
    )  # fmt: skip
    def test_is_what_the_answer_may_hold(self, text: str, expected: int) -> None:
        assert cost(text) == expected

    def test_counts_with_the_variables(self) -> None:
        text = "query ($n: Int, $m: Int = 4) { tickets(limit: $n) { history(first: $m) { edges { cursor } } } }"

        for variables, n, m in (
            ({}, 50, 4),
            ({"n": 2}, 2, 4),
            ({"n": 2, "m": 5}, 2, 5),
            ({"n": None, "m": None}, 50, 50),
        ):
            assert cost(text, **variables) == 1 + n * (1 + 1 + 1 + m * 2)

    def test_has_a_ceiling(self) -> None:
        text = "query ($n: Int!) { tickets(limit: $n) { history(first: 100) { edges { cursor } } } }"
        assert cost(text, n=98) == 1 + 98 * 203

        with pytest.raises(Refused) as refused:
            cost(text, n=99)

        [error] = refused.value.errors
        assert isinstance(error.original_error, Exception)
        assert getattr(error.original_error, "extra", None) == {"cost": 1 + 99 * 203, "maxCost": MAX_COST}

    async def test_is_told_with_every_answer_that_was_executed(self, agent: Caller) -> None:
        answers = [
            await post(agent, "{ me { id } }"),
            await post(agent, '{ ticket(id: "0") { id } }'),
            await post(agent, 'mutation { deleteTicket(id: "0") }'),
        ]

        assert [answer.json()["extensions"] for answer in answers] == [{"cost": 2}, {"cost": 2}, {"cost": 1}]
        assert "extensions" not in (await post(agent, "{ x }")).json()

    async def test_what_is_too_costly_says_how_much(self, agent: Caller) -> None:
        text, _ = ABUSE["cost"]

        [error] = (await post(agent, text)).json()["errors"]

        assert error["extensions"]["cost"] == 1 + 100 * (1 + 1 + 1 + 100 * 3)
        assert error["extensions"]["maxCost"] == MAX_COST


class TestVariables:
    FILTER = "query ($f: TicketFilter) { ticketConnection(filter: $f) { edges { cursor } } }"
    BULK = "mutation ($ids: [ID!]!) { bulkUpdateTickets(ids: $ids, patch: {}) { id } }"

    @pytest.mark.parametrize(
        ("text", "variables"),
        [
            (FILTER, {"f": {f"k{n}": 1 for n in range(50_000)}}),
            (FILTER, {"f": {"status": ["x"] * 100_000}}),
            (FILTER, {"other": [[]] * 100_000}),
            (FILTER, {"f": {f"k{n}": 1 for n in range(MAX_VALUES - 1)}}),
            (FILTER, {"f": {"x": 1}}),
            (FILTER, {"f": "x"}),
            (FILTER, {"f": {"status": {"$ne": ""}}}),
            (BULK, {"ids": ["x"] * 200_000}),
            (BULK, {"ids": [{}] * 100}),
            (BULK, {"ids": None}),
            (BULK, {}),
        ],
        ids=lambda value: str(value)[:40],
    )
    async def test_that_do_not_fit_are_refused_at_once(
        self, agent: Caller, text: str, variables: dict[str, Any]
    ) -> None:
        COMMANDS.names.clear()
        started = time.process_time()

        answer = await post(agent, text, **variables)

        assert time.process_time() - started < PATIENCE_S
        assert {error["extensions"]["code"] for error in answer.json()["errors"]} == {"graphql_invalid_variables"}
        assert len(answer.json()["errors"]) <= MAX_FINDINGS + 1
        assert COMMANDS.names == ["aggregate"]

    @pytest.mark.parametrize("depth", [100, 240, 1000, 100_000])
    async def test_nested_deeply(self, agent: Caller, depth: int) -> None:
        variables = '{"f":' * depth + "1" + "}" * depth
        body = '{"query": "query ($f: TicketFilter) { ticketConnection(filter: $f) { edges { cursor } } }", '

        for headers in ({}, {"Idempotency-Key": "k"}):
            answer = await agent.post(
                "/graphql",
                content=f'{body}"variables": {variables}}}',
                headers={"Content-Type": "application/json", **headers},
            )
            codes = {error["extensions"]["code"] for error in answer.json()["errors"]}
            assert codes <= {"graphql_invalid_variables", "malformed_json"}

    @pytest.mark.parametrize("depth", [100, 300, 1000])
    async def test_nested_deeply_and_unused(self, agent: Caller, depth: int) -> None:
        body = f'{{"query": "{{ tickets {{ id }} }}", "variables": {{"f": {"[" * depth}{"]" * depth}}}}}'

        answer = await agent.post("/graphql", content=body, headers={"Content-Type": "application/json"})

        assert [error["extensions"]["code"] for error in answer.json()["errors"]] == ["malformed_json"]

    async def test_more_ids_than_rest_takes(self, agent: Caller) -> None:
        answer = await post(agent, self.BULK, ids=["6740a1f0c3b2a1d4e5f60720"] * 101)

        assert answer.json()["errors"][0]["extensions"]["code"] == "invalid_input"
