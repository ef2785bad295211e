"""What is refused changes nothing."""

from httpx import Response

from tests.factories.tickets import events_of, stored_ticket


async def refused(answer: Response, status: int, code: str, ticket_id: str | None = None, events: int = 1) -> None:
    """The refusal is the one expected, and neither the ticket nor its history moved."""
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    if ticket_id is not None:
        assert (await stored_ticket(ticket_id))["version"] == events
        assert len(await events_of(ticket_id)) == events
