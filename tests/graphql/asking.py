"""Asking over HTTP, as most tests of GraphQL do."""

from typing import Any

from httpx import AsyncClient, Response

from app.events.log import Event
from app.platform.idempotency import IdempotencyRow
from app.platform.mongo import collection_of
from app.platform.wire import Row
from app.tickets.documents import Ticket

PATH = "/graphql"
CREATE = """mutation ($ticketInput: TicketInput) {
  createTicket(ticketInput: $ticketInput) { id title requester { username } }
}"""
BODY = {"title": "Printer down", "description": "It stopped after the update."}


async def post(client: AsyncClient, text: str, headers: dict[str, str] | None = None, **variables: Any) -> Response:
    return await client.post(PATH, json={"query": text, "variables": variables}, headers=headers)


async def data(client: AsyncClient, text: str, **variables: Any) -> Any:
    """What was asked for; there must be no errors."""
    answer = await post(client, text, **variables)
    assert "errors" not in answer.json(), answer.text
    assert answer.status_code == 200
    return answer.json()["data"]


async def refusal(client: AsyncClient, text: str, **variables: Any) -> Any:
    """The `extensions` of the one error."""
    answer = await post(client, text, **variables)
    assert answer.status_code == 200
    [error] = answer.json()["errors"]
    assert error["extensions"]["requestId"] == answer.headers["X-Request-ID"]
    return error["extensions"]


async def everything() -> list[list[Row]]:
    """All that is stored of tickets, events, users and keys."""
    database = collection_of(Ticket).database
    names = [Ticket.Settings.name, Event.Settings.name, "users", "sessions", IdempotencyRow.Settings.name]
    return [await database[name].find().sort("_id", 1).to_list() for name in names]


async def counts() -> list[int]:
    """How many tickets, events and remembered keys there are."""
    return [await collection_of(model).count_documents({}) for model in (Ticket, Event, IdempotencyRow)]
