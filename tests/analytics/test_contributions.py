"""What a ticket adds to the figures, and to which cells."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.analytics.contributions import Cell, Sums, add, contributions, difference, without_zeros
from app.analytics.documents import Dim
from app.analytics.facts import replay
from app.analytics.period import Grain
from app.analytics.sketch import bucket_of
from app.tickets.lifecycle import Priority
from tests.analytics.lives import AGENTS, BIRTH, Life, old_ticket, random_life

DAY_MS = 86_400_000
DAY = datetime(2026, 1, 31, tzinfo=UTC)
MONTH = datetime(2026, 1, 1, tzinfo=UTC)


def days(number: float) -> datetime:
    return BIRTH + timedelta(days=number)


def old(**fields: object) -> Life:
    return Life(is_old=True, **old_ticket(**fields))


CREATED = (BIRTH, "created", 1)
OPEN = (BIRTH, "open", 1)


def duration(name: str, count: str, start: float, end: float) -> list[tuple[datetime, str, int]]:
    ms = round((end - start) * DAY_MS)
    return [(days(end), count, 1), (days(end), f"{name}Ms", ms), (days(end), f"{name}Buckets.{bucket_of(ms)}", 1)]


def resolved(at: float) -> list[tuple[datetime, str, int]]:
    return duration("resolution", "resolved", 0, at)


def first_resolved(at: float) -> list[tuple[datetime, str, int]]:
    return duration("firstResolution", "firstResolved", 0, at)


@pytest.mark.parametrize(
    ("life", "expected"),
    [
        (Life(), [CREATED, OPEN]),
        (Life().delete(days(1)), []),
        (Life().delete(days(1)).restore(days(2)), [CREATED, OPEN]),
        (Life().resolve(days(1)), [CREATED, (days(1), "left", 1), *resolved(1), *first_resolved(1)]),
        (
            Life().resolve(days(1)).reopen(days(2)),
            [CREATED, OPEN, (days(1), "left", 1), (days(2), "reopened", 1), *first_resolved(1)],
        ),
        (
            Life().resolve(days(1)).reopen(days(2)).patch(days(3), status="Closed"),
            [
                *(CREATED, (days(1), "left", 1), (days(2), "reopened", 1), (days(3), "left", 1)),
                *(*first_resolved(1), *resolved(3)),
            ],
        ),
        (old(status="Resolved"), [CREATED, (None, "resolvedUndated", 1), (BIRTH, "left", 1)]),
        (old(status="Closed"), [CREATED, (BIRTH, "left", 1)]),
        (
            old(status="Resolved").reopen(days(1)).resolve(days(2)),
            [CREATED, (BIRTH, "left", 1), (days(1), "reopened", 1), (days(2), "left", 1), *resolved(2)],
        ),
        (
            old(status="Resolved", resolvedAt=days(-1)),
            [CREATED, (days(-1), "left", 1), *resolved(-1), *first_resolved(-1)],
        ),
        (Life(firstRespondedAt=days(0.5)), [CREATED, OPEN, *duration("firstResponse", "responded", 0, 0.5)]),
        (
            Life().rate(days(1), 4),
            [CREATED, OPEN, (days(1), "ratings", 1), (days(1), "ratingSum", 4), (days(1), "rating4", 1)],
        ),
        (
            Life(sla={"policy": "gold", "firstResponseBreached": True, "resolutionBreached": True}),
            [
                CREATED,
                OPEN,
                *((BIRTH, f"sla{name}", 1) for name in ("Tickets", "FirstResponseBreached", "ResolutionBreached")),
            ],
        ),
        (
            Life(
                sla={"policy": "gold", "firstResponseDueAt": days(1), "resolutionDueAt": days(1)},
                firstRespondedAt=days(0.5),
            ),
            [
                *(CREATED, OPEN, (BIRTH, "slaTickets", 1), (BIRTH, "slaFirstResponseMet", 1)),
                *duration("firstResponse", "responded", 0, 0.5),
            ],
        ),
    ],
)
def test_contributions(life: Life, expected: list[tuple[datetime | None, str, int]]) -> None:
    found = contributions(replay(life.ticket, life.events))

    assert sorted(found, key=str) == sorted(expected, key=str)


def test_every_kind_of_cell_gets_them() -> None:
    life = Life(tags=["a", "b", "a"], assignedTo=AGENTS[0], priority=Priority.HIGH)
    found = difference([(None, replay(life.ticket, life.events))])

    total = {"created": 1, "open": 1}
    amounts = {
        (Grain.ALL, None): total,
        (Grain.MONTH, MONTH): total,
        (Grain.TEN_DAYS, MONTH + timedelta(days=20)): total,
        (Grain.DAY, DAY): total,
        (Grain.QUARTERS, DAY): {"q95.created": 1, "q95.open": 1},
    }
    dims = [("all", None), ("agent", AGENTS[0]), ("tag", "a"), ("tag", "b")]
    assert found == {
        Cell(Dim(dim), value, priority, *period): paths
        for dim, value in dims
        for priority in (["High", None] if dim == "all" else ["High"])
        for period, paths in amounts.items()
    }


@pytest.mark.parametrize(
    ("at", "slot"), [("00:00:00.000", 0), ("00:14:59.999", 0), ("00:15:00.000", 1), ("23:45:00.000", 95)]
)
def test_slots_are_quarters_of_an_hour(at: str, slot: int) -> None:
    moment = datetime.fromisoformat(f"2024-02-29T{at}+00:00")
    life = Life(createdAt=moment)

    found = difference([(None, replay(life.ticket, life.events))])

    quarters = found[Cell(Dim.ALL, None, "Medium", Grain.QUARTERS, datetime(2024, 2, 29, tzinfo=UTC))]
    assert quarters == {f"q{slot}.created": 1, f"q{slot}.open": 1}


def test_buckets_lie_below_their_measure() -> None:
    life = Life().resolve(days(1))
    bucket = bucket_of(DAY_MS)

    found = difference([(None, replay(life.ticket, life.events))])

    # A day later it is February.
    cell = Cell(Dim.ALL, None, "Medium", Grain.DAY, datetime(2026, 2, 1, tzinfo=UTC))
    assert {path for path in found[cell] if path.startswith("resolution")} == {
        *("resolutionMs", f"resolutionBuckets.{bucket}"),
    }
    assert f"q95.resolutionBuckets.{bucket}" in found[cell._replace(grain=Grain.QUARTERS)]
    undated = old(status="Resolved")
    cells = difference([(None, replay(undated.ticket, []))])
    assert {cell.grain for cell, paths in cells.items() if "resolvedUndated" in paths} == {Grain.ALL}


@settings(deadline=None)
@given(st.randoms(use_true_random=False))
def test_differences_add_up(rnd: random.Random) -> None:
    life = random_life(rnd)
    sums: Sums = {}
    states = [replay(life.ticket, life.events[:number]) for number in range(1, len(life.events) + 1)]
    before = None
    for facts in states or [replay(life.ticket, [])]:
        for cell, paths in difference([(before, facts)]).items():
            assert all(paths.values())
            for path, amount in paths.items():
                found = sums.setdefault(cell, {})
                found[path] = found.get(path, 0) + amount
        before = facts
    assert before is not None
    assert difference([(before, before)]) == {}

    total: Sums = {}
    add(total, before, 1)
    assert without_zeros(sums) == without_zeros(total)


@settings(deadline=None)
@given(st.randoms(use_true_random=False))
def test_how_many_are_open_follows_from_who_came_and_left(rnd: random.Random) -> None:
    life = random_life(rnd)
    facts = replay(life.ticket, life.events)
    amounts: dict[str, int] = {}
    for _, measure, amount in contributions(facts):
        amounts[measure] = amounts.get(measure, 0) + amount

    entered = amounts.get("created", 0) + amounts.get("reopened", 0)
    assert entered - amounts.get("left", 0) == amounts.get("open", 0) == (facts.is_open and not facts.is_deleted)
