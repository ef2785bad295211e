"""Any stretch of time has an exact sum of few stored ones, in whatever zone its days are counted."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.analytics.period import (
    QUARTER,
    Cover,
    Grain,
    Interval,
    NotAligned,
    Span,
    cover,
    first_quarter,
    instant_of,
    local_day,
    quarter_of,
    slices,
    slot_name,
    start_of,
    union,
)
from app.analytics.sums import Rows, Sums, projection
from app.platform.wire import Row

DAY = 96
MEASURES = ("created", "buckets")
# Half and quarter hours off UTC, midnights that come twice or not at all, a day that was left out (2011-12-30 in Apia).
ZONES = [
    ZoneInfo(name)
    for name in (
        *("UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns", "Australia/Lord_Howe"),
        *("Pacific/Apia", "America/Sao_Paulo", "America/Havana", "Pacific/Kiritimati", "Asia/Beirut"),
    )
]
zones = st.sampled_from(ZONES)
# Both years are cut at a month, and the second holds the day that Apia left out.
quarters = st.one_of(
    st.integers(quarter_of(datetime(2011, 12, 20, tzinfo=UTC)), quarter_of(datetime(2012, 1, 10, tzinfo=UTC))),
    st.integers(quarter_of(datetime(2009, 11, 1, tzinfo=UTC)), quarter_of(datetime(2012, 5, 1, tzinfo=UTC))),
)
moments = st.builds(
    lambda quarter, ms: instant_of(quarter) + timedelta(milliseconds=ms), quarters, st.integers(0, 899_999)
)
counts = st.lists(st.tuples(moments, st.sampled_from(["created", "buckets.-1", "buckets.7"])), max_size=40)
Count = tuple[datetime, str]


def stored(counts: Iterable[Count]) -> list[Row]:
    """The rows that keep these counts, each of 1."""
    rows: dict[tuple[Grain, datetime | None], Row] = {}
    for at, name in counts:
        midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
        slot = slot_name((at - midnight) // QUARTER)
        month = midnight.replace(day=1)
        third = midnight.replace(day=1 + min((at.day - 1) // 10, 2) * 10)
        starts = {Grain.ALL: None, Grain.MONTH: month, Grain.TEN_DAYS: third, Grain.DAY: midnight}
        starts[Grain.QUARTERS] = midnight
        for grain, start in starts.items():
            row = rows.setdefault((grain, start), {"_id": {"grain": grain, "start": start}})
            measure, _, bucket = name.partition(".")
            _add(row.setdefault(slot, {}) if grain is Grain.QUARTERS else row, measure, bucket)
    return list(rows.values())


def _add(where: Row, name: str, bucket: str) -> None:
    if bucket:
        where, name = where.setdefault(name, {}), bucket
    where[name] = where.get(name, 0) + 1


def read(covers: list[Cover], counts: Iterable[Count]) -> list[Row]:
    """The rows to read for these covers, as a query would find them."""

    def is_in(row: Row, span: Span) -> bool:
        start = row["_id"]["start"]
        return row["_id"]["grain"] == span.grain and (
            start is None
            or (
                (span.first is None or start >= start_of(span.first))
                and (span.last is None or start < start_of(span.last))
            )
        )

    # Twice where two spans hold a row, which would be an error of theirs.
    return [row for row in stored(counts) for span in union(covers) if is_in(row, span)]


def counted(counts: Iterable[Count], first: datetime | None, last: datetime | None) -> Counter[str]:
    return Counter(name for at, name in counts if (first is None or at >= first) and (last is None or at < last))


def flat(sums: Sums) -> Counter[str]:
    of_buckets = {f"{name}.{bucket}": n for name, counts in sums.buckets.items() for bucket, n in counts.items()}
    return +Counter({**sums, **of_buckets})


@given(counts, st.none() | quarters, st.none() | quarters)
def test_any_stretch_is_the_sum_of_its_cover(counts: list[Count], first: int | None, last: int | None) -> None:
    if first is not None and last is not None and first > last:
        first, last = last, first
    stretch = cover(first, last)
    rows = read([stretch], counts)
    wanted = counted(counts, *(None if bound is None else instant_of(bound) for bound in (first, last)))

    found = Rows(rows).sum(stretch, MEASURES)

    assert flat(found) == wanted
    assert len([row for row in rows if row["_id"]["grain"] == Grain.DAY]) <= 2 * 10 + 2
    assert all(len(part.slots) <= DAY // 2 for part in stretch.parts)


@given(counts, quarters, quarters, zones, st.sampled_from(Interval))
def test_a_series_counts_each_moment_in_its_local_interval(
    counts: list[Count], one: int, other: int, zone: ZoneInfo, interval: Interval
) -> None:
    first, last = min(one, other), max(one, other)
    series = list(slices(first, last, zone, interval))
    covers = [piece.cover for piece in series]
    rows = read(covers, counts)
    assert len({str(row["_id"]) for row in rows}) == len(rows)

    found = [Rows(rows).sum(stretch, MEASURES) for stretch in covers]

    # The slices adjoin one another, from end to end, and each local date between is in one.
    assert [s.first for s in series] == [first, *(s.last for s in series[:-1])] if series else first == last
    assert not series or series[-1].last == last
    dates = [s.start for s in series]
    assert dates == sorted(set(dates))
    if interval is Interval.DAY and series:
        assert len(dates) == (dates[-1] - dates[0]).days + 1
    for place, (sums, piece) in enumerate(zip(found, series, strict=True)):
        assert flat(sums) == counted(counts, instant_of(piece.first), instant_of(piece.last)), place
        for at, _ in counts:
            if instant_of(piece.first) <= at < instant_of(piece.last):
                check_local(at.astimezone(zone), zone, piece.start, interval)


def check_local(at: datetime, zone: ZoneInfo, start: date, interval: Interval) -> None:
    day = at.date()
    # Put back over midnight, the old date comes again when the new day has begun.
    if datetime.combine(day + timedelta(days=1), datetime.min.time(), zone) <= at.astimezone(UTC):
        day += timedelta(days=1)
    match interval:
        case Interval.DAY:
            assert start == day
        case Interval.WEEK:
            assert start.isocalendar()[:2] == day.isocalendar()[:2]
            assert start.weekday() == 0
        case Interval.MONTH:
            assert start == day.replace(day=1)


@given(quarters, zones)
def test_local_days_begin_where_their_first_quarter_is(quarter: int, zone: ZoneInfo) -> None:
    day = local_day(quarter, zone)

    assert first_quarter(day, zone) <= quarter < first_quarter(day + timedelta(days=1), zone)


@pytest.mark.parametrize(
    ("zone", "day", "length"),
    [
        ("UTC", date(2026, 3, 29), 96),
        ("Europe/Berlin", date(2026, 3, 29), 92),
        ("Europe/Berlin", date(2026, 10, 25), 100),
        ("Australia/Lord_Howe", date(2026, 4, 5), 98),
        ("America/Sao_Paulo", date(2017, 10, 15), 92),
        ("America/Havana", date(2026, 11, 1), 100),
        ("America/St_Johns", date(2010, 11, 7), 100),
        ("America/St_Johns", date(2010, 11, 6), 96),
        ("Pacific/Apia", date(2011, 12, 29), 96),
        ("Pacific/Apia", date(2011, 12, 30), 0),
        ("Pacific/Apia", date(2011, 12, 31), 96),
    ],
)
def test_local_days_are_as_long_as_the_zone_makes_them(zone: str, day: date, length: int) -> None:
    quarters = [first_quarter(day + timedelta(days=more), ZoneInfo(zone)) for more in (0, 1)]

    assert quarters[1] - quarters[0] == length


def test_what_is_on_no_quarter_is_refused() -> None:
    with pytest.raises(NotAligned):
        quarter_of(datetime(2026, 1, 1, 0, 15, 0, 1000, tzinfo=UTC))
    with pytest.raises(NotAligned):
        first_quarter(date(1971, 1, 1), ZoneInfo("Africa/Monrovia"))
    with pytest.raises(NotAligned):
        list(slices(0, 400 * DAY, ZoneInfo("Africa/Monrovia"), Interval.MONTH))


def test_covers_are_few() -> None:
    first, last = (quarter_of(datetime(*at, tzinfo=UTC)) for at in ((2025, 11, 29, 1), (2026, 2, 2, 23)))

    stretch = cover(first, last)

    day = date(2025, 11, 30).toordinal() - date(1970, 1, 1).toordinal()
    assert stretch.spans == (
        Span(Grain.DAY, day, day + 1),
        Span(Grain.MONTH, day + 1, day + 1 + 62),
        Span(Grain.DAY, day + 63, day + 64),
    )
    assert [(part.day, part.slots, part.is_rest) for part in stretch.parts] == [
        (day - 1, (0, 1, 2, 3), True),
        (day + 64, (92, 93, 94, 95), True),
    ]
    assert list(projection(("open",), [stretch])) == [
        "open",
        *(f"q{slot}.open" for slot in (0, 1, 2, 3, 92, 93, 94, 95)),
    ]
    assert union([stretch, cover(first + DAY, last), cover(None, 7)]) == [
        Span(Grain.DAY, day - 1, day + 1),
        Span(Grain.DAY, day + 63, day + 65),
        Span(Grain.MONTH, None, 0),
        Span(Grain.MONTH, day + 1, day + 63),
        Span(Grain.QUARTERS, 0, 1),
        Span(Grain.QUARTERS, day - 1, day + 1),
        Span(Grain.QUARTERS, day + 64, day + 65),
    ]
    assert cover(None, None) == Cover((Span(Grain.ALL, None, None),))
    assert cover(None, DAY * 40) == Cover((Span(Grain.MONTH, None, 31), Span(Grain.DAY, 31, 40)))
    assert cover(DAY * 40, None) == Cover(
        (Span(Grain.DAY, 40, 41), Span(Grain.TEN_DAYS, 41, 59), Span(Grain.MONTH, 59, None))
    )
    assert cover(5, 5).spans == ()
    assert [(part.day, part.slots) for part in cover(3, 5).parts] == [(0, (3, 4))]
