"""What a ticket adds to the figures. Every figure is the sum of this over all tickets, and nothing else.

| measure | at | what |
|---|---|---|
| `created` | its creation | 1 |
| `open` | its creation | 1 while it is open |
| `resolved`, `resolutionMs`, `resolutionBuckets.<bucket>` | its present resolution | 1, how long it took, its bucket |
| `resolvedUndated` | never | 1 if it is resolved at a time that is not known |
| `firstResolved`, `firstResolutionMs`, `firstResolutionBuckets.…` | its first resolution | the same, reopened or not |
| `left` | each resolution or closing | 1; at its creation if the time is not known |
| `reopened` | each reopening | 1 |
| `responded`, `firstResponseMs`, `firstResponseBuckets.<bucket>` | its first response | 1, how long it took, … |
| `slaTickets` | its creation | 1 if a policy makes promises |
| `slaFirstResponseMet`, `…Breached`, `slaResolutionMet`, `…Breached` | its creation | 1 if so |
| `ratings`, `ratingSum`, `rating<score>` | its rating | 1, the score, 1 |

As many tickets were open at a time as were created and reopened before it, less those that left. Times are in
milliseconds.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from bson import ObjectId

from .documents import Dim
from .facts import Facts, Outcome
from .period import QUARTER, QUARTERS_PER_DAY, Grain, month_start, quarter_around, slot_name, start_of, third_start
from .sketch import bucket_of

# When, of what, how much.
Contribution = tuple[datetime | None, str, int]
_MS = timedelta(milliseconds=1)
_SLA_MEASURES = {
    Outcome.MET: ("slaFirstResponseMet", "slaResolutionMet"),
    Outcome.BREACHED: ("slaFirstResponseBreached", "slaResolutionBreached"),
}


class Cell(NamedTuple):
    """The id of a `StatsCell`."""

    dim: Dim
    value: ObjectId | str | None
    priority: str | None
    grain: Grain
    start: datetime | None


# What to add to each cell, by the path in it.
Sums = dict[Cell, dict[str, int]]
_Period = tuple[Grain, datetime | None]


def contributions(facts: Facts) -> list[Contribution]:
    """Nothing for a deleted ticket."""
    return [] if facts.is_deleted else [*_life(facts), *_durations(facts), *_sla(facts), *_rating(facts)]


def difference(changes: Iterable[tuple[Facts | None, Facts]]) -> Sums:
    """What to add to the cells when tickets were counted by the former facts, or not at all, and these are true now."""
    sums: Sums = {}
    for before, after in changes:
        add(sums, after, 1)
        if before is not None:
            add(sums, before, -1)
    return without_zeros(sums)


def add(sums: Sums, facts: Facts, sign: int) -> None:
    """Adds, or with a sign of -1 takes away, what the ticket contributes."""
    for cell, amounts in by_cell(facts):
        add_to(sums, cell, amounts, sign)


def add_to(sums: Sums, cell: Cell, amounts: Mapping[str, int], sign: int = 1) -> None:
    """Adds the amounts to one cell, or takes them away."""
    if cell not in sums and sign == 1:
        sums[cell] = dict(amounts)  # most are new, and this is faster
        return
    found = sums.setdefault(cell, {})
    for path, amount in amounts.items():
        found[path] = found.get(path, 0) + sign * amount


def by_cell(facts: Facts) -> Iterator[tuple[Cell, Mapping[str, int]]]:
    """What the ticket contributes to each cell, by the path in it; one and the same mapping for all of a period."""
    periods = _by_period(contributions(facts))
    kinds: list[tuple[Dim, ObjectId | str | None, str | None]] = [
        (Dim.ALL, None, None),  # what most ask for, in one row instead of one for each priority
        (Dim.ALL, None, facts.priority),
        (Dim.AGENT, facts.agent, facts.priority),
        *((Dim.TAG, tag, facts.priority) for tag in facts.tags),
    ]
    for (grain, start), amounts in periods.items():
        for kind in kinds:
            yield Cell(*kind, grain, start), amounts


def without_zeros(sums: Sums) -> Sums:
    nonzero = ((cell, {path: amount for path, amount in amounts.items() if amount}) for cell, amounts in sums.items())
    return {cell: amounts for cell, amounts in nonzero if amounts}


def _by_period(contributed: Iterable[Contribution]) -> dict[_Period, dict[str, int]]:
    """The amounts by stretch of time and path in a cell."""
    periods: dict[_Period, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for at, measure, amount in contributed:
        periods[Grain.ALL, None][measure] += amount
        if at is not None:
            month, third, day, slot = _place_of(at)
            periods[Grain.MONTH, month][measure] += amount
            periods[Grain.TEN_DAYS, third][measure] += amount
            periods[Grain.DAY, day][measure] += amount
            periods[Grain.QUARTERS, day][f"{slot}.{measure}"] += amount
    return periods


# A ticket has few instants, each in several measures.
@lru_cache(maxsize=8)
def _place_of(at: datetime) -> tuple[datetime, datetime, datetime, str]:
    """The beginnings of the month, the third of it and the day, and the quarter of an hour of that day."""
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    number = quarter_around(day) // QUARTERS_PER_DAY
    return start_of(month_start(number)), start_of(third_start(number)), day, slot_name((at - day) // QUARTER)


def _life(facts: Facts) -> Iterator[Contribution]:
    yield facts.created_at, "created", 1
    if facts.is_open:
        yield facts.created_at, "open", 1
    if facts.is_undated:
        yield None, "resolvedUndated", 1
    for number, at in enumerate(facts.moves):
        yield at or facts.created_at, "reopened" if number % 2 else "left", 1


def _durations(facts: Facts) -> Iterator[Contribution]:
    for at, count, duration in (
        (facts.resolved_at, "resolved", "resolution"),
        (facts.first_resolved_at, "firstResolved", "firstResolution"),
        (facts.first_responded_at, "responded", "firstResponse"),
    ):
        if at is not None:
            ms = (at - facts.created_at) // _MS
            yield at, count, 1
            yield at, f"{duration}Ms", ms
            yield at, f"{duration}Buckets.{bucket_of(ms)}", 1


def _sla(facts: Facts) -> Iterator[Contribution]:
    if facts.sla is None:
        return
    yield facts.created_at, "slaTickets", 1
    for promise, outcome in enumerate(facts.sla):
        if outcome is not None:
            yield facts.created_at, _SLA_MEASURES[outcome][promise], 1


def _rating(facts: Facts) -> Iterator[Contribution]:
    if facts.rating is None:
        return
    yield facts.rating.at, "ratings", 1
    yield facts.rating.at, "ratingSum", facts.rating.score
    yield facts.rating.at, f"rating{facts.rating.score}", 1
