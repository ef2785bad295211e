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

from collections.abc import Hashable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple, TypeVar

from bson import ObjectId

from .documents import Dim
from .facts import Facts, Outcome
from .period import QUARTERS_PER_DAY, Grain, month_start, quarter_around, slot_name, start_of, third_start
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
Key = TypeVar("Key", bound=Hashable)
_Kind = tuple[Dim, ObjectId | str | None, str | None]
_Period = tuple[Grain, datetime | None]
# The amounts by quarter of an hour, None for those of no time, and by measure.
_Tally = dict[int | None, dict[str, int]]
# The same few days come again for every kind of cells.
_start_of = lru_cache(maxsize=4_096)(start_of)
_third_start = lru_cache(maxsize=4_096)(third_start)
_month_start = lru_cache(maxsize=4_096)(month_start)


def contributions(facts: Facts) -> list[Contribution]:
    """Nothing for a deleted ticket."""
    return [] if facts.is_deleted else [*_life(facts), *_durations(facts), *_sla(facts), *_rating(facts)]


def difference(changes: Iterable[tuple[Facts | None, Facts]]) -> Sums:
    """What to add to the cells when tickets were counted by the former facts, or not at all, and these are true now.

    Sums up quarters of an hour, first of tickets that are in the same cells and then of each kind of cells, before it
    comes to longer stretches: so a ticket costs a few additions rather than one for each of its two dozen cells.
    """
    alike: dict[tuple[str, ObjectId | None, tuple[str, ...]], _Tally] = {}
    for before, after in changes:
        _count(alike.setdefault((after.priority, after.agent, after.tags), {}), after, 1)
        if before is not None:
            _count(alike.setdefault((before.priority, before.agent, before.tags), {}), before, -1)
    kinds: dict[_Kind, _Tally] = {}
    for (priority, agent, tags), tally in alike.items():
        for kind in _kinds(priority, agent, tags):
            of_kind = kinds.setdefault(kind, {})
            for quarter, amounts in tally.items():
                add_to(of_kind, quarter, amounts)
    sums = {
        Cell(*kind, *period): amounts for kind, tally in kinds.items() for period, amounts in _by_period(tally).items()
    }
    return without_zeros(sums)


def add(sums: Sums, facts: Facts, sign: int) -> None:
    """Adds, or with a sign of -1 takes away, what one ticket contributes."""
    for cell, amounts in by_cell(facts):
        add_to(sums, cell, amounts, sign)


def add_to(sums: dict[Key, dict[str, int]], key: Key, amounts: Mapping[str, int], sign: int = 1) -> None:
    """Adds the amounts to those of one key, or takes them away."""
    if key not in sums and sign == 1:
        sums[key] = dict(amounts)  # most are new, and this is faster
        return
    found = sums.setdefault(key, {})
    for path, amount in amounts.items():
        found[path] = found.get(path, 0) + sign * amount


def by_cell(facts: Facts) -> Iterator[tuple[Cell, Mapping[str, int]]]:
    """What one ticket contributes to each cell, by the path in it; one and the same mapping for all of a period."""
    tally: _Tally = {}
    _count(tally, facts, 1)
    kinds = _kinds(facts.priority, facts.agent, facts.tags)
    for period, amounts in _by_period(tally).items():
        for kind in kinds:
            yield Cell(*kind, *period), amounts


def without_zeros(sums: Sums) -> Sums:
    nonzero = (
        (cell, amounts if all(amounts.values()) else {path: amount for path, amount in amounts.items() if amount})
        for cell, amounts in sums.items()
    )
    return {cell: amounts for cell, amounts in nonzero if amounts}


def _kinds(priority: str, agent: ObjectId | None, tags: tuple[str, ...]) -> list[_Kind]:
    return [
        (Dim.ALL, None, None),  # what most ask for, in one row instead of one for each priority
        (Dim.ALL, None, priority),
        (Dim.AGENT, agent, priority),
        *((Dim.TAG, tag, priority) for tag in tags),
    ]


def _count(tally: _Tally, facts: Facts, sign: int) -> None:
    """Adds what the ticket contributes, or takes it away."""
    instant: datetime | None = None
    amounts = None
    for at, measure, amount in contributions(facts):
        if amounts is None or at is not instant:  # it has few instants, each in several measures
            instant = at
            amounts = tally.setdefault(None if at is None else quarter_around(at), {})
        amounts[measure] = amounts.get(measure, 0) + sign * amount


def _by_period(tally: _Tally) -> dict[_Period, dict[str, int]]:
    """The amounts by stretch of time and path in a cell: each stretch is the sum of the next shorter ones in it."""
    periods: dict[_Period, dict[str, int]] = {}
    days: dict[int, dict[str, int]] = {}
    for quarter, amounts in tally.items():
        if quarter is None:
            add_to(periods, (Grain.ALL, None), amounts)
            continue
        day, slot = divmod(quarter, QUARTERS_PER_DAY)
        add_to(days, day, amounts)
        name = slot_name(slot)
        paths = periods.setdefault((Grain.QUARTERS, _start_of(day)), {})
        paths.update({f"{name}.{measure}": amount for measure, amount in amounts.items()})
    thirds: dict[int, dict[str, int]] = {}
    months: dict[int, dict[str, int]] = {}
    for day, amounts in days.items():
        periods[Grain.DAY, _start_of(day)] = amounts
        add_to(thirds, _third_start(day), amounts)
    for third, amounts in thirds.items():
        periods[Grain.TEN_DAYS, _start_of(third)] = amounts
        add_to(months, _month_start(third), amounts)
    for month, amounts in months.items():
        periods[Grain.MONTH, _start_of(month)] = amounts
        add_to(periods, (Grain.ALL, None), amounts)
    return periods


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
