"""What stored rows of sums add up to: in all, within a stretch of time, or for each interval of a series.

A row holds for each measure `t`, its total, and if it is a day's also `s`, its quarters of an hour. The counts of a
measure that comes in buckets go by the name of measure and bucket: `resolutionBuckets.41`.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from app.platform.wire import Row

from .period import Cover, Grain, Part, Span, start_of

Sums = Counter[str]
Measures = tuple[str, ...]
# Stands for the start of the row of all time, which has none.
_ALWAYS = datetime.min.replace(tzinfo=UTC)


class Rows:
    """The stored rows of one kind of tickets, which sums of any stretch of time are made from."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows: dict[Grain, dict[datetime, Row]] = {grain: {} for grain in Grain}
        for row in rows:
            self._rows[Grain(row["_id"]["grain"])][row["_id"]["start"] or _ALWAYS] = row
        self._starts = {grain: sorted(by_start) for grain, by_start in self._rows.items()}

    def sum(self, stretch: Cover, measures: Measures) -> Sums:
        """Of what the cover names; a row that is not there holds nothing."""
        sums = Sums()
        for span in stretch.spans:
            for row in self._within(span):
                _add(sums, row, measures, None)
        for part in stretch.parts:
            of_day = self._rows[Grain.DAY].get(start_of(part.day))
            if of_day is not None:
                _add(sums, of_day, measures, part)
        return sums

    def _within(self, span: Span) -> list[Row]:
        starts, by_start = self._starts[span.grain], self._rows[span.grain]
        first = 0 if span.first is None else bisect_left(starts, start_of(span.first))
        last = len(starts) if span.last is None else bisect_left(starts, start_of(span.last))
        return [by_start[start] for start in starts[first:last]]


def projection(measures: Measures, covers: Iterable[Cover]) -> Row:
    """The fields of rows that these sums are made from."""
    slots = sorted({slot for stretch in covers for part in stretch.parts for slot in part.slots})
    fields = [f"{measure}.t" for measure in measures]
    return dict.fromkeys([*fields, *(f"{measure}.s.{slot}" for measure in measures for slot in slots)], 1)


def amount(measure: str, parts: Sequence[Part]) -> Any:
    """The same as an aggregation expression, without buckets: what a row of a cover with these parts adds."""
    total = f"${measure}.t"
    if not parts:
        return total
    branches = []
    for part in parts:
        slots: Row = {"$sum": [f"${measure}.s.{slot}" for slot in part.slots]}
        rest: Row = {"$subtract": [{"$sum": [total]}, slots]}
        is_that_day = {"$eq": ["$_id.start", start_of(part.day)]}
        branches.append({"case": is_that_day, "then": rest if part.is_rest else slots})
    return {"$switch": {"branches": branches, "default": total}}


def buckets_of(sums: Sums, measure: str) -> dict[str, int]:
    """The counts of the measure's buckets, by bucket."""
    prefix = f"{measure}."
    return {name.removeprefix(prefix): count for name, count in sums.items() if name.startswith(prefix)}


def _add(sums: Sums, row: Row, measures: Measures, part: Part | None) -> None:
    for measure in measures:
        stored = row.get(measure, {})
        if part is None or part.is_rest:
            _add_counts(sums, measure, [stored["t"]] if "t" in stored else [], 1)
        if part is not None and "s" in stored:
            counts = [stored["s"][slot] for slot in map(str, part.slots) if slot in stored["s"]]
            _add_counts(sums, measure, counts, -1 if part.is_rest else 1)


def _add_counts(sums: Sums, measure: str, counts: list[Any], sign: int) -> None:
    """Adds numbers, or numbers by bucket."""
    if counts and not isinstance(counts[0], dict):
        sums[measure] += sign * sum(counts)
        return
    for buckets in counts:
        for bucket, count in buckets.items():
            sums[f"{measure}.{bucket}"] += sign * count
