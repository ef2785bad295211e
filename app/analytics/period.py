"""Stretches of time, and which stored sums make them up.

All boundaries lie on quarters of an hour, counted from 1970 in UTC, and so do the days of all time zones of today.
Sums are kept per month, third of a month, day and quarter of an hour of UTC, so any stretch between two quarters has an
exact sum of few.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from math import inf

QUARTER = timedelta(minutes=15)
QUARTERS_PER_DAY = 96
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = _EPOCH.date().toordinal()
_MONTH_AT_MOST = timedelta(days=31)
_TEN_DAYS = 10


class Grain(StrEnum):
    """The stretches that sums are kept for."""

    ALL = "all"
    MONTH = "month"
    TEN_DAYS = "ten days"
    """A third of a month: from its 1st, 11th or 21st on, the last one up to its end."""
    DAY = "day"
    QUARTERS = "quarters"
    """Each quarter of an hour of one day, in one row."""


# A grain, the first day of the stretch that a day is in, and the first one on or after it that begins a stretch.
_Level = tuple[Grain, Callable[[int], int], Callable[[int], int]]


class Interval(StrEnum):
    """The stretches that a series is cut into."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class NotAligned(ValueError):
    """The instant is not on a quarter of an hour, so no stored sums end there."""


@dataclass(frozen=True, slots=True)
class Span:
    """The sums of one grain that start in these days, of UTC, counted from 1970; `last` excluded, None is no bound."""

    grain: Grain
    first: int | None
    last: int | None

    def reaches(self, other: "Span") -> bool:
        """Whether it goes on to where the other one, which does not begin before it, begins."""
        return self.grain is other.grain and (self.last is None or other.first is None or other.first <= self.last)

    def with_end_of(self, other: "Span") -> "Span":
        """The two as one."""
        last = None if self.last is None or other.last is None else max(self.last, other.last)
        return Span(self.grain, self.first, last)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of one day of UTC: these quarters of it or, where they are fewer, all `but` these."""

    day: int
    slots: tuple[int, ...]
    is_rest: bool


@dataclass(frozen=True, slots=True)
class Cover:
    """What a stretch is made of: none overlaps another."""

    spans: tuple[Span, ...]
    parts: tuple[Part, ...] = ()


ALL_TIME = Cover((Span(Grain.ALL, None, None),))


@dataclass(frozen=True, slots=True)
class Slice:
    """One interval of a series: the local day that it starts with, and the quarters of it that are asked for."""

    start: date
    first: int
    last: int
    cover: Cover


def quarter_around(instant: datetime) -> int:
    """The quarter that this instant of UTC is in."""
    # From its parts, which takes a third of the time that a difference does.
    return (instant.toordinal() - _EPOCH_DAY) * QUARTERS_PER_DAY + instant.hour * 4 + instant.minute // 15


def quarter_of(instant: datetime) -> int:
    """The quarter that begins at this instant. Raises `NotAligned`."""
    quarter, rest = divmod(instant - _EPOCH, QUARTER)
    if rest:
        raise NotAligned
    return quarter


def instant_of(quarter: int) -> datetime:
    return _EPOCH + quarter * QUARTER


def start_of(day: int) -> datetime:
    """The first instant of a day of UTC, which is how its sums are named."""
    return instant_of(day * QUARTERS_PER_DAY)


def first_quarter(day: date, zone: tzinfo) -> int:
    """The local day's first; a day that the zone left out is over as it begins. Raises `NotAligned`."""
    # Of a midnight that comes twice the first; one that was left out counts by the offset before, which makes it the
    # instant of the change (true of every zone since 1970).
    return quarter_of(datetime.combine(day, time.min, zone))


def local_day(quarter: int, zone: tzinfo) -> date:
    """The local day that the quarter belongs to. Raises `NotAligned`."""
    day = instant_of(quarter).astimezone(zone).date()
    # Where clocks are put back over midnight, the old date comes again for a while: the new day has begun all the same.
    after = day + timedelta(days=1)
    return after if first_quarter(after, zone) <= quarter else day


def cover(first: int | None, last: int | None) -> Cover:
    """The fewest stored sums that make up the quarters from `first` to `last`, which is excluded; None is no bound."""
    if first is None and last is None:
        return ALL_TIME
    start = None if first is None else -(-first // QUARTERS_PER_DAY)
    end = None if last is None else last // QUARTERS_PER_DAY
    if first is not None and last is not None and -(-first // QUARTERS_PER_DAY) > last // QUARTERS_PER_DAY:
        return Cover((), (_part(last // QUARTERS_PER_DAY, first % QUARTERS_PER_DAY, last % QUARTERS_PER_DAY),))
    parts = []
    if first is not None and first % QUARTERS_PER_DAY:
        parts.append(_part(first // QUARTERS_PER_DAY, first % QUARTERS_PER_DAY, QUARTERS_PER_DAY))
    if last is not None and last % QUARTERS_PER_DAY:
        parts.append(_part(last // QUARTERS_PER_DAY, 0, last % QUARTERS_PER_DAY))
    return Cover(_spans(start, end, _LONGER_THAN_DAYS), tuple(parts))


def union(covers: Collection[Cover]) -> list[Span]:
    """The sums to read for all of these, days that only parts are wanted of included; none twice."""
    wanted = {span for stretch in covers for span in stretch.spans}
    for part in (part for stretch in covers for part in stretch.parts):
        wanted |= {Span(grain, part.day, part.day + 1) for grain in _grains_of(part)}
    found: list[Span] = []
    for span in sorted(wanted, key=lambda span: (span.grain, -inf if span.first is None else span.first)):
        if found and found[-1].reaches(span):
            found[-1] = found[-1].with_end_of(span)
        else:
            found.append(span)
    return found


def _grains_of(part: Part) -> tuple[Grain, ...]:
    return (Grain.DAY, Grain.QUARTERS) if part.is_rest else (Grain.QUARTERS,)


def slot_name(slot: int) -> str:
    """What a quarter of an hour is called in the row of its day: `q0` to `q95`."""
    return f"q{slot}"


def slices(first: int, last: int, zone: tzinfo, interval: Interval) -> Iterator[Slice]:
    """The intervals that lie between two quarters, those at the ends cut. Raises `NotAligned`, perhaps on the way."""
    if first >= last:
        return
    start = _floor(local_day(first, zone), interval)
    begin = first
    while begin < last:
        after = _next(start, interval)
        end = min(first_quarter(after, zone), last)
        yield Slice(start, begin, end, cover(begin, end))
        start, begin = after, end


def _part(day: int, start: int, end: int) -> Part:
    slots = tuple(range(start, end))
    others = (*range(start), *range(end, QUARTERS_PER_DAY))
    is_rest = len(others) < len(slots)
    return Part(day, others if is_rest else slots, is_rest)


def _spans(start: int | None, end: int | None, levels: Sequence[_Level]) -> tuple[Span, ...]:
    """Whole days as the longest stretches that lie between them, and on both sides of those the next shorter ones."""
    if start is not None and start == end:
        return ()
    if not levels:
        return (Span(Grain.DAY, start, end),)
    (grain, first_of, first_from), *shorter = levels
    inner_start = None if start is None else first_from(start)
    inner_end = None if end is None else first_of(end)
    if inner_start is not None and inner_end is not None and inner_start >= inner_end:
        return _spans(start, end, shorter)
    before = _spans(start, inner_start, shorter) if start is not None else ()
    after = _spans(inner_end, end, shorter) if end is not None else ()
    return (*before, Span(grain, inner_start, inner_end), *after)


def month_start(day: int) -> int:
    """The first day of the month that the day is in."""
    return day - date.fromordinal(day + _EPOCH_DAY).day + 1


def third_start(day: int) -> int:
    """The first day of the third of a month that the day is in."""
    month = month_start(day)
    return month + min((day - month) // _TEN_DAYS, 2) * _TEN_DAYS


def _month_from(day: int) -> int:
    """The first day on or after this one that begins a month."""
    month = month_start(day)
    return day if month == day else month_start(month + _MONTH_AT_MOST.days)


def _third_from(day: int) -> int:
    """The first day on or after this one that begins a third of a month."""
    third = third_start(day)
    if third == day:
        return day
    # The last one is up to eleven days long, or as short as eight.
    after = third + _TEN_DAYS
    return after if third_start(after) == after and after < _month_from(day) else _month_from(day)


_LONGER_THAN_DAYS: tuple[_Level, ...] = (
    (Grain.MONTH, month_start, _month_from),
    (Grain.TEN_DAYS, third_start, _third_from),
)


def _floor(day: date, interval: Interval) -> date:
    match interval:
        case Interval.DAY:
            return day
        case Interval.WEEK:
            return day - timedelta(days=day.weekday())
        case Interval.MONTH:
            return day.replace(day=1)


def _next(day: date, interval: Interval) -> date:
    match interval:
        case Interval.DAY:
            return day + timedelta(days=1)
        case Interval.WEEK:
            return day + timedelta(days=7)
        case Interval.MONTH:
            return (day + _MONTH_AT_MOST).replace(day=1)
