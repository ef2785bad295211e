"""The facts of a ticket: from itself, and carried on by its events."""

import random
from datetime import datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId, decode, encode
from bson.codec_options import CodecOptions
from hypothesis import given, settings
from hypothesis import strategies as st

from app.analytics.facts import FIELDS, Facts, Outcome, Rating, Sla, advance, replay, start
from app.platform.wire import Row
from tests.analytics.lives import AGENTS, BIRTH, Life, old_ticket, random_life

AWARE: CodecOptions[Row] = CodecOptions(tz_aware=True)


def days(number: float) -> datetime:
    return BIRTH + timedelta(days=number)


@pytest.mark.parametrize(
    ("fields", "moves", "is_undated"),
    [
        ({"status": "Open"}, (), False),
        ({"status": "In Progress", "resolvedAt": days(1)}, (), False),
        ({"status": "Resolved", "resolvedAt": days(1)}, (days(1),), False),
        ({"status": "Closed", "resolvedAt": days(1)}, (days(1),), False),
        ({"status": "Resolved"}, (None,), True),
        ({"status": "Closed"}, (None,), False),
        ({"status": "Done", "priority": "Urgent", "resolvedAt": days(1)}, (), False),
    ],
)
def test_an_old_ticket_tells_its_present_state(
    fields: Row, moves: tuple[datetime | None, ...], is_undated: bool
) -> None:
    facts = start(old_ticket(**fields))

    assert (facts.moves, facts.is_undated, facts.is_open) == (moves, is_undated, not moves)
    assert facts.resolved_at == facts.first_resolved_at == (moves[0] if moves else None)
    assert (facts.version, facts.is_deleted, facts.agent, facts.priority) == (1, False, None, "Medium")


def test_a_ticket_that_lacks_what_it_can_lack() -> None:
    ticket_id = ObjectId()

    facts = start({"_id": ticket_id, "tags": ["b", "a", "b"], "assignedTo": AGENTS[0]})

    assert (facts.created_at, facts.priority, facts.tags) == (ticket_id.generation_time, "Medium", ("b", "a"))
    assert (facts.agent, facts.sla, facts.rating) == (AGENTS[0], None, None)


@pytest.mark.parametrize(
    ("life", "moves"),
    [
        (Life().resolve(days(1)), [1]),
        (Life().resolve(days(1)).patch(days(2), status="Closed"), [1]),
        (Life().patch(days(1), status="Closed"), [1]),
        (Life().patch(days(1), status="In Progress"), []),
        (Life().resolve(days(1)).reopen(days(2)), [1, 2]),
        (Life().resolve(days(1)).patch(days(2), status="In Progress").resolve(days(3)), [1, 2, 3]),
        (Life().resolve(days(1)).delete(days(2)).restore(days(3)), [1]),
        (Life(is_old=True, **old_ticket()).resolve(days(1)), [1]),
        (Life(is_old=True, **old_ticket(status="Resolved", resolvedAt=days(1))).reopen(days(2)), [1, 2]),
        (Life(is_old=True, **old_ticket(status="Resolved")).reopen(days(2)).resolve(days(3)), [None, 2, 3]),
        (Life(is_old=True, **old_ticket(status="Closed")).patch(days(1), title="x"), [None]),
        (Life(is_old=True, **old_ticket(status="Resolved")).patch(days(1), status="Closed"), [None]),
    ],
)
def test_moves(life: Life, moves: list[int | None]) -> None:
    facts = replay(life.ticket, life.events)

    assert facts.moves == tuple(None if number is None else days(number) for number in moves)
    assert not facts.is_undated


def test_a_gap_is_bridged_by_what_the_ticket_is_after_it() -> None:
    life = Life().resolve(days(1)).reopen(days(2)).resolve(days(3)).reopen(days(4))

    # The second resolution is all that is known; then not even that.
    assert replay({}, [*life.events[:2], life.events[3]]).moves == (days(3),)
    assert replay({}, [life.events[0], life.events[3]]).moves == (days(3),)
    assert replay({}, life.events[3:]).moves == (days(3), days(4))


@pytest.mark.parametrize(
    ("sla", "fields", "outcomes"),
    [
        ({}, {}, (None, None)),
        ({"firstResponseDueAt": BIRTH, "resolutionDueAt": BIRTH}, {}, (None, None)),
        ({}, {"firstRespondedAt": BIRTH, "status": "Resolved", "resolvedAt": BIRTH}, (None, None)),
        ({"firstResponseDueAt": BIRTH}, {"firstRespondedAt": BIRTH}, (Outcome.MET, None)),
        ({"resolutionDueAt": BIRTH}, {"status": "Closed", "resolvedAt": BIRTH}, (None, Outcome.MET)),
        ({"resolutionDueAt": BIRTH}, {"status": "Resolved"}, (None, None)),
        (
            {"firstResponseDueAt": BIRTH, "firstResponseBreached": True, "resolutionBreached": True},
            {"firstRespondedAt": BIRTH},
            (Outcome.BREACHED, Outcome.BREACHED),
        ),
    ],
)
def test_promises(sla: Row, fields: Row, outcomes: tuple[Any, Any]) -> None:
    assert start(old_ticket(sla={"policy": "gold", **sla}, **fields)).sla == Sla(*outcomes)
    assert start(old_ticket(sla={"policy": None, **sla}, **fields)).sla is None


def test_the_last_rating_stays() -> None:
    life = Life().resolve(days(1)).rate(days(2), 2).rate(days(3), 5).patch(days(4), title="x")
    assert replay({}, life.events).rating == Rating(5, days(3))

    life.events[-1]["changes"] = {"rating": {"from": {"score": 5}, "to": 4}}
    assert replay({}, life.events).rating == Rating(4, days(4))
    life.events[-1]["changes"] = {"rating": {"from": {"score": 5}, "to": None}}
    assert replay({}, life.events).rating is None


@settings(deadline=None)
@given(st.randoms(use_true_random=False))
def test_each_event_carries_on_from_all_before(rnd: random.Random) -> None:
    life = random_life(rnd)
    facts = replay(life.ticket, life.events[:1])
    for number, event in enumerate(life.events[1:], start=2):
        facts = advance(facts, event)
        assert facts == replay(life.ticket, life.events[:number])
        assert facts == replay(life.ticket, life.events, until=event["version"])
    assert facts.version == (life.events[-1]["version"] if life.events else 1)

    # Whatever its way, it ends where the ticket is, and needs no more fields than it says.
    now = start(life.ticket)
    assert (facts.is_open, facts.resolved_at, facts.is_undated) == (now.is_open, now.resolved_at, now.is_undated)
    assert now == start({name: life.ticket[name] for name in FIELDS if name in life.ticket})
    stored: Row = decode(encode(facts.as_row()), AWARE)
    assert Facts.of_row(stored) == facts


@settings(deadline=None)
@given(st.randoms(use_true_random=False))
def test_an_old_ticket_is_known_as_it_was_before_its_first_event(rnd: random.Random) -> None:
    life = Life(is_old=True, **old_ticket(status=rnd.choice(["Open", "Resolved"]), assignedTo=AGENTS[0]))
    before = start(life.ticket)
    if rnd.random() < 0.5:
        life.delete(days(1))
    else:
        life.patch(days(1), status="Closed", assignedTo=None, tags=["x"])

    assert replay(life.ticket, life.events, until=1) == before
