"""Reading the reports: a handful of stored sums each, however many tickets there are.

They all raise `Forbidden`, `InvalidInput` and `StatisticsIncomplete`.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from itertools import dropwhile, islice
from typing import Any

from pymongo.read_concern import ReadConcern

from app.accounts.actor import Actor, username_of
from app.accounts.documents import User
from app.accounts.roles import Permission
from app.platform.errors import FieldError, InvalidInput
from app.platform.mongo import collection_of
from app.platform.wire import Row

from . import reports
from .documents import Dim, StatsCell, StatsProgress
from .errors import StatisticsIncomplete
from .filters import Question, parse_question
from .period import (
    ALL_TIME,
    Cover,
    Grain,
    NotAligned,
    Slice,
    Span,
    cover,
    first_quarter,
    local_day,
    quarter_around,
    quarter_of,
    slices,
    start_of,
    union,
)
from .sums import Measures, Rows, Sums, amount, projection

MAX_INTERVALS = 5_000
MAX_TAGS = 100
# At once, in the answer to the one command.
MAX_ROWS = 100_000
BY_VALUE, BY_PERIOD = "by_value", "by_period"
_DAY = timedelta(days=1)
# With the figures comes the word that they are all there: of one instant, and in one command.
_COMPLETE: Row = {"isDone": True}
_WITH_WORD: Row = {
    "$unionWith": {
        "coll": StatsProgress.Settings.name,
        "pipeline": [{"$match": _COMPLETE}, {"$project": {"isDone": 1}}],
    }
}
_WITH_USER: Row = {
    "$lookup": {
        "from": User.Settings.name,
        "localField": "_id",
        "foreignField": "_id",
        "pipeline": [{"$project": {"username": 1}}],
        "as": "user",
    }
}


async def read_agent_performance(actor: Actor, given: Mapping[str, str]) -> list[Row]:
    """What each agent resolved."""
    actor.require(Permission.WORK_TICKETS)
    question = parse_question(given, each=Dim.AGENT)
    rows = await _read_each(question, reports.AGENTS, _WITH_USER)
    return reports.agent_performance(
        {**row, "username": username_of(row["user"][0]) if row["user"] else None} for row in rows
    )


async def read_tags(actor: Actor, given: Mapping[str, str]) -> Row:
    """How tickets with each tag fare, for the tags that most tickets were created with."""
    actor.require(Permission.WORK_TICKETS)
    question = parse_question(given, each=Dim.TAG)
    has_any: Row = {"$match": {"$or": [{count: {"$gt": 0}} for count in ("created", "resolved", "resolvedUndated")]}}
    most_used: Row = {"$sort": {"created": -1, "_id": 1}}
    return reports.tags(await _read_each(question, reports.TAGS, has_any, most_used, {"$limit": MAX_TAGS}))


async def read_resolution_time(actor: Actor, given: Mapping[str, str]) -> Row:
    return reports.resolution_time(await _read_sums(actor, given, reports.RESOLUTION_TIME))


async def read_first_response_time(actor: Actor, given: Mapping[str, str]) -> Row:
    return reports.first_response_time(await _read_sums(actor, given, reports.FIRST_RESPONSE_TIME))


async def read_sla(actor: Actor, given: Mapping[str, str]) -> Row:
    return reports.sla(await _read_sums(actor, given, reports.SLA))


async def read_satisfaction(actor: Actor, given: Mapping[str, str]) -> Row:
    return reports.satisfaction(await _read_sums(actor, given, reports.SATISFACTION))


async def read_overview(actor: Actor, given: Mapping[str, str]) -> Row:
    return reports.overview(await _read_sums(actor, given, reports.OVERVIEW))


async def read_volume(actor: Actor, given: Mapping[str, str], *, now: datetime) -> Row:
    """What was created, resolved and reopened in each interval; without bounds, from the first figure to today."""
    actor.require(Permission.WORK_TICKETS)
    question = parse_question(given, has_interval=True)
    series = await _series(question, reports.VOLUME, now)
    covers = [one.cover for one in series]
    rows = Rows(await _read_rows(question, covers, reports.VOLUME)) if series else Rows(())
    items = reports.volume(_counted(question, series, rows, reports.VOLUME))
    return {"interval": question.interval, "tz": question.tz, "items": items}


async def read_backlog(actor: Actor, given: Mapping[str, str], *, now: datetime) -> Row:
    """What was open at the end of each local day, and what is open now, by its age; the latter does not depend on

    the stretch that is asked for.
    """
    actor.require(Permission.WORK_TICKETS)
    question = parse_question(given)
    series = await _series(question, reports.FLOW, now, may_be_future=False)
    before = cover(None, series[0].first) if series and question.first is not None else Cover(())
    today = local_day(quarter_around(now), question.zone)
    older = [
        cover(None, first_quarter(today - (oldest - 1) * _DAY, question.zone)) for _, oldest in reports.AGES if oldest
    ]
    covers = [ALL_TIME, before, *older, *(one.cover for one in series)]
    unassigned: Row = {"_id.dim": Dim.AGENT, "_id.value": None, "_id.grain": Grain.ALL}
    if question.priority is not None:
        unassigned["_id.priority"] = question.priority
    others = () if question.is_filtered else (unassigned,)
    found = await _read_rows(question, covers, (*reports.FLOW, *reports.OPEN), *others)
    rows = Rows(row for row in found if row["_id"]["dim"] == question.dim)
    number_open = rows.sum(ALL_TIME, reports.OPEN)["open"]
    of_nobody = Rows(row for row in found if row["_id"]["dim"] == Dim.AGENT).sum(ALL_TIME, reports.OPEN)["open"]
    return {
        "tz": question.tz,
        "open": number_open,
        "unassigned": None if question.is_filtered else of_nobody,
        "byAge": reports.by_age([rows.sum(stretch, reports.OPEN)["open"] for stretch in older], number_open),
        "items": reports.backlog(rows.sum(before, reports.FLOW), _counted(question, series, rows, reports.FLOW)),
    }


async def _read_sums(actor: Actor, given: Mapping[str, str], measures: Measures) -> Sums:
    actor.require(Permission.WORK_TICKETS)
    question = parse_question(given)
    stretch = cover(question.first, question.last)
    return Rows(await _read_rows(question, [stretch], measures)).sum(stretch, measures)


async def _read_each(question: Question, measures: Measures, *stages: Row) -> list[Row]:
    """The sums of each agent or tag, with it as `_id`, after these further stages."""
    stretch = cover(question.first, question.last)
    sums = {measure: {"$sum": amount(measure, stretch.parts)} for measure in measures}
    where = _cell(question)
    pipeline = [_match(where, [stretch]), {"$group": {"_id": "$_id.value", **sums}}, *stages]
    return await _read(pipeline, BY_VALUE if "_id.value" in where else BY_PERIOD)


async def _series(question: Question, measures: Measures, now: datetime, *, may_be_future: bool = True) -> list[Slice]:
    """The intervals that are asked for; where no beginning is, from the first that has a figure. Up to today unless

    an end is asked for, and never later where the future has no figures. Raises `InvalidInput`.
    """
    first = question.first if question.first is not None else await _first_figure(question, measures)
    zone = question.zone
    tomorrow = first_quarter(local_day(quarter_around(now), zone) + _DAY, zone)
    last = tomorrow if question.last is None else question.last
    if first is None:
        return []
    try:
        found = slices(first, last if may_be_future else min(last, tomorrow), zone, question.interval)
        series = list(islice(found, MAX_INTERVALS + 1))
    except NotAligned:
        message = "has days in this stretch that did not begin on a quarter of an hour, by which figures are kept"
        raise InvalidInput(FieldError("tz", "not_aligned", message)) from None
    if len(series) > MAX_INTERVALS:
        message = f"must be less far from the end: {MAX_INTERVALS} intervals are shown at most"
        raise InvalidInput(FieldError("from", "too_many_intervals", message))
    return series


def _counted(question: Question, series: list[Slice], rows: Rows, measures: Measures) -> reports.Series:
    """Each interval with its sums; those at the start that have none are left out unless they were asked for."""
    counted = [(one, rows.sum(one.cover, measures)) for one in series]
    return counted if question.first is not None else list(dropwhile(lambda pair: not any(pair[1].values()), counted))


async def _first_figure(question: Question, measures: Measures) -> int | None:
    """The quarter that the first day of UTC with any figure begins with."""
    has_any: list[Row] = [{measure: {"$gt": 0}} for measure in measures]
    days = _match(_cell(question), [Cover((Span(Grain.DAY, None, None),))])
    first: list[Row] = [{"$sort": {"_id.start": 1}}, {"$limit": 1}, {"$project": {"_id": 1}}]
    rows = await _read([days, {"$match": {"$or": has_any}}, *first], BY_VALUE)
    return quarter_of(rows[0]["_id"]["start"]) if rows else None


async def _read_rows(question: Question, covers: Collection[Cover], measures: Measures, *others: Row) -> list[Row]:
    """The stored rows that make up these covers, and those that match any of the others."""
    pipeline: list[Row] = [_match(_cell(question), covers, *others), {"$project": projection(measures, covers)}]
    return await _read(pipeline, BY_VALUE)


async def _read(pipeline: list[Row], index: str) -> list[Row]:
    """Raises `StatisticsIncomplete` where not all tickets are counted."""
    cells = collection_of(StatsCell).with_options(read_concern=ReadConcern("snapshot"))
    rows = await (await cells.aggregate([*pipeline, _WITH_WORD], hint=index, batchSize=MAX_ROWS)).to_list()
    figures = [row for row in rows if not row.items() >= _COMPLETE.items()]
    if len(figures) == len(rows):
        raise StatisticsIncomplete
    return figures


def _cell(question: Question) -> Row:
    """The filter of the tickets that are asked about; of a report on each agent or tag, of all of these."""
    where: Row = {"_id.dim": question.dim}
    if question.priority is not None or question.dim is Dim.ALL:
        where["_id.priority"] = question.priority
    return {**where, "_id.value": question.value} if question.is_filtered or question.dim is Dim.ALL else where


def _match(where: Row, covers: Collection[Cover], *others: Row) -> Row:
    return {"$match": {"$or": [*({**where, **_of(span)} for span in union(covers)), *others]}}


def _of(span: Span) -> Row:
    bounds: dict[str, Any] = {"$gte": span.first, "$lt": span.last}
    starts = {comparison: start_of(day) for comparison, day in bounds.items() if day is not None}
    return {"_id.grain": span.grain, **({"_id.start": starts} if starts else {})}
