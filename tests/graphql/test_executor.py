"""The planned executor answers what graphql-core's own answers, whatever is asked and whatever is found."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import Any

import pytest
from bson import ObjectId
from graphql import Undefined
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis_graphql import from_schema
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from app.graphql import operations
from app.graphql.executor import PlannedExecutor
from app.graphql.plans import MAX_PLANS, Selected, plan_of
from app.platform.wire import Row
from tests.callers import Caller
from tests.factories.tickets import add_tickets, ticket_row
from tests.graphql.asking import data
from tests.graphql.things import SCHEMA, Sources, assert_same, executed, incrementally

MOMENT = datetime(2026, 11, 22, 9, 30, 0, 123_456, UTC)


class Colour(StrEnum):
    RED = "red"


def thing(**members: Any) -> Row:
    return {
        "id": ObjectId("6740a1f0c3b2a1d4e5f60718"),
        "title": "Lamp",
        "size": 3,
        "weight": 1.5,
        "done": True,
        "madeAt": MOMENT,
        "took": 2**40,
        "anything": {"a": [1, None]},
        "tags": ["x", "y"],
        "grid": [[1, None], []],
        "place": {"name": "Attic", "floorNumber": 3},
        "spare": None,
        "places": [{"name": "Here", "floorNumber": None}, None],
        "shop": None,
        "ownShop": None,
        "shops": None,
        "whim": "x",
        "keeper": "Kim",
        **members,
    }


def pages(*things: Any) -> Row:
    return {"edges": [{"cursor": f"c{at}", "node": node} for at, node in enumerate(things)], "count": len(things)}


def sources_of(*things: Any) -> Callable[[], Sources]:
    return lambda: Sources(things=[*things], thing=things[0] if things else None, pages=pages(*things))


PLAIN = "id title size weight done madeAt took anything tags grid place { name floorNumber } spare { name } whim"
DOCUMENTS = {
    "plain": f"{{ things {{ {PLAIN} places {{ name floorNumber }} }} }}",
    "aliases": "{ things { b: title a: title id x: place { n: name name } y: place { floorNumber } } }",
    "typename": "{ __typename things { __typename t: __typename place { __typename } } }",
    "only typename": "{ things { __typename } thing { __typename } }",
    "fragments": """{ things { ...a ...b } thing { ...b ...a } }
      fragment a on Thing { title place { name } } fragment b on Thing { size title place { floorNumber } ...a }""",
    "inline fragments": "{ things { ... { size } ... on Thing { title size } ... { place { ... { name } } } } }",
    "merged": "{ things { title place { name } size title place { floorNumber name } } things { id } }",
    "skipped": """query ($no: Boolean = false, $yes: Boolean = true) { things {
      title @skip(if: $yes) size @include(if: $yes) id @include(if: $no)
      ... @skip(if: $no) { done } place @skip(if: $no) { name @skip(if: $yes) floorNumber }
      title @include(if: $yes) @skip(if: $no) } }""",
    "all skipped": "{ things { title @skip(if: true) } thing { place { name @include(if: false) } size } }",
    "resolvers among plain": "{ things { id loudTitle title slowTitle size keeper { floorNumber name } tags } }",
    "resolvers alone": "{ things { loudTitle } thing { slowTitle } }",
    "arguments": '{ things { title titleIn de: titleIn(language: "de") } }',
    "object": f"{{ thing {{ {PLAIN} keeper {{ name }} }} }}",
    "connection": "{ pages { edges { cursor node { id title place { name } } } count __typename } }",
    "connection with resolvers": "{ pages { count edges { node { id keeper { name } title } cursor } } }",
    "interface": "{ things { title shop { __typename name ... on Shop { street } } } }",
    "types that know their own": "{ things { title ownShop { name } } thing { shops { street } size } }",
    "introspection": '{ things { id } __schema { queryType { name __typename } } __type(name: "ID") { name } }',
}  # fmt: skip
CAUSE = ValueError("kept as a value")
THING_LISTS: dict[str, list[Any]] = {
    "none": [],
    "several": [thing(), thing(id="7", title=Colour.RED, spare={"name": "Den", "floorNumber": 0}), thing(keeper="")],
    "null in a non-null field": [thing(), thing(title=None), thing(place=None), thing(tags=None), thing(tags=[None])],
    "null inside an object": [thing(place={"name": None, "floorNumber": 1}), thing(spare={"name": None}), thing()],
    "missing": [thing(), {"id": "only"}, thing(place={}), thing(places=[{}])],
    "wrong values": [thing(title=[]), thing(size="x"), thing(size=2**31), thing(size=1.5), thing(done="yes"), thing()],
    "other wrong values": [thing(weight=float("nan")), thing(madeAt="today"), thing(took="x"), thing(id=True)],
    "values that are made to fit": [
        thing(
            title=5,
            size=True,
            weight=7,
            done=0,
            id=12,
            took=1.9,
            madeAt=MOMENT.astimezone(timezone(timedelta(hours=1))),
        ),
        thing(title=Decimal(3), size=3.0, weight=Decimal("1.5"), done=1.0, id=Decimal(4), took=True, anything=CAUSE),
        thing(title=True, size="17", weight="2.5", done=None, madeAt=None, took=None, weightless=1, anything=None),
    ],
    "wrong lists": [thing(tags="x"), thing(grid=[1]), thing(grid=[None]), thing(places=7), thing(tags=("a", "b"))],
    "wrong objects": [thing(place="x"), thing(spare=[]), thing(places=[3]), thing(shop={"name": "S"}), thing()],
    "objects of no type": [thing(ownShop={"name": "S", "street": None}), thing(shops=[{"name": "S", "street": None}])],
    "no answers": [thing(whim="null"), thing(whim="undefined")],
    "exceptions as values": [thing(title=CAUSE), thing(spare=CAUSE), thing(anything=CAUSE), thing(grid=[[CAUSE]])],
    "undefined": [thing(title=Undefined), thing(weight=Undefined), thing(spare=Undefined), thing(anything=Undefined)],
    "no things": [thing(), None, thing()],
    "not even objects": [thing(), 3, "x", CAUSE],
}


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("things", THING_LISTS)
async def test_answers_are_the_same(document: str, things: str) -> None:
    await assert_same(DOCUMENTS[document], sources_of(*THING_LISTS[things]))
    for each in THING_LISTS[things]:  # else the first that is wrong would hide the others
        await assert_same(DOCUMENTS[document], sources_of(thing(), each))
        await assert_same(DOCUMENTS[document], sources_of(each))


@pytest.mark.parametrize("yes", [True, False])
@pytest.mark.parametrize("no", [True, False])
async def test_directives_with_variables(*, yes: bool, no: bool) -> None:
    await assert_same(DOCUMENTS["skipped"], sources_of(thing(), thing(title=None)), yes=yes, no=no)


@pytest.mark.parametrize("things", ["x", {"a": 1}, 5, CAUSE, (thing(),), iter([]), None])
async def test_what_is_no_list(things: Any) -> None:
    await assert_same(DOCUMENTS["plain"], lambda: Sources(things=things))


async def test_values_that_are_awaited() -> None:
    def sources() -> Sources:
        ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        ready.set_result("ready")
        waiting = thing(title=ready, id=ready, anything=ready)
        return Sources(things=[thing(), waiting], thing=waiting, pages=pages(waiting))

    for document in ("plain", "object", "connection"):
        assert (await assert_same(DOCUMENTS[document], sources)).errors is None
    await assert_same(DOCUMENTS["resolvers among plain"], sources)


async def test_errors_that_leave_others_unawaited() -> None:
    text = "{ things { keeper { name } slowTitle loudTitle title } }"

    result = await assert_same(text, sources_of(thing(), thing(title=None), thing()))

    assert result.data == {"things": None}


VALUES: list[Any] = [None, "", "x", 0, -1, 2**31, 0.5, True, [], ["a"], [[1]], {}, MOMENT, CAUSE, Undefined]
MEMBERS = st.dictionaries(st.sampled_from([*thing()]), st.sampled_from(VALUES), max_size=2)


@given(text=from_schema(SCHEMA), changes=st.lists(MEMBERS, max_size=4))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
async def test_generated_documents_on_generated_things(text: str, changes: list[Row]) -> None:
    await assert_same(text, sources_of(*(thing(**members) for members in changes)))


class Counting(PlannedExecutor):
    """Keeps the names of what no plan has filled: fields, and items of lists. Each test has a class of its own."""

    unplanned: list[str]
    items: list[str]

    def execute_field(self, parent_type: Any, source: Any, field_details_list: Any, *rest: Any) -> Any:
        self.unplanned.append(field_details_list[0].node.name.value)
        return super().execute_field(parent_type, source, field_details_list, *rest)

    def complete_list_item_value(self, item: Any, results: list[Any], item_type: Any, *rest: Any) -> bool:
        self.items.append(str(item_type))
        return super().complete_list_item_value(item, results, item_type, *rest)


@pytest.fixture
def counting() -> type[Counting]:
    return type("CountingHere", (Counting,), {"unplanned": [], "items": []})


class TestPlansAreTaken:
    """Else all of the above would be true and nothing cheaper."""

    @pytest.mark.parametrize(
        ("document", "left", "items"),
        [
            ("plain", ["things"], 0),
            ("aliases", ["things"], 0),
            ("merged", ["things"], 0),
            ("fragments", ["things", "thing"], 0),
            ("skipped", ["things"], 0),
            ("object", ["thing", "keeper"], 0),
            ("connection", ["pages"], 0),
            ("resolvers among plain", ["things", *["loudTitle", "slowTitle", "keeper"] * 2], 2),
            ("connection with resolvers", ["pages", "edges", "node", "node", "keeper", "keeper"], 2),
        ],
    )
    async def test_for_all_that_is_plain(
        self, counting: type[Counting], document: str, left: list[str], items: int
    ) -> None:
        result = await executed(DOCUMENTS[document], sources_of(thing(), thing())(), counting)

        assert result.errors is None
        assert sorted(counting.unplanned) == sorted(left)
        assert len(counting.items) == items

    async def test_by_the_service(
        self, agent: Caller, counting: type[Counting], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(operations, "PlannedExecutor", counting)
        await add_tickets(*(ticket_row() for _ in range(3)))
        fields = "id number title status createdAt tags sla { policy pausedMs } version"
        edges = f"edges {{ cursor node {{ {fields} }} }} pageInfo {{ endCursor }}"

        answer = await data(agent, f"{{ tickets {{ {fields} }} ticketConnection {{ {edges} }} }}")

        assert [edge["node"] for edge in answer["ticketConnection"]["edges"]] == answer["tickets"]
        assert (counting.unplanned, counting.items) == (["tickets", "ticketConnection"], [])


@pytest.mark.parametrize(
    "text",
    [
        "{ things { title ... @defer { size place { name } } } }",
        '{ things { title ... @defer(if: false) { size } ...f @defer(label: "l") } } fragment f on Thing { id title }',
        "{ things { place { name ... @defer { floorNumber } } } ... @defer { thing { title tags } } }",
        "{ pages { edges @stream(initialCount: 1) { cursor node { title } } count } }",
        "{ things @stream { title tags @stream } }",
    ],
)
async def test_what_is_deferred_or_streamed_is_not_planned(text: str) -> None:
    for sources in (sources_of(thing(), thing()), sources_of(thing(), thing(title=None))):
        ordinary = await incrementally(text, sources(), StrawberryGraphQLCoreExecutionContext)
        assert await incrementally(text, sources(), PlannedExecutor) == ordinary
        assert len(ordinary) > 1 or "errors" in ordinary[0]


def test_plans_are_shared_and_not_kept_for_ever() -> None:
    kind: Any = SCHEMA.type_map["Place"]
    shapes = [(Selected(f"a{at}", "name", None),) for at in range(MAX_PLANS + 10)]

    assert plan_of(kind, shapes[0]) is plan_of(kind, (Selected("a0", "name", None),))
    for shape in shapes:
        plan_of(kind, shape)

    assert plan_of.cache_info().currsize == plan_of.cache_info().maxsize == MAX_PLANS
