"""Who may do what, as one written table over every field of the roots, REST's own table in other words.

The object is a ticket of `customer`'s, or `customer`'s account. After each refusal nothing may have changed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from httpx import AsyncClient

from app.analytics.backfill import fill_up
from app.graphql.schema import SCHEMA
from tests.callers import Callers
from tests.factories.tickets import open_ticket
from tests.graphql.asking import BODY, PATH, everything, post

KINDS = ("customer", "other customer", "agent", "admin")
OK, FORBIDDEN, HIDDEN = "ok", "forbidden", "not_found"


class Objects(NamedTuple):
    ticket_id: str
    deleted_id: str
    user_id: str


class Row(NamedTuple):
    """One field: what is sent, and what each kind of caller who is signed in is answered."""

    text: str
    answers: tuple[str, str, str, str]
    variables: Callable[[Objects], dict[str, Any]] = lambda _: {}
    note: str = ""

    def __str__(self) -> str:
        return f"{self.field} {self.note}".strip()

    @property
    def field(self) -> str:
        return self.text.partition("{")[2].strip().partition("(")[0].partition(" ")[0]


CREATE = "mutation ($input: TicketInput) { createTicket(ticketInput: $input) { id } }"
UPDATE = "mutation ($id: ID!, $patch: TicketPatch!) { updateTicket(id: $id, patch: $patch) { id } }"
DELETE = "mutation ($id: ID!) { deleteTicket(id: $id) }"
RESTORE = "mutation ($id: ID!) { restoreTicket(id: $id) { id } }"
BULK = "mutation ($ids: [ID!]!, $patch: TicketPatch!) { bulkUpdateTickets(ids: $ids, patch: $patch) { status } }"
TICKET = "query ($id: ID!) { ticket(id: $id) { id } }"


def patch(**fields: Any) -> Callable[[Objects], dict[str, Any]]:
    return lambda o: {"id": o.ticket_id, "patch": fields}


# fmt: off
TABLE = [
    #   text                                              customer   other      agent      admin
    Row("{ tickets { id } }",                            (OK,        OK,        OK,        OK)),
    Row("{ ticketConnection { pageInfo { endCursor } } }", (OK,      OK,        OK,        OK)),
    Row(TICKET,                                          (OK,        HIDDEN,    OK,        OK),
        lambda o: {"id": o.ticket_id}),
    Row(TICKET,                                          (HIDDEN,    HIDDEN,    HIDDEN,    HIDDEN),
        lambda o: {"id": o.deleted_id}, "deleted"),
    Row("{ me { id } }",                                 (OK,        OK,        OK,        OK)),
    Row("{ eventCursor }",                               (OK,        OK,        OK,        OK)),
    Row("{ users { pageInfo { endCursor } } }",          (FORBIDDEN, FORBIDDEN, OK,        OK)),
    Row("query ($id: ID!) { user(id: $id) { id } }",     (FORBIDDEN, FORBIDDEN, OK,        OK),
        lambda o: {"id": o.user_id}),
    Row("{ analytics { overview { created } } }",        (FORBIDDEN, FORBIDDEN, OK,        OK)),
    Row(CREATE,                                          (OK,        OK,        OK,        OK),
        lambda _: {"input": BODY}),
    Row(CREATE,                                          (OK,        FORBIDDEN, OK,        OK),
        lambda o: {"input": {**BODY, "requester": o.user_id}}, "for the customer"),
    Row(CREATE,                                          (FORBIDDEN, FORBIDDEN, OK,        OK),
        lambda _: {"input": {**BODY, "assignedTo": None}}, "with an assignee"),
    Row(UPDATE,                                          (OK,        HIDDEN,    OK,        OK),
        patch(title="Printer on fire"), "title"),
    Row(UPDATE,                                          (OK,        HIDDEN,    OK,        OK),
        patch(status="Closed"), "to Closed"),
    Row(UPDATE,                                          (FORBIDDEN, HIDDEN,    OK,        OK),
        patch(status="In Progress"), "to In Progress"),
    Row(UPDATE,                                          (FORBIDDEN, HIDDEN,    OK,        OK),
        patch(title="Printer on fire", priority="High"), "priority beside a title"),
    Row(UPDATE,                                          (FORBIDDEN, HIDDEN,    OK,        OK),
        patch(waitingOn="customer", tags=["x"]), "the rest"),
    Row(UPDATE,                                          (HIDDEN,    HIDDEN,    HIDDEN,    HIDDEN),
        lambda o: {"id": o.deleted_id, "patch": {"title": "x"}}, "deleted"),
    Row(DELETE,                                          (FORBIDDEN, HIDDEN,    FORBIDDEN, OK),
        lambda o: {"id": o.ticket_id}),
    Row(DELETE,                                          (HIDDEN,    HIDDEN,    HIDDEN,    HIDDEN),
        lambda o: {"id": o.deleted_id}, "deleted"),
    Row(RESTORE,                                         (FORBIDDEN, HIDDEN,    FORBIDDEN, "not_deleted"),
        lambda o: {"id": o.ticket_id}),
    Row(RESTORE,                                         (HIDDEN,    HIDDEN,    HIDDEN,    OK),
        lambda o: {"id": o.deleted_id}, "deleted"),
    Row(BULK,                                            (FORBIDDEN, FORBIDDEN, OK,        OK),
        lambda o: {"ids": [o.ticket_id], "patch": {"priority": "High"}}),
]
# fmt: on
each_row = pytest.mark.parametrize("row", TABLE, ids=str)


async def prepared(callers: Callers) -> Objects:
    """A ticket of the customer's and one that was deleted."""
    ticket = await open_ticket(callers.customer)
    deleted = await open_ticket(callers.customer)
    answer = await callers.admin.delete(f"/api/tickets/{deleted['id']}")
    assert answer.status_code == 204
    return Objects(ticket["id"], deleted["id"], callers.customer.user_id)


def has_nothing(value: Any) -> bool:
    """Whether there are nulls alone, at the root or right below it."""
    return value is None or (isinstance(value, dict) and all(map(has_nothing, value.values())))


def test_the_table_and_the_roots_have_the_same_fields() -> None:
    roots = (SCHEMA.query_type, SCHEMA.mutation_type)
    fields = {name for root in roots if root for name in root.fields}

    assert {row.field for row in TABLE} == fields


@pytest.mark.parametrize("kind", KINDS)
@each_row
async def test_each_caller_is_answered_as_the_table_says(callers: Callers, row: Row, kind: str) -> None:
    objects = await prepared(callers)
    if row.field == "analytics":
        await fill_up()
    expected = row.answers[KINDS.index(kind)]
    before = await everything()

    answer = await post(callers.by_kind()[kind], row.text, **row.variables(objects))

    assert answer.status_code == 200
    errors = answer.json().get("errors", [])
    if expected == OK:
        assert errors == []
        assert answer.json()["data"][row.field] is not None
    else:
        assert [error["extensions"]["code"] for error in errors] == [expected]
        assert answer.json()["data"].keys() == {row.field}
        assert has_nothing(answer.json()["data"])
        assert await everything() == before


@each_row
async def test_nobody_is_answered_nothing(callers: Callers, row: Row) -> None:
    objects = await prepared(callers)
    before = await everything()

    answers = {
        401: await post(callers.nobody, row.text, **row.variables(objects)),
        403: await post(callers.nobody, row.text, {"Authorization": "Bearer forged"}, **row.variables(objects)),
    }

    for (status, answer), code, message in zip(
        answers.items(),
        ("unauthenticated", "invalid_token"),
        ("No token provided", "Invalid or expired token"),
        strict=True,
    ):
        assert answer.status_code == status
        [error] = answer.json()["errors"]
        assert (error["message"], error["extensions"]["code"]) == (message, code)
        assert error["extensions"]["status"] == status
        assert "data" not in answer.json()
        assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="ticketing"')
    assert await everything() == before


@pytest.mark.parametrize(
    "request_of",
    [
        lambda client: client.post(PATH, content=b"{", headers={"Content-Type": "text/plain"}),
        lambda client: client.post(PATH, json=[]),
        lambda client: client.post(PATH, json={"query": "{"}),
        lambda client: client.post(PATH, json={"query": "{ x }"}, headers={"Accept": "image/png"}),
        lambda client: client.get(PATH),
    ],
)
async def test_who_is_calling_comes_before_what_is_sent(
    nobody: AsyncClient, request_of: Callable[[AsyncClient], Any]
) -> None:
    answer = await request_of(nobody)

    assert answer.status_code == 401
    assert answer.json()["errors"][0]["extensions"]["code"] == "unauthenticated"
