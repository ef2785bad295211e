"""One key, one mutation: repeated, reused, raced, cut off between the commit and the answer."""

import asyncio
from typing import Any

import pytest
from httpx import AsyncClient, Response

from app.graphql.keyed import KeyedMutation
from app.platform.idempotency import AlreadyDone, IdempotencyRow, Key, Once
from app.platform.mongo import collection_of
from app.platform.wire import Row
from tests.callers import Caller
from tests.conftest import COMMANDS
from tests.factories.tickets import events_of, open_ticket, stored_ticket
from tests.graphql.asking import BODY, CREATE, PATH, counts, everything, post

KEY = {"Idempotency-Key": "k"}


async def create(client: AsyncClient, **changes: Any) -> Response:
    return await post(client, CREATE, KEY, ticketInput=BODY | changes)


async def forget_body() -> None:
    """As if the process had died when the change was committed and the answer not yet made."""
    changed = await collection_of(IdempotencyRow).update_one({}, {"$set": {"body": b""}})
    assert changed.modified_count == 1


def code_of(answer: Response) -> str:
    code: str = answer.json()["errors"][0]["extensions"]["code"]
    return code


class TestReplay:
    async def test_answers_status_and_body_again(self, customer: Caller) -> None:
        first = await create(customer)

        again = await create(customer)

        assert (first.status_code, again.status_code) == (200, 200)
        assert again.content == first.content
        assert again.headers["Content-Type"] == first.headers["Content-Type"]
        assert again.headers["Idempotency-Replayed"] == "true"
        assert "Idempotency-Replayed" not in first.headers
        assert await counts() == [1, 1, 1]

    async def test_costs_one_look(self, customer: Caller) -> None:
        await create(customer)
        COMMANDS.names.clear()

        await create(customer)

        assert COMMANDS.names == ["aggregate", "find"]

    async def test_is_the_first_answer_even_after_a_change(self, customer: Caller) -> None:
        first = await create(customer)
        ticket_id = first.json()["data"]["createTicket"]["id"]
        await customer.patch(f"/api/tickets/{ticket_id}", json={"title": "New title"})

        assert (await create(customer)).content == first.content

    async def test_another_body_is_refused(self, customer: Caller) -> None:
        first = await create(customer)
        before = await everything()
        requests: list[dict[str, Any]] = [
            {"query": CREATE, "variables": {"ticketInput": BODY | {"title": "Other"}}},
            {"query": CREATE + " ", "variables": {"ticketInput": BODY}},
            {"query": f"query other {{ me {{ id }} }} {CREATE.replace('mutation', 'mutation c')}",
             "variables": {"ticketInput": BODY}, "operationName": "c"},
        ]  # fmt: skip
        for body in requests:
            answer = await customer.post(PATH, json=body, headers=KEY)
            assert (answer.status_code, code_of(answer)) == (422, "idempotency_key_reused")
            assert "data" not in answer.json()
        assert await everything() == before
        assert (await create(customer)).content == first.content

    async def test_another_operation_of_the_same_document_is_refused(self, customer: Caller) -> None:
        one = 'createTicket(ticketInput: {title: "T", description: "D"}) { id }'
        text = f"mutation a {{ {one} }} mutation b {{ {one} }}"
        await customer.post(PATH, json={"query": text, "operationName": "a"}, headers=KEY)

        answer = await customer.post(PATH, json={"query": text, "operationName": "b"}, headers=KEY)

        assert (answer.status_code, code_of(answer)) == (422, "idempotency_key_reused")
        assert await counts() == [1, 1, 1]

    async def test_extensions_and_absent_members_make_no_other_body(self, customer: Caller) -> None:
        body = {"query": 'mutation { createTicket(ticketInput: {title: "T", description: "D"}) { id } }'}
        first = await customer.post(PATH, json=body, headers=KEY)

        more: dict[str, Any]
        for more in ({"variables": None}, {"operationName": None}, {"extensions": {"trace": 1}}, {"variables": {}}):
            again = await customer.post(PATH, json=body | more, headers=KEY)
            assert again.content == first.content
            assert again.headers["Idempotency-Replayed"] == "true"

    async def test_other_users_and_rest_have_keys_of_their_own(self, customer: Caller, other_customer: Caller) -> None:
        rest = await customer.post("/api/tickets", json=BODY, headers=KEY)
        answers = [await create(customer), await create(other_customer)]

        assert rest.status_code == 201
        assert all("Idempotency-Replayed" not in answer.headers for answer in answers)
        assert await counts() == [3, 3, 3]

    async def test_other_media_type_gets_the_same_body(self, customer: Caller) -> None:
        first = await create(customer)
        accept = {"Accept": "application/graphql-response+json"}

        again = await post(customer, CREATE, KEY | accept, ticketInput=BODY)

        assert again.content == first.content
        assert again.headers["Content-Type"] == "application/graphql-response+json; charset=utf-8"

    async def test_of_many_at_once_one_makes_the_ticket(self, customer: Caller) -> None:
        answers = await asyncio.gather(*(create(customer) for _ in range(12)))

        created = [answer for answer in answers if answer.status_code == 200]
        waiting = [answer for answer in answers if answer.status_code == 409]
        assert len(created) + len(waiting) == 12
        assert len({answer.json()["data"]["createTicket"]["id"] for answer in created}) == 1
        assert [("Idempotency-Replayed" in answer.headers) for answer in created].count(False) == 1
        assert {code_of(answer) for answer in waiting} <= {"idempotency_in_progress"}
        assert {answer.headers["Retry-After"] for answer in waiting} <= {"1"}
        assert await counts() == [1, 1, 1]
        assert (await create(customer)).json() == created[0].json()

    async def test_of_many_at_once_with_other_bodies_one_wins(self, customer: Caller) -> None:
        answers = await asyncio.gather(*(create(customer, title=f"Title {n}") for n in range(8)))

        assert [answer.status_code for answer in answers].count(200) == 1
        codes = {code_of(answer) for answer in answers if answer.status_code != 200}
        assert codes <= {"idempotency_in_progress", "idempotency_key_reused"}
        assert await counts() == [1, 1, 1]


class TestEveryMutation:
    """Each is done once, and answered alike from the stored body and, after a crash, from the stored result."""

    async def check(self, caller: Caller, text: str, **variables: Any) -> Any:
        COMMANDS.names.clear()
        first = await post(caller, text, KEY, **variables)
        assert "errors" not in first.json(), first.text
        before = await everything()
        assert (await post(caller, text, KEY, **variables)).content == first.content
        await forget_body()
        COMMANDS.names.clear()
        resumed = await post(caller, text, KEY, **variables)
        assert "commitTransaction" not in COMMANDS.names
        assert resumed.content == first.content
        assert resumed.headers["Idempotency-Replayed"] == "true"
        assert await everything() == before, "the body is there again, and nothing else has changed"
        return first.json()["data"]

    async def test_create(self, customer: Caller) -> None:
        await self.check(customer, CREATE, ticketInput=BODY)

        assert await counts() == [1, 1, 1]

    async def test_update(self, agent: Caller) -> None:
        ticket = await open_ticket(agent)
        text = """mutation ($id: ID!) { updateTicket(id: $id, version: 1, patch: {status: "Resolved"}) {
          version resolvedAt updatedAt requester { username } history { edges { node { type } } }
        } }"""

        await self.check(agent, text, id=ticket["id"])

        assert (await stored_ticket(ticket["id"]))["version"] == 2
        assert len(await events_of(ticket["id"])) == 2

    async def test_update_that_changes_nothing(self, agent: Caller) -> None:
        ticket = await open_ticket(agent)

        await self.check(agent, "mutation ($id: ID!) { updateTicket(id: $id, patch: {}) { version } }", id=ticket["id"])

        assert await counts() == [1, 1, 1]

    async def test_delete_and_restore(self, admin: Caller) -> None:
        ticket = await open_ticket(admin)

        gone = await self.check(admin, "mutation ($id: ID!) { deleteTicket(id: $id) }", id=ticket["id"])
        await collection_of(IdempotencyRow).delete_many({})
        await self.check(admin, "mutation ($id: ID!) { restoreTicket(id: $id) { id version } }", id=ticket["id"])

        assert gone == {"deleteTicket": ticket["id"]}
        assert len(await events_of(ticket["id"])) == 3

    async def test_bulk_update_with_refusals(self, agent: Caller) -> None:
        tickets = [await open_ticket(agent) for _ in range(2)]
        await agent.patch(f"/api/tickets/{tickets[0]['id']}", json={"status": "Closed"})
        text = """mutation ($ids: [ID!]!) { bulkUpdateTickets(ids: $ids, patch: {status: "Resolved"}) {
          id status ticket { status resolvedAt } error { code detail legalTransitions errors { field } }
        } }"""
        ids = [ticket["id"] for ticket in tickets] + ["6740a1f0c3b2a1d4e5f60720"]

        done = await self.check(agent, text, ids=ids)

        assert [result["status"] for result in done["bulkUpdateTickets"]] == [409, 200, 404]


class TestCrash:
    """The change is committed and the body is not stored."""

    async def test_other_selections_and_bodies_are_still_refused(self, customer: Caller) -> None:
        await create(customer)
        await forget_body()

        answer = await create(customer, title="Other")

        assert (answer.status_code, code_of(answer)) == (422, "idempotency_key_reused")

    async def test_the_result_is_as_it_was_whatever_happened_since(self, customer: Caller, admin: Caller) -> None:
        first = await create(customer)
        ticket_id = first.json()["data"]["createTicket"]["id"]
        await customer.patch(f"/api/tickets/{ticket_id}", json={"title": "New title"})
        await admin.delete(f"/api/tickets/{ticket_id}")
        await forget_body()

        assert (await create(customer)).content == first.content
        assert (await counts())[0] == 1

    async def test_many_repetitions_at_once_run_nothing(self, customer: Caller) -> None:
        first = await create(customer)
        await forget_body()

        answers = await asyncio.gather(*(create(customer) for _ in range(8)))

        assert {answer.content for answer in answers} == {first.content}
        assert all(answer.headers["Idempotency-Replayed"] == "true" for answer in answers)
        assert await counts() == [1, 1, 1]

    async def test_who_is_overtaken_answers_with_the_others_body(self, customer: Caller) -> None:
        first = await create(customer)
        [row] = await collection_of(IdempotencyRow).find().to_list()
        keyed = KeyedMutation(Key(row["_id"], row["fingerprint"]), None)

        async def overtaken(_once: Once[Row]) -> Row:
            raise AlreadyDone

        value = await keyed.carry_out(overtaken, lambda result: result)
        await keyed.complete(b"another body")

        assert str(value["_id"]) == first.json()["data"]["createTicket"]["id"]
        assert keyed.is_repeated
        assert keyed.stored_body == first.content
        assert await collection_of(IdempotencyRow).find_one() == row


class TestRefusals:
    async def test_are_not_remembered(self, customer: Caller) -> None:
        refused = await create(customer, title="")
        forbidden = await create(customer, assignedTo=None)
        invalid = await post(customer, "mutation { createTicket(x: 1) { id } }", KEY)

        created = await create(customer)

        assert [code_of(answer) for answer in (refused, forbidden, invalid)] == [
            "invalid_input",
            "forbidden",
            "graphql_validation_failed",
        ]
        assert "errors" not in created.json()
        assert "Idempotency-Replayed" not in created.headers
        assert await counts() == [1, 1, 1]

    @pytest.mark.parametrize(
        "text",
        [
            'mutation { a: createTicket(ticketInput: {title: "T", description: "D"}) { id } createTicket { id } }',
            "mutation { ...f } fragment f on Mutation { createTicket { id } ... { x: createTicket { id } } }",
            "mutation { __typename }",
        ],
    )
    async def test_a_document_must_have_exactly_one_mutation(self, customer: Caller, text: str) -> None:
        COMMANDS.names.clear()
        answer = await post(customer, text, KEY)

        assert (answer.status_code, code_of(answer)) == (400, "invalid_idempotency_key")
        assert COMMANDS.names == ["aggregate"], "nothing but the caller was looked up"
        assert await counts() == [0, 0, 0]

    async def test_one_mutation_asked_for_twice_is_one(self, customer: Caller) -> None:
        one = 'createTicket(ticketInput: {title: "T", description: "D"})'

        answer = await post(customer, f"mutation {{ __typename {one} {{ id }} {one} {{ title }} }}", KEY)

        assert answer.json()["data"]["createTicket"].keys() == {"id", "title"}
        assert await counts() == [1, 1, 1]

    @pytest.mark.parametrize("key", [b"", b"x" * 256, b"a\x7f"])
    async def test_key_that_is_none(self, customer: Caller, key: bytes) -> None:
        body = {"query": CREATE, "variables": {"ticketInput": BODY}}

        answer = await customer.post(PATH, json=body, headers=[(b"Idempotency-Key", key)])

        assert (answer.status_code, code_of(answer)) == (400, "invalid_idempotency_key")
        assert await counts() == [0, 0, 0]

    async def test_queries_need_no_key(self, customer: Caller) -> None:
        for key in ("k", "x" * 256):
            for text in ("{ me { id } }", "{ a: me { id } b: me { username } }"):
                answer = await post(customer, text, {"Idempotency-Key": key})
                assert "errors" not in answer.json()
                assert "Idempotency-Replayed" not in answer.headers
        assert await counts() == [0, 0, 0]

    async def test_a_mutation_that_is_skipped_leaves_the_key_free(self, customer: Caller) -> None:
        text = """mutation ($no: Boolean!) {
          createTicket(ticketInput: {title: "T", description: "D"}) @skip(if: $no) { id }
        }"""

        assert (await post(customer, text, KEY, no=True)).json()["data"] == {}
        assert await counts() == [0, 0, 0]
        assert "createTicket" in (await post(customer, text, KEY, no=False)).json()["data"]


async def test_stored_rows_hold_no_secret(customer: Caller) -> None:
    await create(customer)

    rows = await collection_of(IdempotencyRow).find().to_list()

    assert len(rows) == 1
    for secret in (customer.token, "$2b$"):
        assert secret not in repr(rows)
