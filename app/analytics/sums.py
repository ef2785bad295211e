"""What stored rows of sums add up to: in all, within a stretch of time, or for each interval of a series."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from app.platform.wire import Row

from .period import Cover, Grain, Part, Span, slot_name, start_of

Measures = tuple[str, ...]
# Stands for the start of the row of all time, which has none.
_ALWAYS = datetime.min.replace(tzinfo=UTC)


class Sums(Counter[str]):
    """The sums by measure; of measures that come in buckets, those by bucket are in `buckets`."""

    def __init__(self) -> None:
        super().__init__()
        self.buckets: dict[str, dict[str, int]] = {}


class Rows:
    """The stored rows of one kind of tickets, which sums of any stretch of time are made from."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows: dict[Grain, dict[datetime, list[Row]]] = {grain: {} for grain in Grain}
        for row in rows:  # of one start there is one for each priority
            self._rows[Grain(row["_id"]["grain"])].setdefault(row["_id"]["start"] or _ALWAYS, []).append(row)
        self._starts = {grain: sorted(by_start) for grain, by_start in self._rows.items()}

    def sum(self, stretch: Cover, measures: Measures) -> Sums:
        """Of what the cover names; a row that is not there holds nothing."""
        sums = Sums()
        for span in stretch.spans:
            for row in self._within(span):
                _add(sums, row, measures, 1)
        for part in stretch.parts:
            start = start_of(part.day)
            for row in self._rows[Grain.DAY].get(start, ()) if part.is_rest else ():
                _add(sums, row, measures, 1)
            for row in self._rows[Grain.QUARTERS].get(start, ()):
                for slot in part.slots:
                    if (quarter := row.get(slot_name(slot))) is not None:
                        _add(sums, quarter, measures, -1 if part.is_rest else 1)
        return sums

    def _within(self, span: Span) -> list[Row]:
        starts, by_start = self._starts[span.grain], self._rows[span.grain]
        first = 0 if span.first is None else bisect_left(starts, start_of(span.first))
        last = len(starts) if span.last is None else bisect_left(starts, start_of(span.last))
        return [row for start in starts[first:last] for row in by_start[start]]


def projection(measures: Measures, covers: Iterable[Cover]) -> Row:
    """The fields of rows that these sums are made from."""
    slots = sorted({slot for stretch in covers for part in stretch.parts for slot in part.slots})
    return dict.fromkeys([*measures, *(f"{slot_name(slot)}.{measure}" for slot in slots for measure in measures)], 1)


def amount(measure: str, parts: Sequence[Part]) -> Any:
    """The same as an aggregation expression, without buckets: what a row of a cover with these parts adds."""
    total = f"${measure}"
    if not parts:
        return total
    branches = []
    for part in parts:
        slots: Row = {"$sum": [f"${slot_name(slot)}.{measure}" for slot in part.slots]}
        are_these = {"$and": [{"$eq": ["$_id.grain", Grain.QUARTERS]}, {"$eq": ["$_id.start", start_of(part.day)]}]}
        branches.append({"case": are_these, "then": {"$subtract": [0, slots]} if part.is_rest else slots})
    return {"$switch": {"branches": branches, "default": total}}


def _add(sums: Sums, row: Mapping[str, Any], measures: Measures, sign: int) -> None:
    for measure in measures:
        if measure in row:
            count = row[measure]
            if isinstance(count, dict):
                # By far the most of all that is added: plainly, because it takes most of a report's time.
                buckets = sums.buckets.setdefault(measure, {})
                for bucket, of_bucket in count.items():
                    buckets[bucket] = buckets.get(bucket, 0) + sign * of_bucket
            else:
                sums[measure] += sign * count
