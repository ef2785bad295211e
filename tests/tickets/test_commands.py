"""Opening and changing tickets, through REST, on a real database."""

from tests.callers import Caller
from tests.factories.tickets import events_of, open_ticket, stored_ticket


class TestOpenTicket:
    async def test_stores_the_ticket_and_one_event(self, customer: Caller) -> None:
        ticket = await open_ticket(customer, priority="High", tags=["printer", "printer"])

        assert ticket["status"] == "Open"
        assert ticket["priority"] == "High"
        assert ticket["tags"] == ["printer"]
        assert ticket["requester"] == customer.user_id
        assert ticket["version"] == 1
        assert (await stored_ticket(ticket["id"]))["number"] == ticket["number"]
        events = await events_of(ticket["id"])
        assert [event["type"] for event in events] == ["ticket.created"]
