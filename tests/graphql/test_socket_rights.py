"""`subscription { ticketEvents }`: who hears what as rights change, and what is refused."""

from typing import Any

import pytest

from app.accounts.roles import Role
from app.realtime.hub import Hub
from tests.callers import Caller, Callers
from tests.conftest import settle
from tests.factories.tickets import add_tickets, open_ticket, stored_ticket, ticket_row
from tests.graphql.conversation import ID, Conversation
from tests.graphql.following import (
    FOLLOW,
    change,
    forget,
    listener_of,
    log_event,
    present,
    relayed,
    told,
)
from tests.live import Live, eventually

# With it, one event fills all buffers between here and a reader who does not read.
BIG = "x" * 1_000_000
BIG_FOLLOW = FOLLOW.replace("version", "version " + " ".join(f"a{number}: description" for number in range(12)))


class TestRights:
    async def test_those_of_the_present_hold_for_nested_fields(self, live: Live, callers: Callers, hub: Hub) -> None:
        agent, customer = callers.agent, callers.customer
        for caller in (agent, customer):
            await caller.patch("/api/me", json={"email": f"{caller.actor.username}@example.com"})
        ticket = await open_ticket(customer)
        text = """subscription { ticketEvents { ticket {
          requester { username email } assignedTo { username email active }
          history(first: 5) { edges { node { type internal } } }
        } } }"""
        listening = {}
        for caller in (customer, agent):
            listening[caller] = await Conversation.begin(live, caller)
            await listening[caller].subscribe(text)
            await listening[caller].silence()

        await change(agent, ticket, assignedTo=agent.user_id)
        await log_event({**await stored_ticket(ticket["id"]), "version": 3}, internal=True)
        await relayed(hub, ticket)
        await log_event({**await stored_ticket(ticket["id"]), "version": 4})

        public = [{"type": "ticket.created", "internal": False}, {"type": "ticket.assigned", "internal": False}]
        for caller, count in ((customer, 2), (agent, 3)):
            last = (await listening[caller].events(count))[-1]["ticket"]
            assert last["requester"] == {"username": "customer", "email": "customer@example.com"}
            known = caller is agent
            assert last["assignedTo"] == {
                "username": "agent",
                "email": "agent@example.com" if known else None,
                "active": True if known else None,
            }
            updates = [{"type": "ticket.updated", "internal": True}] if known else []
            updates.append({"type": "ticket.updated", "internal": False})
            assert [edge["node"] for edge in last["history"]["edges"]] == public + updates

    async def test_each_event_shows_what_others_are_by_now(self, live: Live, customer: Caller) -> None:
        conversation = await Conversation.begin(live, customer)
        await conversation.subscribe("subscription { ticketEvents { ticket { requester { name } } } }")
        await conversation.silence()
        for name in ("Carol", "Carola"):
            await customer.patch("/api/me", json={"name": name})
            await open_ticket(customer)

            assert await conversation.event() == {"ticket": {"requester": {"name": name}}}

    async def test_another_role_hears_as_another(self, live: Live, callers: Callers, hub: Hub) -> None:
        agent = callers.agent
        conversation = await Conversation.begin(live, agent)
        await conversation.subscribe(FOLLOW)
        await conversation.silence()
        listener = listener_of(hub, agent)
        for role in (Role.CUSTOMER, Role.AGENT):
            await callers.admin.patch(f"/api/users/{agent.user_id}", json={"role": role})
            await eventually(lambda role=role: listener.actor is not None and listener.actor.role is role)  # type: ignore[misc]
            others = await open_ticket(callers.customer)
            own = await open_ticket(agent)

            heard = [own] if role is Role.CUSTOMER else [others, own]
            assert told(await conversation.events(len(heard))) == [(one["id"], "ticket.created", 1) for one in heard]
        await conversation.silence()

    @pytest.mark.parametrize("loses", ["a ticket", "the role"])
    async def test_what_waits_for_a_slow_reader_may_not_be_theirs_any_more(
        self, live: Live, callers: Callers, hub: Hub, monkeypatch: pytest.MonkeyPatch, loses: str
    ) -> None:
        monkeypatch.setattr("app.realtime.feed.PASSED_STALL_S", 60)
        reader = callers.customer if loses == "a ticket" else callers.agent
        start = await present(reader)
        big = ticket_row(requester=reader.actor.id, description=BIG)
        await add_tickets(big)
        await log_event(big)
        taken = await open_ticket(callers.customer)
        kept = await open_ticket(reader)
        await settle(hub)
        forget(hub)
        conversation = await Conversation.begin(live, reader)
        conversation.socket.connection.transport.pause_reading()
        await conversation.subscribe(BIG_FOLLOW, since=start)
        listener = listener_of(hub, reader)
        await eventually(lambda: any(feed._busy_since for feed in listener.feeds))

        if loses == "a ticket":
            await change(callers.agent, taken, requester=callers.other_customer.user_id)
            await relayed(hub, taken)
        else:
            await callers.admin.patch(f"/api/users/{reader.user_id}", json={"role": Role.CUSTOMER})
            await eventually(lambda: listener.actor is not None and listener.actor.role is Role.CUSTOMER)
        conversation.socket.connection.transport.resume_reading()

        assert [event["ticketId"] for event in await conversation.events(2)] == [str(big["_id"]), kept["id"]]
        await conversation.silence()


class TestRefusals:
    @pytest.mark.parametrize(
        ("given", "fields"),
        [
            ({"ticketId": "x"}, ["ticketId"]),
            ({"ticketId": 42}, ["ticketId"]),
            ({"types": []}, ["types"]),
            ({"types": ["ticket.created", "ticket.exploded"]}, ["types.1"]),
            ({"since": "garbage", "ticketId": "", "types": ["x"]}, ["ticketId", "types.0"]),
        ],
    )
    async def test_name_each_wrong_value(
        self, live: Live, agent: Caller, hub: Hub, given: dict[str, Any], fields: list[str]
    ) -> None:
        conversation = await Conversation.begin(live, agent)

        await conversation.subscribe(FOLLOW, **given)

        extensions = await conversation.refusal()
        assert (extensions["code"], extensions["status"]) == ("invalid_input", 422)
        assert [error["field"] for error in extensions["errors"]] == fields
        await conversation.silence()
        assert not listener_of(hub, agent).feeds

    @pytest.mark.parametrize(
        ("text", "variables", "code"),
        [
            (FOLLOW, {"since": 1}, "graphql_invalid_variables"),
            (FOLLOW, {"types": [None]}, "graphql_invalid_variables"),
            ("subscription { ticketEvents(since: 1) { id } }", {}, "graphql_validation_failed"),
            ("subscription { a: ticketEvents { id } b: ticketEvents { id } }", {}, "graphql_validation_failed"),
            ("subscription { ...f } fragment f on Subscription { a: ticketEvents { id } ticketEvents { id } }", {},
                "graphql_validation_failed"),
            ("subscription { __typename }", {}, "graphql_validation_failed"),
            ("subscription ($not: Boolean!) { ticketEvents @skip(if: $not) { id } }", {"not": True},
                "graphql_validation_failed"),
        ],
    )  # fmt: skip
    async def test_of_what_can_not_be_followed(
        self, live: Live, agent: Caller, hub: Hub, text: str, variables: dict[str, Any], code: str
    ) -> None:
        conversation = await Conversation.begin(live, agent)

        await conversation.subscribe(text, **variables)

        frame = await conversation.frame()
        assert (frame["type"], frame["id"]) == ("error", ID)
        assert {error["extensions"]["code"] for error in frame["payload"]} == {code}
        await conversation.silence()
        assert not listener_of(hub, agent).feeds

    @pytest.mark.parametrize("is_at_hand", [True, False])
    async def test_of_a_cursor_that_is_none_lead_on_without_a_gap(
        self, live: Live, agent: Caller, hub: Hub, is_at_hand: bool
    ) -> None:
        good = await present(agent)
        conversation = await Conversation.begin(live, agent)
        for forged in ("", "garbage", "é", "a\0b", good[:-4] + "AAAA", good[4:], "A" * 5_000):
            await conversation.subscribe(FOLLOW, since=forged)
            extensions = await conversation.refusal()
            assert (extensions["code"], extensions["status"]) == ("resync_required", 410)

            ticket = await open_ticket(agent)
            await relayed(hub, ticket)
            if not is_at_hand:
                forget(hub)
            await conversation.subscribe(FOLLOW, since=extensions["cursor"])
            await change(agent, ticket, title="Another")
            assert told(await conversation.events(2)) == [
                (ticket["id"], "ticket.created", 1),
                (ticket["id"], "ticket.updated", 2),
            ]
            await conversation.complete()
        await conversation.silence()

    async def test_of_a_log_that_is_lost_lead_on_without_a_gap(self, live: Live, agent: Caller, hub: Hub) -> None:
        conversation = await Conversation.begin(live, agent)
        for operation in "ab":
            await conversation.subscribe(FOLLOW, operation)
        await conversation.silence()

        cursor = forget(hub)

        frames = sorted([await conversation.frame() for _ in "ab"], key=lambda frame: str(frame["id"]))
        assert [(frame["type"], frame["id"]) for frame in frames] == [("error", "a"), ("error", "b")]
        for frame in frames:
            [error] = frame["payload"]
            assert error["extensions"]["code"] == "resync_required"
            assert error["extensions"]["cursor"] == cursor
        assert not listener_of(hub, agent).feeds
        ticket = await open_ticket(agent)
        await conversation.subscribe(FOLLOW, "a", since=cursor)
        assert told([await conversation.event("a")]) == [(ticket["id"], "ticket.created", 1)]
        await conversation.silence()
